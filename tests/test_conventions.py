"""A Clip carries the convention of its layer norms, and all that is computed with it follows."""

import pytest
import torch
from families import family_clip
from small_clips import noise, tiny_model

import interp_utils as iu
from interp_utils.science.weights import weight_moments


@pytest.fixture
def pair():
    """The same model under both conventions."""
    model = tiny_model()
    return {ln: iu.Clip(model, ln=ln) for ln in ("centered", "split")}


def heads(clip, *ln):
    return iu.heads.direct_effects(clip, noise(clip), *ln).heads()


def moments(clip, *ln):
    found = iu.heads.head_moments(clip, noise(clip, 6), [1], *ln)[1, 0]
    return found.mean @ found.basis


def streamed(clip, *ln):
    return iu.stream.collect(clip, noise(clip, 6), lambda batch: batch.heads, **({"ln": ln[0]} if ln else {}))


def second_order(clip, *ln):
    return iu.neurons.second_order(clip, 0, *ln).effects(noise(clip))


def written(clip, *ln):
    return iu.heads.head_basis(clip, None, *ln)


def maps(clip, *ln):
    return iu.segmentation.token_decomposition(clip, torch.eye(clip.d_embed)[:3], *ln)(noise(clip))


@pytest.mark.parametrize("compute", [heads, moments, streamed, second_order, written, maps])
def test_what_is_computed_follows_the_clip_unless_told_otherwise(pair, compute):
    found = {ln: compute(clip) for ln, clip in pair.items()}
    assert found["centered"].shape != found["split"].shape or not torch.allclose(found["centered"], found["split"], atol=1e-4)
    for ln, other in (("centered", "split"), ("split", "centered")):
        torch.testing.assert_close(compute(pair[other], ln), found[ln])


def test_what_is_centred_by_definition_is_so_under_both(pair):
    first = [iu.neurons.first_order(clip, noise(clip), 1) for clip in pair.values()]
    torch.testing.assert_close(*first)
    closed = [weight_moments(clip)[1, 2] for clip in pair.values()]
    torch.testing.assert_close(closed[0].basis, closed[1].basis)


def test_load_clip_takes_the_convention_and_refuses_one_that_does_not_fit():
    assert iu.load_clip("sandbox", device="cpu").ln == "centered"
    assert iu.load_clip("sandbox", device="cpu", ln="split").ln == "split"
    with pytest.raises(ValueError, match="ln must be 'centered' or 'split', got 'none'"):
        iu.load_clip("sandbox", device="cpu", ln="none")
    with pytest.raises(ValueError, match="take ln='centered'"):
        iu.Clip(family_clip("SigLIP 2").model, ln="split")
