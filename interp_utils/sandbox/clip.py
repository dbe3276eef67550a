"""The CLIP of the sandbox: an ordinary `open_clip.model.CLIP` with a small config, and its weight file."""

from functools import cache, partial
from pathlib import Path

import open_clip
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torchvision import transforms

from ..images import read_image
from ..models import DATA, register

WIDTH, LAYERS, HEADS, PATCH, EMBED = 192, 10, 6, 8, 128
TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS, CONTEXT = 128, 3, 4, 28
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def build() -> open_clip.model.CLIP:
    """The architecture with random weights, in eval mode."""
    vision = open_clip.model.CLIPVisionCfg(layers=LAYERS, width=WIDTH, head_width=WIDTH // HEADS, patch_size=PATCH, image_size=64)
    text = open_clip.model.CLIPTextCfg(context_length=CONTEXT, width=TEXT_WIDTH, heads=TEXT_HEADS, layers=TEXT_LAYERS)
    return open_clip.model.CLIP(embed_dim=EMBED, vision_cfg=vision, text_cfg=text).eval()


@cache
def tokenizer() -> open_clip.SimpleTokenizer:
    """OpenCLIP's own tokenizer, cut to the sandbox's short captions."""
    return open_clip.SimpleTokenizer(context_length=CONTEXT)


@cache
def preprocess() -> transforms.Compose:
    """Image of any size and kind (see `images.read_image`) -> float tensor [3, 64, 64], normalised."""
    return transforms.Compose(
        [
            transforms.Lambda(read_image),
            transforms.Resize(64, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(64),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def save(model: open_clip.model.CLIP, token_ids: torch.Tensor, path: str | Path) -> None:
    """Write the weights in half precision, with only those rows of the token embedding that captions use."""
    state = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items() if name != "attn_mask"}
    rows = state["token_embedding.weight"]
    state["token_embedding.weight"] = rows if len(rows) == len(token_ids) else rows[token_ids].contiguous()
    save_file({**state, "token_ids": token_ids}, path)


def load(path: str | Path) -> open_clip.model.CLIP:
    """Read a file that `save` wrote; tokens that no caption uses get a zero embedding.

    Raises FileNotFoundError where there is no file, ValueError where it is truncated or holds other tensors.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no sandbox weights at {path}; train them with: python -m interp_utils.sandbox.train_clip")
    model = build()
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}
    except Exception as error:  # safetensors raises its own type, which is not public
        raise ValueError(f"{path} is not a complete safetensors file ({error}); restore it with: git checkout -- data") from error
    ids = state.pop("token_ids", None)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items() if name != "attn_mask"}
    if ids is not None and state.keys() == expected.keys():
        table = torch.zeros(expected["token_embedding.weight"], dtype=torch.float32)
        table[ids] = state["token_embedding.weight"].float()
        state["token_embedding.weight"] = table
        if all(state[name].shape == shape for name, shape in expected.items()):
            model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
            return model
    raise ValueError(f"{path} does not hold the weights of the sandbox CLIP; restore it with: git checkout -- data")


def _shipped(file: str) -> tuple:
    return load(DATA / "sandbox" / file), preprocess(), tokenizer()


register("sandbox", partial(_shipped, "clip.safetensors"))
for seed in (1, 2):  # of training
    register(f"sandbox-{seed}", partial(_shipped, f"clip_{seed}.safetensors"))
