from functools import partial

import open_clip
import pytest
import torch
import torch.nn.functional as F
from small_clips import count_hooks, noise, real_clip, tiny_model

import interp_utils as iu
from interp_utils import explainers, hooks
from interp_utils.towers import Attention

CVPR = partial(explainers.chefer, variant="cvpr")
ICCV = partial(explainers.chefer, variant="iccv")
OF_ATTENTION = {"raw_attention": explainers.raw_attention, "rollout": explainers.rollout}
OF_TEXT = {
    "grad_cam": explainers.grad_cam,
    "lrp": explainers.lrp,
    "partial_lrp": explainers.partial_lrp,
    "chefer_cvpr": CVPR,
    "chefer_iccv": ICCV,
    "clip_patch_tokens": explainers.clip_patch_tokens,
}
ALL = {**OF_ATTENTION, **OF_TEXT}
TOWERS = [
    {"ls_init_value": 0.5},
    {"no_ln_pre": True, "image_size": (32, 48)},
    {"patch_size": 10},  # two rows and columns of pixels are in no patch
    {"quick_gelu": True},
    {"conv_bias": True},
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """These tensors are tiny: on a busy machine, threads that wait for each other take forty times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def double_clip(quick_gelu=False, conv_bias=False, **vision) -> iu.Clip:
    """A tiny model in double precision, where finite differences and sums can be compared closely."""
    model = tiny_model(**vision)
    if quick_gelu:
        for block in model.visual.transformer.resblocks:
            block.mlp.gelu = open_clip.transformer.QuickGELU()
    if conv_bias:
        model.visual.conv1.bias = torch.nn.Parameter(torch.randn(32, generator=torch.Generator().manual_seed(3)))
    return iu.Clip(model.double().requires_grad_(False))


def texts(clip: iu.Clip, n: int = 2, seed: int = 5) -> torch.Tensor:
    vectors = torch.randn(n, clip.d_embed, generator=torch.Generator().manual_seed(seed), dtype=clip.dtype)
    return F.normalize(vectors, dim=-1)


@pytest.mark.parametrize("vision", TOWERS)
def test_one_way_back_gives_what_three_give(vision):
    clip = double_clip(**vision)
    found = explainers.of_relevance(clip, noise(clip).double(), texts(clip))
    assert found.keys() == {"lrp", "partial_lrp", "chefer"} and count_hooks(clip.model) == 0
    for name, maps in found.items():
        torch.testing.assert_close(maps, getattr(explainers, name)(clip, noise(clip).double(), texts(clip)))
        assert maps.std() > 0


def attention_of_the_model(clip: iu.Clip, pixels) -> list[torch.Tensor]:
    """Attention patterns [B, H, N+1, N+1] of all layers, as `nn.MultiheadAttention` itself gives them."""
    patterns = []

    def hook(block):
        return lambda _, args, x: patterns.append(block.attn(x, x, x, average_attn_weights=False)[1])

    with hooks.forward_hooks([(block.ln_1, hook(block)) for block in clip.visual.transformer.resblocks]):
        clip.encode_image(pixels)
    return patterns


def score(clip: iu.Clip, pixels, text) -> torch.Tensor:
    return (F.normalize(clip.encode_image(pixels), dim=-1) * text).sum(-1)


def gradient_by_differences(clip: iu.Clip, pixels, text, layer, head, query, key, step=1e-5) -> torch.Tensor:
    """Derivative [B] of the score by one number of an attention pattern, from the unchanged model run twice."""

    def nudged(size):
        def edit(x, written):
            weights = hooks.attention_weights(clip, layer)
            value = x[:, key] @ weights.w_v[head].T + weights.b_v[head]
            written = written.clone()
            written[:, query] += size * value @ weights.w_o[:, head].T
            return written

        with hooks.edited_blocks(clip, {layer: edit}, {}):
            return score(clip, pixels, text)

    return (nudged(step) - nudged(-step)) / (2 * step)


def class_row_by_differences(clip, pixels, text, layer):
    """[B, H, N+1]"""
    n = 1 + clip.grid[0] * clip.grid[1]
    rows = [[gradient_by_differences(clip, pixels, text, layer, h, 0, k) for k in range(n)] for h in range(clip.n_heads)]
    return torch.stack([torch.stack(row, -1) for row in rows], 1)


def shared(contributions, relevance):
    """Relevance of inputs [..., I], from what each contributes to each output [..., O, I]: positive parts only."""
    positive = contributions.clamp(min=0)
    return (positive / positive.sum(-1, keepdim=True) * relevance[..., None]).sum(-2)


def split(first, second, relevance):
    """Relevance of two terms of a sum, one image."""
    parts = [term / (first + second) * relevance for term in (first, second)]
    sizes = [part.sum().abs() for part in parts]
    return [part / part.sum() * size / sum(sizes) * relevance.sum() for part, size in zip(parts, sizes)]


def block_relevance_by_hand(clip, layer, x, relevance):
    """As `explainers._block_relevance`, one image and one contribution at a time, from the modules' own outputs."""
    block, (n, d) = clip.visual.transformer.resblocks[layer], (clip.n_heads, clip.d_head)
    normed = block.ln_1(x)
    q, k, v = (normed @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).unflatten(-1, (3, n, d)).movedim(1, 0)
    pattern = (torch.einsum("ihd,jhd->hij", q, k) / d**0.5).softmax(-1)
    mixed = torch.einsum("hij,jhd->ihd", pattern, v)
    scale_1, scale_2 = (getattr(ls, "gamma", torch.ones(())) for ls in (block.ls_1, block.ls_2))
    written = scale_1 * block.attn.out_proj(mixed.flatten(1))
    middle = x + written
    neurons = block.mlp.gelu(block.mlp.c_fc(block.ln_2(middle)))
    skipped, to_mlp = split(middle, scale_2 * block.mlp.c_proj(neurons), relevance)
    to_neurons = shared(neurons[:, None] * (scale_2[..., None] * block.mlp.c_proj.weight), to_mlp)
    relevance = skipped + shared(block.ln_2(middle)[:, None] * block.mlp.c_fc.weight, to_neurons)
    skipped, to_attention = split(x, written, relevance)
    to_mixed = shared(mixed.flatten(1)[:, None] * (scale_1[..., None] * block.attn.out_proj.weight), to_attention)
    part = torch.einsum("hij,jhd->hijd", pattern, v) / mixed.movedim(1, 0)[:, :, None]
    part = part * to_mixed.unflatten(-1, (n, d)).movedim(1, 0)[:, :, None] / 2
    to_pattern, to_v = part.sum(-1), part.sum(1)
    part = torch.einsum("ihd,jhd->hijd", q, k)
    part = part / part.sum(-1, keepdim=True) * to_pattern[..., None] / 2
    to_qkv = torch.stack([part.sum(2), part.sum(1), to_v]).permute(2, 0, 1, 3).flatten(1)
    return to_pattern, skipped + shared(normed[:, None] * block.attn.in_proj_weight, to_qkv)


@pytest.mark.parametrize("tower", TOWERS)
def test_trace_is_the_model(tower):
    clip = double_clip(**tower)
    pixels = noise(clip).double()
    *_, last = hooks.trace(clip, pixels)
    torch.testing.assert_close(hooks.project(clip, last.output[:, 0]), clip.encode_image(pixels))


def test_trace_is_a_real_model():
    clip = real_clip("ViT-B-32")
    with torch.no_grad():
        *_, last = hooks.trace(clip, noise(clip, 1))
    torch.testing.assert_close(hooks.project(clip, last.output[:, 0]), clip.encode_image(noise(clip, 1)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("tower", TOWERS)
def test_raw_attention_is_the_models_own(tower):
    clip = double_clip(**tower)
    pixels = noise(clip).double()
    row = attention_of_the_model(clip, pixels)[-1].mean(1)[:, 0]
    maps = explainers.raw_attention(clip, pixels, texts(clip))
    torch.testing.assert_close(maps, row[:, 1:].unflatten(1, clip.grid))
    torch.testing.assert_close(maps.sum((1, 2)) + row[:, 0], torch.ones(2).double())


def test_rollout():
    clip = double_clip(layers=3)
    pixels = noise(clip).double()
    matrix, _ = explainers._rollout_matrix(clip, pixels)
    torch.testing.assert_close(matrix.sum(-1), torch.ones(2, 17).double())
    by_hand = torch.eye(17).double()
    for pattern in attention_of_the_model(clip, pixels)[1:]:  # the first layer is left out
        by_hand = (pattern.mean(1) + torch.eye(17)) / 2 @ by_hand
    maps = explainers.rollout(clip, pixels, texts(clip))
    torch.testing.assert_close(maps, by_hand[:, 0, 1:].unflatten(1, clip.grid))


@pytest.mark.parametrize("tower", TOWERS)
def test_attention_gradients_are_finite_differences(tower):
    clip = double_clip(**tower)
    pixels, text = noise(clip).double(), texts(clip)
    gradients = [g for _, g in explainers._gradients(clip, hooks.trace_streams(clip, pixels), text)][::-1]
    for layer, head, query, key in [(0, 0, 0, 0), (0, 1, 3, 7), (0, 3, 8, 2), (1, 2, 0, 5), (1, 0, 0, 0)]:
        expected = gradient_by_differences(clip, pixels, text, layer, head, query, key)
        torch.testing.assert_close(gradients[layer][:, head, query, key], expected, rtol=1e-5, atol=1e-10)
    assert gradients[0][:, :, 3].abs().min() > 0  # the first layer matters through the second
    assert not gradients[1][:, :, 1:].any()  # in the last layer only the class token is read out


def test_grad_cam_by_hand():
    clip = double_clip()
    pixels, text = noise(clip, 6).double(), texts(clip, 6)
    gradient = class_row_by_differences(clip, pixels, text, 1)[:, :, 1:]
    pattern = attention_of_the_model(clip, pixels)[-1][:, :, 0, 1:]
    expected = (gradient.mean(-1, keepdim=True) * pattern).mean(1).clamp(min=0)
    maps = explainers.grad_cam(clip, pixels, text).flatten(1)
    torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-10)
    assert (maps > 0).any() and (maps == 0).any()


def test_rules_of_relevance_by_hand():
    x, weight = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[3.0, -1.0, -2.0], [-1.0, 1.0, 4.0], [-1.0, 1.0, -1.0]])
    relevance = explainers._through_linear(x, weight, torch.tensor([[10.0, -6.0, 7.0]]))
    torch.testing.assert_close(relevance, torch.tensor([[6.0, 4.0, -6.0]]))  # the third output has no positive contribution
    left, right = explainers._through_product(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [-1.0]]), torch.tensor([[4.0]]))
    torch.testing.assert_close((left, right), (torch.tensor([[6.0, -4.0]]), torch.tensor([[6.0], [-4.0]])))
    terms = torch.tensor([[[3.0, 2.0]], [[3.0, 1.0]]]), torch.tensor([[[1.0, -1.0]], [[1.0, -1.0]]])
    first, second = explainers._through_sum(*terms, torch.tensor([[[4.0, 6.0]], [[4.0, 6.0]]]))
    # First image: plain shares (3, 12) and (1, -6), whose totals 15 and -5 get 7.5 and 2.5. Second image: the terms of one
    # coordinate cancel, so its relevance goes where the other coordinate's goes.
    torch.testing.assert_close(first, torch.tensor([[[1.5, 6.0]], [[7.5, 0.0]]]))
    torch.testing.assert_close(second, torch.tensor([[[-0.5, 3.0]], [[2.5, 0.0]]]))


@pytest.mark.parametrize("tower", TOWERS)
def test_relevance_through_a_block_by_hand(tower):
    clip = double_clip(**tower)
    pixels, text = noise(clip).double(), texts(clip)
    streams = hooks.trace_streams(clip, pixels)
    relevance = explainers._score_relevance(clip, streams[-1], text)
    for layer in (1, 0):
        block = hooks.trace_block(clip, layer, streams[layer])
        attention, entering = explainers._block_relevance(block, relevance)
        for image in range(2):
            expected = block_relevance_by_hand(clip, layer, streams[layer][image], relevance[image])
            torch.testing.assert_close((attention[image], entering[image]), expected, rtol=1e-6, atol=1e-9)
        relevance = entering


@pytest.mark.parametrize("tower", TOWERS)
def test_relevance_is_conserved(tower):
    clip = double_clip(**tower)
    pixels, text = noise(clip).double(), texts(clip)
    reached, embeddings, steps = explainers._pixel_relevance(clip, pixels, text)
    assert len(steps) == clip.n_layers + 1
    for step in steps:
        torch.testing.assert_close(step.sum((1, 2)), torch.ones(2).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(reached.sum((1, 2)) + embeddings, torch.ones(2).double(), rtol=0, atol=1e-6)
    assert reached.shape == (2, clip.grid[0] * clip.grid[1], 3 * clip.visual.conv1.kernel_size[0] ** 2)
    maps = explainers.lrp(clip, pixels, text)
    torch.testing.assert_close(maps.sum((1, 2)), 1 - embeddings, rtol=0, atol=1e-6)
    torch.testing.assert_close(maps[:, 1, 2], reached[:, clip.grid[1] + 2].sum(-1))


def test_relevance_starts_at_what_speaks_for_the_text():
    clip = double_clip()
    pixels, text = noise(clip).double(), texts(clip)
    final = hooks.trace_streams(clip, pixels)[-1]
    relevance = explainers._score_relevance(clip, final, text)
    contributions = clip.visual.ln_post(final[:, 0]) * torch.einsum("DE,bE->bD", clip.visual.proj, text)
    expected = shared(contributions[:, None], torch.ones(2, 1).double())
    torch.testing.assert_close(relevance[:, 0], expected)
    assert not relevance[:, 1:].any()


def test_a_patch_without_light_gets_no_relevance():
    clip = double_clip()
    pixels = noise(clip).double()
    pixels[:, :, 8:16, 24:] = 0
    maps = explainers.lrp(clip, pixels, texts(clip))
    assert not maps[:, 1, 3].any() and (maps != 0).sum() == 2 * 15


def test_partial_lrp_and_chefer_of_one_layer_by_hand():
    clip = double_clip(layers=1)
    pixels, text = noise(clip).double(), texts(clip)
    gradient = class_row_by_differences(clip, pixels, text, 0)
    pattern = attention_of_the_model(clip, pixels)[0][:, :, 0]
    streams = hooks.trace_streams(clip, pixels)
    start = explainers._score_relevance(clip, streams[-1], text)
    relevance = torch.stack([block_relevance_by_hand(clip, 0, streams[0][b], start[b])[0][:, 0] for b in range(2)])
    for explain, by_hand in [
        (explainers.partial_lrp, relevance.clamp(min=0)),
        (CVPR, (gradient * relevance).clamp(min=0)),
        (ICCV, (gradient * pattern).clamp(min=0)),
    ]:
        expected = by_hand.mean(1)[:, 1:].unflatten(1, clip.grid)
        assert (expected > 0).any()
        torch.testing.assert_close(explain(clip, pixels, text), expected, rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("variant", ["cvpr", "iccv"])
@pytest.mark.parametrize("start", [0, 1, 2])
def test_chefer_multiplies_through_the_layers(variant, start):
    clip = double_clip(layers=3)
    pixels, text = noise(clip).double(), 50 * texts(clip)  # long texts, so that products of layers are not negligible
    streams = hooks.trace_streams(clip, pixels)
    relevance, steps = explainers._score_relevance(clip, streams[-1], text), []
    for block, gradient in explainers._gradients(clip, streams, text):
        attention, relevance = explainers._block_relevance(block, relevance)
        weighed = (gradient * (attention if variant == "cvpr" else block.attention)).clamp(min=0)
        steps.insert(0, weighed.mean(1).detach())
    matrix = torch.eye(17).double().expand(2, -1, -1)
    for step in steps[start:]:
        matrix = matrix + step @ matrix
    maps = explainers.chefer(clip, pixels, text, variant, start)
    torch.testing.assert_close(maps, matrix[:, 0, 1:].unflatten(1, clip.grid))
    if start == 0:
        assert torch.equal(maps, explainers.chefer(clip, pixels, text, variant))


def test_clip_patch_tokens_by_hand():
    clip = double_clip(ls_init_value=0.5)
    pixels, text, tokens = noise(clip).double(), 3 * texts(clip), []
    with hooks.forward_hooks([(clip.visual.ln_post, lambda module, args, output: tokens.append(output))]):
        clip.encode_image(pixels)
    expected = F.cosine_similarity(tokens[0] @ clip.visual.proj, text[:, None], dim=-1)
    torch.testing.assert_close(explainers.clip_patch_tokens(clip, pixels, text), expected[:, 1:].unflatten(1, clip.grid))


@pytest.mark.parametrize("name", ALL)
def test_which_maps_depend_on_the_text(name):
    clip = double_clip()
    pixels = noise(clip, 4).double()
    one, other = (ALL[name](clip, pixels, texts(clip, 4, seed)) for seed in (5, 6))
    assert torch.equal(one, other) == (name in OF_ATTENTION)


@pytest.mark.parametrize("name", ALL)
def test_images_do_not_influence_each_other(name):
    clip = double_clip()
    pixels, text = noise(clip).double(), texts(clip)
    both = ALL[name](clip, pixels, text)
    assert both.shape == (2, *clip.grid) and not both.requires_grad
    for k in range(2):
        torch.testing.assert_close(both[k : k + 1], ALL[name](clip, pixels[k : k + 1], text[k : k + 1]), rtol=1e-5, atol=1e-10)
    assert torch.equal(ALL[name](clip, pixels, text[0]), ALL[name](clip, pixels, text[:1].expand(2, -1)))


@pytest.mark.parametrize("name", ALL)
def test_the_model_is_left_as_it_was(name, monkeypatch):
    clip = double_clip()
    clip.model.requires_grad_(True)
    before = {key: value.clone() for key, value in clip.model.state_dict().items()}
    pixels, text = noise(clip).double(), texts(clip)
    maps = ALL[name](clip, pixels, text)

    def untouched():
        kept = all(torch.equal(value, before[key]) for key, value in clip.model.state_dict().items())
        gradients = [p for p in clip.model.parameters() if p.grad is not None]
        return kept and not gradients and count_hooks(clip.model) == 0 and torch.is_grad_enabled()

    assert untouched() and not maps.requires_grad
    with torch.inference_mode():
        torch.testing.assert_close(ALL[name](clip, pixels * 1, text * 1), maps)

    def fail(*args):
        raise RuntimeError("interrupted")

    inside = (
        (hooks, "record"),
        (hooks, "trace_block"),
        (hooks.tracing, "trace_block"),
        (Attention, "pattern"),
        (hooks, "final_norm"),
    )
    for module, function in inside:
        monkeypatch.setattr(module, function, fail)
    with pytest.raises(RuntimeError, match="interrupted"):
        ALL[name](clip, pixels, text)
    assert untouched()


@pytest.mark.parametrize("name", ALL)
def test_bad_input_is_refused(name, tiny):
    pixels, text = noise(tiny), texts(tiny)
    for bad in (text[:1], text[:, :-1], text[0, :-1], text[None], torch.ones(())):
        with pytest.raises(ValueError, match="one text for each image"):
            ALL[name](tiny, pixels, bad)
    for bad in (text * float("nan"), text.long()):
        with pytest.raises(ValueError, match="finite floating-point numbers, as clip.encode_text"):
            ALL[name](tiny, pixels, bad)
    with pytest.raises(ValueError, match="need pixels of shape"):
        ALL[name](tiny, pixels[:, :, 1:], text)
    with pytest.raises(ValueError, match="pixels must be finite"):
        ALL[name](tiny, pixels / 0, text)


def test_bad_choices_are_refused(tiny):
    pixels, text = noise(tiny), texts(tiny)
    with pytest.raises(ValueError, match="variant must be 'cvpr' or 'iccv', got 'eccv'"):
        explainers.chefer(tiny, pixels, text, variant="eccv")
    for explain in (CVPR, ICCV):
        for start in (-1, 2):
            with pytest.raises(ValueError, match=f"start_layer must be from 0 to 1, got {start}"):
                explain(tiny, pixels, text, start_layer=start)


@pytest.mark.parametrize("name", ALL)
def test_half_precision_models_are_explained_in_single(name):
    clip = iu.Clip(tiny_model().half())
    maps = ALL[name](clip, noise(clip), texts(clip))
    assert maps.dtype == torch.float32 and maps.isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_sandbox_images_are_explained(name, sandbox):
    images = iu.sandbox.segmentation_images(4)
    pixels = torch.stack([images[k][0] for k in range(4)])
    text = sandbox.encode_text(["a photo of a cat"])
    maps = ALL[name](sandbox, pixels, text[0])
    assert maps.shape == (4, *sandbox.grid) and maps.dtype == torch.float32 and maps.isfinite().all()
    assert (maps.flatten(1).std(1) > 0).any()


def test_relevance_is_conserved_in_single_precision(sandbox):
    images = iu.sandbox.segmentation_images(4)
    pixels, text = torch.stack([images[k][0] for k in range(4)]), texts(sandbox, 4)
    with torch.no_grad():
        reached, embeddings, _ = explainers._pixel_relevance(sandbox, pixels, text)
    torch.testing.assert_close(reached.sum((1, 2)) + embeddings, torch.ones(4), rtol=0, atol=1e-4)
