"""Image folders: what is a class, what is an image, and how it is read."""

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from small_sets import WATERBIRDS, write_image, write_waterbirds

from interp_utils.datasets import load_task, waterbirds

to_tensor = torchvision.transforms.ToTensor()


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
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
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
