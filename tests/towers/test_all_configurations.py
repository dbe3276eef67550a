"""Every configuration that OpenCLIP lists, two layers deep and narrow: an exact sum, or a reason."""

import copy
from functools import partial

import open_clip
import pytest
import timm
import torch
from families import shaken
from open_clip.model import CLIP

from interp_utils import towers

TEXT = {"context_length": 4, "vocab_size": 4, "width": 8, "heads": 1, "layers": 1}
REFUSED = ("convnext", "swin", "vit_relpos", "MobileCLIP-S", "MobileCLIP2-S")
NAMES = open_clip.list_models()
WIDEST = ["EVA02-E-14-plus", "PE-Core-bigG-14-448", "ViT-bigG-14-CLIPA", "ViT-gopt-16-SigLIP2-384", "ViT-bigG-14", "coca_ViT-L-14"]


def narrow(name: str, monkeypatch):
    """The image tower with two layers and 8 numbers a head, random weights and no bias that is zero."""
    config = copy.deepcopy(open_clip.get_model_config(name))
    vision = config["vision_cfg"]
    if "timm_model_name" in vision:
        if not name.startswith(REFUSED):
            stem = vision["timm_model_name"].startswith(("vit_base_mci", "vitamin"))  # of convolutions, which fixes the width
            size = {} if stem else {"embed_dim": 32, "num_heads": 4}
            if name.startswith("ViTamin"):  # whose stem is slow: smaller images than its own
                size["img_size"] = vision["image_size"] = vision["image_size"] // 2
            monkeypatch.setattr(timm, "create_model", partial(timm.create_model, depth=2, **size))
    elif isinstance(vision["layers"], int):
        heads = 2 + (vision["width"] > 768)
        vision.update(layers=2, head_width=8, width=8 * heads)
    else:
        vision.update(layers=[1, 1, 1, 1], width=8)
    if vision.get("attentional_pool"):
        vision["attn_pooler_heads"] = 4
    torch.manual_seed(0)
    return shaken(CLIP(32, vision, TEXT, bool(config.get("quick_gelu")))).visual


def pixels(visual, n: int = 2):
    size = visual.image_size if isinstance(visual.image_size, tuple) else (visual.image_size,) * 2
    return torch.randn(n, 3, *size, generator=torch.Generator().manual_seed(2))


def output(visual, x):
    given = visual(x)
    return given[0] if isinstance(given, tuple) else given


def far(found, expected) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(REFUSED)])
@torch.no_grad()
def test_the_sum_is_exact(name, monkeypatch):
    visual = narrow(name, monkeypatch)
    tower = towers.describe(visual)
    x = pixels(visual, 1 if name.startswith("ViTamin") else 2)
    fx = towers.decompose(tower, lambda: output(visual, x))
    whole, heads = fx.streams.representation, fx.heads()
    assert far(fx.total(), whole) < 1e-5
    pooled = fx.pool_heads().sum(1) + fx.read_out.constant
    pooled = pooled if fx.read_out.pool_mlp is None else pooled + fx.read_out.pool_mlp
    assert far(pooled, whole) < 1e-5
    if not tower.blocks:
        assert name.startswith("RN") and fx.pool_heads().shape[1] > 1
        return
    assert heads.shape == (len(x), 2, tower.n_heads, 32) and heads.norm(dim=-1).min() > 0
    assert far(heads.sum(2), fx.attentions()) < 1e-5
    assert far(fx.head_tokens(1, 1).sum(1), heads[:, 1, 1]) < 1e-5
    assert far(fx.tokens().sum(1), heads.sum((1, 2))) < 1e-5
    for layer in range(2):
        taken, directions = fx.neurons(layer)
        found = torch.einsum("bkm,kmE->bE", taken, directions) + fx.neuron_bias(layer)
        assert far(found, fx.mlps()[:, layer]) < 1e-5
    rows, columns = tower.grid
    assert fx.streams.final.shape[1] == tower.n_prefix + rows * columns


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(REFUSED)])
def test_the_rest_says_why(name, monkeypatch):
    monkeypatch.setattr("timm.layers.weight_init._trunc_normal_", lambda tensor, *args: tensor)  # slow, where there are no numbers
    config = copy.deepcopy(open_clip.get_model_config(name))
    with torch.device("meta"):
        visual = CLIP(32, config["vision_cfg"], TEXT).eval().visual
    with pytest.raises(towers.NotCovered, match=r"timm's (ConvNeXt|VisionTransformerRelPos|SwinTransformer|FastVit|\w+), no ViT"):
        towers.describe(visual)


@pytest.mark.parametrize("name", WIDEST)
def test_the_widest_are_described_without_their_numbers(name):
    config = copy.deepcopy(open_clip.get_model_config(name))
    with torch.device("meta"):
        visual = CLIP(config["embed_dim"], config["vision_cfg"], TEXT).eval().visual
    assert len(towers.describe(visual).blocks) >= 24


@pytest.mark.parametrize("name", ["MobileCLIP2-L-14", "EVA01-g-14", "EVA02-B-16", "EVA02-E-14"])
@torch.no_grad()
def test_each_head_is_what_the_model_itself_computed(name, monkeypatch):
    """Outputs of all heads side by side, as they enter the model's own last layers, one head at a time."""
    visual = narrow(name, monkeypatch)
    trunk, x, seen = visual.trunk, pixels(visual), []
    block = trunk.blocks[1]
    first = block.attn.proj if isinstance(block.attn.norm, torch.nn.Identity) else block.attn.norm
    written = []
    handles = [
        first.register_forward_pre_hook(lambda module, args: seen.append(args[0][:, 0])),
        block.attn.register_forward_hook(lambda module, args, output: written.append(output[:, 0])),
        trunk.norm.register_forward_pre_hook(lambda module, args: seen.append(args[0][:, 0])),
    ]
    fx = towers.decompose(towers.describe(visual), lambda: visual(x))
    for handle in handles:
        handle.remove()
    joined, final = seen
    for head in range(4):
        own = torch.zeros_like(joined).unflatten(1, (4, -1))
        own[:, head] = joined.unflatten(1, (4, -1))[:, head]
        own = own.flatten(1)
        if first is block.attn.norm:
            own = (own - own.mean(1, keepdim=True)) / (joined.var(1, correction=0, keepdim=True) + first.eps).sqrt() * first.weight
        own = own @ block.attn.proj.weight.T
        norms = [(trunk.norm, final)]
        if name == "EVA02-E-14":
            norms.insert(0, (block.norm1, written[0]))
        for norm, frozen in norms:
            own = (own - own.mean(1, keepdim=True)) / (frozen.var(1, correction=0, keepdim=True) + norm.eps).sqrt() * norm.weight
        own = own @ trunk.head.weight.T
        assert far(fx.heads()[:, 1, head] - _bias_of_heads(fx) / 4, own) < 1e-4


def _bias_of_heads(fx):
    """What the biases of the second block's attention add, by the effects of its tokens without their values."""
    attention = fx.tower.blocks[1].attention()
    mixed = attention.pattern(fx.streams.inputs[1]) @ attention.values(fx.streams.inputs[1])
    written = attention.frozen(mixed)[1] @ attention.linear()[1]
    return torch.einsum("bkn,bnD,kDE->bE", fx.read_out.rho, written, fx.read_out.matrix)


def test_how_many_are_exact():
    assert sum(not name.startswith(REFUSED) for name in NAMES) >= 100
