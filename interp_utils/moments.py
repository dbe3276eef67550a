"""Statistics that add up: over batches, over shards of a dataset, over processes, in any order.

Each has `update(...)` for a batch, `merge(other)` for what another pass has gathered, and no data but tensors. Sums are kept
in float64. What is fed in has the batch as its first axis; all further axes are kept.
"""

import torch
from torch import Tensor


class Moments:
    """Count, mean and, on request, the second moment over the last axis (for covariances, TextSpan, explained variance).

    update: values [B, *units, E]. mean: [*units, E]; second: [*units, E, E], the uncentred mean of products.
    """

    def __init__(self, second: bool = False):
        self.count, self.total = 0, None
        self.products = None if second else False

    def update(self, values: Tensor) -> None:
        values = _exact(values)
        self.count += len(values)
        self.total = _add(self.total, values.sum(0))
        if self.products is not False:
            by_unit = values.movedim(0, -2)  # [*units, B, E]
            self.products = _add(self.products, by_unit.mT @ by_unit)

    def merge(self, other: "Moments") -> None:
        self.count += other.count
        self.total = _add(self.total, other.total)
        if self.products is not False:
            self.products = _add(self.products, other.products)

    @property
    def mean(self) -> Tensor:
        return self.total / self.count

    @property
    def second(self) -> Tensor:
        return self.products / self.count

    @property
    def covariance(self) -> Tensor:
        return self.second - self.mean[..., :, None] * self.mean[..., None, :]


class GroupMeans:
    """Mean of values within groups: accuracy by group, effects by factor value.

    update: values [B, *units] and groups, integers [B] below n_groups; a negative group leaves the image out.
    mean: [n_groups, *units], nan for a group without an image; overall: [*units].
    """

    def __init__(self, n_groups: int):
        self.n_groups, self.total, self.squares = n_groups, None, None
        self.counts = torch.zeros(n_groups, dtype=torch.float64)

    def update(self, values: Tensor, groups: Tensor) -> None:
        groups = groups.to(values.device)
        if len(groups) != len(values) or groups.max() >= self.n_groups:
            raise ValueError(f"need {len(values)} groups below {self.n_groups}, got {len(groups)} up to {groups.max().item()}")
        values, groups = _exact(values[groups >= 0]), groups[groups >= 0]
        self.counts += torch.bincount(groups.cpu(), minlength=self.n_groups)
        groups = groups.to(values.device)
        total = torch.zeros(self.n_groups, *values.shape[1:], dtype=values.dtype, device=values.device)
        self.total = _add(self.total, total.index_add_(0, groups, values))
        self.squares = _add(self.squares, values.square().sum(0))

    def merge(self, other: "GroupMeans") -> None:
        self.counts += other.counts
        self.total, self.squares = _add(self.total, other.total), _add(self.squares, other.squares)

    @property
    def mean(self) -> Tensor:
        return self.total / self._shaped_counts()

    @property
    def overall(self) -> Tensor:
        return self.total.sum(0) / self.counts.sum().item()

    def explained_variance(self, corrected: bool = True) -> Tensor:
        """Share of the variance over the last axis that the groups explain, [*units without the last].

        One-way analysis of variance. corrected: less what as many random groups would explain (epsilon squared; Kelley
        1935), so it is about 0, and may be below, where groups make no difference. Units that never vary get 0.
        """
        n = self.counts.sum().item()
        overall = (self.overall.square() * n).sum(-1)
        whole = self.squares.sum(-1) - overall
        seen = self.counts > 0
        between = (self.total.square() / self._shaped_counts())[seen].sum(0).sum(-1) - overall
        if corrected:
            free = int(seen.sum()) - 1
            between = between - free * (whole - between) / max(n - 1 - free, 1)
        return torch.where(whole > 1e-12 * overall.clamp(min=1e-30), between / whole.clamp(min=1e-300), 0)

    def _shaped_counts(self) -> Tensor:
        return self.counts.to(self.total.device).reshape(-1, *[1] * (self.total.ndim - 1))


class TopK:
    """The images with the highest scores, for each unit, and on request something of each of those images.

    update: scores [B, *units], the images' numbers [B], and rows [B, C, *units] to keep for the best images of each unit.
    values, images: [k, *units], best first; equal scores by number. rows: [k, C, *units].
    """

    def __init__(self, k: int):
        if k < 1:
            raise ValueError(f"need k of at least 1, got {k}")
        self.k, self.values, self.images, self.rows = k, None, None, None

    def update(self, scores: Tensor, numbers: Tensor, rows: Tensor | None = None) -> None:
        scores = scores.detach().cpu()
        numbers = torch.as_tensor(numbers).reshape(-1, *[1] * (scores.ndim - 1)).expand(scores.shape)
        self._keep(scores, numbers, None if rows is None else rows.detach().cpu())

    def merge(self, other: "TopK") -> None:
        if other.values is not None:
            self._keep(other.values, other.images, other.rows)

    def _keep(self, scores: Tensor, numbers: Tensor, rows: Tensor | None) -> None:
        if self.values is not None:
            scores, numbers = torch.cat([self.values, scores]), torch.cat([self.images, numbers])
            rows = None if rows is None else torch.cat([self.rows, rows])
        numbers, order = numbers.sort(dim=0)  # so that equal scores come in the order of the images, whatever the batches
        scores = scores.gather(0, order)
        best = scores.argsort(dim=0, descending=True, stable=True)[: self.k]
        self.values, self.images = scores.gather(0, best), numbers.gather(0, best)
        if rows is not None:
            chosen = order.gather(0, best)[:, None]
            self.rows = rows.gather(0, chosen.expand(-1, rows.shape[1], *chosen.shape[2:]))


class Rows:
    """All rows, in the order of the images' numbers: for results that are small for each image.

    update: values [B, ...] and the images' numbers [B]. rows: [K, ...]; numbers: [K], rising.
    """

    def __init__(self):
        self.parts: list[tuple[Tensor, Tensor]] = []

    def update(self, values: Tensor, numbers: Tensor) -> None:
        self.parts.append((values.detach().cpu(), torch.as_tensor(numbers)))

    def merge(self, other: "Rows") -> None:
        self.parts += other.parts

    @property
    def numbers(self) -> Tensor:
        return torch.cat([numbers for _, numbers in self.parts]).sort().values

    @property
    def rows(self) -> Tensor:
        order = torch.cat([numbers for _, numbers in self.parts]).argsort()
        return torch.cat([values for values, _ in self.parts])[order]


def _exact(values: Tensor) -> Tensor:
    """The values in float64, on the CPU where the device has none. Raises ValueError where they are not finite."""
    values = values.detach()
    if not values.isfinite().all():
        raise ValueError("got values that are not finite; check the images and the model's precision (try dtype=torch.float32)")
    return (values.cpu() if values.device.type == "mps" else values).double()


def _add(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    if total is None or part is None:
        return part if total is None else total
    return total + part.to(total.device)
