"""The viewers among the models of chapter 4: `rosetta.load_unit_model("sandbox/viewers/<name>")`."""

from functools import partial

from ...rosetta.matching.zoo import Loaded, register
from ..clip import MEAN, STD
from .models import BUILDERS, load


def _sees(name: str, pretrained: bool) -> Loaded:
    model = load(name) if pretrained else BUILDERS[name]()
    return Loaded(getattr(model, "visual", model), MEAN, STD, 64, "mit", f"data/sandbox/viewers/{name}.safetensors")


for name in BUILDERS:
    register(f"sandbox/viewers/{name}", partial(_sees, name))
