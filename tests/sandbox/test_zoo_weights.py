"""The shipped models of the zoo reach, with a margin, what the data card says of them."""

import torch
import torch.nn.functional as F

from interp_utils.sandbox.first import clip as sandbox_clip
from interp_utils.sandbox.zoo import KINDS, load, report, train_generators, train_mae
from interp_utils.sandbox.zoo.data import balanced_images


def test_supervised_resnet_names_objects():
    pixels, labels = balanced_images(300, seed=11)
    guess = load("resnet")(pixels).argmax(1).numpy()
    assert (guess == labels["object"]).mean() > 0.97


def test_dino_features_tell_scenes_apart_and_a_few_objects():
    vit = report.linear_probe(load("dino_vit"), 1500, 500, ("scene", "object"), seed=12)
    assert vit["scene"] > 0.85 and vit["object"] > 0.12, vit  # chance: 0.1 and 0.031
    resnet = report.linear_probe(load("dino_resnet"), 1000, 400, ("scene",), seed=12)
    assert resnet["scene"] > 0.8, resnet


def test_masked_autoencoder_paints_what_it_does_not_see():
    errors = train_mae.error_report(load("mae_vit"), load("mae_decoder"), 200, seed=13)
    assert errors["masked error"] < 0.75 * errors["mean-pixel error"], errors


def test_clip_resnet_answers_texts():
    accuracy = report.zero_shot(load("clip_resnet"), sandbox_clip.tokenizer(), 300, seed=14)
    assert accuracy["object"] > 0.95 and accuracy["scene"] > 0.95 and accuracy["colour"] > 0.75, accuracy


def test_generators_draw_the_kind_that_is_asked_for():
    for name, share in (("big_gan", 0.65), ("style_gan", 0.55)):
        generator = load(name)
        images, kinds = train_generators.samples(generator, 20, seed=15)
        assert report.recognised(images, kinds)["all"] > share, name
        spread = images.unflatten(0, (len(KINDS), 20)).std(1).mean((1, 2, 3))
        assert (spread > 0.2).all(), f"{name} draws the same image again and again: {spread}"


def test_generators_are_deterministic_given_z():
    z, c = torch.randn(2, load("style_gan").d_z), F.one_hot(torch.tensor([0, 3]), len(KINDS)).float()
    assert torch.equal(load("style_gan")(z, c), load("style_gan")(z, c))
    big = load("big_gan")
    z = torch.randn(2, big.d_z)
    assert torch.equal(big(z, c), load("big_gan")(z, c))
