"""Models as lists of units with activation maps: any that see, and any that draw."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...hooks import forward_hooks
from ..generators.latents import Sampler
from .matches import Units

ToMap = Callable[[Tensor], Tensor]


def in_unit_range(images: Tensor) -> Tensor:
    """The same images, once they are [B, 3, H, W] in 0..1, but for a few values, as generators draw them.

    Raises TypeError for what is no tensor, ValueError for another shape, no images, values that are not finite, or that belong to
    images in 0..255 or normalised already.
    """
    if not isinstance(images, Tensor):
        raise TypeError(
            f"need a tensor of images [B, 3, H, W] in 0..1, got {type(images).__name__}; of a file, array or PIL image make it "
            "with torchvision.transforms.functional.to_tensor(interp_utils.images.read_image(file))[None]"
        )
    if images.ndim != 4 or images.shape[1] != 3 or images.numel() == 0:
        raise ValueError(f"need images [B, 3, H, W], got {list(images.shape)}")
    if not images.is_floating_point() or not images.isfinite().all():
        raise ValueError("images must be finite floating-point numbers in 0..1")
    if ((images < -0.5) | (images > 1.5)).float().mean() > 0.01:
        low, high = (edge.item() for edge in images.aminmax())
        raise ValueError(f"need images in 0..1, got {low:.1f}..{high:.1f}; a UnitModel normalises them itself")
    return images


class _Recorded:
    """A model and its named layers; each layer's output becomes maps [B, units, h, w].

    to_map: one function for all layers, or one for each layer that needs it, by name; None where outputs are maps.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], to_map: ToMap | Mapping[str, ToMap] | None, name: str):
        if any(module.training for module in model.modules()):
            raise ValueError(f"{name} is in training mode; call model.eval() first")
        known = dict(model.named_modules())
        unknown = [layer for layer in layers if layer not in known]
        if unknown or not layers:
            raise ValueError(f"{name} needs layers that it has; not found: {unknown or 'none given'}")
        self.model, self.layers, self.to_map, self.name = model, tuple(layers), to_map, name

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def unit_names(self) -> list[str]:
        """Layer and place in it of each unit, such as "layer3.17"."""
        return self.units.names

    @property
    def units(self) -> Units:
        raise NotImplementedError

    def _record(self, run: Callable[[], Tensor], crops: Mapping[str, ToMap] | None = None) -> tuple[Tensor, list[Tensor]]:
        """What `run()` returns, and the maps of every layer, cropped."""
        found: dict[str, Tensor] = {}

        def keep(layer):
            def hook(module, args, output):
                to_map = self.to_map.get(layer) if isinstance(self.to_map, Mapping) else self.to_map
                maps = output if to_map is None else to_map(output)
                if not isinstance(maps, Tensor) or maps.ndim != 4:
                    what = list(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
                    raise NotImplementedError(f"layer {layer} of {self.name} gives {what}, not maps [B, units, h, w]")
                if crops and layer in crops:
                    maps = crops[layer](maps)
                if not maps.sum(dtype=torch.float32).isfinite():  # a sum is not finite where a value is not
                    raise ValueError(f"layer {layer} of {self.name} gives values that are not finite; check images and weights")
                found[layer] = maps.clone()  # what comes next may write over it

            return hook

        modules = dict(self.model.named_modules())
        with forward_hooks([(modules[layer], keep(layer)) for layer in self.layers]):
            result = run()
            missing = [layer for layer in self.layers if layer not in found]
            if missing:  # said here, where layers have names
                raise ValueError(f"a pass through {self.name} never ran {', '.join(missing)}")
        return result, [found[layer] for layer in self.layers]


class UnitModel(_Recorded):
    """An untouched model that sees: images [B, 3, H, W] in 0..1 -> for each layer its units' maps [B, units, h, w].

    layers: names of submodules; to_map: from their output to maps, None where it is one, or a dict of such functions by layer
    (a layer that is not in it gives maps). Images are square and of any size;
    they are resized to `size` pixels as the published code does (bicubic, without antialiasing) and normalised by mean and std.
    Maps come from hooks that are gone afterwards.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str],
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        size: int = 224,
        to_map: ToMap | Mapping[str, ToMap] | None = None,
        name: str = "custom",
        licence: str = "",
        source: str = "",
    ):
        super().__init__(model, layers, to_map, name)
        self.mean, self.std, self.size, self.licence, self.source = tuple(mean), tuple(std), size, licence, source

    def __repr__(self) -> str:
        return f"UnitModel({self.name}: {len(self.layers)} layers, {self.size} pixels, {self.device}, {self.licence})"

    @cached_property
    def units(self) -> Units:
        maps = self(torch.zeros(1, 3, self.size, self.size))
        return Units(self.name, self.layers, tuple(layer.shape[1] for layer in maps))

    def normalised(self, images: Tensor, drawn: bool = False) -> Tensor:
        """The model's own input from images in 0..1. drawn: by a generator, so that they may leave that range as far as they like.

        Raises what `in_unit_range` raises, and ValueError for images that are not square.
        """
        in_unit_range(images.clamp(0, 1) if drawn else images)
        if images.shape[2] != images.shape[3]:
            raise ValueError(f"need square images [B, 3, side, side], got {list(images.shape)}; crop them first")
        dtype = next(self.model.parameters()).dtype
        images = images.to(self.device, dtype)
        if images.shape[2] != self.size:
            images = F.interpolate(images, size=(self.size, self.size), mode="bicubic", align_corners=False)
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (images - mean) / std

    def maps(self, images: Tensor, drawn: bool = False) -> list[Tensor]:
        """Maps [B, units, h, w] of each layer, of images [B, 3, side, side] as for `normalised`; differentiable in the images."""
        pixels = self.normalised(images, drawn)
        return self._record(lambda: self.model(pixels))[1]

    @torch.no_grad()
    def __call__(self, images: Tensor, drawn: bool = False) -> list[Tensor]:
        """The same without gradients."""
        return self.maps(images, drawn)


class Generator(_Recorded):
    """An untouched model that draws: latents -> images [B, 3, H, W] in 0..1, and for each layer its units' maps.

    draw: (model, z, c) -> images in `image_range`, where c is None for a model without classes. sampler: (n, torch generator,
    class or None) -> (z,) or (z, c) with n rows each. to_map: from a layer's output to its maps, as for a `UnitModel`. crops: for
    layers whose maps reach beyond the image, how to cut that off. Calls are differentiable in the latents, as inversion needs it.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str],
        sampler: Sampler,
        draw: Callable[[nn.Module, Tensor, Tensor | None], Tensor] = lambda model, z, c: model(z) if c is None else model(z, c),
        image_range: tuple[float, float] = (-1.0, 1.0),
        name: str = "custom",
        licence: str = "",
        source: str = "",
        to_map: ToMap | Mapping[str, ToMap] | None = None,
        crops: Mapping[str, ToMap] | None = None,
    ):
        super().__init__(model, layers, to_map, name)
        self.sampler, self.draw, self.image_range, self.licence, self.source = sampler, draw, image_range, licence, source
        self.crops = crops

    def __repr__(self) -> str:
        return f"Generator({self.name}: {len(self.layers)} layers, {self.device}, {self.licence})"

    @cached_property
    def units(self) -> Units:
        with torch.no_grad():
            _, maps = self(*self.sample(1))
        return Units(self.name, self.layers, tuple(layer.shape[1] for layer in maps))

    def sample(self, n: int, seed: int = 0, kind: int | None = None) -> tuple[Tensor, ...]:
        """n latents, the same for the same seed: (z,), or (z, c) with class weights c, of one class if `kind` says which."""
        if n < 1:
            raise ValueError(f"need at least one sample, got {n}")
        return self.sampler(n, torch.Generator().manual_seed(seed), kind)

    def __call__(self, z: Tensor, c: Tensor | None = None, crop: bool = True) -> tuple[Tensor, list[Tensor]]:
        """Images [B, 3, H, W], 0..1 but not cut off there, and the maps of each layer [B, units, h, w], cropped to the image."""
        z, c = z.to(self.device), None if c is None else c.to(self.device)
        images, maps = self._record(lambda: self.draw(self.model, z, c), self.crops if crop else None)
        if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3:
            what = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(f"{self.name} must draw images [B, 3, H, W], got {what}")
        low, high = self.image_range
        return (images - low) / (high - low), maps


def style_space(generator: Generator, mapping: Callable, synthesis: Callable) -> Generator:
    """The same generator with styles in place of z and of the class: its latents are (w,).

    mapping: (model, z, c or None) -> w; synthesis: (model, w) -> images.
    """

    @torch.no_grad()
    def sampler(n: int, random: torch.Generator, kind: int | None) -> tuple[Tensor, ...]:
        z, *c = (part.to(generator.device) for part in generator.sampler(n, random, kind))
        return (mapping(generator.model, z, c[0] if c else None).cpu(),)  # on the CPU, as all samplers give them

    return Generator(
        generator.model, generator.layers, sampler, lambda model, w, c: synthesis(model, w), generator.image_range,
        f"{generator.name}, style space", generator.licence, generator.source, generator.to_map, generator.crops,
    )  # fmt: skip
