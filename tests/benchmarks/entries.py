"""What is measured: ours and the published way on the same inputs, and whether both gave the same answer."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial

import torch
from benchmarks.cases import ENTRIES, PUBLISHED, TINY, Case, Entry, close, draw, entry, unit
from reference import chapter_2, correlation, direct_effects, explainers, omp, second_order, textspan
from small_clips import noise
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

import interp_utils as iu
from interp_utils import towers
from interp_utils.heads.ablation import ask_answers
from interp_utils.moments import Moments, TopK
from interp_utils.rosetta import Correlation, Units
from interp_utils.stream import feed


@entry("Direct effects of all heads", images=(4, 1))
def head_effects(tower, images):
    clip = tower("ViT-B-16")
    pixels = noise(clip, images)
    ours, theirs = iu.heads.direct_effects, direct_effects.head_effects
    return Case(lambda: ours(clip, pixels, "split").heads(), lambda: theirs(clip, pixels)[0], close, clip, pixels)


@entry("The same for SigLIP 2, whose read-out takes all patches", "a bare pass", images=(4, 1), goals={"time_ratio": 1.6})
def head_effects_pooled(tower, images):
    clip = tower("ViT-B-16-SigLIP2")
    pixels = noise(clip, images)

    def heads():
        effects = iu.heads.direct_effects(clip, pixels)
        return effects.heads().sum((1, 2)) + effects.mlps().sum(1) + effects.embedding() + effects.pool_mlp()

    return Case(heads, lambda: clip.encode_image(pixels), close, clip, pixels)


@entry("One layer's fused attention, and the class token's row beside it", "attention with its whole pattern",
       grows=("images", "tokens"), images=(16, 2), tokens=(197, 17))  # fmt: skip
def attention_with_row(tower, images, tokens):
    clip = tower("ViT-B-16")
    block, weights = clip.visual.transformer.resblocks[0], clip.tower.blocks[0].attention()
    attn, x = block.attn, draw(images, tokens, clip.d_model)

    @torch.no_grad()
    def ours():
        return torch.cat([block.attention(x).flatten(1), weights.pattern(x, [0]).flatten(1)], 1)

    @torch.no_grad()
    def theirs():
        together = torch.nn.functional.linear(x, attn.in_proj_weight, attn.in_proj_bias)
        query, key, value = together.unflatten(-1, (3, clip.n_heads, -1)).permute(2, 0, 3, 1, 4)
        pattern = (query @ key.mT * clip.d_head**-0.5).softmax(-1)
        written = attn.out_proj((pattern @ value).transpose(1, 2).flatten(2))
        return torch.cat([written.flatten(1), pattern[:, :, 0].flatten(1)], 1)

    return Case(ours, theirs, close)


@entry("Maps of texts through every head", grows=("images", "texts"), images=(4, 1), texts=(16, 2))
def head_token_maps(tower, images, texts):
    clip = tower("ViT-B-16")
    pixels, text = noise(clip, images), unit(texts, clip.d_embed)

    def ours():
        return iu.heads.direct_effects(clip, pixels, "split").scores(text, over="head_token")

    return Case(ours, lambda: direct_effects.head_token_maps(clip, pixels, text), close, clip, pixels)


@entry("TextSpan of a head, 20 texts", grows=("images", "texts"), images=(2000, 60), texts=(2000, 40))
def text_span(tower, images, texts, width=768, head=64):
    spread = torch.logspace(0, -1.5, head + 1)
    coordinates = (draw(images, head + 1) + 0.3 * draw(head + 1, seed=3)) * spread
    basis, pool = draw(head + 1, width, seed=4) / width**0.5, unit(texts, width)
    names = [str(k) for k in range(texts)]

    def ours():  # moments in the head's own coordinates, as a pass streams them
        moments = iu.heads.HeadMoments.of(coordinates)
        return iu.heads.textspan(iu.heads.HeadMoments(moments.mean, moments.covariance, basis.double()), pool, names, 20)

    def same(ours, theirs):
        assert ours.indices == theirs[0]

    return Case(ours, lambda: textspan.textspan(coordinates @ basis, pool, 20, noise=3e-6), same)


def wide(tower, neurons: int) -> iu.Clip:
    """A small ViT with so many neurons a layer."""
    width = 384 if tower("ViT-S-32").d_model == 384 else TINY["width"]
    return tower("ViT-S-32", mlp_ratio=neurons / width)


@entry("Second-order norms of a layer's neurons", grows=("images", "neurons"), images=(4, 1), neurons=(1536, 32))
def second_order_norms(tower, images, neurons):
    clip = wide(tower, neurons)
    pixels, layer = noise(clip, images), clip.n_layers - 3

    def ours():
        return iu.neurons.second_order(clip, layer).norms(pixels)

    return Case(ours, lambda: second_order.norms(clip, pixels, layer), close, clip, pixels)


@entry("Second-order directions of a layer's neurons", grows=("images", "neurons"), images=(12, 4), neurons=(768, 32))
def second_order_directions(tower, images, neurons):
    clip = wide(tower, neurons)
    pixels, layer = noise(clip, images), clip.n_layers - 3
    top = images // 2 | 1  # odd: a direction has the sign that most of its rows have

    def ours():
        order = iu.neurons.second_order(clip, layer).fit(TensorDataset(pixels), top)
        return order.mean, order.directions, order.thresholds

    def same(ours, theirs):
        for found, expected in zip(ours, theirs):
            close(found, expected, 1e-3)

    return Case(ours, lambda: second_order.rank_one(clip, pixels, layer, top), same, clip, pixels)


@entry("OMP, 32 of so many texts a neuron", "scikit-learn", grows=("neurons", "texts"), neurons=(64, 4), texts=(4000, 100))
def pursuit(tower, neurons, texts, width=512, size=32):
    targets, atoms = unit(neurons, width).double(), unit(texts, width, seed=5).double()

    def ours():
        indices, weights = iu.neurons.omp(targets, atoms, size)
        return torch.zeros(neurons, texts, dtype=torch.double).scatter_(1, indices, weights)

    return Case(ours, lambda: omp.omp(targets, atoms, size), partial(close, tolerance=1e-6))


@entry("Correlation of all units of a generator and a ResNet", images=(8, 2), units=(64, 4), grows=("images", "units"))
def unit_correlation(tower, images, units):
    seen = [draw(images, units << k, 56 >> k, 56 >> k, seed=k) for k in range(3)]
    drawn = [draw(images, units, size, size, seed=size) for size in (4, 8, 16, 32, 64) for _ in range(2)]

    def ours():
        names = [Units("", tuple(map(str, range(len(maps)))), tuple(m.shape[1] for m in maps)) for maps in (drawn, seen)]
        found = Correlation(*names)
        found.update(drawn, seen)
        return found.matrix

    return Case(ours, lambda: correlation.correlation(drawn, seen), close)


def explainer(name: str, what: str, ours: Callable, theirs: Callable, dtype=torch.float32) -> None:
    def case(tower, images):
        clip = tower("ViT-B-32")
        if dtype != clip.dtype:
            clip = iu.Clip(deepcopy(clip.model).to(dtype), check=False)
        pixels, text = noise(clip, images).to(dtype), unit(images, clip.d_embed).to(dtype)
        return Case(lambda: ours(clip, pixels, text), lambda: theirs(clip, pixels, text), close, clip, pixels)

    ENTRIES[name] = Entry(name, what, PUBLISHED, case, {"images": 4}, {"images": 1}, ("images",))


explainer("rollout", "Attention rollout", iu.explainers.rollout, explainers.rollout)
explainer("grad_cam", "GradCAM on attention", iu.explainers.grad_cam, explainers.grad_cam)
explainer("chefer", "Chefer et al., ICCV 2021", partial(iu.explainers.chefer, variant="iccv"), explainers.chefer)
# Its shares divide by sums that nearly cancel: through twelve random blocks float32 keeps no digit of them.
explainer("lrp", "LRP to the pixels, in float64", iu.explainers.lrp, explainers.lrp, torch.float64)


@entry("The check of a new Clip", "a bare pass", grows=(), goals={"time_ratio": 1.3})
def check_of_a_clip(tower):
    clip = tower("ViT-B-16")
    pixels = towers.noise(clip.image_size, clip.visual.proj)

    def encode():
        return clip.encode_image(pixels)

    def ours():
        towers.check(clip.tower, encode, clip.dtype)

    return Case(ours, encode, lambda ours, theirs: None, clip, pixels)


def of_a_dataset(clip: iu.Clip, images, text: Tensor, classifier: Tensor, batch: int) -> chapter_2.Found:
    """What chapter 2 takes of a dataset: moments, means and top images in one pass, answers under all ablations in a second."""
    moments, best, layers = Moments(second=True), TopK(4), range(clip.n_layers)
    ablations = {str(n): iu.heads.ablate_attention(clip, layers[:n]) for n in (*layers, clip.n_layers)}
    means, answers = ask_answers(clip, classifier, ablations | {"MLPs": iu.heads.ablate_mlps(clip)}, ln="split")
    first = [(moments, lambda batch: batch.head_coordinates), (best, lambda batch: (batch.heads @ text.T, batch.numbers)), *means]
    for wanted in (first, answers.statistics):
        feed(clip, images, wanted, batch_size=batch, ln="split")
    accuracies = [right.double().mean().item() for right in answers.found().right.values()]
    return chapter_2.Found(moments.mean, moments.second, best.images, accuracies)


@entry("Chapter 2's passes over a dataset", images=(8, 6), goals={"pass_cost": 1.3})
def chapter_2_pass(tower, images, batch=8):
    clip = tower("ViT-B-16")
    pixels, text, classifier = noise(clip, images), unit(16, clip.d_embed), unit(10, clip.d_embed, seed=6)
    labels = torch.arange(images) % 10
    batches = list(zip(pixels.split(batch), labels.split(batch)))

    def ours():
        return of_a_dataset(clip, TensorDataset(pixels, labels), text, classifier, batch)

    def same(ours, theirs):
        basis = iu.heads.head_basis(clip, ln="split").double()
        close(torch.einsum("lhk,lhke->lhe", ours.mean, basis), theirs.mean)
        close(torch.einsum("lhki,lhkm,lhmj->lhij", basis, ours.second, basis), theirs.second)
        assert ours.accuracies == theirs.accuracies and torch.equal(ours.top, theirs.top)

    def theirs():
        return chapter_2.dataset_pass(clip, batches, text, classifier, 4)

    return Case(ours, theirs, same, clip, pixels, batch)


@entry("Chapter 3's passes over a dataset, one layer", "as many bare passes", grows=(), images=(16, 4), goals={"pass_cost": 1.5})
def chapter_3_pass(tower, images, batch=16):
    clip = tower("ViT-B-32")
    pixels, order = noise(clip, images), iu.neurons.second_order(clip, clip.n_layers - 3)
    order.factor  # noqa: B018  once for a model, however many images
    case = Case(lambda: order.fit(TensorDataset(pixels), 4, batch_size=batch), None, None, clip, pixels, batch)
    return Case(case.ours, lambda: (case.bare(), case.bare()), lambda ours, theirs: None, clip, pixels, batch)


class Repeated(Dataset):
    """Noise that comes again after so many images, drawn when it is asked for: what memory a pass takes is then its own."""

    def __init__(self, size: tuple[int, int], images: int, different: int):
        self.size, self.images, self.different = size, images, different

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, k: int) -> tuple[Tensor, int]:
        return draw(3, *self.size, seed=k % self.different), k % self.different % 10


def ten_times(tower, images, run, same) -> Case:
    clip = tower(
        "ViT-S-32", layers=2, width=128, head_width=32, image_size=64, patch_size=16
    )  # of a size that many images can pass
    many, few = (Repeated(clip.image_size, n, images) for n in (10 * images, images))
    return Case(lambda: run(clip, many), lambda: run(clip, few), same, work=10)


MEMORY = {"images": (1000, 48), "grows": (), "goals": {"memory_ratio": 1.05}}


@entry("Chapter 2 on ten times as many images, per image", "1,000 images", **MEMORY)
def chapter_2_memory(tower, images):
    def run(clip, dataset):
        return of_a_dataset(clip, dataset, unit(16, clip.d_embed), unit(10, clip.d_embed, seed=6), images // 2)

    def same(ours, theirs):
        assert ours.accuracies == theirs.accuracies
        close(ours.second, theirs.second, 1e-6)

    return ten_times(tower, images, run, same)


@entry("Chapter 3 on ten times as many images, per image", "1,000 images", **MEMORY)
def chapter_3_memory(tower, images):
    def run(clip, dataset):
        return iu.neurons.second_order(clip, 0).fit(dataset, 10, batch_size=images // 2).mean

    return ten_times(tower, images, run, partial(close, tolerance=1e-5))
