"""Every function that takes a Clip, over one small tower of each family: against the plain forward pass and plain slow sums."""

import re
from pathlib import Path

import pytest
import torch
from families import DEVICE, FAMILIES, family_clip
from torch.utils.data import TensorDataset

import interp_utils as iu
from interp_utils import explainers, heads, hooks, neurons, science, segmentation
from interp_utils.hooks.interventions import run_with_attention, visit_streams

POOLED = ["mean, then the norm", "norm, then the mean", "CoCa", "SigLIP 2", "PE-Core"]
SEVERAL = ["CoCa", "SigLIP 2", "PE-Core"]  # read-outs: heads of an attention pool
families = pytest.mark.parametrize("name", FAMILIES)
CLIPS: dict[str, iu.Clip] = {}


def made(name: str) -> iu.Clip:
    if name not in CLIPS:
        CLIPS[name] = family_clip(name)
    return CLIPS[name]


def noise(clip, n: int = 2, seed: int = 3):
    return torch.randn(n, 3, *clip.image_size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(DEVICE)


def images(clip, n: int = 6):
    return TensorDataset(noise(clip, n).cpu(), torch.arange(n) % 2)  # as a dataset gives them


def unit(clip, n: int):
    vectors = torch.randn(n, clip.d_embed, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(DEVICE)
    return vectors / vectors.norm(dim=1, keepdim=True)


def same(found, expected):
    torch.testing.assert_close(found.cpu(), expected.cpu(), rtol=1e-9, atol=1e-11)


@families
def test_direct_effects_add_up_to_the_models_own_output(name):
    clip = made(name)
    pixels, text = noise(clip), unit(clip, 5)
    fx, whole = heads.direct_effects(clip, pixels), clip.encode_image(pixels)
    assert clip.n_prefix + clip.grid[0] * clip.grid[1] == fx.attention.shape[-1] and len(fx.labels) == fx.layers().shape[1]
    same(fx.total(), whole)
    same(fx.layers()[:, 1 : 2 * clip.n_layers + 1 : 2], fx.heads().sum(2))
    same(fx.tokens().sum(1), fx.heads().sum((1, 2)))
    same(fx.head_tokens(1, 2).sum(1), fx.heads([1])[:, 0, 2])
    same(fx.attention.sum(-1), torch.ones(2, 2, clip.n_heads).double())
    same(fx.scores(text, "layer"), fx.layers() @ text.T)
    same(fx.scores(text, "head"), fx.heads() @ text.T)
    same(fx.scores(text, "token"), fx.tokens() @ text.T)
    same(fx.scores(text, "head_token")[:, 1, 2], fx.head_tokens(1, 2) @ text.T)
    same(heads.token_maps(fx, text), (fx.tokens()[:, clip.n_prefix :] @ text.T).movedim(1, 2).unflatten(2, clip.grid))
    maps = segmentation.token_decomposition(clip, text)(pixels)
    assert maps.shape == (2, *clip.grid) and maps.std() > 0
    if clip.tokenizer is not None:
        iu.widgets.draw_head(clip, pixels[0].float(), 1, 2, "a dog", ["a cat"])
    same(heads.decompose_resid(clip, pixels).sum(1), fx.stream.final)


@families
def test_what_the_room_itself_says_is_the_same(name):
    clip = made(name)
    pixels = noise(clip)
    ours, plain = heads.direct_effects(clip, pixels), iu.towers.decompose(clip.tower, lambda: clip.encode_image(pixels))
    for view in ("heads", "tokens", "mlps", "embedding"):
        same(getattr(ours, view)(), getattr(plain, view)())


@families
def test_half_precision_and_float32(name):
    clip = family_clip(name, double=False)
    pixels = noise(clip).float()
    fx = heads.direct_effects(clip, pixels)
    assert (fx.total() - clip.encode_image(pixels)).norm() < 1e-5 * fx.total().norm()
    model = clip.model.to(torch.bfloat16)
    half = iu.Clip(model, name=name)
    assert (heads.direct_effects(half, pixels).total() - half.encode_image(pixels)).norm() < 0.05 * fx.total().norm()


def second_order_by_hand(clip, pixels, layer: int, neuron: int):
    """Every later layer, head, pair of tokens and read-out by itself; norms, patterns and pooling as in the pass."""
    tower = clip.tower
    plain = iu.towers.decompose(tower, lambda: clip.encode_image(pixels))
    acts, last = plain.streams.neurons[layer], tower.blocks[layer].last_linear()
    before = {}
    visit_streams(clip, pixels, before.__setitem__)
    written = (acts * last.frozen(acts)[..., None])[..., neuron, None] * last.linear()[0][neuron]  # [B, N, D]
    effect = 0
    for after in range(layer + 1, clip.n_layers):
        block = tower.blocks[after]
        attention, norm, x = block.attention(), block.norm(), plain.streams.inputs[after]
        read = written
        if norm is not None:
            std = (before[after - 1].var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
            read = norm.weight * (written - written.mean(-1, keepdim=True)) / std
        pattern = attention.pattern(x)
        scale, _ = attention.frozen(pattern @ attention.values(x))
        for head in range(clip.n_heads):
            value = pattern[:, head] @ (read @ attention.w_v[head].T)
            sent = scale[..., None] * (value @ attention.linear()[0][:, head].T)
            for k, matrix in enumerate(plain.read_out.matrix):
                effect = effect + (plain.read_out.rho[:, k, :, None] * sent).sum(1) @ matrix
    return effect


@families
def test_second_order_effects_by_hand(name):
    clip = made(name)
    pixels, order = noise(clip), neurons.second_order(clip, 0)
    effects = order.effects(pixels)
    assert effects.shape == (2, clip.d_mlp, clip.d_embed)
    for neuron in (0, 5, clip.d_mlp - 1):
        same(effects[:, neuron], second_order_by_hand(clip, pixels, 0, neuron))
    on = order.on(pixels)
    same(order.norms(pixels), effects.norm(dim=-1))
    same(on.summed(), effects.sum(1))
    lines = torch.randn(clip.d_mlp, clip.d_embed, generator=torch.Generator().manual_seed(4), dtype=torch.float64).to(DEVICE)
    same(on.along(neurons.Lines(order, lines)), (effects * lines).sum(-1))
    same(
        neurons.second_order(clip, 0, relative=True).norms(pixels) * clip.encode_image(pixels).norm(dim=1)[:, None],
        order.norms(pixels),
    )


@families
def test_first_order_effects_are_the_mlps(name):
    clip = made(name)
    pixels = noise(clip)
    plain = iu.towers.decompose(clip.tower, lambda: clip.encode_image(pixels))
    for layer in range(2):
        found = neurons.first_order(clip, pixels, layer)
        same(found.sum(1) + plain.neuron_bias(layer), heads.direct_effects(clip, pixels).mlps()[:, layer])


@families
def test_indirect_effects_are_new_runs_of_the_model(name):
    clip = made(name)
    pixels, whole = noise(clip), made(name).encode_image(noise(made(name)))
    for layer, few in ((0, [3, 7]), (1, [1])):
        means = neurons.token_means(clip, images(clip), layer)
        found = neurons.indirect_effects(clip, pixels, layer, means, few)
        for k, neuron in enumerate(few):

            def hold(p, neuron=neuron, means=means):
                p = p.clone()
                p[..., neuron] = means[:, neuron]
                return p

            with hooks.edited_neurons(clip, layer, hold):
                same(found[:, k], whole - clip.encode_image(pixels))


@families
def test_attention_effects_split_indirect_effects(name):
    clip = made(name)
    means = neurons.token_means(clip, images(clip), 0)
    effects = science.attention_effects(clip, noise(clip), 0, means, [3, 7])
    same(effects.total, neurons.indirect_effects(clip, noise(clip), 0, means, [3, 7]))
    assert effects.frozen.norm() > 0 and effects.mediated.norm() > 0 and 0 < effects.moved.max() <= 1
    again, _ = run_with_attention(clip, 1, hooks.streams_before(clip, noise(clip), [1])[1])
    same(again, clip.encode_image(noise(clip)))


@families
def test_streams_can_be_read_and_run_on(name):
    clip = made(name)
    pixels, whole = noise(clip), made(name).encode_image(noise(made(name)))
    lens = heads.logit_lens(clip, pixels)
    assert lens.shape == (2, 3, clip.d_embed)
    same(lens[:, -1], whole)
    for layer, stream in hooks.streams_before(clip, pixels, range(3)).items():
        same(hooks.read(clip, stream), lens[:, layer])
        for every in (False, True):
            same(hooks.run_from(clip, layer, stream, every), whole)
    assert science.token_norms(clip, pixels).shape == (2, 2, clip.n_prefix + 16)


@families
def test_heads_written_to_every_token_are_what_the_attention_adds(name):
    clip = made(name)
    pixels, seen = noise(clip), []
    weights = hooks.attention_weights(clip, 1)

    def look(inputs, output):
        seen.append((hooks.head_outputs(inputs, weights, list(range(clip.n_heads))).sum(1), output))
        return output

    with hooks.edited_blocks(clip, {1: look}, {}):
        clip.encode_image(pixels)
    same(*seen[0])
    one = {1: lambda inputs, output: output - hooks.head_outputs(inputs, weights, [2])[:, 0]}
    with hooks.edited_blocks(clip, one, {}):
        without = clip.encode_image(pixels)
    assert (without - clip.encode_image(pixels)).norm() > 1e-3


@families
def test_ablations(name):
    clip = made(name)
    data, classifier = images(clip, 8), unit(clip, 2)
    parts = {
        "nothing": heads.Ablation(),
        "heads": heads.ablate_heads([(0, 1), (1, 2)]),
        "layers": heads.ablate_attention(clip, [0, 1]) | heads.Ablation(mlps=frozenset([0, 1])),
    }
    rest = {"all": heads.ablate_attention(clip, [0, 1]) | heads.ablate_mlps(clip)}
    plain = (clip.encode_image(data.tensors[0].to(DEVICE)) @ classifier.T).argmax(1).cpu() == data.tensors[1]
    for mode in ("direct", "forward"):
        some = parts if mode == "forward" and name in POOLED else {**parts, **rest}
        answers = heads.answers_under(clip, data, classifier, some, mode)
        assert torch.equal(answers.right["nothing"], plain)
        if "all" in some:
            assert len(set(answers.right["all"][data.tensors[1] == 0].tolist())) == 1, "all images look the same"
    if name in POOLED:
        with pytest.raises(ValueError, match="the embedding of all tokens.*nothing would run; leave it out"):
            heads.answers_under(clip, data, classifier, rest, "forward")
    fitted = neurons.second_order(clip, 0).fit(data, 3)
    curves = neurons.ablation_curves([fitted], data, classifier)
    assert curves.baseline[0] == plain.double().mean()
    means = neurons.token_means(clip, data, 0)
    spans = {"pool": {(1, 2): heads.textspan(heads.head_moments(clip, data, [1])[1, 2], unit(clip, 9), ["t"] * 9, 3)}}
    for keep in (False, True):
        assert 0 <= heads.reconstruction_accuracy(clip, data, classifier, spans, [1, 3], keep)["pool"][1] <= 1
    assert neurons.indirect_ablation(clip, data, classifier, 0, means).right.shape == (8,)


@families
def test_textspan_and_directions(name):
    clip = made(name)
    data, pool = images(clip, 12), unit(clip, 9)
    texts = [f"text {k}" for k in range(9)]
    moments = heads.head_moments(clip, data, [1])[1, 2]
    rows = heads.head_features(clip, data, [(1, 2)])[1, 2]
    by_rows = heads.textspan(rows, pool, texts, 3)
    span = heads.textspan(moments, pool, texts, 3)
    assert span.texts == by_rows.texts
    torch.testing.assert_close(span.explained, by_rows.explained, rtol=1e-4, atol=1e-6)
    order = neurons.second_order(clip, 0, relative=True).fit(data, 4)
    torch.testing.assert_close(order.mean, order.effects(data.tensors[0].to(DEVICE)).mean(0).to(order.mean), rtol=1e-6, atol=1e-9)
    spread = neurons.spread(order, data)
    assert (spread.along <= spread.share + 1e-4).all() and spread.share.max() <= 1 + 1e-6
    fit = neurons.fit_indirect(clip, data, 0, neurons.token_means(clip, data, 0), [1, 2], 3)
    assert fit.directions.shape == (2, clip.d_embed)
    coded = neurons.sparse_texts(order.directions, pool, texts, 3)
    assert len(neurons.discover_concepts(order, coded, noise(clip))) == 2
    assert neurons.segmenter([order], unit(clip, 2), 5)(noise(clip)).shape == (2, *clip.grid)
    assert neurons.activation_maps(clip, noise(clip), 0, [1]).shape == (2, 1, *clip.grid)


@families
def test_circuits(name):
    clip = made(name)
    data = images(clip)
    task = science.Task(noise(clip), torch.tensor([-1.0, 1.0]).double().to(DEVICE), unit(clip, 1)[0])
    means = science.node_means(clip, data)
    whole = torch.ones(1, science.n_nodes(clip))
    same(science.run_circuits(clip, task.pixels, means, whole)[0], clip.encode_image(task.pixels).float())
    node = clip.n_heads + 2  # L1H2
    weights = hooks.attention_weights(clip, 1)

    def replaced(inputs, output):
        mixed = hooks.mixed_values(inputs, weights)
        mixed[:, 2] = means.values[1, 2]
        return weights.write(mixed)

    with hooks.edited_blocks(clip, {1: replaced}, {}):
        expected = clip.encode_image(task.pixels).float().cpu()
    mask = whole.clone()
    mask[0, node] = 0
    torch.testing.assert_close(science.run_circuits(clip, task.pixels, means, mask)[0], expected)
    scores = science.effect_scores(task, [neurons.second_order(clip, 0)])
    assert scores.shape == (science.n_nodes(clip),)
    fx = heads.direct_effects(clip, task.pixels)
    along = (fx.heads() @ task.direction) / fx.total().norm(dim=-1)[:, None, None] * task.signs[:, None, None]
    torch.testing.assert_close(scores[: 2 * clip.n_heads], along.mean(0).flatten().float().cpu(), rtol=1e-4, atol=1e-6)
    assert science.patching_scores(clip, task, means).abs().max() > 0


@families
def test_pairs_of_neurons(name):
    clip = made(name)
    means = {layer: neurons.token_means(clip, images(clip), layer) for layer in (0, 1)}
    pixels, out = noise(clip), unit(clip, 1)[0]
    effects = neurons.indirect_effects(clip, pixels, 0, means[0], [1, 2]) @ out
    attributed = science.attributions(clip, pixels, out, means, 0)[:, [1, 2]]
    assert torch.nn.functional.cosine_similarity(effects.flatten(), attributed.flatten(), dim=0) > 0.5
    assert science.pair_interaction(clip, pixels, out, means, (0, 1), (1, 2)).shape == (2,)


def finite_difference(clip, pixels, text, layer, head, query, key, step=1e-6):
    weights = hooks.attention_weights(clip, layer)

    def score(size):
        def edit(inputs, output):
            mixed = hooks.mixed_values(inputs, weights)
            mixed[:, head, query] += size * weights.values(inputs)[:, head, key]
            return weights.write(mixed)

        with hooks.edited_blocks(clip, {layer: edit}, {}):
            return (torch.nn.functional.normalize(clip.encode_image(pixels), dim=-1) * text).sum(-1)

    return (score(step) - score(-step)) / (2 * step)


@families
def test_maps_of_other_methods(name):
    clip = made(name)
    pixels, text = noise(clip), unit(clip, 2)
    raw = explainers.raw_attention(clip, pixels, text)
    own = heads.direct_effects(clip, pixels).attention[:, -1].mean(1)
    same(raw.sum((1, 2)) + own[:, : clip.n_prefix].sum(1), torch.ones(2).double())
    for explain in (explainers.rollout, explainers.grad_cam, lambda *a: explainers.chefer(*a, variant="iccv")):
        maps = explain(clip, pixels, text)
        assert maps.shape == (2, *clip.grid) and maps.min() >= 0 and maps.max() > 0
    gradients = [g for _, g in explainers._gradients(clip, hooks.trace_streams(clip, pixels), text)][::-1]
    for place in ((0, 1, 3, 7), (1, 2, 0, 5)):
        torch.testing.assert_close(
            gradients[place[0]][:, place[1], place[2], place[3]],
            finite_difference(clip, pixels, text, *place),
            rtol=1e-4,
            atol=1e-9,
        )


def of_relevance(clip):
    return explainers.lrp(clip, noise(clip), unit(clip, 2))


def of_partial_relevance(clip):
    return explainers.partial_lrp(clip, noise(clip), unit(clip, 2))


def of_tokens(clip):
    return explainers.clip_patch_tokens(clip, noise(clip), unit(clip, 2))


def of_class_token(clip):
    return heads.direct_effects(clip, noise(clip)).class_token()


def ablated_class_token(clip):
    return heads.accuracy_under(clip, images(clip), unit(clip, 2), {"own": heads.ablate_class_token(clip)})


def tuned(clip):
    return heads.logit_lens(clip, noise(clip), heads.fit_tuned_lens(clip, images(clip)))


def registers(clip):
    with science.register_token(clip, [(0, 1)]):
        return clip.encode_image(noise(clip))


def planted(clip):
    return science.plant_outliers(clip, noise(clip, 4), 0, 3, 50.0)


def split(clip):
    return [heads.direct_effects(clip, noise(clip), "split").total(), neurons.second_order(clip, 0, "split").norms(noise(clip))]


def from_weights(clip):
    return science.weight_moments(clip)


EVA2 = ["EVA02", "EVA02, norms after its blocks"]
REFUSED = [
    (of_relevance, [*POOLED, *EVA2, "EVA01", "timm ViT with registers"], "reads out many tokens|step by step"),
    (of_partial_relevance, [*POOLED, *EVA2], "reads out many tokens|step by step"),
    (of_tokens, POOLED, "reads out many tokens"),
    (of_class_token, POOLED, "is not read out at a class token"),
    (ablated_class_token, POOLED, "reads out many tokens"),
    (tuned, POOLED, "reads out many tokens"),
    (registers, [*POOLED, "EVA02"], "takes no token more"),
    (planted, [*POOLED, *EVA2], "reads out many tokens|have a gate"),
    (split, [*POOLED, *EVA2], "whose mean and bias could be shared out; take ln='centered'"),
    (from_weights, SEVERAL, "each of which reads a head differently"),
]


@families
@pytest.mark.parametrize("call,refused,says", REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_makes_no_sense_for_a_tower_says_why(call, refused, says, name):
    if name in refused:
        with pytest.raises((NotImplementedError, ValueError), match=says):
            call(made(name))
    else:
        call(made(name))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in made(name).model.modules())


NAMES = (
    "resblocks|ln_post|ln_pre|ln_1|ln_2|ls_1|ls_2|in_proj_weight|in_proj_bias|out_proj|c_fc|c_proj|class_embedding|conv1|qkv|attn_pool|"
    "attnpool|trunk|cls_token|pos_embed|norm1|norm2|fc1|fc2|VisionTransformer|TimmModel|ModifiedResNet|AttentionPool|EVA0|SigLIP"
)


def test_nobody_outside_the_room_knows_a_tower_by_its_parts_names():
    """But for recipes, which train the architecture that they build, and rosetta, whose units are outputs of named modules."""
    room = Path(iu.__file__).parent
    told = []
    for path in sorted(room.rglob("*.py")):
        if path.relative_to(room).parts[0] not in ("towers", "rosetta", "sandbox"):
            lines = enumerate(path.read_text().splitlines(), 1)
            told += [f"{path.name}:{k}: {line}" for k, line in lines if re.search(rf"\b({NAMES})\b|\.visual\.\w", line)]
    assert told == []
