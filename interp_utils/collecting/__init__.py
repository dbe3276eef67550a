"""What chapters 2 to 5 want from images or samples, from passes that can be stopped and shared by several processes."""

from .heads import STATISTICS, Collected, Layers, collect, collected
from .matches import Zoo, collect_matches, zoo
from .neurons import Described, collect_neurons, collect_units

ALONE = {"neurons": "chapter 3", "matches": "chapter 4", "units": "chapter 5"}  # each in a file of its own, and who reads it

__all__ = [
    "ALONE",
    "STATISTICS",
    "Collected",
    "Described",
    "Layers",
    "Zoo",
    "collect",
    "collect_matches",
    "collect_neurons",
    "collect_units",
    "collected",
    "zoo",
]
