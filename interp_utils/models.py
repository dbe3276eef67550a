"""An untouched OpenCLIP model, with the sizes and the checks that an interpreter needs."""

import copy
import inspect
import os
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import towers
from .checks import finite
from .loading import checked_name, load
from .tokens import fill, tokenise

DATA = next(p for p in (Path(__file__).parent / "_data", Path(__file__).parents[1] / "data") if p.exists())

_FAR = 20  # from 0: normalised pixels lie within about 2.7, those of an image in 0..255 do not


class Clip:
    """An OpenCLIP model as it is, beside its preprocessing, tokenizer and sizes.

    model: any instantiated `open_clip` CLIP whose image tower is a ViT of OpenCLIP's or timm's (docs/models.md lists them). What
    `torch.compile` made of it, of its tower or of its blocks serves too, and runs as plain code wherever hooks are needed.
    preprocess: PIL image -> tensor [3, H, W]; tokenizer: list of strings -> token ids. Both may be None if unused.
    The model is never changed. Put it in eval mode first. check: run two images of noise, once, and see that the tower does
    what its structure says; False takes its word for it. ln: how layer norms are shared among terms, "centered" or "split" as in
    the thesis's numbers (see `heads.direct_effects`); what is computed with this Clip follows it, where no call says otherwise.
    Raises NotImplementedError, with the reason, for towers that are not covered, RuntimeError that names the part where a tower
    does something else.
    """

    identity = ("model", "preprocess", "ln")  # by which a pass knows a Clip again, see `fingerprints`

    def __init__(self, model, preprocess=None, tokenizer=None, name: str = "custom", check: bool = True, ln: str = "centered"):
        self.model, self.preprocess, self.tokenizer, self.name = model, preprocess, tokenizer, name
        tower = self.tower
        self.visual = towers.original(model.visual)
        self._weight = tower.blocks[0].last.weight
        self.n_layers, self.n_heads, self.n_prefix = len(tower.blocks), tower.n_heads, tower.n_prefix
        self.d_model, self.d_mlp = self._weight.shape
        self.d_embed, self.d_head = tower.d_embed, tower.blocks[0].attention().w_v.shape[1]
        self.grid, self.image_size = tower.grid, tower.image_size  # rows and columns of patches, of pixels
        self.ln = self.checked_ln(ln)
        if check:
            self._check()

    def checked_ln(self, ln: str | None = None) -> str:
        """A convention of the last layer norm, by default this Clip's. Raises ValueError for none, or none for this tower."""
        ln = self.ln if ln is None else ln
        if ln not in ("centered", "split"):
            raise ValueError(f"ln must be 'centered' or 'split', got {ln!r}")
        if ln == "split" and (self.tower.final is None or self.tower.blocks[0].attention().normed):
            raise ValueError(
                f"{self.name} ({self.tower.family}) does not read one stream through one last layer norm, whose mean and bias "
                "could be shared out; take ln='centered'"
            )
        return ln

    @property
    def tower(self) -> towers.Tower:
        """What the image tower is. Raises NotImplementedError, with the reason, where a part of it was changed since."""
        try:
            return towers.describe_blocks(self.model)
        except towers.NotCovered as error:
            raise NotImplementedError(f"cannot decompose {self.name}: {error}") from None

    def _check(self) -> None:
        with torch.autocast(self.device.type, enabled=False):
            noise = towers.noise(self.image_size, self._weight)
            try:
                towers.check(self.tower, lambda: self.encode_image(noise), self.dtype)
            except towers.Mismatch as error:
                raise RuntimeError(f"cannot decompose {self.name}: {error}. check=False skips this test") from None

    @property
    def device(self) -> torch.device:
        return self._weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self._weight.dtype

    def __repr__(self) -> str:
        return (
            f"Clip({self.name}: {self.n_layers} layers x {self.n_heads} heads, width {self.d_model}, "
            f"embedding {self.d_embed}, {self.grid[0]}x{self.grid[1]} patches, {self.device}, {self.dtype})"
        )

    def refuse_autocast(self) -> None:
        """Raises RuntimeError under `torch.autocast`: there parts are rounded each in its way, and no longer add up."""
        if torch.is_autocast_enabled(self.device.type):
            raise RuntimeError(
                "torch.autocast is on, under which the parts of the model no longer add up to the whole; leave its block, or "
                "load the model in half precision: iu.load_clip(name, precision='bf16')"
            )

    def pixels(self, pixels: Tensor) -> Tensor:
        """The batch [B, 3, H, W] on the model's device and in its precision, once checked.

        Raises TypeError where it is no tensor, ValueError for a wrong shape, an empty batch, or values that are not finite or
        far from what normalisation gives, such as 0..255, RuntimeError under autocast.
        """
        self.refuse_autocast()
        if not isinstance(pixels, Tensor):
            raise TypeError(
                f"need a tensor of pixels [B, 3, {self.image_size[0]}, {self.image_size[1]}], got {type(pixels).__name__}; make it "
                "with torch.stack([clip.preprocess(images.read_image(each)) for each in files, arrays or PIL images])"
            )
        if pixels.ndim != 4 or pixels.shape[1:] != (3, *self.image_size) or len(pixels) == 0:
            raise ValueError(
                f"need pixels of shape [B, 3, {self.image_size[0]}, {self.image_size[1]}], got {list(pixels.shape)}; "
                "clip.preprocess(image)[None] gives that from a PIL image"
            )
        if not pixels.is_floating_point() or not finite(pixels):
            raise ValueError("pixels must be finite floating-point numbers, normalised as clip.preprocess does it")
        low, high = (edge.item() for edge in pixels.aminmax())
        if max(-low, high) > _FAR:
            raise ValueError(f"pixels must be normalised as clip.preprocess does it, to about -2..2, got {low:.3g}..{high:.3g}")
        return pixels.to(self.device, self.dtype)

    def vectors(self, vectors: Tensor, what: str = "text features") -> Tensor:
        """Vectors [T, E] of the joint space, such as `encode_text` gives, on the model's device, once checked.

        Raises TypeError where they are no tensor, ValueError for none, another shape, or values that are not finite.
        """
        if not isinstance(vectors, Tensor):
            raise TypeError(
                f"need {what} [T, {self.d_embed}] as a tensor, got {type(vectors).__name__}; clip.encode_text gives them"
            )
        if vectors.ndim != 2 or vectors.shape[1] != self.d_embed or len(vectors) == 0:
            raise ValueError(
                f"need {what} [T, {self.d_embed}] with T > 0, got {list(vectors.shape)}; clip.encode_text gives them, of the model "
                "that sees the images"
            )
        if not vectors.is_floating_point() or not finite(vectors):
            raise ValueError(f"{what} must be finite floating-point numbers, as clip.encode_text gives them")
        return vectors.to(self.device)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Image representations [B, E], not normalised, of preprocessed pixels [B, 3, H, W]."""
        options = inspect.signature(self.model.encode_image).parameters
        as_it_is = {"normalize": False} if "normalize" in options else {}  # which CoCa does by default
        return _pooled(self.model.encode_image(self.pixels(pixels), **as_it_is))

    @torch.no_grad()
    def encode_text(self, texts: list[str], templates=None) -> Tensor:
        """Text representations [T, E] of unit length.

        templates: strings such as "a photo of a {}" or functions such as `open_clip.OPENAI_IMAGENET_TEMPLATES`; the unit
        vectors of all fillings of a text are averaged and normalised again (thesis, section 2.3). Warns of texts longer than
        the model reads. Raises ValueError for no texts or a blank one, templates without a place for the text, and texts that
        differ only where they are cut off.
        """
        if isinstance(texts, str) or len(texts) == 0 or not all(isinstance(t, str) and t.strip() for t in texts):
            raise ValueError(f"need a list of at least one text, none of them blank, got {texts!r:.80}")
        if self.tokenizer is None:
            raise ValueError("this Clip has no tokenizer; pass open_clip.get_tokenizer(name) when you make it")
        tokens = tokenise(self.tokenizer, fill(texts, templates))
        parts = (_without_padding(self.model, part.to(self.device)) for part in tokens.split(256))
        vectors = [F.normalize(_pooled(model.encode_text(part)).float(), dim=-1) for model, part in parts]
        vectors = torch.cat(vectors).unflatten(0, (len(texts), -1)).mean(1)
        return F.normalize(vectors, dim=-1)


def _without_padding(model: nn.Module, tokens: Tensor) -> tuple[nn.Module, Tensor]:
    """A model and tokens [B, n] that give the same vectors without what follows the longest text, which no causal attention sees.

    Other models than OpenCLIP's plain CLIP stay as they are.
    """
    if type(model) is not open_clip.CLIP or model.attn_mask is None or model.text_pool_type != "argmax" or not tokens.any():
        return model, tokens
    n, short = int(tokens.any(0).nonzero().max()) + 1, copy.copy(model)
    positions = nn.Parameter(model.positional_embedding[:n], requires_grad=False)
    vars(short)["_parameters"] = model._parameters | {"positional_embedding": positions}
    vars(short)["_buffers"] = model._buffers | {"attn_mask": model.attn_mask[:n, :n]}
    return short, tokens[:, :n]


def _pooled(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """What a tower says of the whole input; with `output_tokens` its tokens come second."""
    return output[0] if isinstance(output, tuple) else output


def best_device() -> torch.device:
    """CUDA if there is one, under `torchrun` each process's own, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if "LOCAL_RANK" in os.environ else torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


_SHIPPED: dict[str, Callable[[], tuple]] = {}
_PRECISIONS = {"fp32": torch.float32, "fp64": torch.float64, "bf16": torch.bfloat16, "fp16": torch.float16}


def register(name: str, load: Callable[[], tuple]) -> None:
    """Make a model that ships with the course known to `load_clip`; load() gives the model, its preprocess and its tokenizer."""
    _SHIPPED[name] = load


def load_clip(name: str = "sandbox", device=None, precision: str = "fp32", check: bool = True, ln: str = "centered") -> Clip:
    """Load a CLIP by name, frozen and in eval mode.

    name: "sandbox", "sandbox-1" and "sandbox-2" (two more seeds of its training) for the models that ship; "<OpenCLIP name>/
    <pretrained tag>", for example "ViT-L-14/laion2b_s32b_b82k", or "hf-hub:org/repo", which are downloaded once, after their size
    is printed; "<OpenCLIP name>/<path of a checkpoint>" or
    "local-dir:<folder>" for your own, of which weights alone are read, never code. Preprocess and tokenizer are the model's own;
    its preprocess takes whatever `images.read_image` does. device: where to put it, by default the best there is. precision:
    "fp32", "fp64", or for all weights, norms too, "bf16" or "fp16" (OpenCLIP's "pure_bf16" and "pure_fp16"). check, ln: see `Clip`.
    Raises ValueError for a name, tag, file or folder that gives no model, another precision, and weights that were trained with
    another activation than the name builds (OpenAI's need "-quickgelu"); FileNotFoundError for what is not there; before any
    download, NotImplementedError for towers not covered and ImportError for texts that need transformers.
    """
    if precision not in _PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(_PRECISIONS)}, got {precision!r}")
    device = torch.device(device) if device is not None else best_device()
    if name not in _SHIPPED:
        checked_name(name, tuple(_SHIPPED))
    model, preprocess, tokenizer = _SHIPPED[name]() if name in _SHIPPED else load(name)
    return Clip(model.eval().requires_grad_(False).to(device, _PRECISIONS[precision]), preprocess, tokenizer, name, check, ln)
