"""The CLIP of the rich sandbox: an ordinary `open_clip.model.CLIP` with a small config, and its weight file."""

from functools import partial

import open_clip

from ...models import DATA, register
from ..clip import load as load_weights
from ..clip import preprocess

WIDTH, LAYERS, HEADS, PATCH, EMBED = 192, 10, 6, 8, 128
TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS, CONTEXT = 128, 3, 4, 28


def build() -> open_clip.model.CLIP:
    """The architecture with random weights, in eval mode."""
    vision = open_clip.model.CLIPVisionCfg(layers=LAYERS, width=WIDTH, head_width=WIDTH // HEADS, patch_size=PATCH, image_size=64)
    text = open_clip.model.CLIPTextCfg(context_length=CONTEXT, width=TEXT_WIDTH, heads=TEXT_HEADS, layers=TEXT_LAYERS)
    return open_clip.model.CLIP(embed_dim=EMBED, vision_cfg=vision, text_cfg=text).eval()


def tokenizer() -> open_clip.SimpleTokenizer:
    """OpenCLIP's own tokenizer, cut to the sandbox's short captions."""
    return open_clip.SimpleTokenizer(context_length=CONTEXT)


load = partial(load_weights, build=build, recipe="interp_utils.sandbox.rich.train_clip")
register("sandbox-rich", lambda: (load(DATA / "sandbox" / "rich_clip.safetensors"), preprocess(), tokenizer()))
