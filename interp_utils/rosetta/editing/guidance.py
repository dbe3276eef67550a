"""Matched units as a goal: how well a generator's maps agree with given maps of their partners (thesis, eq. 4.6)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..matching import Correlation, Dictionary, Match, Units

KEPT = 2**25  # maps of the pairs of one guide are kept for the gradient up to so many; beyond, so many at a time, made again


@dataclass(frozen=True)
class Pairs:
    """P units of a generator (a) and their partners in another model (b), with statistics of both over the mining images.

    Statistics are those of maps resized to the common grid of a pair, as `Correlation` gathers them.
    """

    a: Units
    b: Units
    numbers: Tensor  # [P, 2], unit of a and unit of b
    means: Tensor  # [P, 2]
    stds: Tensor  # [P, 2]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, chosen) -> "Pairs":
        """The pairs at some places: a slice, a list or a tensor of integers or booleans."""
        return Pairs(self.a, self.b, self.numbers[chosen], self.means[chosen], self.stds[chosen])

    def by_layers(self) -> Iterator[tuple[int, int, Tensor, Tensor, Tensor]]:
        """For two layers that have pairs: the layers, the units within either [p], and which of the pairs they are [p]."""
        a, b = self.numbers.T
        for i, rows in enumerate(self.a.slices):
            for j, columns in enumerate(self.b.slices):
                members = ((rows.start <= a) & (a < rows.stop) & (columns.start <= b) & (b < columns.stop)).nonzero()[:, 0]
                if len(members):
                    yield i, j, a[members] - rows.start, b[members] - columns.start, members


def matched_pairs(match: Match | Correlation, numbers: Tensor | None = None, k: int = 5, rule: str = "mutual") -> Pairs:
    """The best buddies of two models, or the pairs [P, 2] that `numbers` lists, with the statistics that eq. 4.6 needs.

    A unit that never varied has no statistics to normalise by: best buddies leave it out. Raises ValueError if `numbers` has
    such a unit, or if there is no pair.
    """
    layer_a, layer_b = (torch.repeat_interleave(torch.tensor(side.counts)) for side in (match.a, match.b))
    listed = numbers is not None
    numbers = torch.as_tensor(numbers).cpu() if listed else match.buddies(k, rule)[0]
    if numbers.numel() == 0 or numbers.ndim != 2 or numbers.shape[1] != 2:
        raise ValueError(f"need pairs [P, 2] of units of {match.a.model} and {match.b.model}, got {list(numbers.shape)}")
    rows, columns = numbers.T
    sums = {name: total.cpu() for name, total in match.sums.items() if name != "cross"}
    n = match.count * sums["positions"][layer_a[rows], layer_b[columns]]
    means = torch.stack([sums["mean_a"][rows, layer_b[columns]], sums["mean_b"][columns, layer_a[rows]]], 1)
    squares = torch.stack([sums["squares_a"][rows, layer_b[columns]], sums["squares_b"][columns, layer_a[rows]]], 1)
    stds = (squares / n[:, None]).sqrt()
    varies = (stds > 1e-6 * means.abs()).all(1) & (stds > 0).all(1)
    if listed and not varies.all():
        names = [(match.a.names[a], match.b.names[b]) for a, b in numbers[~varies].tolist()]
        raise ValueError(f"these units never varied over the mining images: {names}; leave them out")
    if not varies.any():
        raise ValueError(f"{match.a.model} and {match.b.model} have no pair of units that vary; mine more images")
    return Pairs(match.a, match.b, numbers[varies], means[varies].float(), stds[varies].float())


def rosetta_pairs(dictionary: Dictionary, matches: Sequence[Match | Correlation]) -> list[Pairs]:
    """The Rosetta units (eq. 4.4) as pairs with each model of the dictionary, from the matches it was built of."""
    by_model = {match.b.model: match for match in matches}
    columns = dictionary.partners.T
    return [matched_pairs(by_model[m], torch.stack([dictionary.units, column], 1)) for m, column in zip(dictionary.models, columns)]


def own_pairs(own: Match | Correlation, units: Tensor) -> Pairs:
    """Units of a generator as their own partners, for edits of its maps. own: its match with itself; units: [P] numbers."""
    units = torch.as_tensor(units)
    return matched_pairs(own, torch.stack([units, units], 1))


class Guidance:
    """L_act of eq. 4.6 for fixed targets: the partners' maps of the image that a generator shall come near to.

    pairs: which units; targets: the maps of all layers of `pairs.b` for B images, [B, units, h, w] each, or for one image, which
    then is the target of every latent. form: "dataset", as the thesis writes it, normalises both maps by their mean and standard
    deviation over the mining images and takes the mean over positions (the thesis prints a sum, which would weigh large maps
    more); "instance", as the published code, divides by the norms of the two maps at hand. Both are blind to one thing: the first
    grows without end as the generator's map grows, the second ignores how strong a map is. "distance", ours, is minus half the
    mean squared difference of the normalised maps: the first less half of both maps' mean squares, so that it ends at 0.
    Raises ValueError for no pairs, targets of other layers or units, and for an unknown form.
    """

    def __init__(self, pairs: Pairs, targets: Sequence[Tensor], form: str = "dataset"):
        if form not in ("dataset", "instance", "distance"):
            raise ValueError(f"form must be 'dataset', 'instance' or 'distance', got {form!r}")
        if not len(pairs):
            raise ValueError(f"no pairs of {pairs.a.model} and {pairs.b.model} to match")
        counts = [maps.shape[1] for maps in targets]
        if counts != list(pairs.b.counts):
            raise ValueError(f"need maps of {dict(zip(pairs.b.layers, pairs.b.counts))}, got {counts} units a layer")
        self.pairs, self.form, self.parts, self.normalised = pairs, form, [], {}
        for i, j, rows, columns, members in pairs.by_layers():
            self.parts.append((i, rows, members, targets[j].detach()[:, columns]))

    def __len__(self) -> int:
        return len(self.pairs)

    def scores(self, maps: Sequence[Tensor]) -> Tensor:
        """The term of each pair, [B, P], for the generator's maps of all layers. Differentiable in the maps.

        Raises ValueError where there are several targets, but not one for each latent.
        """
        given, drawn = len(self.parts[0][3]), len(maps[0])
        if given not in (1, drawn):
            raise ValueError(f"need one target, or one for each latent; got {given} targets and {drawn} latents")
        sizes = [tuple(map(max, zip(maps[layer].shape[2:], raw.shape[2:]))) for layer, _, _, raw in self.parts]
        values = [drawn * height * width for height, width in sizes]  # of a pair
        small = sum(each * len(members) for each, (_, _, members, _) in zip(values, self.parts)) <= KEPT
        found = []
        for k, (layer, rows, members, raw) in enumerate(self.parts):
            if small:  # the targets stay the same from step to step
                place = k, sizes[k], maps[layer].device
                if place not in self.normalised:
                    self.normalised[place] = self._normalised(resized(raw.to(maps[layer]), sizes[k]), members, 1)
                found.append(self._scores(maps[layer][:, rows], self.normalised[place], members))
                continue
            step = max(1, KEPT // values[k])
            for some in (slice(start, start + step) for start in range(0, len(members), step)):
                given = maps[layer], rows[some], raw[:, some], members[some], sizes[k]
                found.append(checkpoint(self._anew, *given, use_reentrant=False, preserve_rng_state=False))
        order = torch.cat([members for _, _, members, _ in self.parts]).argsort()
        return torch.cat(found, 1)[:, order.to(found[0].device)]

    def _anew(self, maps: Tensor, rows: Tensor, raw: Tensor, members: Tensor, size: tuple[int, ...]) -> Tensor:
        return self._scores(maps[:, rows], self._normalised(resized(raw.to(maps), size), members, 1), members)

    def _scores(self, ours: Tensor, target: Tensor, members: Tensor) -> Tensor:
        ours = self._normalised(resized(ours, tuple(target.shape[2:])), members, 0)
        if self.form == "instance":
            return F.cosine_similarity(ours.flatten(2), target.flatten(2).expand(len(ours), -1, -1), dim=2)
        if self.form == "distance":
            return -0.5 * (ours - target).square().mean((2, 3))
        return (ours * target).mean((2, 3))

    def _normalised(self, maps: Tensor, members: Tensor, side: int) -> Tensor:
        mean, std = (values[members, side].to(maps)[:, None, None] for values in (self.pairs.means, self.pairs.stds))
        return (maps - mean) / std


def resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(maps.shape[2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
