"""What chapters 2 and 3 find in other trainings of the sandbox CLIP: measured once, saved, and read where a reader would wait.

    python -m interp_utils.science.seeds    measure all again and write data/sandbox/seeds.json (about ten minutes of one core)

The three trainings differ in their random numbers alone; the fourth model of the file never trained.
"""

import json
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .. import datasets, heads, neurons, sandbox, texts
from ..models import DATA, Clip, load_clip

PATH = DATA / "sandbox" / "seeds.json"
TRAINED, UNTRAINED = ("sandbox-1", "sandbox-2"), "untrained copy"


def untrained_copy() -> Clip:
    """The sandbox CLIP as it was before training: the same weights at each call. Torch's own generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = load_clip("sandbox")  # draws as well: inside, for the weights that seeds.json was measured on
        return Clip(sandbox.clip.build().requires_grad_(False), clip.preprocess, clip.tokenizer)


def name_heads(
    clip: Clip, pool: texts.Pool, n_shares: int = 1000, n_names: int = 600, moments: dict | None = None, **options
) -> tuple[list[str], Tensor]:
    """Of each head of a sandbox CLIP, layer by layer: its name, and the share of every factor [factors, L * H].

    The name is the kind of text that explains most among the head's first ten; categories and families of objects count as
    objects. n_shares: balanced images for the shares; n_names: other images that TextSpan sees;
    moments: of all heads, where they are known already. options: those of `feed`, for the shares.
    """
    kinds = ["object" if kind in ("category", "family") else kind for kind in pool.kinds]
    vectors, shares = clip.encode_text(pool.texts), heads.factor_shares(clip, n_shares, **options)
    moments = moments or heads.head_moments(clip, sandbox.factor_images("object", n_names, seed=2))
    spans = [heads.textspan(each, vectors, pool.texts, 10) for each in moments.values()]
    return [next(iter(heads.kind_shares(span, kinds))) for span in spans], torch.stack(list(shares.values())).flatten(1)


def neuron_findings(clip: Clip, n_fit: int = 500, n_asked: int = 500, n_driven: int = 2500) -> dict:
    """Chapter 3's main numbers for a sandbox CLIP, of an early, a middle and a late layer.

    Points lost without a layer's second-order effects, with half their interval, of light (layer 0), category and object
    (middle); first four sparse texts of the late layer that are right, and by chance; variance in one direction there.
    n_fit, n_asked, n_driven: images to fit on, of each question, and to find what drives a neuron.
    """
    late = neurons.late_layers(clip.n_layers)[0]
    layers = {"light": 0, "category": late - 2, "object": late - 2, "names": clip.n_layers - 3}
    orders = {k: neurons.second_order(clip, k, relative=True) for k in sorted(set(layers.values()))}
    images = datasets.load_task("sandbox-train", clip.preprocess, n_fit).images
    neurons.fit(list(orders.values()), images, top=max(2, n_fit // 50))
    found = {}
    for factor in ("light", "category", "object"):
        asked = sandbox.factor_images(factor, n_asked, preprocess=clip.preprocess)
        curves = neurons.ablation_curves(list(orders.values()), asked, sandbox.zero_shot_classifier(clip, factor))
        found[factor] = list(curves.lost("all", layers[factor]))
    pool, order = texts.load_pool("sandbox").texts, orders[layers["names"]]
    coded = neurons.sparse_texts(order.directions, clip.encode_text(pool), pool, 8)
    score = neurons.naming_score(neurons.drives(order, n_images=n_driven), neurons.named_facts(coded, 4))
    found |= {"right": score.precision, "by chance": score.precision_chance}
    found["in one direction"] = neurons.spread(order, torch.utils.data.Subset(images, range(min(100, n_fit)))).share.mean().item()
    return found


def ablation_losses(clip: Clip, n: int = 500) -> dict[str, float]:
    """Points of object accuracy lost under each of `heads.ablations_of_tables`, on so many images."""
    task = datasets.load_task("sandbox", clip.preprocess, n)
    classifier, parts = clip.encode_text(task.classes, task.templates), heads.ablations_of_tables(clip)
    found = heads.accuracy_under(clip, task.images, classifier, parts)
    return {name: 100 * (found["nothing"].overall - each.overall) for name, each in found.items()}


def cue_without_heads(clip: Clip, pool: texts.Pool, n_fit: int = 300, n_test: int = 800) -> heads.CueRow:
    """Table 2.3 for the sandbox's spurious animals: the heads about scenes by our rule, found on so many images of training."""
    load = partial(datasets.load_groups, "sandbox", clip.preprocess)
    fit = load("train", n_fit).images
    return heads.cue_row(clip, load("test", n_test), heads.late_heads_about(clip, fit, pool, ("scene",)), fit)


def saved_losses() -> dict[str, dict[str, float]]:
    """`ablation_losses` of the other two trainings."""
    return {name: each["losses"] for name, each in _read().items() if "losses" in each}


def saved_cues() -> dict[str, heads.CueRow]:
    """`cue_without_heads` of the other two trainings."""
    return {name: heads.CueRow(*each["cue"]) for name, each in _read().items() if "cue" in each}


def saved_names() -> dict[str, tuple[list[str], Tensor]]:
    """`name_heads` of the other two trainings and of the untrained copy."""
    return {name: (each["names"], torch.tensor(each["shares"])) for name, each in _read().items() if "names" in each}


def saved_neurons() -> dict[str, dict]:
    """`neuron_findings` of the other two trainings."""
    return {name: each["neurons"] for name, each in _read().items() if "neurons" in each}


def _read(path: Path = PATH) -> dict:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; restore it with: git checkout -- data")
    return json.loads(path.read_text(encoding="utf-8"))


def main():
    torch.set_num_threads(1)
    whole = {}
    for name in (*TRAINED, UNTRAINED):
        clip = untrained_copy() if name == UNTRAINED else load_clip(name)
        pool = texts.understood(load_clip("sandbox"), texts.load_pool("sandbox"))  # one list of texts for all
        names, shares = name_heads(clip, pool)
        whole[name] = {"names": names, "shares": [[round(share, 4) for share in row] for row in shares.tolist()]}
        if name != UNTRAINED:
            whole[name]["neurons"] = neuron_findings(clip)
            whole[name]["losses"], whole[name]["cue"] = ablation_losses(clip), cue_without_heads(clip, pool)
        print(name, whole[name].get("neurons", ""), flush=True)
    PATH.write_text(json.dumps(whole) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
