"""An adversarial generator, beside the known one that learned by regression: `rosetta.load_unit_model("sandbox/big_gan")`.

It drew images of another, smaller world, which is no longer here (data card); chapter 4 looks at its units.
"""

from pathlib import Path

from ..models import DATA
from ..rosetta.generators import truncated_latents
from ..rosetta.generators.registry import Built, big_gan_layers
from ..rosetta.matching.zoo import register
from .big_gan import BigGenerator
from .weights import read

KINDS = ("fish", "cat", "plane", "apple")
FILE = DATA / "sandbox" / "big_gan.safetensors"


def load(path: str | Path = FILE) -> BigGenerator:
    """The trained generator, frozen and in eval mode.

    Raises FileNotFoundError where there is no file, ValueError for one that holds something else.
    """
    model, state = BigGenerator(len(KINDS)), read("big_gan", path)
    if {key: tensor.shape for key, tensor in state.items()} != {key: tensor.shape for key, tensor in model.state_dict().items()}:
        raise ValueError(f"{path} does not hold the weights of big_gan; restore it with: git checkout -- data")
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def _draws(pretrained: bool) -> Built:
    model = load() if pretrained else BigGenerator(len(KINDS))
    sampler, source = truncated_latents(model.d_z, len(KINDS)), "data/sandbox/big_gan.safetensors"
    return model, {"layers": big_gan_layers(model), "sampler": sampler, "licence": "mit", "source": source}


register("sandbox/big_gan", _draws)
