"""Fine-tuning on semantic adversarial images as a defence: what section 3.6 of the thesis leaves to future work.

    python -m interp_utils.science.defence    measure all again and write data/sandbox/defence.json; resumable

Of each of three trainings of the sandbox CLIP the last two blocks, the last layer norm and the projection learn on, from as many
images in each arm: ordinary ones, images with random further things, or adversarial ones (chapter 3, second order). Texts stay.
Then images that were not tuned on are told apart, true kind of object or wrong one, adversarial ones of the same pairs of kinds
and of other kinds: made against the model as it was, and made anew against the tuned one.
"""

import copy
import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import neurons, sandbox, texts
from ..datasets import load_task
from ..models import DATA, Clip, load_clip
from ..sandbox import last_blocks, training
from ..sandbox.world import OBJECTS
from ..stream import collect

TABLE = DATA / "sandbox" / "defence.json"
CLIPS, ARMS = ("sandbox", "sandbox-1", "sandbox-2"), ("none", "ordinary", "random things", "adversarial")
GROUPS, TESTS = ("tuned", "other"), ("clean", "old attack", "new attack", "similar words")
N_KINDS, N_TUNED, N_TESTED, N_CLEAN = 40, 24, 10, 8  # kinds of object in a group, and images of each
STEPS, BATCH, RATE, BLOCKS = 80, 32, 3e-4, 2
N_FIT, N_NEURONS, SIZE = 300, 25, 32  # images and neurons of an attack, texts of a neuron

Pair = tuple[str, str]  # what is shown, and what it is to be taken for
Words = Callable[[Tensor], list[str]]  # from a direction v [E] to texts, best first


@cache
def pairs() -> dict[str, list[Pair]]:
    """For each group, 40 kinds of object by lot, each with the one of its group whose name is most like its own."""
    names = [OBJECTS[k] for k in np.random.default_rng(0).permutation(len(OBJECTS))[: len(GROUPS) * N_KINDS]]
    found = {}
    for k, group in enumerate(GROUPS):
        kinds = names[k * N_KINDS : (k + 1) * N_KINDS]
        vectors = load_clip("sandbox", device="cpu").encode_text(kinds)
        alike = (F.normalize(vectors - vectors.mean(0), dim=1) @ F.normalize(vectors - vectors.mean(0), dim=1).T).fill_diagonal_(-2)
        found[group] = [(kind, kinds[j]) for kind, j in zip(kinds, alike.argmax(1).tolist())]
    return found


class Lexicon:
    """The texts that an attack may speak in, as one model encodes them, and ways to choose among them."""

    def __init__(self, clip: Clip):
        self.clip, self.texts = clip, texts.understood(clip, texts.load_pool("sandbox")).texts
        self.vectors = clip.encode_text(self.texts)
        self.known = dict(zip(self.texts, self.vectors))

    def encode(self, said: Sequence[str]) -> Tensor:
        new = [text for text in said if text not in self.known]
        self.known |= zip(new, self.clip.encode_text(new)) if new else ()
        return torch.stack([self.known[text] for text in said])

    def second_order(self, clip: Clip, n_fit: int = N_FIT) -> Words:
        """The words of the late neurons of a model with this text tower (thesis, section 3.5)."""
        orders = [neurons.second_order(clip, k, relative=True) for k in neurons.late_layers(clip.n_layers)]
        neurons.fit(orders, load_task("sandbox-train", clip.preprocess, n_fit).images, top=max(2, n_fit // 10))
        coded = neurons.sparse_texts(torch.cat([order.directions for order in orders]), self.vectors, self.texts, SIZE)
        return partial(neurons.spurious_words, coded, k=N_NEURONS)

    def similar(self, v: Tensor) -> list[str]:
        return neurons.similar_words(self.texts, self.vectors, v)

    def by_lot(self, seed: int) -> Words:
        """Other texts at each call, whatever the direction: the control."""
        rng = np.random.default_rng(seed)
        return lambda v: [self.texts[k] for k in rng.permutation(len(self.texts))]


def staged(lexicon: Lexicon, words: Words, pair: Pair, n: int, seed: int) -> list[sandbox.Rendered]:
    """n images of the first kind of a pair, among things that shall make a model see the second: each another description."""
    true, wrong = lexicon.encode(pair)
    said = neurons.drop_synonyms(words(wrong - true), pair[1], lexicon.encode, centre=lexicon.vectors.mean(0))
    return [
        image
        for k, text in enumerate(neurons.template_writer(said or ["nothing"], *pair, n, seed))
        for image in sandbox.paint(text, 1, seed + 1000 * k)
    ]


def pixels_of(images: Sequence[sandbox.Rendered]) -> Tensor:
    return sandbox.to_pixels(np.stack([image.pixels for image in images]))


def shown_in(images: Sequence[sandbox.Rendered], kinds: Sequence[str]) -> Tensor:
    """Which of some kinds of object each image shows, bool [B, kinds]."""
    seen = [{image.factors.object, *(kind for kind, _ in image.factors.others)} for image in images]
    return torch.tensor([[kind in each for kind in kinds] for each in seen])


def lower(clip: Clip, pixels: Tensor) -> Tensor:
    """The tokens of images [B, 3, H, W] that enter the last two blocks, [B, N+1, D]."""
    return collect(clip, pixels, lambda batch: last_blocks.entering(clip.visual, batch.pixels, BLOCKS))


def upper(visual, tokens: Tensor) -> Tensor:
    """The unit representation [B, E] that the part which learns makes of these tokens."""
    return last_blocks.leaving(visual, tokens, BLOCKS)


def tune(clip: Clip, tokens: Tensor, shown: Tensor, labels: Tensor, classifier: Tensor, path: Path, steps: int = STEPS) -> Clip:
    """A copy of the model whose last two blocks, layer norm and projection learned to name the objects of some images.

    tokens: of `lower`, [n, N+1, D]; labels: the true kind of each, [n]; shown: which kinds are there, bool [n, kinds], for another
    one that is shown is no wrong answer and is left out; classifier: unit text vectors [kinds, E], which stay as they are. Cross-
    entropy at the temperature of the model's own training. path: a checkpoint, from which the same call goes on.
    """
    model = copy.deepcopy(clip.model).requires_grad_(False)
    optimizer = torch.optim.AdamW(last_blocks.learning(model.visual, BLOCKS), lr=RATE, weight_decay=0.01)
    scale = model.logit_scale.exp().clamp(max=100)
    others = shown & ~F.one_hot(labels, len(classifier)).bool()

    def update(step: int) -> dict[str, float]:
        training.set_rate(optimizer, RATE, step, steps, warm=10)
        rows = torch.randint(len(tokens), (min(BATCH, len(tokens)),))
        scores = scale * upper(model.visual, tokens[rows]) @ classifier.T
        loss = F.cross_entropy(scores.masked_fill(others[rows], -torch.inf), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.item()}

    training.loop(path.stem, training.Checkpoint(path, model=model, optimizer=optimizer), steps, update)
    return Clip(model.requires_grad_(False), clip.preprocess, clip.tokenizer, f"{clip.name}, tuned")


def tuning_images(arm: str, lexicon: Lexicon, words: Words, n: int = N_TUNED) -> tuple[list[sandbox.Rendered], list[Pair]]:
    """The images of an arm, n for each pair of the first group, and the pair of each. words: of the attack, for that arm alone."""
    images, of = [], []
    for k, pair in enumerate(pairs()["tuned"]):
        if arm == "ordinary":
            specs = sandbox.evaluation_specs(n, 100 + k, biased=True, object=pair[0])
            images += sandbox.rendered(specs)
        else:
            images += staged(lexicon, words if arm == "adversarial" else lexicon.by_lot(k), pair, n, 100 + k)
        of += [pair] * n
    return images, of


def tested_images(group: str, lexicon: Lexicon, words: Words | None, n: int, first: int = N_KINDS) -> Tensor:
    """n images for each of the first pairs of a group, [first * n, 3, 64, 64]: of an attack by these words, or balanced ones."""
    images = []
    for k, pair in enumerate(pairs()[group][:first]):
        seed = 200 + 100 * GROUPS.index(group) + k
        if words is None:
            images += sandbox.rendered(sandbox.evaluation_specs(n, seed, object=pair[0]))
        else:
            images += staged(lexicon, words, pair, n, seed)
    return pixels_of(images)


def right_by_pair(representations: Tensor, lexicon: Lexicon, members: Sequence[Pair]) -> list[float]:
    """For each pair the share of its images taken for what they show, of the two. representations: [pairs * n, E]."""
    true, wrong = (lexicon.encode([pair[k] for pair in members]) for k in (0, 1))
    scores = torch.einsum("pne,pe->pn", representations.unflatten(0, (len(true), -1)), true - wrong)
    return scores.gt(0).double().mean(1).tolist()


def named_by_pair(representations: Tensor, classifier: Tensor, members: Sequence[Pair]) -> list[float]:
    """For each true kind the share of its images that are named rightly among all 144 kinds."""
    labels = torch.tensor([OBJECTS.index(true) for true, _ in members])
    guesses = (representations @ classifier.T).argmax(1).unflatten(0, (len(labels), -1))
    return (guesses == labels[:, None]).double().mean(1).tolist()


def measure(name: str, out: Path, steps: int = STEPS) -> dict:
    """All arms of one CLIP: {arm: {test: {group: one share for each pair}}}. What is in `out` is not measured again."""
    clip = load_clip(name, device="cpu")
    lexicon, classifier = Lexicon(clip), sandbox.zero_shot_classifier(clip, "object")
    attack, tested, found = lexicon.second_order(clip), {}, {}
    for group in GROUPS:
        sets = {"clean": tested_images(group, lexicon, None, N_CLEAN)}
        sets |= {"old attack": tested_images(group, lexicon, attack, N_TESTED)}
        sets |= {"similar words": tested_images(group, lexicon, lexicon.similar, N_TESTED)}
        tested[group] = {test: lower(clip, pixels) for test, pixels in sets.items()}
    for arm in ARMS:
        path = out / f"{name}.{arm.replace(' ', '_')}.json"
        if not path.exists():
            tuned = clip
            if arm != "none":
                images, of = tuning_images(arm, lexicon, attack)
                kinds = [true for true, _ in pairs()["tuned"]]
                labels = torch.tensor([kinds.index(true) for true, _ in of])
                tokens = lower(clip, pixels_of(images))
                targets = lexicon.encode(kinds)
                tuned = tune(clip, tokens, shown_in(images, kinds), labels, targets, path.with_suffix(".pt"), steps)
            anew = attack if arm == "none" else lexicon.second_order(tuned)
            scores = {test: {} for test in (*TESTS, "named")}
            for group in GROUPS:
                with torch.no_grad():
                    seen = {test: upper(tuned.visual, tokens) for test, tokens in tested[group].items()}
                    seen["new attack"] = upper(tuned.visual, lower(clip, tested_images(group, lexicon, anew, N_TESTED)))
                for test in TESTS:
                    scores[test][group] = right_by_pair(seen[test], lexicon, pairs()[group])
                scores["named"][group] = named_by_pair(seen["clean"], classifier, pairs()[group])
            path.write_text(json.dumps(scores), encoding="utf-8")
        found[arm] = json.loads(path.read_text(encoding="utf-8"))
        print(name, arm, {t: {g: round(float(np.mean(x)), 3) for g, x in by.items()} for t, by in found[arm].items()}, flush=True)
    return found


def saved(path: Path = TABLE) -> dict:
    """The saved table: {CLIP: {arm: {test: {group: one share for each pair}}}}."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; restore it with: git checkout -- data")
    return json.loads(path.read_text(encoding="utf-8"))


def main():
    args = training.arguments(__doc__, STEPS)
    TABLE.write_text(json.dumps({name: measure(name, args.out, args.steps) for name in CLIPS}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
