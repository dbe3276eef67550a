"""The stand-ins of the image sets lie where the loaders look, and INTERP_IMAGES cuts what is loaded."""

import hashlib
import sys
from pathlib import Path

import huggingface_hub
import nbformat
import numpy as np
import open_clip
import pytest
import timm
import torch

import interp_utils as iu
from interp_utils import downloads

sys.path.insert(0, str(Path(__file__).parent))
import rehearse
import sizes
import stand_ins


def preprocess(image):
    return np.asarray(image.resize((8, 8)))


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(iu.datasets, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", downloads.IMAGE_SETS)
def test_every_image_set_has_a_stand_in_that_its_loader_reads(root, name, monkeypatch):
    download = downloads.image_download(name)
    assert download.path() is None
    stand_ins.write_images(download, 12)
    assert download.path() is not None
    monkeypatch.setenv("INTERP_IMAGES", "8")
    if name in ("pets", "imagenet-segmentation"):
        task = iu.datasets.load_masks(name, root=root)
        image, mask = task.images[0]
        assert mask.shape == (image.height, image.width) and 0.1 < mask.mean() < 0.9
    elif name == "waterbirds":
        task = iu.datasets.load_groups(name, preprocess, root=root)
        assert {task.images[k][1][1] for k in range(8)} == {0, 1, 2, 3}
    else:
        task = iu.datasets.load_task(name, preprocess, root=root)
        assert len({task.images[k][1] for k in range(8)}) > 4 and task.images[7][0].shape == (8, 8, 3)
    assert len(task.images) == 8


def test_images_are_cut_by_the_variable_and_the_notebook_says_so(monkeypatch, capsys):
    images = list(range(100))
    for most, n, found in ((None, None, 100), ("10", None, 10), ("10", 4, 4), ("10", 50, 10), ("500", 50, 50)):
        monkeypatch.delenv("INTERP_IMAGES", raising=False)
        if most:
            monkeypatch.setenv("INTERP_IMAGES", most)
        assert len(iu.datasets.common.spread(images, n)) == found
    iu.setup("laptop")
    assert "at most 500 images" in capsys.readouterr().out
    iu.setup("sandbox")
    assert "at most" not in capsys.readouterr().out, "what is drawn is not cut"
    for wrong in ("0", "-3", "many", ""):
        monkeypatch.setenv("INTERP_IMAGES", wrong)
        with pytest.raises(ValueError, match="INTERP_IMAGES"):
            iu.datasets.common.spread(images, None)


def test_a_rehearsal_goes_on_after_a_cell_that_failed_and_counts_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INTERP_PRESET", "sandbox")
    asked = ("INTERP_PRESET", "INTERP_IMAGES", "HF_HUB_OFFLINE", "HF_HOME")
    cells = [
        "import os",
        "1 / 0",
        f"open('seen', 'w').write(' '.join(os.environ[k] for k in {asked}))",
        "assert False, 'no such thing'",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, tmp_path / "own.ipynb")
    assert rehearse.execute(tmp_path / "own.ipynb", "colab", "narrow", 8, tmp_path) == 2
    (seen,) = tmp_path.glob("*/seen")
    assert seen.read_text() == f"colab 8 1 {tmp_path / 'narrow' / 'hf'}"
    assert "ZeroDivisionError" in capsys.readouterr().out


@pytest.fixture
def undone(monkeypatch):
    """All that `sizes.use` changes is as it was after the test."""
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [*open_clip.factory._MODEL_CONFIG_PATHS])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    monkeypatch.setattr(sizes._registry, "_model_entrypoints", dict(sizes._registry._model_entrypoints))
    for name in ("BigGAN", "StyleGAN2", "StyleGANXL", "BIG_GAN_SHA256"):
        monkeypatch.setattr(sizes.registry, name, getattr(sizes.registry, name))
    monkeypatch.setattr(sizes.Generator, "sample", sizes.Generator.sample)
    monkeypatch.setattr(sizes.inversion, "range", range, raising=False)
    monkeypatch.setattr(open_clip, "OPENAI_IMAGENET_TEMPLATES", open_clip.OPENAI_IMAGENET_TEMPLATES)


def test_smaller_towers_keep_their_tokens_heads_and_joint_space(tmp_path, undone):
    real = open_clip.get_model_config("ViT-B-32")
    sizes.write_configs("shallow", tmp_path, {"ViT-B-32"})
    sizes.use("shallow", tmp_path)
    cut = iu.Clip(open_clip.create_model("ViT-B-32"))
    assert (cut.n_heads, cut.grid, cut.d_embed) == (12, (7, 7), real["embed_dim"]) and (cut.n_layers, cut.d_model) == (8, 96)
    vit = timm.create_model("vit_base_patch16_224.dino", num_classes=0)
    assert len(vit.blocks) == 8 and vit.blocks[0].attn.num_heads == 12 and vit.num_features == 96


@pytest.mark.parametrize("name", ["biggan_deep256", "stylegan2_cat", "stylegan_xl"])
def test_generators_are_read_from_stand_ins_of_their_files(name, tmp_path, undone, monkeypatch):
    """In the real formats; they draw images of the real size, as few as `INTERP_IMAGES` says."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for module in (huggingface_hub.constants, stand_ins):
        monkeypatch.setattr(module, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("INTERP_IMAGES", "3")
    sizes.use("narrow", tmp_path)
    download = downloads.unit_download(name)
    stand_ins._units(download, 3)
    if name == "biggan_deep256":
        sizes.registry.BIG_GAN_SHA256 = hashlib.sha256(download.path().read_bytes()).hexdigest()
    generator = iu.rosetta.load_unit_model(name, device="cpu")
    assert len(generator.sample(20)[0]) == 3
    images, _ = generator(*(part[:1] for part in generator.sample(1)))
    assert images.shape == (1, 3, 256, 256) and images.std() > 0.01


def test_every_preset_rehearses_every_notebook_and_some_at_full_depth():
    names = {path.name.split("_")[0] for path in (rehearse.ROOT / "notebooks").glob("*.ipynb")}
    for preset, plan in rehearse.PLAN.items():
        assert set(plan) == names, preset
        assert {size for size, _ in plan.values()} <= {*sizes.SIZES, rehearse.DRAWN} and any(
            size != "shallow" for size, _ in plan.values()
        )
