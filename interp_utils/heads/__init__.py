"""Chapter 2: what each attention head, layer and token writes into the image representation."""

from .direct import DirectEffects, direct_effects

__all__ = ["DirectEffects", "direct_effects"]
