"""Which units of two models light up in the same places: Pearson correlation of activation maps (thesis, section 4.3)."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...accumulating import Several
from .matches import Match, Units
from .resizing import LayerMaps

CONSTANT = 1e-6  # a unit whose standard deviation is below this share of its mean does not vary

IMAGES, VALUES = 8, 2**25  # maps are rearranged for so many images, or values if that is more, at a time, to bound memory


class Correlation:
    """Pearson correlation of all units of two models over all images and positions (thesis, eqs. 4.1 and 4.2).

    Maps of different size are compared at the larger one, under bilinear resizing. Everything is a running sum: the result
    depends neither on the order of the images nor on the batches, and parts `merge`. Eq. 4.2 as printed lacks the factor
    1 / (n m^2 - 1) that makes it a correlation.
    """

    def __init__(self, a: Units, b: Units):
        self.a, self.b, self.count, self.dtype = a, b, 0, torch.float32
        empty = {
            "cross": (len(a), len(b)),
            "mean_a": (len(a), len(b.layers)), "squares_a": (len(a), len(b.layers)),  # on the grid that each layer of b asks for
            "mean_b": (len(b), len(a.layers)), "squares_b": (len(b), len(a.layers)),
            "positions": (len(a.layers), len(b.layers)),
        }  # fmt: skip
        self.sums = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in empty.items()}

    def update(self, maps_a: Sequence[Tensor], maps_b: Sequence[Tensor]) -> None:
        """Add a batch: for each layer of either model its maps [n, units, h, w].

        Raises ValueError for other layers or units than those of the batches before, and for values that are not finite.
        """
        _add([self], maps_a, [maps_b])

    def _prepare(self, maps_a: Sequence[Tensor], maps_b: Sequence[Tensor]) -> None:
        """Check a batch, and lay out the sums for the first."""
        _check(maps_a, self.a), _check(maps_b, self.b)
        if len({len(maps) for maps in (*maps_a, *maps_b)}) != 1:
            raise ValueError(f"need maps of equally many images, got {[len(maps) for maps in (*maps_a, *maps_b)]}")
        pairs = [[[max(pair) for pair in zip(a.shape[2:], b.shape[2:])] for b in maps_b] for a in maps_a]
        positions = torch.tensor(pairs, dtype=torch.float64).prod(2)  # of each pair of layers, on their common grid
        if self.count and not torch.equal(positions, self.sums["positions"].cpu()):
            raise ValueError("the maps changed their size between batches")
        if self.count == 0:
            device = home(maps_a[0].device, sum(total.nbytes for total in self.sums.values()))
            self.sums = {name: total.to(device) for name, total in self.sums.items()} | {"positions": positions.to(device)}
            self.dtype = torch.promote_types(maps_a[0].dtype, torch.float32)

    def _add_layers(self, i: int, a: LayerMaps, layers_b: Sequence[LayerMaps]) -> None:
        """Add one layer of a, number i, with all of b."""
        for j, b in enumerate(layers_b):
            small, large = (tuple(map(choose, a.size, b.size)) for choose in (min, max))
            mean_a, squares_a = a.moments(large)
            mean_b, squares_b = b.moments(large)
            product = a.reduced(small) @ b.reduced(small).to(a.rows).T
            parts = a.offset, b.offset, mean_a, mean_b, squares_a, squares_b
            offset_a, offset_b, mean_a, mean_b, *squares = (part.to(self.sums["cross"].device).double() for part in parts)
            self._absorb(i, j, a.n, offset_a + mean_a, offset_b + mean_b, *squares, product, (mean_a, mean_b))

    def merge(self, other: "Correlation") -> None:
        """Add what another pass has gathered, over other images. Raises ValueError if it is about other units."""
        if (self.a, self.b) != (other.a, other.b):
            raise ValueError("cannot merge correlations of different models, layers or units")
        if self.count == 0:
            self.sums, self.dtype = {name: total.clone() for name, total in other.sums.items()}, other.dtype
        elif other.count:
            if not torch.equal(self.sums["positions"], other.sums["positions"].to(self.sums["positions"])):
                raise ValueError("cannot merge correlations of maps of different size")
            for i, rows in enumerate(self.a.slices):
                for j, columns in enumerate(self.b.slices):
                    means = (other.sums["mean_a"][rows, j], other.sums["mean_b"][columns, i])
                    squares = (other.sums["squares_a"][rows, j], other.sums["squares_b"][columns, i])
                    self._absorb(i, j, other.count, *means, *squares, other.sums["cross"][rows, columns])
        self.count += other.count

    def _absorb(self, i, j, n, mean_a, mean_b, squares_a, squares_b, product, about=None) -> None:
        """Add sums of a pair of layers over n images, by the rule for merging two samples (Chan et al. 1979).

        about: deviations from the means of the points about which `product` was taken, where those are not the means.
        """
        rows, columns, sums = self.a.slices[i], self.b.slices[j], self.sums
        new, old = (images * sums["positions"][i, j].item() for images in (n, self.count))
        cross = sums["cross"][rows, columns]
        sides = ("a", mean_a, squares_a, (rows, j)), ("b", mean_b, squares_b, (columns, i))
        shifts = []
        for side, mean, squares, place in sides:
            shift = mean.to(cross) - sums[f"mean_{side}"][place]
            sums[f"squares_{side}"][place] += squares.to(cross) + new * old / (new + old) * shift.square()
            sums[f"mean_{side}"][place] += new / (new + old) * shift
            shifts.append(shift)
        left, right = [new * old / (new + old) * shifts[0]], [shifts[1]]
        if about is not None:
            left.append(-new * about[0].to(cross)), right.append(about[1].to(cross))
        cross += product.to(cross.device)
        cross.addmm_(torch.stack(left, 1), torch.stack(right))

    @property
    def matrix(self) -> Tensor:
        """[units of a, units of b], computed anew each time; 0 for a unit that never varies."""
        return self._cosine()

    def cosine(self, centre_a: Tensor, centre_b: Tensor) -> Tensor:
        """Cosine of the maps less given numbers, [units] each, instead of their means on the common grid."""
        return self._cosine((centre_a, centre_b))

    def _cosine(self, centres: tuple[Tensor, Tensor] | None = None) -> Tensor:
        result = torch.zeros_like(self.sums["cross"], dtype=self.dtype)
        for i, rows in enumerate(self.a.slices):
            for j, columns in enumerate(self.b.slices):
                result[rows, columns] = self._block(i, j, centres)
        return result

    def _block(self, i: int, j: int, centres: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """The part of the matrix that belongs to a layer of each model."""
        if self.count == 0:
            raise ValueError("no images have been seen yet; call update first")
        sums, rows, columns = self.sums, self.a.slices[i], self.b.slices[j]
        n, cross = self.count * sums["positions"][i, j].item(), sums["cross"][rows, columns]
        scales, means = [], []
        for side, place, units in (("a", (rows, j), rows), ("b", (columns, i), columns)):
            mean, squares = sums[f"mean_{side}"][place], sums[f"squares_{side}"][place]
            floor = n * (CONSTANT * mean).square()
            if centres is not None:
                mean = mean - centres["ab".index(side)][units].to(mean)
                squares = squares + n * mean.square()
            means.append(mean)
            scales.append(torch.where(squares > floor, squares, torch.inf).rsqrt())
        if centres is not None:
            cross = torch.addr(cross, *means, alpha=n)
        return (cross * scales[0][:, None]).mul_(scales[1]).to(self.dtype).clamp_(-1, 1)

    def match(self, k: int = 5, itself: bool = False) -> Match:
        """The k nearest neighbours of each unit, and all that `Match` keeps. The matrix is never built: one layer of a at a time.

        itself: the two models are one, and no unit is its own neighbour. Raises ValueError for k below 1.
        """
        if k < 1:
            raise ValueError(f"need k of at least 1, got {k}")
        values_a, near_a, best_b, near_b = [], [], None, None
        for i, rows in enumerate(self.a.slices):
            block = torch.cat([self._block(i, j) for j in range(len(self.b.layers))], 1)
            if itself:
                block[:, rows].fill_diagonal_(-1)
            values, numbers = block.topk(min(k, block.shape[1]), dim=1)
            values_a.append(values.cpu()), near_a.append(numbers.cpu())
            values, numbers = block.topk(min(k, len(block)), dim=0)
            numbers = numbers + rows.start
            if best_b is not None:
                values, numbers = torch.cat([best_b, values]), torch.cat([near_b, numbers])
                values, order = values.topk(min(k, len(values)), dim=0)
                numbers = numbers.gather(0, order)
            best_b, near_b = values, numbers
        sums = {name: total.cpu().clone() for name, total in self.sums.items() if name != "cross"}
        return Match(self.a, self.b, k, itself, self.count, torch.cat(near_a), torch.cat(values_a), near_b.T.cpu(), sums)

    def buddies(self, k: int = 5, rule: str = "mutual") -> tuple[Tensor, Tensor]:
        """Pairs [P, 2] as `best_buddies` gives them, and their correlations [P]."""
        return self.match(k).buddies(k, rule)

    def without_position(self, means_a: Sequence[Tensor], means_b: Sequence[Tensor]) -> "Correlation":
        """The same with what depends on position alone taken out: every map less its mean over the images.

        means_a, means_b: these means, for each layer [units, h, w]. What is left says whether two units go up and down together
        at a place; that both prefer the middle no longer counts.
        """
        fixed = Correlation(self.a, self.b)
        fixed.update([maps[None].double() for maps in means_a], [maps[None].double() for maps in means_b])
        found = Correlation(self.a, self.b)
        found.sums, found.count, found.dtype = {name: total.clone() for name, total in self.sums.items()}, self.count, self.dtype
        found.sums["cross"] -= self.count * fixed.sums["cross"].to(found.sums["cross"])
        for side in ("squares_a", "squares_b"):
            left = found.sums[side] - self.count * fixed.sums[side].to(found.sums[side])
            found.sums[side] = torch.where(left > CONSTANT * found.sums[side], left, 0)  # rounding alone would leave that much
        return found

    def state_dict(self) -> dict:
        """All that was gathered, as `moments.Statistic.state_dict` gives it."""
        return {"sums": dict(self.sums), "count": self.count, "double": self.dtype == torch.float64}

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` of another of the same units gave."""
        self.sums, self.count = dict(state["sums"]), state["count"]
        self.dtype = torch.float64 if state["double"] else torch.float32

    def save(self, path: str | Path) -> None:
        """Write all sums as safetensors."""
        facts = {"a": asdict(self.a), "b": asdict(self.b), "count": self.count, "double": self.dtype == torch.float64}
        save_file({name: total.contiguous() for name, total in self.sums.items()}, path, {"correlation": json.dumps(facts)})

    @classmethod
    def load(cls, path: str | Path) -> "Correlation":
        """What `save` wrote, on the CPU. Raises ValueError for another file."""
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("correlation", "null"))
            if facts is None:
                raise ValueError(f"{path} holds no correlation; write one with Correlation.save")
            sums = {name: file.get_tensor(name) for name in file.keys()}
        sides = (Units(side["model"], tuple(side["layers"]), tuple(side["counts"])) for side in (facts["a"], facts["b"]))
        found = cls(*sides)
        found.sums, found.count, found.dtype = sums, facts["count"], torch.float64 if facts["double"] else torch.float32
        return found


class Correlations(Several):
    """Correlations of one model with several, by key, which rearrange its maps once for all."""

    def update(self, maps_a: Sequence[Tensor], *maps_b: Sequence[Tensor]) -> None:
        """Add a batch: the maps of all layers of the one model, then those of each other."""
        _add(list(self.members.values()), maps_a, maps_b)


def _add(correlations: Sequence[Correlation], maps_a: Sequence[Tensor], maps_b: Sequence[Sequence[Tensor]]) -> None:
    """Add a batch to correlations of one model with each other one, whose maps are in maps_b; those of a are rearranged once."""
    for each, maps in zip(correlations, maps_b, strict=True):
        each._prepare(maps_a, maps)
    n, values = len(maps_a[0]), sum(maps[0].numel() for maps in (*maps_a, *(layer for maps in maps_b for layer in maps)))
    chunk = max(IMAGES, VALUES // values)
    for start in range(0, n, chunk):
        few = slice(start, start + chunk)
        layers_b = [[LayerMaps(layer[few]) for layer in maps] for maps in maps_b]
        itself = next((layers for maps, layers in zip(maps_b, layers_b) if maps is maps_a), None)
        for i, layer in enumerate(maps_a):
            a = LayerMaps(layer[few]) if itself is None else itself[i]
            for each, layers in zip(correlations, layers_b):
                each._add_layers(i, a, layers)
        for each in correlations:
            each.count += len(maps_a[0][few])


def correlate_maps(batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Exact Pearson correlation [A, C] of two layers' units over all images and positions (thesis, eq. 4.2).

    batches: pairs of maps [n, A, h, w] and [n, C, k, l] of the same images; compared at the larger size under bilinear
    resizing. A unit that never varies has correlation 0. Raises ValueError for no batches, or maps that do not fit.
    """
    found = None
    for maps_a, maps_b in batches:
        if maps_a.ndim != 4 or maps_b.ndim != 4:
            raise ValueError(f"need maps [n, units, h, w], got {list(maps_a.shape)} and {list(maps_b.shape)}")
        if found is None:
            found = Correlation(Units("a", ("maps",), (maps_a.shape[1],)), Units("b", ("maps",), (maps_b.shape[1],)))
        found.update([maps_a], [maps_b])
    if found is None:
        raise ValueError("need at least one batch of maps")
    return found.matrix


def home(device: torch.device, n_bytes: int) -> torch.device:
    """Where sums of so many bytes are kept: with the maps, or in main memory where they would take most of what a GPU has free.

    All units of BigGAN-deep and of one ViT-B take 6.4 GiB. MPS has no float64.
    """
    if device.type == "cuda" and n_bytes <= torch.cuda.mem_get_info(device)[0] / 2:
        return device
    return torch.device("cpu")


def _check(maps: Sequence[Tensor], units: Units) -> None:
    shapes = [list(layer.shape) for layer in maps]
    if [shape[1] for shape in shapes if len(shape) == 4] != list(units.counts) or len(shapes) != len(units.counts):
        raise ValueError(f"need maps [n, units, h, w] of {dict(zip(units.layers, units.counts))}, got shapes {shapes}")
    for name, layer in zip(units.layers, maps):
        if layer.numel() == 0 or not layer.sum(dtype=torch.float32).isfinite():
            raise ValueError(f"the maps of {units.model}, layer {name}, are empty or not finite; check the images and the weights")
