"""Statistics that add up: over batches, over shards of a dataset, over processes, in any order.

Each has `update(...)` for a batch, `merge(other)` for what another pass has gathered, and no data but tensors of its own. Sums
are kept in float64. What is fed in has the batch as its first axis; all further axes are kept. Spread is summed about the first
row seen: that row is one of the data, so however far from zero the data lie, no digits are lost to their mean.
"""

import torch
from torch import Tensor

from .accumulating import Statistic
from .checks import checked_count, checked_numbers
from .rounding import COMPUTING, WRITING


class Moments(Statistic):
    """Count, mean and, on request, covariance over the last axis (for TextSpan, explained variance, linear maps).

    update: values [B, *units, E]; with others [B, *units, F] the covariance is that of the values with the others.
    mean: [*units, E]; covariance: [*units, E, E] or [*units, E, F]; second: the uncentred mean of products, of the same shape.
    """

    settings = ("with_second",)

    def __init__(self, second: bool = False):
        super().__init__()
        self.with_second = second
        self.shifts, self.totals, self.products = (), (), None  # of the values, and of the others if there are some

    def update(self, values: Tensor, others: Tensor | None = None) -> None:
        part = self._part(*(side for side in (values, others) if side is not None))
        if part.count == 0:
            return
        sides = [_exact(side) for side in (values, others) if side is not None]
        if self.with_second:
            part.shifts = self.shifts or tuple(side[0].clone() for side in sides)
            sides = [side - shift.to(side.device) for side, shift in zip(sides, part.shifts)]
            by_unit = [side.movedim(0, -2) for side in sides]  # [*units, B, E]
            part.products = by_unit[0].mT @ by_unit[-1]
        else:
            part.shifts = tuple(torch.zeros_like(side[0]) for side in sides)  # plain sums: shares of images stay exact
        part.totals = tuple(side.sum(0) for side in sides)
        self.merge(part)

    def _add(self, other: "Moments") -> None:
        if self.count == 0:
            self.shifts, self.totals, self.products = other.shifts, other.totals, other.products
            return
        totals = tuple(theirs.to(mine.device) for theirs, mine in zip(other.totals, self.totals))
        if self.with_second:
            products = other.products.to(self.products.device)
            if other.shifts is not self.shifts:
                moves = [theirs.to(mine.device) - mine for theirs, mine in zip(other.shifts, self.shifts)]
                moved = tuple(total + other.count * move for total, move in zip(totals, moves))
                products = products + _outer(moves[0], totals[-1]) + _outer(moved[0], moves[-1])
                totals = moved
            self.products = self.products + products
        self.totals = tuple(mine + theirs for mine, theirs in zip(self.totals, totals))

    @property
    def mean(self) -> Tensor:
        self._seen()
        return self.shifts[0] + self.totals[0] / self.count

    @property
    def covariance(self) -> Tensor:
        self._seen()
        if not self.with_second:
            raise ValueError("only means were kept; make it with Moments(second=True)")
        return self.products / self.count - _outer(self.totals[0] / self.count, self.totals[-1] / self.count)

    @property
    def second(self) -> Tensor:
        return self.covariance + _outer(self.mean, self.shifts[-1] + self.totals[-1] / self.count)

    @property
    def varies(self) -> Tensor:
        """Where the values vary by more than a computation's rounding, bool [*units]."""
        variance = self.covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
        return variance > (COMPUTING * self.eps) ** 2 * self.mean.square().sum(-1)


class GroupMeans(Statistic):
    """Mean of values within groups: accuracy by group, effects by factor value.

    update: values [B, *units] and groups, integers [B] below n_groups; a negative group leaves the image out.
    mean: [n_groups, *units], nan for a group without an image; overall: [*units]; variance: [*units without the last].
    """

    settings = ("n_groups",)

    def __init__(self, n_groups: int):
        super().__init__()
        self.n_groups = checked_count("n_groups", n_groups)
        self.counts = torch.zeros(n_groups, dtype=torch.float64)
        self.total, self.shift, self.squares = None, None, None

    def update(self, values: Tensor, groups: Tensor) -> None:
        groups = checked_numbers("groups", groups).to(values.device)
        part = self._part(values, groups)
        if part.count and groups.max() >= self.n_groups:
            raise ValueError(f"need {part.count} groups below {self.n_groups}, got up to {groups.max().item()}")
        values, groups = _exact(values[groups >= 0]), groups[groups >= 0]
        part.count, part.counts = len(values), torch.bincount(groups.cpu(), minlength=self.n_groups).double()
        total = torch.zeros(self.n_groups, *values.shape[1:], dtype=values.dtype, device=values.device)
        part.total = total.index_add_(0, groups.to(values.device), values)
        if part.count:
            part.shift = values[0].clone() if self.shift is None else self.shift
            part.squares = (values - part.shift.to(values.device)).square().sum(0)
        self.merge(part)

    def _add(self, other: "GroupMeans") -> None:
        if self.shift is None:
            self.shift, self.squares = other.shift, other.squares
        elif other.shift is not None:
            squares = other.squares.to(self.squares.device)
            if other.shift is not self.shift:
                theirs = other.shift.to(self.shift.device)
                move, away = theirs - self.shift, other.overall.to(theirs.device) - theirs
                squares = squares + other.count * move * (2 * away + move)
            self.squares = self.squares + squares
        self.counts = self.counts + other.counts
        self.total = other.total if self.total is None else self.total + other.total.to(self.total.device)

    @property
    def mean(self) -> Tensor:
        self._seen()
        return self.total / self._shaped_counts()

    @property
    def overall(self) -> Tensor:
        self._seen()
        return self.total.sum(0) / self.counts.sum().item()

    @property
    def variance(self) -> Tensor:
        """Variance of the values in groups over the last axis, [*units without it]; 0 where all values are written alike."""
        overall = self.overall
        if self.shift is None:
            return torch.zeros_like(overall.sum(-1))
        variance = (self.squares / self.count - (overall - self.shift).square()).sum(-1)
        return torch.where(variance > (WRITING * self.eps) ** 2 * overall.square().sum(-1), variance, 0)

    def explained_variance(self, corrected: bool = True) -> Tensor:
        """Share of the variance over the last axis that the groups explain, [*units without the last].

        One-way analysis of variance. corrected: less what as many random groups would explain (epsilon squared; Kelley
        1935), so it is about 0, and may be below, where groups make no difference. Units that never vary get 0.
        """
        n, whole, seen = self.counts.sum().item(), self.variance, self.counts > 0
        weights = (self._shaped_counts() / max(n, 1))[seen]
        between = (weights * (self.mean[seen] - self.overall).square()).sum(0).sum(-1)
        if corrected:
            free = int(seen.sum()) - 1
            between = between - free * (whole - between) / max(n - 1 - free, 1)
        return torch.where(whole > 0, between / torch.where(whole > 0, whole, 1), 0)

    def _shaped_counts(self) -> Tensor:
        return self.counts.to(self.total.device).reshape(-1, *[1] * (self.total.ndim - 1))


class TopK(Statistic):
    """The images with the highest scores, for each unit, and on request something of each of those images.

    update: scores [B, *units], the images' numbers [B], and rows [B, C, *units] to keep for the best images of each unit.
    values, images: [k, *units], best first; equal scores by number. rows: [k, C, *units].
    """

    settings = ("k",)

    def __init__(self, k: int):
        super().__init__()
        self.k, self.values, self.images, self.rows = checked_count("k", k), None, None, None

    def update(self, scores: Tensor, numbers: Tensor, rows: Tensor | None = None) -> None:
        numbers = checked_numbers("numbers", numbers)
        part = self._part(scores, numbers) if rows is None else self._part(scores, numbers, rows)
        if rows is not None and (rows.ndim < 2 or rows.shape[2:] != scores.shape[1:]):
            raise ValueError(f"need rows [B, C, *units] for scores [B, *units], got {list(rows.shape)} and {list(scores.shape)}")
        part.values = scores.detach().cpu()
        part.images = numbers.cpu().reshape(-1, *[1] * (scores.ndim - 1)).expand(scores.shape)
        part.rows = None if rows is None else rows.detach().cpu()
        self.merge(part)

    def _add(self, other: "TopK") -> None:
        scores, numbers, rows = other.values, other.images, other.rows
        if self.values is not None:
            scores, numbers = torch.cat([self.values, scores]), torch.cat([self.images, numbers])
            rows = None if rows is None else torch.cat([self.rows, rows])
        numbers, order = numbers.sort(dim=0, stable=True)  # so that equal scores come in the order of the images
        scores = scores.gather(0, order)
        best = scores.argsort(dim=0, descending=True, stable=True)[: self.k]
        self.values, self.images = scores.gather(0, best), numbers.gather(0, best)
        if rows is not None:
            chosen = order.gather(0, best)[:, None]
            self.rows = rows.gather(0, chosen.expand(-1, rows.shape[1], *chosen.shape[2:]))


class Rows(Statistic):
    """All rows, in the order of the images' numbers: for results that are small for each image.

    update: values [B, ...] and the images' numbers [B]. rows: [K, ...]; numbers: [K], rising.
    """

    def __init__(self):
        super().__init__()
        self.parts: list[tuple[Tensor, Tensor]] = []

    def update(self, values: Tensor, numbers: Tensor) -> None:
        numbers = checked_numbers("numbers", numbers)
        part = self._part(values, numbers)
        # copies: a view of a few columns would keep the whole batch alive
        part.parts = [(values.detach().to("cpu", copy=True), numbers.to("cpu", copy=True))]
        self.merge(part)

    def _add(self, other: "Rows") -> None:
        self.parts = self.parts + other.parts

    def state_dict(self) -> dict:
        self.parts = [tuple(torch.cat(each) for each in zip(*self.parts))] if self.parts else []  # few large tensors
        return super().state_dict()

    @property
    def numbers(self) -> Tensor:
        self._seen()
        return torch.cat([numbers for _, numbers in self.parts]).sort().values

    @property
    def rows(self) -> Tensor:
        self._seen()
        order = torch.cat([numbers for _, numbers in self.parts]).argsort(stable=True)
        return torch.cat([values for values, _ in self.parts])[order]


def _exact(values: Tensor) -> Tensor:
    """The values in float64, on the CPU where the device has none."""
    values = values.detach()
    return (values.cpu() if values.device.type == "mps" else values).double()


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """[*units, E] and [*units, F] -> [*units, E, F]"""
    return left[..., :, None] * right[..., None, :]
