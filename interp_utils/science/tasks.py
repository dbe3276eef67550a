"""Sub-tasks for circuits: images of two kinds in equal number, and the texts that should tell them apart."""

import torch

from ..datasets import Task as Labelled
from ..models import Clip
from ..sandbox import FACTORS, SandboxImages, balanced, factor_labels, zero_shot_classifier
from .circuits import Task

PAINTED = 3 * 10**9  # seeds of images that no other experiment draws
_SHOWN = {"colour": {"style": "photo"}, "place": {"count": 1}, "size": {"count": 1}}  # what it takes to see a factor


def sandbox_task(clip: Clip, factor: str, first, second, n: int, seed: int) -> Task:
    """n images of the sandbox that show one value of a factor or the other in turn, all else at random."""
    if n < 2 or n % 2 or not {first, second} <= set(FACTORS[factor]):
        raise ValueError(f"need an even number of images and two values of {factor}, got {n}, {first!r} and {second!r}")
    fixed, start = _SHOWN.get(factor, {}), PAINTED + seed * 10**6
    specs = [balanced(start + k, **{factor: (first, second)[k % 2]}, **fixed) for k in range(n)]
    images = SandboxImages(specs, factor_labels, preprocess=clip.preprocess)
    pixels = torch.stack([shown for shown, _ in images.__getitems__(range(n))])
    texts = zero_shot_classifier(clip, factor, (first, second)).cpu()
    return Task(pixels, torch.tensor([-1.0, 1.0]).repeat(n // 2), texts[1] - texts[0])


def photo_task(clip: Clip, images: Labelled, first: int, second: int, n: int, start: int = 0) -> Task:
    """At most n photographs of two classes, as many of the one as of the other: every other one of each from number `start` on.

    Raises ValueError where a class has none.
    """
    found = {first: [], second: []}
    for k in range(len(images.images)):
        pixels, label = images.images[k]
        if label in found:
            found[label].append(pixels)
        if min(map(len, found.values())) >= n + start:
            break  # the rest of a large set need not be read
    chosen = [rows[start::2][: n // 2] for rows in found.values()]
    if not (count := min(map(len, chosen))):
        raise ValueError(f"no photographs of class {first} or {second} among {len(images.images)}, every other one from {start} on")
    text = clip.encode_text([images.classes[first], images.classes[second]], images.templates).cpu()
    pixels = torch.stack([*chosen[0][:count], *chosen[1][:count]])
    return Task(pixels, torch.tensor([-1.0, 1.0]).repeat_interleave(count), text[1] - text[0])
