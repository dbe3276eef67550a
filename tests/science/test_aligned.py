import copy
from functools import partial

import numpy as np
import pytest
import timm
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from small_clips import randomise
from timm.models.vision_transformer import ParallelThingsBlock, ResPostBlock, VisionTransformer
from torchvision.transforms import Compose, Normalize

import interp_utils as iu
from interp_utils import science
from interp_utils.sandbox import viewers

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 4, "num_classes": 0}


def vit(**options) -> VisionTransformer:
    torch.manual_seed(0)
    return randomise(VisionTransformer(**{**SMALL, **options}))


def noise(n=3, size=32):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    "options",
    [{}, {"init_values": 0.3}, {"pre_norm": True}, {"no_embed_class": True}, {"qkv_bias": False}, {"dynamic_img_size": True},
     {"act_layer": "relu"}, {"mlp_ratio": 47 / 24}, {"img_size": (32, 32), "patch_size": 16}, {"reg_tokens": 2},
     {"global_pool": "avg"}, {"class_token": False, "global_pool": "avg"}, {"qk_norm": True}, {"fc_norm": True},
     {"embed_norm_layer": torch.nn.LayerNorm}, {"proj_bias": False}, {"pos_embed": "none"}, {"global_pool": "map"}],
)  # fmt: skip
def test_any_vit_keeps_its_output_and_is_a_sum(options):
    model = vit(**options).double()
    own, pixels = science.from_timm(model), noise().double()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.testing.assert_close(own.encode_image(pixels), model(pixels))
    effects = iu.heads.direct_effects(own, pixels)
    torch.testing.assert_close(effects.total(), model(pixels))
    others = [k for k, label in enumerate(effects.labels) if not label.startswith("attention")]
    torch.testing.assert_close(effects.heads().sum((1, 2)) + effects.layers()[:, others].sum(1), model(pixels))
    tokens = model.forward_features(pixels).shape[1]
    assert effects.tokens().shape == (3, tokens, 24) and tokens == own.n_prefix + own.grid[0] * own.grid[1]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items()), "the ViT stays as it is"


def test_a_real_architecture_of_timm():
    model = timm.create_model("vit_base_patch16_224.dino", pretrained=False, num_classes=0).eval()
    own, pixels = science.from_timm(model), noise(1, 224)
    with torch.no_grad():
        expected = model(pixels)
    assert own.n_layers == own.n_heads == 12
    assert (iu.heads.direct_effects(own, pixels).total() - expected).norm() / expected.norm() < 1e-5


@pytest.mark.parametrize("name", ["dino_vit", "mae_vit"])
def test_the_sandbox_twins(name):
    model = viewers.load(name)
    pixels = torch.stack([iu.sandbox.to_pixels(iu.sandbox.render(seed).pixels) for seed in range(4)])
    effects = iu.heads.direct_effects(science.from_timm(model), pixels)
    torch.testing.assert_close(effects.total(), model(pixels), atol=1e-4, rtol=1e-4)


def test_heads_are_what_the_vit_itself_writes():
    """One head's output is taken out inside the timm model; what its frozen output loses is the head's effect."""
    model, pixels = vit(init_values=0.5).double(), noise().double()
    effects = iu.heads.direct_effects(science.from_timm(model), pixels)
    final, inputs = [], []
    hooks = [
        model.norm.register_forward_hook(lambda m, args, out: final.append(args[0][:, 0])),
        model.blocks[1].attn.proj.register_forward_hook(lambda m, args, out: inputs.append(args[0][:, 0])),
    ]
    model(pixels)
    for hook in hooks:
        hook.remove()
    block, head, d = model.blocks[1], 2, 6
    alone = torch.zeros_like(inputs[0])
    alone[:, head * d : (head + 1) * d] = inputs[0][:, head * d : (head + 1) * d]
    written = block.ls1(alone @ block.attn.proj.weight.T + block.attn.proj.bias / 4)
    std = (final[0].var(1, correction=0, keepdim=True) + model.norm.eps).sqrt()
    expected = model.norm.weight * (written - written.mean(1, keepdim=True)) / std
    torch.testing.assert_close(effects.heads()[:, 1, head], expected)


def test_other_normalisation_is_folded_into_the_patches():
    model, image = vit(), torch.rand(2, 3, 32, 32)
    mean, std = (0.485, 0.456, 0.406), (0.2, 0.3, 0.25)
    given = Compose([Normalize((0.5, 0.4, 0.3), (0.25, 0.3, 0.2))])
    own = science.from_timm(model, given, mean, std)
    torch.testing.assert_close(own.encode_image(given(image)), model(Normalize(mean, std)(image)), atol=1e-4, rtol=1e-4)
    for arguments in ((None, mean, std), (given, mean, None), (Compose([]), mean, std)):
        with pytest.raises(ValueError, match="mean and std together"):
            science.from_timm(model, *arguments)


@pytest.mark.parametrize(
    "options,reason",
    [({"num_classes": 5}, "classifier"), ({"norm_layer": "rmsnorm"}, "no layer norm"), ({"in_chans": 1}, "1 channels"),
     ({"norm_layer": partial(torch.nn.LayerNorm, bias=False)}, "bias"), ({"block_fn": ParallelThingsBlock}, "custom"),
     ({"block_fn": ResPostBlock}, "custom"), ({"global_pool": "max"}, "pools by 'max'")],
)  # fmt: skip
def test_what_is_not_covered_says_why(options, reason):
    with pytest.raises(NotImplementedError, match=reason):
        science.from_timm(vit(**options))


@pytest.mark.parametrize("name, reason", [
    ("deit_tiny_distilled_patch16_224", "VisionTransformerDistilled"), ("vit_small_patch16_18x2_224", "custom"),
])  # fmt: skip
def test_models_of_timm_that_are_not_covered_say_why(name, reason):
    with pytest.raises(NotImplementedError, match=reason):
        science.from_timm(timm.create_model(name, num_classes=0).eval())


def test_what_no_rule_foresees_is_told_by_its_output():
    class Louder(VisionTransformer):
        def forward_features(self, x, **options):
            return 2 * super().forward_features(x, **options)

    with pytest.raises(NotImplementedError, match="timm's Louder"):
        science.from_timm(randomise(Louder(**SMALL)))
    loud, plain = vit(), VisionTransformer.forward_features
    loud.forward_features = lambda x, **options: 2 * plain(loud, x, **options)
    with pytest.raises(RuntimeError, match="last norm, pooling or projection do something else"):
        science.from_timm(loud)


def test_training_mode_and_other_models_are_refused():
    with pytest.raises(NotImplementedError, match="training"):
        science.from_timm(vit().train())
    with pytest.raises(NotImplementedError, match="ResNet"):
        science.from_timm(timm.create_model("resnet18"))


def test_ridge_is_the_best_of_its_penalties():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 20, generator=generator)
    y = x @ torch.randn(20, 4, generator=generator) + 5 + 8 * torch.randn(60, 4, generator=generator)
    penalties = (0.01, 30.0, 1e5)
    found = science.ridge_map(x, y, penalties)
    errors = []
    for penalty in penalties:  # leave one out, by hand
        left = [
            Ridge(penalty).fit(np.delete(x.numpy(), k, 0), np.delete(y.numpy(), k, 0)).predict(x[[k]].numpy()) for k in range(60)
        ]
        errors.append(np.square(np.concatenate(left) - y.numpy()).mean())
    assert found.penalty == penalties[int(np.argmin(errors))] == 30.0
    expected = Ridge(30.0).fit(x.numpy(), y.numpy()).predict(x.numpy())
    np.testing.assert_allclose(found(x).numpy(), expected, atol=1e-4)
    with pytest.raises(ValueError, match="as many features"):
        science.ridge_map(x[1:], y)


def aligned_pair(tiny, n=40):
    images = noise(n)
    own = science.from_timm(vit())
    return own, science.align([own], tiny, images)[0], images


def test_an_aligned_model_is_its_ridge_map_and_still_a_sum(tiny):
    own, aligned, images = aligned_pair(tiny)
    unit = torch.nn.functional.normalize(tiny.encode_image(images), dim=-1)
    expected = science.ridge_map(own.encode_image(images), unit)(own.encode_image(images))
    torch.testing.assert_close(aligned.encode_image(images), expected, atol=1e-4, rtol=1e-3)
    effects = iu.heads.direct_effects(aligned, images[:4])
    torch.testing.assert_close(effects.total(), aligned.encode_image(images[:4]), atol=1e-5, rtol=1e-3)
    assert own.d_embed == 24 == own.encode_image(images).shape[1], "the model that was aligned stays as it is"


def test_an_aligned_model_speaks_with_the_lenders_texts(tiny):
    _, aligned, _ = aligned_pair(tiny)
    torch.testing.assert_close(aligned.encode_text(["a dog", "the sea"]), tiny.encode_text(["a dog", "the sea"]))
    pool = iu.texts.Pool(["a dog"], ["object"])
    assert iu.texts.understood(aligned, pool) == iu.texts.understood(tiny, pool)


def test_a_rotated_clip_is_aligned_to_itself(tiny):
    """Planted truth: the same model in other coordinates is predicted nearly perfectly, and so is each of its heads."""
    model = copy.deepcopy(tiny.model)
    rotation = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(5))).Q
    with torch.no_grad():
        model.visual.proj.copy_(model.visual.proj @ rotation)
    images, held = noise(600), noise(640)[600:]
    (aligned,) = science.align([iu.Clip(model)], tiny, images)
    unit = torch.nn.functional.normalize(tiny.encode_image(held), dim=-1)
    assert r2_score(unit.numpy(), aligned.encode_image(held).numpy(), multioutput="variance_weighted") > 0.97
    theirs, ours = (iu.heads.direct_effects(each, held).heads().flatten(1) for each in (aligned, tiny))
    assert torch.nn.functional.cosine_similarity(theirs - theirs.mean(0), ours - ours.mean(0)).mean() > 0.95


def test_sizes_must_agree(tiny):
    with pytest.raises(ValueError, match="same pixels"):
        science.align([science.from_timm(vit(img_size=64))], tiny, noise())
