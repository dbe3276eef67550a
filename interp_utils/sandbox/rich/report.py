"""What a CLIP recognises in the rich sandbox, from text alone."""

import torch
from torch import Tensor

from ...moments import GroupMeans
from ...stream import Batch, feed
from .captions import values
from .render import Rendered
from .tasks import HIDDEN, SandboxImages, evaluation_specs, factor_label, zero_shot_classifier
from .world import FACTORS

REPORTED = (*FACTORS, "category")


def zero_shot_report(clip, n_images: int = 2000, seed: int = 0, biased: bool = False) -> dict[str, tuple[float, float]]:
    """Accuracy of classification from text for each factor and the category, and its standard error over images.

    On fresh images, balanced or with biased=True from the training distribution; each factor where an image shows it.
    """
    right = {factor: GroupMeans(1) for factor in REPORTED}
    views = [(right[factor], _correct(k, zero_shot_classifier(clip, factor))) for k, factor in enumerate(REPORTED)]
    specs = evaluation_specs(n_images, seed, biased)
    feed(clip, SandboxImages(specs, all_labels, preprocess=clip.preprocess), views, batch_size=250)
    found = {factor: (mean.mean.item(), mean.counts.sum().item()) for factor, mean in right.items()}
    return {factor: (share, (share * (1 - share) / n) ** 0.5) for factor, (share, n) in found.items()}


def all_labels(image: Rendered) -> Tensor:
    """Labels of an image for `REPORTED`, HIDDEN where it does not show one."""
    return torch.tensor([factor_label(image.factors, factor) for factor in REPORTED])


def chance(factor: str) -> float:
    """Accuracy of guessing a value of a factor on balanced images."""
    return 1 / len(values(factor))


def _correct(k: int, classifier: Tensor):
    def view(batch: Batch):
        label = batch.targets[:, k].to(batch.representation.device)
        correct = (batch.representation @ classifier.T).argmax(1) == label
        return correct[:, None].float(), torch.where(label == HIDDEN, HIDDEN, 0)

    return view
