"""One small image tower of each family, two layers deep, as whole models with random weights and no bias that is zero."""

import copy
import os
from functools import partial

import open_clip
import other_device
import timm
import torch
from open_clip.model import CLIP
from small_clips import SMALL_TEXT, get_tokenizer
from timm.models.vision_transformer import VisionTransformer

import interp_utils as iu

# Where the families of towers are tested: cpu, cuda, mps, or other, the device that is not there.
DEVICE = other_device.DEVICE if other_device.ASKED else os.environ.get("INTERP_TEST_DEVICE", "cpu")
FAMILIES = {
    "class token": "ViT-B-16",
    "mean, then the norm": "ViT-L-14-CLIPA",
    "norm, then the mean": "ViT-L-14-CLIPA",
    "CoCa": "coca_ViT-B-32",
    "SigLIP 2": "ViT-B-16-SigLIP2",
    "EVA02": "EVA02-B-16",
    "EVA02, norms after its blocks": "EVA02-E-14",
    "EVA01": "EVA01-g-14",
    "PE-Core": "PE-Core-B-16",
    "timm ViT with registers": None,
}


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """Random weights, and no bias or scale that is zero or one by accident."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
            else:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
    return model.eval().requires_grad_(False)


def family_clip(name: str, double: bool = True) -> iu.Clip:
    """A `Clip` of a family: 4 x 4 patches, width 32, in double precision so that two ways to the same number agree closely."""
    torch.manual_seed(0)
    if FAMILIES[name] is None:
        vit = VisionTransformer(32, 8, num_classes=0, embed_dim=32, depth=2, num_heads=4, reg_tokens=2, init_values=0.5)
        return iu.science.from_timm(shaken(vit.double() if double else vit).to(DEVICE), name=name)
    config = copy.deepcopy(open_clip.get_model_config(FAMILIES[name]))
    vision, patched = config["vision_cfg"], timm.create_model
    patch = vision.get("patch_size") or int(vision["timm_model_name"].split("patch")[1].split("_")[0])
    vision["image_size"] = 4 * patch
    if "timm_model_name" in vision:
        timm.create_model = partial(patched, depth=2, embed_dim=32, num_heads=4, img_size=4 * patch)
    else:
        vision.update(layers=2, head_width=8, width=32)
    if vision.get("attentional_pool"):
        vision["attn_pooler_heads"] = 4
    if name == "norm, then the mean":
        vision["final_ln_after_pool"] = False
    try:
        model = CLIP(32, vision, SMALL_TEXT, bool(config.get("quick_gelu")))
    finally:
        timm.create_model = patched
    model = shaken(model)
    return iu.Clip((model.double() if double else model).to(DEVICE), tokenizer=get_tokenizer("ViT-B-32"), name=name)
