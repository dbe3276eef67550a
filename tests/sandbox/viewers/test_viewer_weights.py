"""The shipped viewers reach, with a margin, what the data card says of them."""

import pytest
import torch

from interp_utils.sandbox.known import KINDS
from interp_utils.sandbox.tasks import to_pixels
from interp_utils.sandbox.viewers import load, probes
from interp_utils.sandbox.viewers.data import balanced_images
from interp_utils.sandbox.viewers.models import BUILDERS


def test_supervised_resnet_names_objects():
    for kinds, floor in ((None, 0.65), (KINDS, 0.62)):
        images, labels = balanced_images(300, 11, kinds)
        guess = load("resnet")(to_pixels(images)).argmax(1).numpy()
        assert (guess == labels["object"]).mean() > floor, kinds
    torch.manual_seed(0)
    untrained = BUILDERS["resnet"]().eval()(to_pixels(images)).argmax(1).numpy()
    assert (untrained == labels["object"]).mean() < 0.1


def test_clip_resnet_names_objects_from_text():
    assert probes.zero_shot(load("clip_resnet"), 200, 12)["object"] > 0.65


@pytest.fixture(scope="module")
def of_ten_kinds():
    return balanced_images(1200, 11, KINDS)


@pytest.mark.parametrize("name,floor,n_images", [("dino_resnet", 0.7, 800), ("dino_vit", 0.6, 800), ("mae_vit", 0.35, 1200)])
def test_models_without_labels_tell_the_drawn_kinds_apart(of_ten_kinds, name, floor, n_images):
    images, labels = of_ten_kinds
    torch.manual_seed(0)
    trained, untrained = (
        probes.linear_probe(probes.features(model.eval(), images[:n]), labels["object"][:n], 3 * n // 4)
        for model, n in ((load(name), n_images), (BUILDERS[name](), 600))
    )
    assert trained > floor > untrained + 0.1
