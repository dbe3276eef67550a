import os
import pickle

import h5py
import numpy as np
import open_clip
import pytest
import torch
import torchvision
from PIL import Image
from small_sets import WATERBIRDS, matlab_images, write_gtsegs, write_image, write_pets, write_waterbirds

import interp_utils as iu
from interp_utils.datasets import load_groups, load_masks, load_task, waterbirds
from interp_utils.sandbox.render import restyle

to_tensor = torchvision.transforms.ToTensor()


def test_sandbox_task():
    task = load_task("sandbox", None, 30)
    pixels, label = task.images[4]
    assert len(task.images) == 30 and pixels.shape == (3, 64, 64)
    assert task.classes[label] == task.images.specs[4].object
    assert task.templates[0]("dog") == "a dog" and task.templates[1]("fish") == "fish"


def test_other_images_of_the_sandbox_to_fit_on_and_to_be_surprised_by():
    tasks = {name: load_task(name, None, 40) for name in ("sandbox", "sandbox-train", "sandbox-sketch", "sandbox-negative")}
    plain = tasks["sandbox"]
    for task in tasks.values():
        assert task.classes == plain.classes and len(task.images) == 40
        assert [f("dog") for f in task.templates] == [f("dog") for f in plain.templates]
        assert all(task.classes[task.images[k][1]] == task.images.specs[k].object for k in range(5))
    seeds = {spec.seed for spec in load_task("sandbox", None, 3000).images.specs}
    assert not seeds & {spec.seed for spec in load_task("sandbox-train", None, 3000).images.specs}, "none is in both"
    for style in iu.sandbox.UNSEEN_STYLES:
        task = tasks[f"sandbox-{style}"]
        assert task.images.specs == plain.images.specs, "the same scenes, drawn in another style"
        for k in range(3):
            drawn = iu.sandbox.render(task.images.specs[k])
            torch.testing.assert_close(task.images[k][0], iu.sandbox.to_pixels(restyle(drawn.pixels, style)))
            assert not torch.allclose(task.images[k][0], plain.images[k][0], atol=0.5)


def test_imagenette_from_a_local_folder_in_the_real_layout(tmp_path):
    ids = [line[0] for line in torchvision.datasets.Imagenette._WNID_TO_CLASS.items()]
    for split in ("train", "val"):
        for number, wnid in enumerate(ids):
            folder = tmp_path / "imagenette" / "imagenette2-320" / split / wnid
            folder.mkdir(parents=True)
            for k in range(3):
                Image.new("RGB", (40, 30), (20 * number, 9, 9)).save(folder / f"{wnid}_{k}.JPEG")
    transform = torchvision.transforms.ToTensor()
    task = load_task("imagenette", transform, None, tmp_path)
    assert len(task.images) == 30 and len(task.classes) == 10
    names = {wnid: names[0] for wnid, names in torchvision.datasets.Imagenette._WNID_TO_CLASS.items()}
    assert [names[w] for w in sorted(ids)][:2] == ["tench", "English springer"]
    assert task.classes[:2] == ["tench", "English Springer Spaniel"]
    for number in range(10):
        pixels, label = task.images[3 * number]
        assert label == number
        assert abs(pixels[0].mean().item() * 255 - 20 * ids.index(sorted(ids)[number])) < 3
    few = load_task("imagenette", transform, 5, tmp_path)
    assert [few.images[k][1] for k in range(5)] == [0, 2, 4, 7, 9]
    path = tmp_path / "imagenette" / "imagenette2-320" / "train" / sorted(ids)[0] / "one_more.JPEG"
    Image.new("RGB", (40, 30), (255, 255, 255)).save(path)
    train = load_task("imagenette-train", transform, None, tmp_path)
    assert len(train.images) == 31 and train.classes == task.classes and train.images[30][1] == 9


def test_missing_imagenet_says_where_to_put_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="ILSVRC2012_img_val.tar"):
        load_task("imagenet", None, None, tmp_path)
    with pytest.raises(FileNotFoundError, match="ILSVRC2012_img_train.tar"):
        load_task("imagenet-train", None, None, tmp_path)
    with pytest.raises(ValueError, match="unknown image set 'cifar'"):
        load_task("cifar", None)


def test_presets(monkeypatch, capsys):
    monkeypatch.delenv("INTERP_PRESET", raising=False)
    assert iu.setup().name == "sandbox"
    monkeypatch.setenv("INTERP_PRESET", "colab")
    assert iu.setup().clip == "ViT-L-14/laion2b_s32b_b82k"
    assert "preset colab" in capsys.readouterr().out
    with pytest.raises(ValueError, match="unknown preset 'moon'; choose one of sandbox, laptop, colab, paper"):
        iu.setup("moon")
    from interp_utils.datasets.tasks import _TASKS
    from interp_utils.loading import checked_name
    from interp_utils.presets import PRESETS

    for preset in PRESETS.values():
        assert preset.clip == "sandbox" or checked_name(preset.clip)
        assert preset.images in _TASKS and preset.fit == f"{preset.images}-train" in _TASKS, "fitted on other images of the kind"
        assert preset.n_fit >= 1000 and preset.shifted in (None, *_TASKS) and preset.shifted not in (preset.images, preset.fit)
    assert PRESETS["paper"].fit == "imagenet-train" and PRESETS["paper"].shifted == "imagenet-r"
    models = {name for preset in PRESETS.values() for name in (*preset.clips, preset.neurons_clip)}
    assert all(name.startswith("sandbox") or checked_name(name) for name in models)
    assert (
        set(PRESETS["paper"].clips) == set(iu.heads.AUTHOR_HEADS) and PRESETS["paper"].neurons_clip == "ViT-B-32-quickgelu/openai"
    )
    sandbox = PRESETS["sandbox"]
    assert sandbox.clips == ("sandbox", "sandbox-1", "sandbox-2") and sandbox.neurons_clip == "sandbox"
    for name in (sandbox.images, sandbox.fit, sandbox.shifted):  # what comes without a download
        assert len(load_task(name, None, 3).images) == 3
    assert torch.initial_seed() == 0
    assert len(open_clip.OPENAI_IMAGENET_TEMPLATES) == 80


@pytest.mark.parametrize("n", [0, -3, 2.5, True])
def test_no_set_has_less_than_one_image(n, tmp_path):
    write_image(tmp_path / "1.png", 0)
    makers = [
        lambda name=name: load_task(name, to_tensor, n, tmp_path) for name in ("sandbox", "sandbox-train", "imagenet", tmp_path)
    ]
    makers += [
        lambda: load_groups("sandbox", None, n=n),
        lambda: load_masks("sandbox", n),
        lambda: iu.sandbox.segmentation_images(n),
    ]
    makers += [lambda: iu.sandbox.factor_images("object", n), lambda: iu.sandbox.object_pair("dog", "cat", n)]
    makers += [lambda: iu.sandbox.spurious_animals("test", n)]
    for make in makers:
        with pytest.raises(ValueError, match=f"n must be .*got {n}"):
            make()


def test_roots_are_strings_or_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_image(tmp_path / "imagenet-r" / "n01443537" / "art_0.jpg", 0)
    write_waterbirds(tmp_path)
    write_gtsegs(tmp_path / "gtsegs_ijcv.mat", *matlab_images())
    for root in (tmp_path, str(tmp_path), "~"):
        assert len(load_task("imagenet-r", to_tensor, root=root).images) == 1
        assert len(load_groups("waterbirds", to_tensor, root=root).images) == 8
        assert len(load_masks("imagenet-segmentation", root=root).images) == 5


def test_the_sandbox_is_drawn_as_another_model_wants_it(sandbox):
    """Its preprocess decides size and normalisation; that of the sandbox CLIP changes nothing."""
    own = torchvision.transforms.Compose([torchvision.transforms.Resize(96), to_tensor])
    for load in (load_task, load_groups):
        plain, theirs, other = (load("sandbox", preprocess, n=4).images for preprocess in (None, sandbox.preprocess, own))
        for k in range(4):
            assert torch.equal(plain[k][0], theirs[k][0])
            assert torch.equal(other[k][0], own(iu.sandbox.render(other.specs[k]).image)) and other[k][1] == plain[k][1]
    sketch = load_task("sandbox-sketch", own, 2).images
    assert torch.equal(sketch[0][0], own(Image.fromarray(restyle(iu.sandbox.render(sketch.specs[0]).pixels, "sketch"))))


def test_every_dataset_reaches_a_spawned_worker(tmp_path, sandbox):
    write_image(tmp_path / "flat" / "1.png", 0)
    write_image(tmp_path / "classes" / "dog" / "1.png", 0)
    write_image(tmp_path / "imagenet-r" / "n01443537" / "art_0.jpg", 0)
    write_waterbirds(tmp_path)
    write_gtsegs(tmp_path / "gtsegs_ijcv.mat", *matlab_images())
    write_pets(tmp_path)
    names = ["sandbox", "sandbox-train", "sandbox-sketch", "imagenet-r", tmp_path / "flat", tmp_path / "classes"]
    sets = [load_task(name, sandbox.preprocess, 1, tmp_path).images for name in names]
    sets += [load_groups(name, sandbox.preprocess, n=1, root=tmp_path).images for name in ("sandbox", "waterbirds")]
    masks = [load_masks(name, 1, tmp_path) for name in ("sandbox", "imagenet-segmentation", "pets")]
    sets += [each.images for each in masks] + [iu.segmentation.prepare(each, sandbox) for each in masks]
    sets += [iu.sandbox.factor_images("colour", 1), iu.sandbox.segmentation_images(1), iu.sandbox.object_pair("dog", "cat", 1)]
    for images in sets:
        first, again = images[0], pickle.loads(pickle.dumps(images))[0]
        assert np.array_equal(np.asarray(first[0]), np.asarray(again[0])) and np.array_equal(first[1], again[1])


def test_waterbirds(tmp_path):
    write_waterbirds(tmp_path)
    task = waterbirds(tmp_path, to_tensor)
    assert task.classes == ["landbird", "waterbird"] and len(task.templates) == 80
    assert task.groups == ["landbird on land", "landbird on water", "waterbird on land", "waterbird on water"]
    expected = [(k // 3 % 2, 2 * (k // 3 % 2) + k // 6 % 2) for k in range(24) if k % 3 == 2]
    assert [target for _, target in task.images] == expected
    assert set(expected) == {(0, 0), (0, 1), (1, 2), (1, 3)}
    pixels = [pixels for pixels, _ in task.images]
    assert all(p.shape == (3, 8, 12) for p in pixels)
    assert abs(pixels[3].double()[0].mean().item() * 255 - 110) < 3  # image 11, the fourth of the test split
    train = load_groups("waterbirds", to_tensor, "train", 4, tmp_path)
    assert [train.images[k][1] for k in range(4)] == [(0, 0), (0, 1), (0, 0), (1, 3)] and train.groups == task.groups
    assert len(load_groups("waterbirds", to_tensor, "val", root=tmp_path).images) == 8


def test_waterbirds_errors_show_the_layout(tmp_path):
    layout = r"[\s\S]*waterbird_complete95_forest2water2/metadata.csv    columns img_id,img_filename,y,split,place"
    with pytest.raises(FileNotFoundError, match="no metadata.csv in" + layout):
        waterbirds(tmp_path, to_tensor)
    write_waterbirds(tmp_path, "img_id,img_filename,label,split,background,place_filename")
    with pytest.raises(ValueError, match="has no column place, y" + layout):
        waterbirds(tmp_path, to_tensor)
    write_waterbirds(tmp_path, "img_id,img_filename,place_id,split,y,place")  # place is a path now
    with pytest.raises(ValueError, match="y or place other than 0 and 1" + layout):
        waterbirds(tmp_path, to_tensor)
    write_waterbirds(tmp_path)
    (tmp_path / WATERBIRDS / "002.Bird" / "Bird_2.jpg").unlink()
    assert len(waterbirds(tmp_path, to_tensor, "train").images) == 8
    with pytest.raises(FileNotFoundError, match="1 of 8 images are missing, the first .*Bird_2.jpg" + layout):
        waterbirds(tmp_path, to_tensor)
    with pytest.raises(ValueError, match="split must be one of train, val, test, got 'dev'"):
        waterbirds(tmp_path, to_tensor, "dev")


def test_sandbox_groups():
    task = load_groups("sandbox", None, n=40)
    assert task.classes == ["land animal", "water animal"] and len(task.templates) == 6
    assert task.templates[0]("land animal") == "a land animal"
    assert task.groups[1] == "land animal on water"
    for k in (0, 1, 2, 3):
        pixels, (label, group) = task.images[k]
        spec = task.images.specs[k]
        assert pixels.shape == (3, 64, 64) and task.classes[label] == spec.category
        on = "water" if spec.scene in ("sea", "beach", "lake", "reef") else "land"
        assert task.groups[group] == f"{spec.category} on {on}"
    train = load_groups("sandbox", None, "train", 200)
    at_home = [group in (0, 3) for _, (_, group) in (train.images[k] for k in range(60))]
    assert sum(at_home) > 50
    with pytest.raises(ValueError, match="split must be 'train' or 'test'"):
        load_groups("sandbox", None, "val")
    with pytest.raises(ValueError, match="choose sandbox or waterbirds"):
        load_groups("celeba", None)


def test_sandbox_masks():
    task = load_masks("sandbox", 12)
    image, mask = task.images[5]
    drawn = iu.sandbox.render(iu.sandbox.segmentation_images(12).specs[5])
    assert len(task.images) == 12 and image.mode == "RGB" and np.array_equal(np.asarray(image), drawn.pixels)
    assert mask.dtype == bool and np.array_equal(mask, drawn.mask)
    assert len(task.classes) == 144 and task.templates[0]("dog") == "a dog"


@pytest.mark.parametrize("cells", [True, False])
def test_imagenet_segmentation(tmp_path, cells):
    images, masks = matlab_images()
    write_gtsegs(tmp_path / "gtsegs_ijcv.mat", images, masks, cells)
    task = load_masks("imagenet-segmentation", root=tmp_path)
    assert len(task.images) == 5 and len(task.classes) == 1000 and len(task.templates) == 80
    for (image, mask), true_image, true_mask in zip(task.images, images, masks):
        assert image.mode == "RGB" and mask.dtype == bool and np.array_equal(mask, true_mask == 1)
        true_image = true_image if true_image.ndim == 3 else np.stack([true_image] * 3, -1)
        assert np.array_equal(np.asarray(image), true_image)
    few = load_masks("imagenet-segmentation", 2, tmp_path)
    assert np.array_equal(few.images[1][1], masks[4] == 1)


class WithOpener(torch.utils.data.Dataset):
    """Adds to each item which process opened the file and which one reads."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, k):
        return self.data[k][1], self.data._opened_by, os.getpid()


def test_imagenet_segmentation_in_worker_processes(tmp_path):
    images, masks = matlab_images()
    write_gtsegs(tmp_path / "gtsegs_ijcv.mat", images, masks)
    data = load_masks("imagenet-segmentation", root=tmp_path).images
    first = data[0]  # the file is open here when the workers start
    seen = list(torch.utils.data.DataLoader(WithOpener(data), batch_size=None, num_workers=2, multiprocessing_context="fork"))
    assert all(np.array_equal(mask, true == 1) for (mask, _, _), true in zip(seen, masks)) and len(seen) == 5
    assert all(opener == reader != os.getpid() for _, opener, reader in seen)
    assert np.array_equal(data[0][1], first[1]) and data._opened_by == os.getpid()
    assert pickle.loads(pickle.dumps(data))._opened_by is None, "which is what a spawned process gets"


def test_imagenet_segmentation_errors_show_the_layout(tmp_path):
    path = tmp_path / "gtsegs_ijcv.mat"
    images, masks = matlab_images()
    layout = r"[\s\S]*http://calvin-vision.net/bigstuff/proj-imagenet/data/gtsegs_ijcv.mat[\s\S]*/value/img [\s\S]*/value/gt "
    with pytest.raises(FileNotFoundError, match="no file " + layout):
        load_masks("imagenet-segmentation", root=tmp_path)
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(ValueError, match="is not HDF5" + layout):
        load_masks("imagenet-segmentation", root=tmp_path)
    with h5py.File(path, "w") as file:
        file["value/img"] = np.zeros((3, 1))
    for _ in range(2):  # without masks, then with numbers in the place of references
        with pytest.raises(ValueError, match="no object references at /value/img and /value/gt" + layout):
            load_masks("imagenet-segmentation", root=tmp_path)
        with h5py.File(path, "a") as file:
            file.require_dataset("value/gt", (3, 1), float)
    write_gtsegs(path, images, masks[:4])
    with pytest.raises(ValueError, match="5 images and 4 masks" + layout):
        load_masks("imagenet-segmentation", root=tmp_path)
    write_gtsegs(path, images, masks[1:] + masks[:1])
    with pytest.raises(ValueError, match="image 0 is .* but its mask" + layout):
        load_masks("imagenet-segmentation", root=tmp_path).images[0]
    with pytest.raises(ValueError, match="choose sandbox, imagenet-segmentation or pets"):
        load_masks("coco")


def test_pets_from_a_local_folder_in_the_real_layout(tmp_path):
    write_pets(tmp_path)
    task = load_masks("pets", root=tmp_path)
    assert task.classes == ["Abyssinian", "American Bulldog", "Bengal"]
    image, mask = task.images[2]
    assert image.mode == "RGB" and image.size == (12, 8)
    assert mask.dtype == bool and mask.shape == (8, 12) and mask.sum() == 4 * 6 and mask[2, 2] and mask[3, 3]


def test_some_images_are_taken_as_one_batch():
    images = load_task("sandbox", None, 12).images
    for source, numbers in ((images, (7, 2)), (torch.utils.data.Subset(images, [0, 7, 2]), range(1, 3)), (list(images), (7, 2))):
        pixels, labels = iu.datasets.take(source, numbers)
        assert torch.equal(pixels, torch.stack([images[7][0], images[2][0]])) and labels.tolist() == [images[7][1], images[2][1]]
    pixels, (labels, groups) = iu.datasets.take(load_groups("sandbox", None, "test", 8).images, range(8))
    assert len(pixels) == len(labels) == len(groups) == 8
