"""Models as people bring them: compiled, ready for training, under autocast, with other outputs or another default precision."""

import gc
from functools import cache

import pytest
import torch
from open_clip.coca_model import CoCa
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from small_clips import count_hooks, get_tokenizer, noise, tiny_clip, tiny_model
from torch.utils.data import TensorDataset

import interp_utils as iu
from interp_utils import explainers, heads, hooks, neurons, science, segmentation, widgets
from interp_utils.sandbox import viewers

N = 6


def brought(**vision) -> iu.Clip:
    return tiny_clip(**vision)


def images(clip):
    return TensorDataset(noise(clip, N), torch.arange(N) % 2)


def unit(clip, n: int = 4):
    vectors = torch.randn(n, clip.d_embed, generator=torch.Generator().manual_seed(2), dtype=clip.dtype)
    return vectors / vectors.norm(dim=1, keepdim=True)


def direct(clip):
    fx, text = heads.direct_effects(clip, noise(clip)), unit(clip)
    views = [fx.layers(), fx.heads(), fx.tokens(), fx.head_tokens(1, 2), fx.total(), fx.class_token(), fx.attention]
    return views + [fx.scores(text, over) for over in ("layer", "head", "token", "head_token")] + [heads.token_maps(fx, text)]


def lenses(clip):
    tuned = heads.fit_tuned_lens(clip, images(clip))
    return [heads.accumulated_resid(clip, noise(clip)), heads.logit_lens(clip, noise(clip), tuned), tuned.maps]


def spans(clip):
    moments = heads.head_moments(clip, images(clip))[1, 0]
    span = heads.textspan(moments, unit(clip, 9), [f"text {k}" for k in range(9)], 3)
    tops = heads.top_images(clip, images(clip), {(1, 0): span}, unit(clip, 9), k=2)
    widgets.draw_span([*zip(noise(clip, N), range(N))], {(1, 0): span}, tops, 1, 0)
    return [moments.mean, moments.second, span.directions, span.explained]


def ablations(clip):
    parts = {"heads": heads.ablate_heads([(0, 1), (1, 2)]), "class token": heads.ablate_class_token(clip)}
    scores = [heads.accuracy_under(clip, images(clip), unit(clip), parts, mode) for mode in ("direct", "forward")]
    return [torch.tensor([score.overall for each in scores for score in each.values()])]


def second(clip):
    order = neurons.second_order(clip, 0, relative=True)
    order.fit(images(clip), 3)
    texts = neurons.sparse_texts(order.directions, unit(clip, 9), [f"text {k}" for k in range(9)], 3)
    widgets.draw_neuron(images(clip), order, texts, 3)
    widgets.draw_concepts(order, texts, noise(clip)[0])
    maps = neurons.segmenter([order], unit(clip), 5)(noise(clip))
    spread = neurons.spread(order, images(clip)).along
    return [order.effects(noise(clip), [1, 2]), order.norms(noise(clip)), order.directions, order.thresholds, maps, spread]


def other_orders(clip):
    means = neurons.token_means(clip, images(clip), 0)
    fitted = neurons.fit_indirect(clip, images(clip), 0, means, [1, 2], 3)
    effects = neurons.indirect_effects(clip, noise(clip), 0, means, [1, 2])
    maps = neurons.activation_maps(clip, noise(clip), 0, [1])
    return [means, fitted.directions, effects, maps, neurons.first_order(clip, noise(clip), 1)]


def explained(clip):
    names = ("raw_attention", "rollout", "grad_cam", "lrp", "partial_lrp", "chefer", "clip_patch_tokens")
    maps = [getattr(explainers, name)(clip, noise(clip), unit(clip, 2)) for name in names]
    ours = segmentation.token_decomposition(clip, unit(clip))(noise(clip))
    return [*maps, ours, segmentation.for_predicted_class(clip, explainers.grad_cam, unit(clip))(noise(clip))]


def shown(clip):
    widgets.draw_head(clip, noise(clip)[0], 1, 2, "a dog", ["a cat"])
    widgets.head_explorer(clip, list(noise(clip)), ["a cat"], "a dog")
    widgets.draw_zero_shot(clip, noise(clip)[0], "a cat, a dog")
    return [widgets.zero_shot(clip, noise(clip), ["a cat", "a dog"]), clip.encode_text(["a dog"])]


def circuits(clip):
    task = science.Task(noise(clip), torch.tensor([-1.0, 1.0]), unit(clip)[0])
    means = science.node_means(clip, images(clip))
    masks = torch.zeros(1, science.n_nodes(clip))
    found = [science.patching_scores(clip, task, means), science.run_circuits(clip, noise(clip), means, masks)]
    return [*found, science.effect_scores(task, [neurons.second_order(clip, 0)])]


def joint(clip):
    means = {layer: neurons.token_means(clip, images(clip), layer) for layer in (0, 1)}
    effects = science.attention_effects(clip, noise(clip), 0, means[0], [3])
    pair = science.pair_interaction(clip, noise(clip), unit(clip)[0], means, (0, 1), (1, 2))
    row = science.attributions(clip, noise(clip), unit(clip)[0], means, 1, [(0, 1)])
    return [effects.total, effects.moved, pair, row, science.token_norms(clip, noise(clip))]


def handed_out(clip):
    block = next(hooks.trace(clip, noise(clip)))
    weights, norm = hooks.attention_weights(clip, 0), hooks.final_norm(clip)
    return [block.output, weights.w_q, norm.proj, *hooks.stream_after(clip, noise(clip), 0), hooks.attention_norm(clip, 0).weight]


CALLS = [direct, lenses, spans, ablations, second, other_orders, explained, shown, circuits, joint, handed_out]


@cache
def expected_of(call) -> list:
    """What a plain model gives, for all tests."""
    return call(brought())


calls = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)


def compiled(part: str, in_place: bool) -> iu.Clip:
    clip = brought()
    model, visual = clip.model, clip.model.visual
    if in_place:
        for module in {"model": [model], "visual": [visual], "blocks": visual.transformer.resblocks}[part]:
            module.compile(backend="eager")
    elif part == "model":
        model = torch.compile(model, backend="eager")
    elif part == "visual":
        model.visual = torch.compile(visual, backend="eager")
    elif part == "encode_image":
        model.encode_image = torch.compile(model.encode_image, backend="eager")
    else:
        for k, block in enumerate(visual.transformer.resblocks):
            visual.transformer.resblocks[k] = torch.compile(block, backend="eager")
    return iu.Clip(model, tokenizer=clip.tokenizer)


PLACES = [*((part, place) for part in ("model", "visual", "blocks") for place in (False, True)), ("encode_image", False)]


@pytest.mark.parametrize("part,in_place", PLACES)
def test_compiled_models_give_what_plain_ones_do(part, in_place):
    torch._dynamo.reset()
    clip, plain = compiled(part, in_place), brought()
    torch.testing.assert_close(clip.encode_image(noise(clip)), plain.encode_image(noise(clip)))  # and now it is compiled
    for edit in (
        lambda clip: hooks.edited_neurons(clip, 0, torch.zeros_like),
        lambda clip: hooks.edited_blocks(clip, {1: lambda inputs, output: 0 * output}, {0: torch.zeros_like}),
    ):
        with edit(plain):
            expected = plain.encode_image(noise(clip))
        with edit(clip):
            torch.testing.assert_close(clip.encode_image(noise(clip)), expected)
        assert not torch.allclose(clip.encode_image(noise(clip)), expected, atol=1e-2)
    for call in (direct, ablations, circuits):
        for found, expected in zip(call(clip), expected_of(call)):
            torch.testing.assert_close(found, expected)
    assert count_hooks(clip.model) == 0


@calls
def test_models_that_are_ready_for_training(call):
    clip = brought()
    clip.model.requires_grad_(True)
    for found, expected in zip(call(clip), expected_of(call)):
        assert not found.requires_grad
        torch.testing.assert_close(found, expected)
    assert all(parameter.grad is None for parameter in clip.model.parameters())


def test_kept_effects_keep_no_graph_alive():
    clip = brought()
    clip.model.requires_grad_(True)
    kept = [(heads.direct_effects(clip, noise(clip)), neurons.second_order(clip, 0).on(noise(clip))) for _ in range(3)]
    gc.collect()
    assert not [x for x in gc.get_objects() if isinstance(x, torch.Tensor) and x.grad_fn is not None and x.shape[-1:] == (24,)]
    assert len(kept) == 3


def test_who_asks_for_gradients_gets_them():
    clip = brought()
    pixels = noise(clip).requires_grad_()
    assert clip.encode_image(pixels).requires_grad and hooks.trace_embedding(clip, pixels).stream.requires_grad
    text = unit(clip).requires_grad_()
    fx = heads.direct_effects(clip, pixels)
    assert fx.scores(text).requires_grad and not fx.pixels.requires_grad


@calls
def test_a_default_of_double_precision_changes_nothing(call):
    clip, expected = brought(), expected_of(call)
    torch.set_default_dtype(torch.float64)
    try:
        found = call(clip)
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, check_dtype=False, rtol=1e-4, atol=1e-5)


def test_the_sandbox_loads_under_a_default_of_double_precision(sandbox):
    torch.set_default_dtype(torch.float64)
    try:
        clip = iu.load_clip("sandbox", device="cpu")
        again, text = clip.encode_image(noise(clip)), clip.encode_text(["a dog"])
        viewers.load("clip_resnet")
    finally:
        torch.set_default_dtype(torch.float32)
    assert clip.dtype == torch.float32
    torch.testing.assert_close(again, sandbox.encode_image(noise(sandbox)))
    torch.testing.assert_close(text, sandbox.encode_text(["a dog"]))


@calls
def test_autocast_is_refused(call):
    clip = brought()
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match="leave its block, or load the model in half"):
        call(clip)


def test_views_are_not_read_under_autocast(tiny):
    fx = heads.direct_effects(tiny, noise(tiny))
    for view in (fx.layers, fx.heads, fx.mlps, fx.tokens, fx.total):
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match="autocast is on"):
            view()


@calls
def test_a_tower_that_gives_its_tokens_too(call):
    for found, expected in zip(call(brought(output_tokens=True)), expected_of(call)):
        torch.testing.assert_close(found, expected)


def coca(**vision) -> CoCa:
    torch.manual_seed(0)
    shape = {"layers": 2, "width": 32, "head_width": 8, "patch_size": 8, "image_size": 32, "output_tokens": True, **vision}
    text = CLIPTextCfg(context_length=76, width=16, heads=1, layers=1, embed_cls=True, output_tokens=True)
    decoder = {"width": 16, "heads": 1, "layers": 1, "context_length": 76, "vocab_size": 49408}
    return CoCa(24, decoder, text, CLIPVisionCfg(**shape)).eval()


def test_coca_is_taken_before_it_normalises():
    clip = iu.Clip(coca(), tokenizer=get_tokenizer("coca_ViT-B-32"))
    pixels = noise(clip)
    whole = clip.encode_image(pixels)
    torch.testing.assert_close(whole / whole.norm(dim=1, keepdim=True), clip.model.encode_image(pixels))
    assert (whole.norm(dim=1) - 1).abs().min() > 0.1
    torch.testing.assert_close(heads.direct_effects(clip, pixels).total(), whole)
    torch.testing.assert_close(clip.encode_text(["a dog"]).norm(), torch.tensor(1.0))
    pooled = iu.Clip(coca(attentional_pool=True, attn_pooler_heads=4))
    torch.testing.assert_close(heads.direct_effects(pooled, pixels).total(), pooled.encode_image(pixels), rtol=1e-4, atol=1e-5)


class Normalising(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.visual, self.inner = model.visual, model

    def encode_image(self, pixels):
        return torch.nn.functional.normalize(self.inner.encode_image(pixels), dim=-1)


def test_a_model_that_does_more_than_its_tower_is_refused():
    with pytest.raises(RuntimeError, match="representations of unit length"):
        iu.Clip(Normalising(tiny_model()))
    clip = iu.Clip(Normalising(tiny_model()), check=False)
    for call in (lambda: heads.direct_effects(clip, noise(clip)), lambda: neurons.second_order(clip, 0).norms(noise(clip))):
        with pytest.raises(RuntimeError, match="does not give out the projection"):
            call()


def test_blocks_that_do_more_than_their_structure_are_refused():
    clip = brought()
    mlp = clip.visual.transformer.resblocks[0]
    plain = mlp.attention
    mlp.attention = lambda *args, **kwargs: 2 * plain(*args, **kwargs)
    with pytest.raises(RuntimeError, match="does not add up to the stream that is read out"):
        heads.direct_effects(clip, noise(clip))
