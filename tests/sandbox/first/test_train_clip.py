from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

import interp_utils as iu
from interp_utils.sandbox.clip import load, save
from interp_utils.sandbox.first import Spec, clip, render, train_clip
from interp_utils.sandbox.first.world import OBJECTS


def compact_model(token_ids):
    torch.manual_seed(0)
    model = clip.build()
    model.token_embedding = nn.Embedding(len(token_ids), clip.WIDTH)
    return model


def test_recipe_trains_stops_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_clip, "report", lambda *args: {})
    ids = train_clip.vocabulary(300)
    tokenizer = train_clip.CompactTokenizer(ids)
    model = compact_model(ids)
    start = model.visual.proj.clone()
    train_clip.run("labels", model, tokenizer, tmp_path, 2, 8, 1e-3, lambda done: 0.5)
    assert torch.load(tmp_path / "labels.pt", weights_only=True)["step"] == 2
    trained = model.visual.proj.clone()
    assert not torch.equal(trained, start)

    again = compact_model(ids)
    train_clip.run("labels", again, tokenizer, tmp_path, 2, 8, 1e-3, lambda done: 0.5)
    assert torch.equal(again.visual.proj, trained), "a finished stage is loaded, not trained again"
    train_clip.run("labels", again, tokenizer, tmp_path, 3, 8, 1e-3, lambda done: 0.5)
    assert torch.load(tmp_path / "labels.pt", weights_only=True)["step"] == 3
    train_clip.run("contrast", again, tokenizer, tmp_path, 2, 8, 1e-3, lambda done: 0.0)

    save(again, ids, tmp_path / "clip.safetensors")
    loaded = iu.Clip(load(tmp_path / "clip.safetensors", clip.build), tokenizer=clip.tokenizer())
    compact = iu.Clip(again, tokenizer=tokenizer)
    torch.testing.assert_close(loaded.encode_text(["a red dog"]), compact.encode_text(["a red dog"]), atol=1e-2, rtol=0)


def test_contrast_loss_is_lowest_for_the_true_pairs(monkeypatch):
    class Perfect(nn.Module):
        """A model whose embeddings are given."""

        logit_scale = torch.tensor(3.0)
        visual = SimpleNamespace(proj=torch.eye(4))

        def encode_text(self, tokens, normalize):
            return torch.eye(4)[tokens]

    def loss(images):
        monkeypatch.setattr(train_clip, "tokens_after_dropping", lambda *args: (images[:, None], None))
        return train_clip.ContrastLoss()(Perfect(), (None, torch.arange(4), torch.eye(4, dtype=torch.bool)), 0.0).item()

    assert loss(torch.eye(4)) < 0.1 < loss(torch.eye(4)[[1, 0, 2, 3]])


def test_patch_labels_say_which_object_covers_a_patch():
    image = render(Spec(object="circle", place="left"))
    label = train_clip.patch_labels(image.masks, [OBJECTS.index("circle")]).reshape(8, 8)
    cover = image.mask.reshape(8, 8, 8, 8).mean(axis=(1, 3))
    assert np.array_equal(label == OBJECTS.index("circle"), cover > 0.1)
    assert (label[cover <= 0.1] == train_clip.BACKGROUND).all()


def test_labels_are_hidden_where_the_image_does_not_show_them():
    colour, count = 1, 3
    assert train_clip.labels(Spec(style="sepia"))[colour] == -1 and train_clip.labels(Spec(style="photo"))[colour] >= 0
    assert train_clip.labels(Spec(second="cat"))[count] == -1 and train_clip.labels(Spec(count=2))[count] == 1
