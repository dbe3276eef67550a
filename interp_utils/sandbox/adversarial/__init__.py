"""An adversarial generator of the known generator's world: `rosetta.load_unit_model("sandbox/big_gan")`.

The same network as the known one, narrower. It learned by contest, and nobody told it what a latent stands for.
"""

from pathlib import Path

from ...models import DATA
from ...rosetta.generators import truncated_latents
from ...rosetta.generators.registry import Built, big_gan_layers
from ...rosetta.matching.zoo import register
from ..known.generator import KnownBigGAN
from ..known.latents import KINDS, Z
from ..weights import read

NAME = "sandbox/big_gan"
FILE = DATA / "sandbox" / "big_gan.safetensors"
CHANNELS = (160, 128, 64, 32, 16)


def blank() -> KnownBigGAN:
    """The generator with random weights."""
    return KnownBigGAN(CHANNELS)


def load(path: str | Path = FILE) -> KnownBigGAN:
    """The trained generator, frozen and in eval mode.

    Raises FileNotFoundError where there is no file, ValueError for one that holds something else.
    """
    model, state = blank(), read("big_gan", path, "interp_utils.sandbox.adversarial.train")
    if {key: tensor.shape for key, tensor in state.items()} != {key: tensor.shape for key, tensor in model.state_dict().items()}:
        raise ValueError(f"{path} does not hold the weights of big_gan; restore it with: git checkout -- data")
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def _draws(pretrained: bool) -> Built:
    model = load() if pretrained else blank()
    sampler, source = truncated_latents(Z, len(KINDS)), "data/sandbox/big_gan.safetensors"
    return model, {"layers": big_gan_layers(model), "sampler": sampler, "licence": "mit", "source": source}


register(NAME, _draws)
