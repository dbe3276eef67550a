"""Small twins of the models of chapter 4, trained on the sandbox: five that see, two that draw."""

from . import units  # makes them known to rosetta.load_unit_model
from .data import KINDS, SCENES
from .models import BUILDERS, load

__all__ = ["BUILDERS", "KINDS", "SCENES", "load", "units"]
