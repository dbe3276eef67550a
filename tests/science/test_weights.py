import copy

import torch
from small_clips import tiny_model

import interp_utils as iu
from interp_utils import science


def folded(clip, layer, head):
    """What the head makes of its normed input, [D, E], all written out."""
    block, norm = clip.visual.transformer.resblocks[layer], clip.visual.ln_post
    part = slice(head * clip.d_head, (head + 1) * clip.d_head)
    w_v = block.attn.in_proj_weight[2 * clip.d_model :][part] * block.ln_1.weight
    w_o = block.attn.out_proj.weight[:, part]
    centre = torch.eye(clip.d_model).to(w_v) - 1 / clip.d_model
    return centre @ w_v.T @ w_o.T @ centre @ (norm.weight[:, None] * clip.visual.proj)


def test_moments_equal_the_folded_map():
    clip = iu.Clip(tiny_model().double())
    found = science.weight_moments(clip, [1])
    assert list(found) == [(1, head) for head in range(clip.n_heads)]
    for (layer, head), moments in found.items():
        matrix = folded(clip, layer, head)
        torch.testing.assert_close(moments.basis.T @ moments.second @ moments.basis, matrix.T @ matrix)
        assert not moments.mean.any()
        values = torch.linalg.eigvalsh(moments.basis.T @ moments.second @ moments.basis).flip(0)[: clip.d_head]
        torch.testing.assert_close(values.sqrt(), torch.linalg.svdvals(matrix)[: clip.d_head])


def test_textspan_equals_textspan_on_noise():
    clip = iu.Clip(tiny_model().double())
    texts = torch.nn.functional.normalize(torch.randn(30, clip.d_embed).double(), dim=1)
    names = [str(k) for k in range(30)]
    matrix = folded(clip, 1, 2)
    noise = torch.randn(200_000, clip.d_model, generator=torch.Generator().manual_seed(0)).double()
    by_noise = iu.heads.textspan(noise @ matrix, texts, names, 4, rank=clip.d_head)
    found = iu.heads.textspan(science.weight_moments(clip, [1])[1, 2], texts, names, 4)
    assert found.indices == by_noise.indices
    torch.testing.assert_close(found.explained, by_noise.explained, atol=0.01, rtol=0.05)


def test_a_planted_text_comes_first():
    """A head whose output weights write toward one text alone is named after it, whatever its values."""
    clip = iu.Clip(copy.deepcopy(tiny_model()).double())
    texts = torch.nn.functional.normalize(torch.randn(30, clip.d_embed).double(), dim=1)
    norm = clip.visual.ln_post
    matrix = norm.weight[:, None] * clip.visual.proj
    toward = torch.linalg.lstsq((matrix - matrix.mean(0)).T, texts[17]).solution  # what to write for text 17
    with torch.no_grad():
        for dimension in range(clip.d_head):
            clip.visual.transformer.resblocks[1].attn.out_proj.weight[:, dimension] = (1 + dimension) * toward
    span = iu.heads.textspan(science.weight_moments(clip)[1, 0], texts, [str(k) for k in range(30)], 3)
    assert span.indices[0] == 17 and span.explained[0] > 0.999
