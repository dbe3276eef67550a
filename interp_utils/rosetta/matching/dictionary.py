"""The dictionary: units of a reference model that have a partner in every other model, clustered into concepts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from .correlation import Correlation
from .matches import Match


@dataclass(frozen=True)
class Rosetta:
    """One tuple of eq. 4.4: a unit of the reference and its partner in each other model."""

    unit: str  # "layer3.17"
    partners: dict[str, str]  # model -> unit
    correlations: dict[str, float]  # model -> with the reference's unit
    number: int  # of the unit in the reference

    @property
    def strength(self) -> float:
        """Mean correlation with the partners."""
        return sum(self.correlations.values()) / len(self.correlations)


@dataclass(frozen=True)
class Dictionary:
    """Rosetta units of a model zoo (R units, m models beside the reference), and the concept of each."""

    reference: str
    models: tuple[str, ...]
    units: Tensor  # [R], numbers in the reference, rising
    partners: Tensor  # [R, m], numbers in each model
    correlations: Tensor  # [R, m]
    clusters: Tensor  # [R], 0 for the concept with the strongest unit
    unit_names: tuple[str, ...]  # [R]
    partner_names: tuple[tuple[str, ...], ...]  # [R][m]

    def __len__(self) -> int:
        return len(self.units)

    def concepts(self) -> list[list[Rosetta]]:
        """The Rosetta units of each concept; strongest first, both concepts and units."""
        found = [[] for _ in range(int(self.clusters.max()) + 1 if len(self) else 0)]
        for r in range(len(self)):
            partners = dict(zip(self.models, self.partner_names[r]))
            correlations = dict(zip(self.models, self.correlations[r].tolist()))
            found[self.clusters[r]].append(Rosetta(self.unit_names[r], partners, correlations, self.units[r].item()))
        return [sorted(concept, key=lambda entry: -entry.strength) for concept in found]

    def __str__(self) -> str:
        """One line for each unit, a blank line after each concept."""
        blocks = []
        for number, concept in enumerate(self.concepts()):
            rows = [
                f"  {entry.unit}  " + "  ".join(f"{m}:{entry.partners[m]} ({entry.correlations[m]:.2f})" for m in self.models)
                for entry in concept
            ]
            blocks.append("\n".join([f"concept {number}", *rows]))
        return "\n\n".join([f"{self.reference}: {len(self)} Rosetta units in {len(blocks)} concepts", *blocks])

    def overlap(self, other: "Dictionary") -> dict[str, float]:
        """Jaccard index of the reference's units ("units") and of whole tuples with the partners ("tuples").

        Raises ValueError for dictionaries of other models.
        """
        if (self.reference, self.models) != (other.reference, other.models):
            raise ValueError(f"different models: {self.reference}, {self.models} and {other.reference}, {other.models}")
        sets = [(set(d.unit_names), set(zip(d.unit_names, d.partner_names))) for d in (self, other)]
        pairs = {"units": (sets[0][0], sets[1][0]), "tuples": (sets[0][1], sets[1][1])}
        return {what: len(a & b) / max(len(a | b), 1) for what, (a, b) in pairs.items()}

    def save(self, path: str | Path) -> None:
        """Write the numbers as safetensors to `path`, and beside it the same with names, to read, as .json."""
        numbers = {"units": self.units, "partners": self.partners, "correlations": self.correlations, "clusters": self.clusters}
        save_file({name: tensor.contiguous() for name, tensor in numbers.items()}, path)
        names = {"reference": self.reference, "models": self.models, "units": self.unit_names, "partners": self.partner_names}
        Path(path).with_suffix(".json").write_text(json.dumps(names, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Dictionary":
        """What `save` wrote. Raises ValueError where the two files do not belong together."""
        numbers, names = load_file(path), json.loads(Path(path).with_suffix(".json").read_text())
        if len(names["units"]) != len(numbers["units"]):
            raise ValueError(f"{path} and the .json beside it are of different dictionaries; save both again")
        partners = tuple(map(tuple, names["partners"]))
        return cls(names["reference"], tuple(names["models"]), **numbers, unit_names=tuple(names["units"]), partner_names=partners)


def build_dictionary(
    matches: Sequence[Match | Correlation], own: Match | Correlation, k: int = 5, rule: str = "mutual"
) -> Dictionary:
    """Units of a reference model with a best buddy in every other model, as concepts (thesis, eq. 4.4 and section 4.3).

    matches: of the reference with each other model; own: with itself. The partner is the buddy with the highest
    correlation. The thesis puts two units in one cluster if they are best buddies within the reference. Here no unit is its own
    neighbour, neighbours are sought among all its units, and a concept is a connected component among the Rosetta units.
    rule: how partners are found, see `best_buddies`; clusters always are by mutual neighbours.
    Raises ValueError for no matches, or matches of another reference.
    """
    if not matches or any(match.a != own.a for match in matches) or own.a != own.b:
        raise ValueError("need at least one match, each of the same reference model as `own`, and `own` with itself")
    own = own.match(k, itself=True) if isinstance(own, Correlation) else own
    if not own.itself:
        raise ValueError(
            "`own` counts units as their own neighbours; take match(a, [a], ...), or a Correlation's match(itself=True)"
        )
    models = tuple(match.b.model for match in matches)
    if len(set(models)) < len(models):
        raise ValueError(f"need different models, got {', '.join(models)}")
    partners, strengths = [], []
    for match in matches:
        pairs, corr = match.buddies(k, rule)
        rows, columns = pairs.T
        values = torch.full((len(own.a),), -1.0, dtype=corr.dtype)
        values.scatter_reduce_(0, rows, corr, "amax")
        partner = torch.full((len(own.a),), -1)
        best = corr == values[rows]
        partner[rows[best].flip(0)] = columns[best].flip(0)  # of equals, the one with the lowest number
        partners.append(partner), strengths.append(values)
    partners, strengths = torch.stack(partners, 1), torch.stack(strengths, 1)
    units = (partners >= 0).all(1).nonzero()[:, 0]
    clusters = _clusters(own.buddies(k)[0], units, len(own.a), strengths[units].mean(1))
    names = [match.b.names for match in matches]
    partner_names = tuple(tuple(names[i][p] for i, p in enumerate(row)) for row in partners[units].tolist())
    own_names = own.a.names
    return Dictionary(
        own.a.model, models, units, partners[units], strengths[units], clusters,
        tuple(own_names[unit] for unit in units.tolist()), partner_names,
    )  # fmt: skip


def _clusters(neighbours: Tensor, units: Tensor, n_units: int, strength: Tensor) -> Tensor:
    """Connected components of the units under pairs of neighbours, [R], numbered by their strongest unit."""
    place = torch.full((n_units,), -1)
    place[units] = torch.arange(len(units))
    edges = place[neighbours]
    edges = edges[(edges >= 0).all(1)].numpy()
    graph = coo_array((torch.ones(len(edges)).numpy(), (edges[:, 0], edges[:, 1])), shape=(len(units), len(units)))
    count, label = connected_components(graph, directed=False)
    label = torch.from_numpy(label).long()
    best = torch.full((count,), -1.0, dtype=strength.dtype).scatter_reduce_(0, label, strength, "amax")
    return best.argsort(descending=True, stable=True).argsort()[label]
