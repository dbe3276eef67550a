"""A generator whose latents mean something known: a small world drawn from z alone, and a network trained to draw it."""

from .generator import KnownBigGAN
from .latents import COLOURS, KINDS, SCENES, Factors, factors, picture, sample

__all__ = ["COLOURS", "KINDS", "SCENES", "Factors", "KnownBigGAN", "factors", "picture", "sample"]
