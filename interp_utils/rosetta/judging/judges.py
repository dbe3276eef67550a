"""What became of a drawn image, whose truth is not known: where its object is, how large, and what the sandbox CLIP sees."""

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ...models import Clip
from ...sandbox import first as sandbox
from ...sandbox.clip import MEAN, STD
from ...statistics import interval
from ..matching import UnitModel
from ..matching.units import in_unit_range


class ObjectMasks:
    """Masks of the object, from a logistic regression for each position on a model's maps, fitted where the masks are known.

    model: its layers are resized to the largest of them. images: [n, 3, side, side] in 0..1; masks: [n, side, side], bool, as
    `drawn_images` gives them; per_image: how many positions of each image the regression sees, at the most.
    """

    def __init__(self, model: UnitModel, images: Tensor, masks: Tensor, per_image: int = 100, seed: int = 0):
        self.model = model
        x = self._features(images)
        y = F.adaptive_avg_pool2d(masks.float()[:, None], x.shape[1:3])[:, 0] >= 0.5
        chosen = torch.rand(x.shape[:3], generator=torch.Generator().manual_seed(seed)).flatten(1)
        chosen = chosen.topk(min(per_image, chosen.shape[1])).indices
        x = x.flatten(1, 2).gather(1, chosen[..., None].expand(-1, -1, x.shape[3])).flatten(0, 1)
        self.regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
        self.regression.fit(x.numpy(), y.flatten(1).gather(1, chosen).flatten().numpy())

    def _features(self, images: Tensor) -> Tensor:
        maps = [torch.cat(parts) for parts in zip(*(self.model(part) for part in images.split(100)))]
        size = max(layer.shape[2] for layer in maps)
        maps = [F.interpolate(layer.float().cpu(), size=(size, size), mode="bilinear", align_corners=False) for layer in maps]
        return torch.cat(maps, 1).movedim(1, 3)

    def __call__(self, images: Tensor) -> Tensor:
        """Probability that the object covers a position, [B, side, side]."""
        x = self._features(images)
        logits = torch.from_numpy(self.regression.decision_function(x.flatten(0, 2).numpy())).float().reshape(x.shape[:3])
        return F.interpolate(logits[:, None], size=images.shape[2:], mode="bilinear", align_corners=False)[:, 0].sigmoid()


def places(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Middle of each mask [B, H, W], of probabilities or bools, across and down in shares of the side [B, 2], and its area [B].

    The middle of an empty mask is nan.
    """
    masks = masks.float()
    area = masks.mean((1, 2))
    across, down = (torch.arange(size, dtype=torch.float32).add(0.5).div(size) for size in (masks.shape[2], masks.shape[1]))
    middle = torch.stack([(masks * across).mean((1, 2)), (masks * down[:, None]).mean((1, 2))], 1)
    return middle / area[:, None], area


def factor_probabilities(clip: Clip, images: Tensor, factor: str) -> Tensor:
    """What the sandbox CLIP makes of images in 0..1: probabilities [B, values] of the values of a factor."""
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (MEAN, STD))
    embeddings = F.normalize(clip.encode_image((in_unit_range(images).clamp(0, 1) - mean) / std), dim=-1)
    scores = embeddings @ sandbox.zero_shot_classifier(clip, factor).T
    return (clip.model.logit_scale.exp() * scores).softmax(1).cpu()


def same_place(a: Tensor, b: Tensor) -> list[tuple[float, float, float]]:
    """Pearson correlation over images of where the objects of two sets of masks [B, H, W] are, across and down: (r, low, high).

    low, high: 95 percent interval, over images. Images in which one of the two has no object are left out.
    Raises ValueError where fewer than 3 are left.
    """
    first, second = places(a)[0], places(b)[0]
    both = (first.isfinite() & second.isfinite()).all(1)
    pairs = torch.stack([first[both], second[both]])  # [2, images, axes]

    def r(rows):
        return [torch.corrcoef(pairs[:, rows, axis])[0, 1].item() for axis in (0, 1)]

    low, high = interval(r, pairs.shape[1])
    return list(zip(r(slice(None)), low.tolist(), high.tolist()))


def share_named(clip: Clip, images: Tensor, names: list[str]) -> float:
    """Share of images [B, 3, H, W] in 0..1 whose object the sandbox CLIP names as expected, among all kinds of object."""
    guesses = factor_probabilities(clip, images, "object").argmax(1)
    return (guesses == torch.tensor([sandbox.FACTORS["object"].index(name) for name in names])).float().mean().item()
