import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import interp_utils as iu
from interp_utils import sandbox
from interp_utils.sandbox import clip, train_clip
from interp_utils.sandbox.clip import save
from interp_utils.sandbox.train_clip import Contrast, ConvolutionalTower, Lessons


def compact_model(token_ids, tower=None):
    torch.manual_seed(0)
    model = clip.build()
    model.token_embedding = nn.Embedding(len(token_ids), clip.TEXT_WIDTH)
    model.visual = tower() if tower else model.visual
    return model


def test_a_run_that_was_stopped_ends_where_an_uninterrupted_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(train_clip, "report", lambda *args: {})
    ids = train_clip.vocabulary(300)
    tokenizer = train_clip.CompactTokenizer(ids)

    def trained(folder, lengths):
        for images in lengths:  # the second call finds the checkpoint of the first
            stages = dict.fromkeys(("convolutional", "lessons", "contrast", "details"), (16, 8, 1e-3, 1.0))  # a rate that stays
            stages["convolutional"] = (images, 8, 1e-3, 1.0)
            monkeypatch.setattr(train_clip, "STAGES", stages)
            teacher = compact_model(ids, ConvolutionalTower)
            (tmp_path / folder).mkdir(exist_ok=True)
            train_clip.run("convolutional", teacher, Contrast(), tokenizer, tmp_path / folder, 0, {})
        return teacher

    once, twice = trained("once", [32]), trained("twice", [16, 32])
    assert torch.load(tmp_path / "twice" / "convolutional.pt", weights_only=True)["step"] == 4
    for a, b in zip(once.state_dict().values(), twice.state_dict().values()):
        torch.testing.assert_close(a, b)
    model = compact_model(ids)
    start = model.visual.proj.detach().clone()
    for stage, heads in (("lessons", Lessons(once.visual)), ("contrast", Contrast()), ("details", Contrast())):
        train_clip.run(stage, model, heads, tokenizer, tmp_path / "once", 0, {})
    assert not torch.equal(start, model.visual.proj)
    save(model, ids, tmp_path / "clip.safetensors")
    loaded = iu.Clip(clip.load(tmp_path / "clip.safetensors"), tokenizer=clip.tokenizer())
    compact = iu.Clip(model, tokenizer=tokenizer)
    torch.testing.assert_close(loaded.encode_text(["a red dog"]), compact.encode_text(["a red dog"]), atol=1e-2, rtol=0)


def test_words_are_tokenised_as_whole_texts_are():
    texts = [sandbox.caption(sandbox.natural(seed), np.random.default_rng(seed)).text for seed in range(300)]
    ids = torch.unique(clip.tokenizer()(texts))
    assert torch.equal(ids[train_clip.CompactTokenizer(ids)(texts)], clip.tokenizer()(texts))


def test_short_text_encoding_equals_open_clip():
    ids = train_clip.vocabulary(300)
    model, tokens = compact_model(ids), train_clip.CompactTokenizer(ids)(["a red dog", "two dogs at night in the snow"])
    torch.testing.assert_close(train_clip.encode_text(model, tokens), model.encode_text(tokens, normalize=True))


def test_equal_captions_share_their_images():
    model = compact_model(torch.arange(10))
    images = F.normalize(torch.randn(4, clip.EMBED, generator=torch.Generator().manual_seed(0)), dim=1)
    same = train_clip.contrast_loss(model, images[[0, 0, 1]], images[:2], torch.tensor([0, 0, 1]))
    wrong = train_clip.contrast_loss(model, images[[1, 0, 0]], images[:2], torch.tensor([0, 0, 1]))
    assert same < wrong


def test_batches_are_the_same_whenever_they_are_drawn():
    tokenizer = train_clip.CompactTokenizer(train_clip.vocabulary(300))
    whole, rest = train_clip.Batches(5, 8, tokenizer, 0), train_clip.Batches(2, 8, tokenizer, 3 * 8)
    for a, b in zip(whole[4], rest[1]):
        assert torch.equal(a, b)
    pixels, tokens, which = whole[0]
    assert pixels.dtype == torch.uint8 and which.max() + 1 == len(tokens) and len(which) == 8


def test_no_evaluation_image_is_a_training_image():
    seeds = {spec.seed for spec in sandbox.evaluation_specs(1000)} | {spec.seed for spec in sandbox.evaluation_specs(1000, seed=3)}
    assert min(seeds) >= 10**9 > 3 * train_clip.IMAGES_PER_SEED
