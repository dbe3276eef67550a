"""The sandbox CLIP: an ordinary `open_clip.model.CLIP` with a small config, and its weight file."""

import open_clip

from ...models import DATA, register
from ..clip import load, preprocess

WIDTH, LAYERS, HEADS, PATCH, EMBED = 128, 8, 4, 8, 128
CONTEXT = 24


def build() -> open_clip.model.CLIP:
    """The architecture with random weights, in eval mode."""
    model = open_clip.model.CLIP(
        embed_dim=EMBED,
        vision_cfg=open_clip.model.CLIPVisionCfg(
            layers=LAYERS, width=WIDTH, head_width=WIDTH // HEADS, patch_size=PATCH, image_size=64
        ),
        text_cfg=open_clip.model.CLIPTextCfg(context_length=CONTEXT, width=WIDTH, heads=4, layers=3),
    )
    return model.eval()


def tokenizer() -> open_clip.SimpleTokenizer:
    """OpenCLIP's own tokenizer, cut to the sandbox's short captions."""
    return open_clip.SimpleTokenizer(context_length=CONTEXT)


RECIPE = "interp_utils.sandbox.first.train_clip"
register(
    "sandbox-first",
    lambda: (
        load(DATA / "sandbox" / "first_clip.safetensors", build, RECIPE),
        preprocess(),
        tokenizer(),
    ),
)
