"""What sections 1 to 6 of chapter 5a count, for other trainings of the sandbox CLIP: measured once and saved.

    python -m interp_utils.science.counted    measure what is missing of data/sandbox/hypotheses.json; --again: all

The notebook counts the same for one training, step by step; `count` does it in one call.
"""

import argparse
import json
from pathlib import Path

import torch

from .. import neurons, texts
from ..datasets import load_task
from ..heads import head_moments, textspan
from ..models import DATA, Clip, load_clip
from .hypotheses import Finding, activation_units, effects, head_units, investigate, measure, neuron_units, spread
from .named import facts_named, one_or_two_things, parts_named, single_things
from .scores import ClaimScore, score_claims
from .truth import fact_differences
from .twins import painted_pairs

TABLE = DATA / "sandbox" / "hypotheses.json"
CLIPS = ("sandbox", "sandbox-1", "sandbox-2")


def count(clip: Clip, n_fit: int = 500, n_neurons: int = 12, n_controls: int = 40, n_pairs: int = 16, n_truth: int = 1000) -> dict:
    """Of heads and neurons: how many descriptions are accepted, refined and rejected, and the claims before and after the test.

    {"heads": {"accepted": 5, ..., "untested": [[true claims, claims, true facts] of each unit], "tested": ...}, "neurons": ...}
    n_fit: images that descriptions come from; n_controls: things by lot that set the bar; n_pairs: of each text; n_truth: images
    that tell what is true of a unit.
    """
    images, pool = load_task("sandbox-train", clip.preprocess, n_fit).images, one_or_two_things(texts.load_pool("sandbox").texts)
    vectors, late = clip.encode_text(pool), list(range(clip.n_layers))[-4:]
    moments, order = head_moments(clip, images, late), neurons.second_order(clip, clip.n_layers - 3, relative=True)
    neurons.fit([order], images, top=30)
    chosen = order.thresholds.topk(n_neurons).indices.tolist()
    units = [head_units(clip, list(moments)), neuron_units(order, chosen)]
    groups = {"heads": range(len(moments)), "neurons": range(len(moments), len(moments) + n_neurons)}
    ranked = [textspan(each, vectors, pool, 9).texts for each in moments.values()]
    sparse = neurons.sparse_texts(order.directions[chosen], vectors.to(order.directions), pool, 16)
    ranked += [[text for text, weight in sparse.of(k, 16) if weight > 0] for k in range(n_neurons)]
    proposals = {unit: found[:2] for unit, found in enumerate(ranked)}

    things = single_things()
    lot = torch.randperm(len(things), generator=torch.Generator().manual_seed(0))[:n_controls].tolist()
    controls, said = [things[k] for k in lot], sum(proposals.values(), [])
    asked = list(dict.fromkeys(controls + said + [part for text in controls + said for part in parts_named(text)]))
    along = dict(zip(asked, clip.encode_text(asked) - vectors.mean(0)))
    measured = measure(units, painted_pairs, along, n_pairs, 0)
    sample = torch.utils.data.Subset(images, range(min(300, n_fit)))
    spreads = torch.cat([spread(each, sample) for each in units]).cpu()
    by_lot = effects({text: measured[text] for text in controls}, spreads)
    bars = torch.cat([by_lot[list(each)].quantile(0.95).expand(len(each)) for each in groups.values()])
    findings = investigate(measured, proposals, spreads, bars, parts_named)
    judges = [units[0], activation_units(order, chosen)]
    true = fact_differences(judges, n_truth) >= 0.8
    return {kind: _counted(findings, true, members) for kind, members in groups.items()}


def _counted(findings: list[Finding], true: torch.Tensor, members: range) -> dict:
    own = [each for each in findings if each.whole.unit in members]
    verdicts = [each.verdict for each in own]
    found = {verdict: verdicts.count(verdict) for verdict in ("accepted", "refined", "rejected")}
    claims = {"untested": [(each.whole.unit, each.whole.text) for each in own]}
    claims["tested"] = [(each.whole.unit, text) for each in own for text in each.claims]
    for when, made in claims.items():
        found[when] = score_claims([made], true, members, facts_named).counts.astype(int).tolist()
    return found


def saved_counts(path: Path = TABLE) -> dict[str, dict[str, dict]]:
    """The saved `count` of three trainings, by name and kind of unit; claims as `ClaimScore`s."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; restore it with: git checkout -- data")
    whole = json.loads(path.read_text(encoding="utf-8"))
    for kinds in whole.values():
        for found in kinds.values():
            found |= {when: ClaimScore(torch.tensor(found[when]).double().numpy(), 1) for when in ("untested", "tested")}
    return whole


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="measure what is there as well")
    args = parser.parse_args()
    torch.set_num_threads(1)
    whole = {} if args.again or not TABLE.exists() else json.loads(TABLE.read_text(encoding="utf-8"))
    for name in CLIPS:
        if name not in whole:
            whole[name] = count(load_clip(name, device="cpu"))
            TABLE.write_text(json.dumps(whole) + "\n", encoding="utf-8")
            print(name, {kind: {k: found[k] for k in ("accepted", "refined", "rejected")} for kind, found in whole[name].items()})


if __name__ == "__main__":
    main()
