import os
import pickle

import h5py
import numpy as np
import open_clip
import pytest
import torch
import torchvision
from PIL import Image

import interp_utils as iu
from interp_utils.datasets import load_groups, load_masks, load_task, waterbirds
from interp_utils.sandbox.render import restyle

to_tensor = torchvision.transforms.ToTensor()
WATERBIRDS = "waterbird_complete95_forest2water2"


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
    from interp_utils.models import _checked_name
    from interp_utils.presets import PRESETS

    for preset in PRESETS.values():
        assert preset.clip == "sandbox" or _checked_name(preset.clip)
        assert preset.images in _TASKS and preset.fit == f"{preset.images}-train" in _TASKS, "fitted on other images of the kind"
        assert preset.n_fit >= 1000 and preset.shifted in (None, *_TASKS) and preset.shifted not in (preset.images, preset.fit)
    assert PRESETS["paper"].fit == "imagenet-train" and PRESETS["paper"].shifted == "imagenet-r"
    sandbox = PRESETS["sandbox"]
    for name in (sandbox.images, sandbox.fit, sandbox.shifted):  # what comes without a download
        assert len(load_task(name, None, 3).images) == 3
    assert torch.initial_seed() == 0
    assert len(open_clip.OPENAI_IMAGENET_TEMPLATES) == 80


def write_image(path, colour, mode="RGB", size=(12, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def test_imagenet_r_has_the_labels_of_imagenet(tmp_path):
    """Three of its class folders, of which the WordNet ids and the places among ImageNet's classes are known."""
    folder = tmp_path / "imagenet-r"
    known = {"n09472597": (980, "volcano"), "n01443537": (1, "goldfish"), "n02099601": (207, "Golden Retriever")}
    for k, wnid in enumerate(known):
        write_image(folder / wnid / "art_0.jpg", 80 * k, "L", (16, 16))
        write_image(folder / wnid / "sketch_1.png", 80 * k + 9, "RGBA", (16, 16))
    (folder / "README.txt").write_text("no class")
    task = load_task("imagenet-r", to_tensor, root=tmp_path)
    assert len(task.images) == 6 and len(task.classes) == 1000 and len(task.templates) == 80
    assert [label for _, label in task.images] == [1, 1, 207, 207, 980, 980]
    for label, name in known.values():
        assert task.classes[label] == name
    assert [round(task.images[k][0].mean().item() * 255) for k in (0, 2, 4)] == [80, 160, 0], "goldfish, retriever, volcano"
    few = load_task("imagenet-r", to_tensor, 3, tmp_path)
    assert [few.images[k][1] for k in range(3)] == [1, 207, 980]


def test_imagenet_r_errors_show_the_layout(tmp_path):
    layout = r"[\s\S]*imagenet-r.tar unpacks to[\s\S]*n01443537/art_0.jpg"
    folder = tmp_path / "imagenet-r"
    with pytest.raises(FileNotFoundError, match="no folder .*imagenet-r" + layout):
        load_task("imagenet-r", to_tensor, root=tmp_path)
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="imagenet-r: there are no class folders" + layout):
        load_task("imagenet-r", to_tensor, root=tmp_path)
    write_image(folder / "n01443537" / "art_0.jpg", 0)
    (folder / "n02099601").mkdir()
    with pytest.raises(FileNotFoundError, match="n02099601" + layout):
        load_task("imagenet-r", to_tensor, root=tmp_path)
    write_image(folder / "n02099601" / "art_0.jpg", 0)
    write_image(folder / "goldfish" / "art_0.jpg", 0)
    with pytest.raises(ValueError, match="goldfish is not named by a WordNet id of ImageNet" + layout):
        load_task("imagenet-r", to_tensor, root=tmp_path)


def test_class_folders(tmp_path):
    write_image(tmp_path / "tree_frog" / "b.png", 90, "L")  # greyscale, transparent and palette images all become RGB
    write_image(tmp_path / "tree_frog" / "a.PNG", (0, 200, 0, 99), "RGBA")
    write_image(tmp_path / "paper towel" / "deep" / "c.png", 7, "P")
    write_image(tmp_path / "tree_frog" / "._a.png", 0)  # what some systems leave behind is no class and no image
    write_image(tmp_path / ".ipynb_checkpoints" / "a.png", 0)
    (tmp_path / "notes.txt").write_text("no image")
    task = load_task(str(tmp_path), to_tensor)
    assert task.classes == ["paper towel", "tree frog"]
    assert [label for _, label in task.images] == [0, 1, 1]
    assert all(pixels.shape == (3, 8, 12) for pixels, _ in task.images)
    assert (task.images[2][0] * 255).round().unique().tolist() == [90]
    assert (task.images[1][0][:, 0, 0] * 255).round().tolist() == [156, 234, 156], "green of 99 parts in 255, over white"
    assert task.templates[0]("dog") == "a bad photo of a dog."
    few = load_task(tmp_path, to_tensor, 2)
    assert [few.images[k][1] for k in range(len(few.images))] == [0, 1]
    with pytest.raises(ValueError, match="at least one image, got n=0"):
        load_task(tmp_path, to_tensor, 0)


def test_photos_in_folders_are_read_as_images_are(tmp_path):
    """EXIF, 16 bits, floats and alpha: see test_images; here that every kind of folder reads so."""
    picture = np.arange(12 * 8, dtype=np.uint16).reshape(12, 8) * 600
    upright = torch.from_numpy((picture / 257).round()).float() / 255
    sideways = Image.Exif()
    sideways[0x0112] = 6
    write_waterbirds(tmp_path)
    places = [tmp_path / "flat", tmp_path / "classes" / "dog", tmp_path / "imagenet-r" / "n01443537"]
    places += [tmp_path / "imagenet" / "val" / "n01443537", tmp_path / "imagenette" / "imagenette2-320" / "val" / "n01440764"]
    for folder in places:
        folder.mkdir(parents=True)
        Image.fromarray(np.rot90(picture).copy()).save(folder / "a.png", exif=sideways)
    Image.fromarray(np.rot90(picture).copy()).save(tmp_path / WATERBIRDS / "002.Bird" / "Bird_2.jpg", "PNG", exif=sideways)
    tasks = [load_task(name, to_tensor, root=tmp_path) for name in (tmp_path / "flat", tmp_path / "classes")]
    tasks += [load_task(name, to_tensor, root=tmp_path) for name in ("imagenet-r", "imagenet", "imagenette")]
    for task in [*tasks, waterbirds(tmp_path, to_tensor)]:
        torch.testing.assert_close(task.images[0][0], upright.expand(3, -1, -1), atol=1.1 / 255, rtol=0)
    (tmp_path / "flat" / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="cannot read the image .*flat/a.png"):
        tasks[0].images[0]


def test_folders_named_like_images_and_links_that_lead_back(tmp_path):
    write_image(tmp_path / "cats" / "1.png", 10)
    write_image(tmp_path / "cats" / "more.jpg" / "2.png", 20)  # a folder, not an image
    write_image(tmp_path / "dogs.jpg" / "3.png", 30)
    write_image(tmp_path / "cats" / ".ipynb_checkpoints" / "1-checkpoint.png", 40)
    for link, to in (
        ("cats/up", tmp_path),
        ("cats/more.jpg/self", tmp_path / "cats"),
        ("cats/again", tmp_path / "cats" / "more.jpg"),
    ):
        (tmp_path / link).symlink_to(to)
    (tmp_path / "dogs.jpg" / "elsewhere").symlink_to(tmp_path.parent / f"{tmp_path.name}-dogs")
    write_image(tmp_path.parent / f"{tmp_path.name}-dogs" / "4.png", 50)
    (tmp_path / "round").symlink_to(tmp_path / "round")
    task = load_task(tmp_path, to_tensor)
    assert task.classes == ["cats", "dogs.jpg"] and [label for _, label in task.images] == [0, 0, 1, 1], "each image once"
    write_image(tmp_path / "flat" / "1.png", 10)
    (tmp_path / "flat" / "b.jpg").mkdir()
    assert len(load_task(tmp_path / "flat", to_tensor).images) == 1


@pytest.mark.parametrize("parts", [("train", "val"), ("train", "test", "extra"), ("Validation", "Training"), ("train",)])
def test_parts_of_a_set_are_no_classes(tmp_path, parts):
    for part in parts:
        write_image(tmp_path / part / "dog" / "1.png", 0)
    seen = f"has the subfolders {', '.join(sorted(parts))}: .* look like parts of a set, not like classes; give one of them"
    with pytest.raises(ValueError, match=seen):
        load_task(tmp_path, to_tensor)
    assert load_task(tmp_path / parts[0], to_tensor).classes == ["dog"]


def test_a_train_may_be_a_class(tmp_path):
    for name in ("car", "train"):
        write_image(tmp_path / name / "1.png", 0)
    assert load_task(tmp_path, to_tensor).classes == ["car", "train"]


def test_folders_named_by_wordnet_ids_get_the_names_of_their_classes(tmp_path):
    for name in ("n01443537", "n02084071", "n99999999", "my_cat"):  # a class of ImageNet-1k, one of 22k only, and none
        write_image(tmp_path / name / "1.png", 0)
    task = load_task(tmp_path, to_tensor)
    assert task.classes == ["my cat", "goldfish", "dog", "n99999999"]
    assert [label for _, label in task.images] == [0, 1, 2, 3], "labels are places among the folder's own classes"


def test_imagenet_without_its_development_kit(tmp_path):
    """An extracted copy has the WordNet ids of its class folders, and those say the labels."""
    for k, wnid in enumerate(("n09472597", "n01443537")):
        write_image(tmp_path / "imagenet" / "val" / wnid / "ILSVRC2012_val_00000001.JPEG", 90 * k)
        write_image(tmp_path / "imagenet" / "train" / wnid / f"{wnid}_1.JPEG", 90 * k)
    for name in ("imagenet", "imagenet-train"):
        task = load_task(name, to_tensor, root=str(tmp_path))
        assert [label for _, label in task.images] == [1, 980] and len(task.classes) == 1000
        assert round(task.images[0][0][0].mean().item() * 255) == 90 and task.classes[980] == "volcano"
    flat = tmp_path / "other" / "imagenet" / "val" / "ILSVRC2012_val_00000001.JPEG"
    write_image(flat, 0)
    with pytest.raises(FileNotFoundError, match=r"no class folders[\s\S]*named by its WordNet id[\s\S]*devkit"):
        load_task("imagenet", to_tensor, root=tmp_path / "other")


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
        with pytest.raises(ValueError, match=f"need at least one image, got n={n}; give a whole number"):
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


def test_flat_folder(tmp_path):
    for k, name in enumerate(["c.jpg", "a.png", "b.webp"]):
        write_image(tmp_path / name, 80 * k, "L")
    (tmp_path / "empty").mkdir()
    task = load_task(tmp_path, to_tensor)
    assert task.classes == [] and [label for _, label in task.images] == [-1, -1, -1]
    assert [round(pixels.mean().item() * 255) for pixels, _ in task.images] == [80, 160, 0]


def test_folder_errors_show_both_layouts(tmp_path):
    layouts = r"[\s\S]*one subfolder for each class[\s\S]*images alone, without labels"
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere" + layouts):
        load_task(tmp_path / "nowhere", to_tensor)
    with pytest.raises(FileNotFoundError, match="no folder photos/mine" + layouts):
        load_task("photos/mine", to_tensor)
    (tmp_path / "dog").mkdir()
    with pytest.raises(FileNotFoundError, match="no images in" + layouts):
        load_task(tmp_path, to_tensor)
    write_image(tmp_path / "cat" / "1.png", 0)
    with pytest.raises(FileNotFoundError, match="no valid file for the classes dog" + layouts):
        load_task(tmp_path, to_tensor)
    write_image(tmp_path / "dog" / "1.png", 0)
    write_image(tmp_path / "2.png", 0)
    with pytest.raises(ValueError, match="images beside its class folders, the first .*2.png" + layouts):
        load_task(tmp_path, to_tensor)
    with pytest.raises(ValueError, match="choose one of sandbox, .*imagenet-r, or give the path"):
        load_task("imagenete", to_tensor)


def write_waterbirds(root, columns="img_id,img_filename,y,split,place,place_filename"):
    lines = [columns]
    for k in range(24):  # split, class and place run through all combinations
        split, y, place = k % 3, k // 3 % 2, k // 6 % 2
        name = f"{k:03d}.Bird/Bird_{k}.jpg"
        write_image(root / WATERBIRDS / name, 10 * k, "L" if k == 5 else "RGB")
        lines.append(f"{k},{name},{y},{split},{place},/o/ocean/{k}.jpg")
    (root / WATERBIRDS / "metadata.csv").write_text("\n".join(lines) + "\n")


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
    assert len(task.classes) == 32 and task.templates[0]("dog") == "a dog"


def matlab_images(n=5):
    """Images [rows, columns, 3] and masks [rows, columns] as MATLAB sees them; the last image is greyscale."""
    rng = np.random.default_rng(0)
    sizes = [(6 + k, 11 - k) for k in range(n)]
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    images[-1] = images[-1][..., 0]
    return images, [rng.integers(0, 2, size, np.uint8) for size in sizes]


def write_gtsegs(path, images, masks, cells=True):
    """As MATLAB writes a v7.3 struct array: object references, axes reversed; masks are in cells of their own."""
    with h5py.File(path, "w", userblock_size=512) as file:
        store = file.create_group("#refs#")

        def column(key, arrays):
            refs = np.empty((len(arrays), 1), object)
            for k, array in enumerate(arrays):
                refs[k, 0] = store.create_dataset(f"{key}{k}", data=array.T).ref
                if key == "gt" and cells:
                    cell = store.create_dataset(f"cell{k}", (1, 1), h5py.ref_dtype)
                    cell[0, 0] = refs[k, 0]
                    refs[k, 0] = cell.ref
            file.create_dataset(f"value/{key}", data=refs, dtype=h5py.ref_dtype)

        column("img", images)
        column("gt", masks)


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


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_imagenet_segmentation_in_worker_processes(tmp_path, context):
    images, masks = matlab_images()
    write_gtsegs(tmp_path / "gtsegs_ijcv.mat", images, masks)
    data = load_masks("imagenet-segmentation", root=tmp_path).images
    first = data[0]  # the file is open here when the workers start
    seen = list(torch.utils.data.DataLoader(WithOpener(data), batch_size=None, num_workers=2, multiprocessing_context=context))
    assert all(np.array_equal(mask, true == 1) for (mask, _, _), true in zip(seen, masks)) and len(seen) == 5
    assert all(opener == reader != os.getpid() for _, opener, reader in seen)
    assert np.array_equal(data[0][1], first[1]) and data._opened_by == os.getpid()
    assert pickle.loads(pickle.dumps(data))._opened_by is None


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


def write_pets(root):
    base = root / "pets" / "oxford-iiit-pet"
    lines = []
    for k, breed in enumerate(["Abyssinian", "american_bulldog", "Bengal"]):
        write_image(base / "images" / f"{breed}_{k}.jpg", 50 * k, "L" if k == 2 else "RGB")
        trimap = np.full((8, 12), 2, np.uint8)
        trimap[2:6, 2 : 6 + k] = 3
        trimap[3:5, 3:5] = 1
        (base / "annotations" / "trimaps").mkdir(parents=True, exist_ok=True)
        Image.fromarray(trimap).save(base / "annotations" / "trimaps" / f"{breed}_{k}.png")
        lines.append(f"{breed}_{k} {k + 1} {1 + (k == 1)} 1\n")
    (base / "annotations" / "test.txt").write_text("".join(lines))


def test_pets_from_a_local_folder_in_the_real_layout(tmp_path):
    write_pets(tmp_path)
    task = load_masks("pets", root=tmp_path)
    assert task.classes == ["Abyssinian", "American Bulldog", "Bengal"]
    image, mask = task.images[2]
    assert image.mode == "RGB" and image.size == (12, 8)
    assert mask.dtype == bool and mask.shape == (8, 12) and mask.sum() == 4 * 6 and mask[2, 2] and mask[3, 3]
