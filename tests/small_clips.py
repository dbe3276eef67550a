"""Small and real architectures with random weights, shared by all tests."""

from functools import cache

import open_clip
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

import interp_utils as iu

SMALL_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1}
get_tokenizer = cache(open_clip.get_tokenizer)  # each takes as long as many tests


def randomise(model):
    """Random biases, norms and layer scales, so that no term of a formula is zero or one by accident."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval().requires_grad_(False)


def real_clip(name: str, layers: int | None = None, **vision) -> iu.Clip:
    """A real OpenCLIP image tower with random weights (drawn fast) beside a small text tower; of many layers, some may do.

    Keyword arguments change its vision config.
    """
    config = {**open_clip.get_model_config(name), "text_cfg": SMALL_TEXT}
    config["vision_cfg"] |= {"layers": layers or config["vision_cfg"].get("layers"), **vision}
    with torch.device("meta"):
        model = CLIP(**config)
    model = model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name_, parameter in model.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(float(name_.endswith(("ln_1.weight", "ln_2.weight", "ln_pre.weight", "ln_post.weight"))))
            else:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
    return iu.Clip(randomise(model), name=name, check=False)  # its cost is a pass of a large model


def tiny_model(**vision):
    """A two-layer OpenCLIP model on 32-pixel images; keyword arguments change its vision config."""
    torch.manual_seed(0)
    config = {"layers": 2, "width": 32, "head_width": 8, "patch_size": 8, "image_size": 32, **vision}
    return randomise(CLIP(embed_dim=24, vision_cfg=CLIPVisionCfg(**config), text_cfg=CLIPTextCfg(**SMALL_TEXT)))


def tiny_clip(**vision) -> iu.Clip:
    """The same as a `Clip` that reads texts."""
    return iu.Clip(tiny_model(**vision), tokenizer=get_tokenizer("ViT-B-32"))


def noise(clip: iu.Clip, n: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, *clip.image_size, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def count_hooks(model) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
