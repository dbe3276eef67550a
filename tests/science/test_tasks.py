"""Images of two kinds for circuits."""

import pytest
import torch
from small_clips import noise

from interp_utils import datasets, science


def test_kinds_alternate_and_the_direction_tells_them_apart(sandbox):
    task = science.sandbox_task(sandbox, "object", "cat", "dog", 6, seed=0)
    assert task.signs.tolist() == [-1, 1] * 3 and len(task.pixels) == 6
    assert task.logits(sandbox.encode_image(task.pixels)).mean() > 0, "the model does the task"
    again = science.sandbox_task(sandbox, "object", "cat", "dog", 6, seed=0).pixels
    other = science.sandbox_task(sandbox, "object", "cat", "dog", 6, seed=1).pixels
    assert torch.equal(task.pixels, again) and not torch.equal(task.pixels, other)


@pytest.mark.parametrize("factor, two", [("colour", ("red", "blue")), ("size", ("small", "large"))])
def test_all_images_show_what_they_are_told_apart_by(sandbox, monkeypatch, factor, two):
    drawn = []

    def images(specs, target, **options):
        drawn.extend(specs)
        return datasets_of(specs, target, **options)

    datasets_of = science.tasks.SandboxImages
    monkeypatch.setattr(science.tasks, "SandboxImages", images)
    science.sandbox_task(sandbox, factor, *two, 4, seed=0)
    assert [getattr(spec, factor) for spec in drawn] == [*two, *two] and all(factor in spec.shown for spec in drawn)


def test_what_no_image_can_show_is_told(sandbox):
    for wrong in (("object", "cat", "unicorn", 6), ("object", "cat", "dog", 5)):
        with pytest.raises(ValueError, match="need an even number of images and two values of object"):
            science.sandbox_task(sandbox, *wrong, seed=0)


def test_photographs_of_two_classes_in_equal_number_and_no_image_twice(sandbox):
    labels = [0, 1, 2, 0, 1, 0, 1, 0, 2, 1, 0]  # five of class 0, four of class 1
    pixels = noise(sandbox, len(labels))
    images = datasets.Task(list(zip(pixels, labels)), ["a", "b", "c"], [lambda name: f"a {name}"])
    halves = [science.photo_task(sandbox, images, 0, 1, 60, start) for start in (0, 1)]
    assert [task.signs.tolist() for task in halves] == [[-1, -1, 1, 1]] * 2
    assert torch.equal(halves[0].pixels, pixels[[0, 5, 1, 6]]) and torch.equal(halves[1].pixels, pixels[[3, 7, 4, 9]])
    assert len(science.photo_task(sandbox, images, 0, 1, 2).pixels) == 2
    one_kind = datasets.Task([(image, 0) for image in pixels], images.classes, images.templates)
    with pytest.raises(ValueError, match="no photographs of class 0 or 1 among 11"):
        science.photo_task(sandbox, one_kind, 0, 1, 60)
