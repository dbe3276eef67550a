"""Beyond CLIP: any timm ViT as a `Clip`, so that all that chapters 2 and 3 compute serves it, aligned to a text space by ridge.

A linear map, fitted by ridge regression from the ViT's features to CLIP's image representations of the same images, comes after
its own read-out: each component of the ViT writes into the joint space of images and texts (after Balasubramanian et al. 2024,
"Decomposing and interpreting image representations via text in ViTs beyond CLIP").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import Normalize

from .. import towers
from ..models import Clip
from ..moments import Rows
from ..stream import feed

PENALTIES = np.logspace(-3, 6, 19)


def from_timm(
    vit: nn.Module,
    preprocess=None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    name: str = "timm ViT",
) -> Clip:
    """A timm ViT as a `Clip` without texts: its representation is the ViT's own output, [B, D].

    The ViT stays as it is. preprocess: what the pixels went through, its last step a `Normalize`; mean, std: what the ViT was
    trained with instead. The change from the one to the other comes before the ViT, so one set of pixels serves this model and the
    CLIP whose preprocess it is.
    Raises NotImplementedError, with the reason, for a ViT that no tower describes, or one with a classifier, RuntimeError where it
    does something else than its parts say, ValueError for mean and std without such a preprocess.
    """
    if isinstance(getattr(vit, "head", None), nn.Linear):
        raise NotImplementedError(
            f"cannot decompose {name}: it has a classifier; make it with timm.create_model(..., num_classes=0)"
        )
    try:
        towers.describe(vit)
    except towers.NotCovered as reason:
        raise NotImplementedError(f"cannot decompose {name}: {reason}") from None
    visual = towers.Mapped(vit) if mean is None and std is None else _renormalised(vit, preprocess, mean, std)
    return Clip(_Model(visual).eval(), preprocess, name=name)


@dataclass(frozen=True)
class RidgeMap:
    """A linear map features @ weight + bias into a joint space."""

    weight: Tensor  # [D, E]
    bias: Tensor  # [E]
    penalty: float

    def __call__(self, features: Tensor) -> Tensor:
        """[..., D] -> [..., E]"""
        return features @ self.weight.to(features) + self.bias.to(features)


def ridge_map(features: Tensor, targets: Tensor, penalties=PENALTIES) -> RidgeMap:
    """Ridge regression from features [K, D] to targets [K, E], the penalty by leave-one-out cross-validation.

    Raises ValueError where the two differ in length or are not finite.
    """
    if len(features) != len(targets) or not features.isfinite().all() or not targets.isfinite().all():
        raise ValueError(f"need as many features as targets, all finite, got {len(features)} and {len(targets)}")
    x, y = (part.detach().double().cpu().numpy() for part in (features, targets))
    from sklearn.linear_model import RidgeCV  # a second of every start, which few need

    fitted = RidgeCV(alphas=penalties).fit(x, y)
    weight, bias = torch.from_numpy(np.atleast_2d(fitted.coef_).T), torch.from_numpy(np.atleast_1d(fitted.intercept_))
    return RidgeMap(weight.float(), bias.float(), float(fitted.alpha_))


def align(models: Sequence[Clip], clip: Clip, images, **options) -> list[Clip]:
    """For each model one whose representation predicts CLIP's: its own features, mapped to the joint space by ridge regression.

    models: any `Clip`s, such as `from_timm` gives; clip: the model whose space and texts are borrowed; images: a dataset of
    pixels or (pixels, target) pairs to fit on, the same pixels for all. What is predicted are CLIP's representations at unit
    length. A result has its model's layers and heads and clip's texts. options: those of `feed`.
    Raises ValueError for models of another image size than clip's.
    """
    other = [model.name for model in models if model.image_size != clip.image_size]
    if other:
        raise ValueError(f"all must take the same pixels, of size {clip.image_size}; of another size: {', '.join(other)}")
    features, targets = [Rows() for _ in models], Rows()
    views = [(rows, lambda batch, own=own: (own.encode_image(batch.pixels), batch.numbers)) for rows, own in zip(features, models)]
    feed(clip, images, [*views, (targets, lambda batch: (_unit(clip, batch.pixels), batch.numbers))], **options)
    return [_read_out(own, clip, ridge_map(rows.rows, targets.rows)) for own, rows in zip(models, features)]


class _Model(nn.Module):
    """What `Clip` asks of a model: an image tower, and texts if a CLIP lends them."""

    def __init__(self, visual: nn.Module, lender: nn.Module | None = None):
        super().__init__()
        self.visual, self.lender = visual, lender

    @property
    def text(self) -> nn.Module | None:
        return getattr(self.lender, "text", self.lender)

    def encode_image(self, pixels: Tensor) -> Tensor:
        return self.visual(pixels)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.lender.encode_text(tokens)


def _read_out(own: Clip, clip: Clip, fitted: RidgeMap) -> Clip:
    """`own` with the fitted map after its representation, and clip's texts."""
    visual = towers.Mapped(own.visual, *(part.to(own.device, own.dtype) for part in (fitted.weight, fitted.bias)))
    return Clip(_Model(visual, clip.model).eval(), clip.preprocess, clip.tokenizer, f"{own.name} aligned to {clip.name}")


def _unit(clip: Clip, pixels: Tensor) -> Tensor:
    return nn.functional.normalize(clip.encode_image(pixels).float(), dim=-1)


def _renormalised(vit: nn.Module, preprocess, mean, std) -> towers.Mapped:
    """The ViT, taking pixels normalised by `preprocess` in place of mean and std."""
    steps = [step for step in getattr(preprocess, "transforms", []) if isinstance(step, Normalize)]
    if mean is None or std is None or not steps:
        raise ValueError("give mean and std together, and a preprocess whose steps hold a Normalize, such as clip.preprocess")
    like = next(vit.parameters())
    given_mean, given_std, mean, std = (torch.as_tensor(v).to(like) for v in (steps[-1].mean, steps[-1].std, mean, std))
    return towers.Mapped(vit, scale=given_std / std, shift=(given_mean - mean) / std)
