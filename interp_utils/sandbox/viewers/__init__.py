"""Five small models that see, trained on the sandbox: twins of the models of chapter 4 that look at images."""

from . import units  # makes them known to rosetta.load_unit_model
from .models import BUILDERS, load
from .probes import linear_probe, probe

__all__ = ["BUILDERS", "linear_probe", "load", "probe", "units"]
