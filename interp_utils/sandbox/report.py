"""What a CLIP recognises in the sandbox, from text alone."""

import torch
from torch import Tensor

from ..stream import collect
from .captions import values
from .render import Rendered
from .tasks import HIDDEN, SandboxImages, evaluation_specs, factor_label, zero_shot_classifier
from .world import FACTORS

REPORTED = (*FACTORS, "category")


def zero_shot_correct(clip, n_images: int = 2000, seed: int = 0, biased: bool = False) -> dict[str, Tensor]:
    """Which images a CLIP classifies rightly from text, for each factor and the category: bool [those that show a value of it].

    On images that no training sees, balanced or with biased=True from the training distribution. Raises ValueError for n < 1.
    """
    images = SandboxImages(evaluation_specs(n_images, seed, biased), reported_labels, preprocess=clip.preprocess)
    classifiers = [zero_shot_classifier(clip, factor) for factor in REPORTED]

    def right(batch) -> Tensor:
        embeddings = clip.encode_image(batch.pixels)
        guesses = torch.stack([(embeddings @ classifier.T).argmax(1) for classifier in classifiers], 1).cpu()
        return torch.where(batch.targets == HIDDEN, HIDDEN, (guesses == batch.targets).long())

    found = collect(clip, images, right)
    return {factor: column[column != HIDDEN].bool() for factor, column in zip(REPORTED, found.T)}


def zero_shot_report(clip, n_images: int = 2000, seed: int = 0, biased: bool = False) -> dict[str, float]:
    """Accuracy of classification from text for each factor and the category: the means of `zero_shot_correct`."""
    return {factor: right.float().mean().item() for factor, right in zero_shot_correct(clip, n_images, seed, biased).items()}


def reported_labels(image: Rendered) -> Tensor:
    """Labels of an image for `REPORTED`, HIDDEN where it does not show one."""
    return torch.tensor([factor_label(image.factors, factor) for factor in REPORTED])


def chance(factor: str) -> float:
    """Accuracy of guessing a value of a factor on balanced images."""
    return 1 / len(values(factor))
