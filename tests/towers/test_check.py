"""The check when a Clip is made: a tower that does something else than its structure says is named, part by part."""

import pytest
import torch
from small_clips import count_hooks, noise, real_clip, tiny_model
from torch import nn

import interp_utils as iu
from interp_utils import towers


def scaled(module, args, output):
    return 1.01 * output


class Gated(nn.Module):
    """A linear layer behind a gate."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.weight, self.bias = inner, inner.weight, inner.bias

    def forward(self, x):
        return self.inner(x) * torch.sigmoid(x.mean(-1, keepdim=True))


def gate_attention(model):
    block = model.visual.transformer.resblocks[1]
    plain = block.attention
    block.attention = lambda *args, **kwargs: 1.01 * plain(*args, **kwargs)


def gate_mlp(model):
    model.visual.transformer.resblocks[1].mlp.register_forward_hook(scaled)


def patch_block(model):
    block = model.visual.transformer.resblocks[1]
    plain = block.forward
    block.forward = lambda x, **kwargs: plain(x, **kwargs) + 0.01 * x


def bypass(model):
    block = model.visual.transformer.resblocks[1]
    block.forward = lambda x, **kwargs: x + block.attention(block.ln_1(x)) + block.mlp(block.ln_2(x))


def parallel_block(model):
    block = model.visual.transformer.resblocks[1]
    block.forward = lambda x, **kwargs: x + block.ls_1(block.attention(block.ln_1(x))) + block.ls_2(block.mlp(block.ln_2(x)))


def scale_output(model):
    model.visual.register_forward_hook(scaled)


def normalise(model):
    plain = model.visual.forward
    model.visual.forward = lambda x: nn.functional.normalize(plain(x), dim=-1)


def give_dict(model):
    model.encode_image = lambda pixels, normalize=False: {"image_features": model.visual(pixels)}


def swap_tower(model):
    other = tiny_model().visual
    model.encode_image = lambda pixels, normalize=False: other(pixels)


@pytest.mark.parametrize(
    "change,says",
    [
        (gate_attention, "the projections of block 1 do not give what it adds to the stream: a gated, patched"),
        (gate_mlp, "the neurons of block 1 do not give what it adds"),
        (patch_block, "block 1 adds more to the stream than its attention and its MLP"),
        (bypass, "block 1 does not run its attention and then its MLP, where hooks can see them"),
        (parallel_block, "the MLP of block 1 does not read the stream that its attention left"),
        (scale_output, "its last norm, pooling or projection do something else"),
        (normalise, "representations of unit length"),
        (give_dict, "its encode_image gives a dict"),
        (swap_tower, "its blocks did not run once each"),
    ],
)
def test_the_part_that_does_not_fit_is_named(change, says):
    model = tiny_model()
    change(model)
    with pytest.raises(RuntimeError, match=f"cannot decompose mine: .*{says}.*check=False skips this test"):
        iu.Clip(model, name="mine")
    iu.Clip(model, name="mine", check=False)


def rms(model):
    model.visual.transformer.resblocks[0].ln_1 = nn.RMSNorm(32)


def rms_before_mlp(model):
    model.visual.transformer.resblocks[0].ln_2 = nn.RMSNorm(32)


def adapter(model):
    mlp = model.visual.transformer.resblocks[0].mlp
    mlp.c_proj = Gated(mlp.c_proj)


@pytest.mark.parametrize(
    "change,says", [(rms, "norm before the attention is a RMSNorm"), (rms_before_mlp, "norm before the MLP is a RMSNorm"),
                    (adapter, "last layer of its MLP is a Gated, no plain linear layer; merge an adapter")],
)  # fmt: skip
def test_parts_that_no_check_can_excuse(change, says):
    model = tiny_model()
    change(model)
    for check in (True, False):
        with pytest.raises(NotImplementedError, match=says):
            iu.Clip(model, check=check)


@pytest.mark.parametrize("precision", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_an_ordinary_tower_passes_in_every_precision(precision):
    for vision in ({}, {"ls_init_value": 0.5}, {"no_ln_pre": True}, {"layers": 12}):
        iu.Clip(tiny_model(**vision).to(precision))


def test_wrong_weights_are_found_in_half_precision():
    model = tiny_model().bfloat16()
    gate_attention(model)
    block = model.visual.transformer.resblocks[1]
    plain = block.attention
    block.attention = lambda *args, **kwargs: 1.5 * plain(*args, **kwargs)
    with pytest.raises(RuntimeError, match="projections of block 1"):
        iu.Clip(model)


def test_the_check_leaves_no_trace():
    model, state = tiny_model(), torch.get_rng_state()
    clip = iu.Clip(model)
    assert count_hooks(model) == 0 and torch.equal(state, torch.get_rng_state())
    assert not clip.tower.read_out(torch.randn(1, 17, 32)).rho.requires_grad
    passes = []
    handle = model.visual.register_forward_hook(lambda *args: passes.append(1))
    iu.Clip(model)
    handle.remove()
    assert passes == [1]
    gate_attention(model)
    with pytest.raises(RuntimeError):
        iu.Clip(model)
    assert count_hooks(model) == 0


def test_the_description_agrees_with_direct_effects():
    """Two ways to the same numbers: the room's own sum, and chapter 2's."""
    clip = real_clip("ViT-B-32", 2)
    pixels = noise(clip)
    ours, theirs = towers.decompose(clip.tower, lambda: clip.encode_image(pixels)), iu.heads.direct_effects(clip, pixels)
    torch.testing.assert_close(ours.heads(), theirs.heads(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.tokens(), theirs.tokens(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.mlps(), theirs.mlps(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.embedding(), theirs.embedding(), rtol=1e-4, atol=1e-5)
