"""The residual stream of what is read out, term by term, and two lenses that read it before it is finished."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..hooks import final_norm, project, read, record, streams_before
from ..models import Clip
from ..moments import Moments
from ..stream import feed


def decompose_resid(clip: Clip, pixels: Tensor) -> Tensor:
    """What each part adds to the class token's residual stream, [B, 2L+1, D] (thesis eq. 2.2; TransformerLens's name).

    Order: embedding, attention 0, MLP 0, attention 1, ... The sum over the terms is what enters the last layer norm. Where many
    tokens are read out, it is what the read-outs take of all of them, side by side, with their weights on the image's last layer.
    Raises ValueError for pixels that the model cannot take.
    """
    stream = record(clip, pixels)
    written = torch.stack([stream.attentions, stream.mlps], 2).flatten(1, 2)
    return torch.cat([stream.embed[:, None], written], 1)


def accumulated_resid(clip: Clip, pixels: Tensor) -> Tensor:
    """The same added up, before the first block and after each, [B, L+1, D] (TransformerLens's name)."""
    return decompose_resid(clip, pixels).cumsum(1)[:, ::2]


@dataclass(frozen=True)
class TunedLens:
    """For each place in the class token's stream, an affine map to the final stream: L+1 maps [D, D] and offsets [D]."""

    maps: Tensor  # [L+1, D, D]
    offsets: Tensor  # [L+1, D]

    def __call__(self, streams: Tensor) -> Tensor:
        """What the final stream is expected to be, [B, L+1, D], from `accumulated_resid`."""
        return torch.einsum("blD,lDd->bld", streams, self.maps.to(streams)) + self.offsets.to(streams)


def logit_lens(clip: Clip, pixels: Tensor, tuned: TunedLens | None = None) -> Tensor:
    """What the model would give out if it stopped before the first block or after each, [B, L+1, E], not normalised.

    The stream goes through the tower's read-out as it is (the logit lens; nostalgebraist 2020), or first
    through a map that translates it (Belrose et al. 2023). Without `tuned`, the last one equals `clip.encode_image(pixels)`.
    """
    if tuned is None and clip.tower.final is None:
        streams = streams_before(clip, clip.pixels(pixels), range(clip.n_layers + 1))
        return torch.stack([read(clip, streams[layer]) for layer in range(clip.n_layers + 1)], 1)
    streams = accumulated_resid(clip, pixels)
    return project(clip, streams if tuned is None else tuned(streams))


def fit_tuned_lens(clip: Clip, images: Sequence, ridge: float = 1e-3, **options) -> TunedLens:
    """Fit, for each place, the affine map that takes the class token's stream closest to its final stream, in one pass.

    Belrose et al. (2023) train such maps by gradient descent on the output's distribution; these are least squares in closed
    form. ridge: penalty on the map's squared entries, in units of the stream's mean variance there. No labels and no texts are
    used. options: those of `feed`. Raises ValueError for a ridge that is not positive, NotImplementedError where many tokens are
    read out.
    """
    if not ridge > 0:
        raise ValueError(f"ridge must be positive, got {ridge}")
    final_norm(clip)  # which says so where there is no one stream to translate
    own, across = Moments(second=True), Moments(second=True)

    def streams(batch):
        return batch.once("streams", lambda: accumulated_resid(clip, batch.pixels))

    def with_final(batch):
        return streams(batch), streams(batch)[:, -1:].expand_as(streams(batch))

    feed(clip, images, [(own, streams), (across, with_final)], **options)
    covariance, varies = own.covariance, own.varies  # the embedding is the same for all images: no variance, no map
    penalty = torch.where(varies, ridge * covariance.diagonal(dim1=1, dim2=2).mean(1), 1)
    eye = torch.eye(clip.d_model).to(covariance)
    maps = torch.linalg.solve(covariance + penalty[:, None, None] * eye, across.covariance * varies[:, None, None])
    offsets = own.mean[-1] - torch.einsum("lD,lDd->ld", own.mean, maps)
    return TunedLens(maps.float(), offsets.float())
