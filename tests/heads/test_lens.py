import pytest
import torch
from sklearn.linear_model import Ridge
from small_clips import noise, tiny_clip

import interp_utils as iu
from interp_utils import heads, hooks


@pytest.fixture(params=[{}, {"ls_init_value": 0.3}], ids=["plain", "layer scale"])
def clip(request):
    return tiny_clip(**request.param)


def stream_by_hand(clip, pixels):
    """Terms of the class token's stream, and the stream before the first block and after each, from the blocks themselves."""
    x = clip.visual._embeds(pixels)
    terms, streams = [x[:, 0]], [x[:, 0]]
    for block in clip.visual.transformer.resblocks:
        attention = block.ls_1(block.attention(block.ln_1(x)))
        mlp = block.ls_2(block.mlp(block.ln_2(x + attention)))
        x = block(x)
        terms += [attention[:, 0], mlp[:, 0]]
        streams.append(x[:, 0])
    return torch.stack(terms, 1), torch.stack(streams, 1)


def test_terms_are_what_the_blocks_add(clip):
    terms, streams = stream_by_hand(clip, noise(clip, 3))
    assert torch.allclose(heads.decompose_resid(clip, noise(clip, 3)), terms, atol=1e-5)
    assert torch.allclose(heads.accumulated_resid(clip, noise(clip, 3)), streams, atol=1e-5)
    assert heads.decompose_resid(clip, noise(clip, 3)).shape == (3, 2 * clip.n_layers + 1, clip.d_model)


def test_the_terms_add_up_to_what_enters_the_last_norm(clip):
    pixels, entered = noise(clip, 3), []
    with hooks.forward_hooks([(clip.visual.ln_post, lambda module, args, output: entered.append(args[0][:, 0]))]):
        clip.encode_image(pixels)
    assert torch.allclose(heads.decompose_resid(clip, pixels).sum(1), entered[0], atol=1e-5)


def test_the_lens_is_the_last_norm_and_the_projection(clip):
    pixels = noise(clip, 3)
    read = heads.logit_lens(clip, pixels)
    _, streams = stream_by_hand(clip, pixels)
    assert torch.allclose(read, clip.visual.ln_post(streams) @ clip.visual.proj, atol=1e-5)
    assert torch.allclose(read[:, -1], clip.encode_image(pixels), atol=1e-5)
    with pytest.raises(ValueError, match="need pixels of shape"):
        heads.logit_lens(clip, torch.zeros(1, 3, 8, 8))


def test_the_maps_are_those_of_scikit_learn(tiny):
    images, ridge = noise(tiny, 60), 0.05
    tuned = heads.fit_tuned_lens(tiny, list(images), ridge, batch_size=7)
    streams = heads.accumulated_resid(tiny, images).double()
    for place in range(1, tiny.n_layers + 1):
        x = streams[:, place].numpy()
        penalty = ridge * x.var(0).mean() * len(x)  # scikit-learn's is on the sum over images, ours on the mean
        expected = Ridge(alpha=penalty).fit(x, streams[:, -1].numpy())
        assert torch.allclose(tuned.maps[place].double(), torch.from_numpy(expected.coef_.T), atol=1e-4)
        assert torch.allclose(tuned.offsets[place].double(), torch.from_numpy(expected.intercept_), atol=1e-3)
    read = heads.logit_lens(tiny, images[:5], tuned)
    by_hand = tiny.visual.ln_post(torch.from_numpy(expected.predict(x[:5])).float()) @ tiny.visual.proj
    assert torch.allclose(read[:, -1], by_hand, atol=1e-4)


def test_before_the_first_block_the_best_guess_is_the_mean(tiny):
    images = noise(tiny, 50)
    tuned = heads.fit_tuned_lens(tiny, list(images))
    streams = heads.accumulated_resid(tiny, images)
    guess = tuned(streams)
    assert torch.allclose(guess[:, 0], streams[:, -1].mean(0).expand_as(guess[:, 0]), atol=1e-3)


def test_the_lens_keeps_two_matrices_of_the_streams_width_a_place(tiny, monkeypatch):
    made = []
    monkeypatch.setattr(heads.lens, "Moments", lambda **kept: made.append(iu.moments.Moments(**kept)) or made[-1])
    heads.fit_tuned_lens(tiny, list(noise(tiny, 20)), batch_size=7)
    places, width = tiny.n_layers + 1, tiny.d_model
    assert sum(each.products.numel() for each in made) == 2 * places * width**2


def test_with_a_small_penalty_nothing_is_translated_at_the_end(tiny):
    images = noise(tiny, 80)
    streams = heads.accumulated_resid(tiny, images)
    guess = heads.fit_tuned_lens(tiny, list(images), ridge=1e-6)(streams)
    assert torch.allclose(guess[:, -1], streams[:, -1], atol=1e-2)
    error = (guess - streams[:, -1:]).square().mean((0, 2))
    assert (error.diff() <= 1e-4).all(), "later streams are closer to the final one"


def test_a_penalty_must_be_positive(tiny):
    for ridge in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="ridge must be positive"):
            heads.fit_tuned_lens(tiny, list(noise(tiny, 4)), ridge)


def test_in_the_sandbox_the_scene_is_there_before_the_logit_lens_shows_it(sandbox):
    images = iu.sandbox.factor_images("scene", 100)
    others = iu.datasets.load_task("sandbox-train", sandbox.preprocess, 200).images
    pixels, labels = (torch.stack([*map(torch.as_tensor, each)]) for each in zip(*(images[k] for k in range(100))))
    classifier = iu.sandbox.zero_shot_classifier(sandbox, "scene")
    tuned = heads.fit_tuned_lens(sandbox, others)

    def accuracy(lens):
        right = (heads.logit_lens(sandbox, pixels, lens) @ classifier.T).argmax(-1) == labels[:, None]
        return right.float().mean(0)

    plain, fair = accuracy(None), accuracy(tuned)
    assert fair[2] > plain[2] + 0.3 and fair[6] > plain[6] + 0.2
    assert plain[0] < 0.25 and fair[0] < 0.25 and plain[-1] > 0.85 and fair[-1] > 0.85
