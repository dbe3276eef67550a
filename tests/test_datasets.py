import open_clip
import pytest
import torch
import torchvision
from PIL import Image

import interp_utils as iu
from interp_utils.datasets import load_task


def test_sandbox_task():
    task = load_task("sandbox", None, 30)
    pixels, label = task.images[4]
    assert len(task.images) == 30 and pixels.shape == (3, 64, 64)
    assert task.classes[label] == task.images.specs[4].object
    assert task.templates[0]("dog") == "a dog" and task.templates[1]("fish") == "fish"


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


def test_missing_imagenet_says_where_to_put_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="ILSVRC2012_img_val.tar"):
        load_task("imagenet", None, None, tmp_path)
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
    from interp_utils.models import _checked_name
    from interp_utils.presets import PRESETS

    for preset in PRESETS.values():
        assert preset.clip == "sandbox" or _checked_name(preset.clip)
    assert torch.initial_seed() == 0
    assert len(open_clip.OPENAI_IMAGENET_TEMPLATES) == 80
