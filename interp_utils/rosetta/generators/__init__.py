"""The generators of chapter 4 in plain PyTorch, and readers of their public files that run no code from them."""

from .big_gan import BigGAN, BigGANConfig
from .checkpoints import load_weights
from .latents import truncated_latents
from .nvidia import convert_nvidia_pickle, read_nvidia_pickle
from .registry import GENERATORS, style_gan2_layers
from .style_gan2 import StyleGAN2, StyleGAN2Config
from .style_gan_xl import StyleGANXL, StyleGANXLConfig
from .torch_files import read_torch_file

__all__ = [
    "GENERATORS", "BigGAN", "BigGANConfig", "StyleGAN2", "StyleGAN2Config", "StyleGANXL", "StyleGANXLConfig",
    "convert_nvidia_pickle", "load_weights", "read_nvidia_pickle", "read_torch_file", "style_gan2_layers",
    "truncated_latents",
]  # fmt: skip
