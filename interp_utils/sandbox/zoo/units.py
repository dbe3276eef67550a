"""The zoo among the models of chapter 4: `rosetta.load_unit_model("sandbox/<name>")`."""

from functools import partial

from ...rosetta.generators import style_gan2_layers, truncated_latents
from ...rosetta.generators.registry import Built, big_gan_layers
from ...rosetta.matching.zoo import Loaded, register
from ..clip import MEAN, STD
from .data import KINDS
from .models import BUILDERS, load

LAYERS = {"big_gan": big_gan_layers, "style_gan": partial(style_gan2_layers, smallest=4)}


def _model(name: str, pretrained: bool):
    return load(name) if pretrained else BUILDERS[name]()


def _sees(name: str, pretrained: bool) -> Loaded:
    model, source = _model(name, pretrained), f"data/sandbox/{name}.safetensors"
    return Loaded(getattr(model, "visual", model), MEAN, STD, 64, "mit", source)


def _draws(name: str, pretrained: bool) -> Built:
    model, source = _model(name, pretrained), f"data/sandbox/{name}.safetensors"
    sampler = truncated_latents(model.d_z, len(KINDS))
    return model, {"layers": LAYERS[name](model), "sampler": sampler, "licence": "mit", "source": source}


for name in ("resnet", "dino_resnet", "clip_resnet", "dino_vit", "mae_vit"):
    register(f"sandbox/{name}", partial(_sees, name))
for name in LAYERS:
    register(f"sandbox/{name}", partial(_draws, name))
