"""Verification finds what differs, and does not pass over what it could not check."""

import hashlib
import sys
from pathlib import Path

import huggingface_hub
import open_clip
import pytest
import torch
from small_clips import get_tokenizer, noise, tiny_model
from torchvision import transforms

import interp_utils as iu
from interp_utils import verify
from interp_utils.downloads import Download, image_download, needs
from interp_utils.images import read_image
from interp_utils.presets import PRESETS

sys.path.insert(0, str(Path(__file__).parent / "rehearsal"))
import stand_ins

NAME = "ViT-B-32-quickgelu/openai"


@pytest.fixture
def small():
    """A tiny model under the name of a real one."""
    steps = [transforms.Lambda(read_image), transforms.Resize((32, 32)), transforms.ToTensor(), transforms.Normalize(0.5, 0.25)]
    return iu.Clip(tiny_model(), transforms.Compose(steps), get_tokenizer("ViT-B-32"), NAME)


@pytest.fixture
def pets(tmp_path, monkeypatch):
    monkeypatch.setattr(iu.datasets, "ROOT", tmp_path)
    monkeypatch.setattr(iu.datasets.masks.load_masks, "__defaults__", (None, tmp_path))
    stand_ins.write_images(image_download("pets"), 20)


def test_the_tolerance_is_that_of_the_images():
    assert verify.tolerance(0.5, 900) == pytest.approx(0.05 + verify.SLACK)
    assert verify.tolerance(0.63, 50_000) < 0.02 < verify.tolerance(0.63, 500)


def test_parts_that_miss_the_output_differ(small, monkeypatch):
    assert verify.parts(small, noise(small)).outcome == verify.SAME
    whole = small.encode_image
    monkeypatch.setattr(small, "encode_image", lambda pixels: 1.001 * whole(pixels))
    assert verify.parts(small, noise(small)).outcome == verify.DIFFERS


@pytest.mark.parametrize(
    "error, outcome",
    [
        (ConnectionError("no network"), verify.UNCHECKED),
        (FileNotFoundError("no images"), verify.UNCHECKED),
        (torch.OutOfMemoryError("too little"), verify.UNCHECKED),
        (RuntimeError("size mismatch for proj"), verify.DIFFERS),
        (ValueError("not HDF5"), verify.DIFFERS),
    ],
)
def test_what_could_not_be_checked_is_told_from_what_differs(error, outcome):
    def check():
        raise error

    row = verify.attempt("a check", check)
    assert row.outcome == outcome and str(error) in row.found


def test_another_activation_differs(small):
    assert verify.activation(small, False).outcome == verify.SAME  # the tiny model has GELU
    assert verify.activation(small, True).outcome == verify.DIFFERS


def test_zero_shot_accuracy_is_compared_as_published(small, pets, monkeypatch):
    row = verify.zero_shot(small, "pets", None)
    assert (
        row.outcome == verify.DIFFERS and "0.8700" in row.expected and "20 images" in row.what and "openclip_results" in row.source
    )

    task = iu.datasets.load_masks("pets")
    texts, breeds = small.encode_text(task.classes, task.templates), {}
    for file, breed in zip(task.images._images, task.images._labels):
        answer = (small.encode_image(small.preprocess(file)[None]) @ texts.T).argmax().item()
        breeds.setdefault(breed, []).append(answer == breed)
    by_hand = sum(sum(each) / len(each) for each in breeds.values()) / len(breeds)
    assert len(breeds) == len(stand_ins.BREEDS) == len(task.classes)
    monkeypatch.setitem(verify.ZERO_SHOT, NAME, {"pets": by_hand})
    row = verify.zero_shot(small, "pets", None)
    assert row.outcome == verify.SAME and row.found.startswith(f"{by_hand:.4f}")


def test_published_logits_are_those_of_the_weights(small, tmp_path, monkeypatch):
    stand_ins.picture(0).save(tmp_path / "cats.jpg")
    row = verify.logits(small, tmp_path / "cats.jpg")
    assert row.outcome == verify.DIFFERS and row.expected == "24.57, 19.30"
    monkeypatch.setitem(verify.CATS_LOGITS, NAME, tuple(float(each) for each in row.found.split(", ")))
    assert verify.logits(small, tmp_path / "cats.jpg").outcome == verify.SAME


def test_a_file_is_pinned_once_and_compared_ever_after(tmp_path, monkeypatch, capsys):
    file, pins = tmp_path / "model.bin", tmp_path / "sha256.txt"
    file.write_bytes(b"weights")
    download = Download("some/model", f"file:{file}", (str(file),), "clip")
    monkeypatch.setattr(verify, "needs", lambda preset: [download])
    monkeypatch.setattr(verify, "verify", lambda preset, n: iter(()))
    assert verify.main(["laptop"], pins) == 0 and not pins.exists()
    assert "1 not checked" in capsys.readouterr().out
    assert verify.main(["laptop", "--write"], pins) == 0
    assert pins.read_text() == f"{hashlib.sha256(b'weights').hexdigest()}  some/model\n"
    capsys.readouterr()
    assert verify.main(["laptop", "--write"], pins) == 0
    assert "1 same" in capsys.readouterr().out and len(pins.read_text().splitlines()) == 1
    file.write_bytes(b"other weights")
    assert verify.main(["laptop", "--write"], pins) == 1
    assert hashlib.sha256(b"other weights").hexdigest() in capsys.readouterr().out
    assert "other" not in pins.read_text() and hashlib.sha256(b"weights").hexdigest() in pins.read_text(), "no pin is overwritten"
    pins.write_text("abc some/model\n")
    with pytest.raises(ValueError, match="sha256.txt.*abc some/model"):
        verify.main(["laptop"], pins)


def test_offline_it_says_what_it_could_not_check(tmp_path, monkeypatch, capsys):
    def no_network(*args, **options):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(open_clip.factory, "download_pretrained", no_network)
    monkeypatch.setattr(verify, "load_unit_model", no_network)
    assert verify.main(["laptop"], tmp_path / "sha256.txt") == 0
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.startswith("| ") and not line.startswith("| what")]
    models = sum(each.kind != "images" for each in needs(PRESETS["laptop"]))
    assert len(rows) == models and all("not checked" in row for row in rows) and f"{models} not checked" in out
    assert "torch 2" in out and "no network" in out


def test_every_published_number_has_a_preset_that_compares_it():
    for name, published in verify.ZERO_SHOT.items():
        users = [preset for preset in PRESETS.values() if name in (*preset.clips, preset.neurons_clip)]
        assert any({preset.images, preset.masks} & published.keys() for preset in users), name
        assert all(0.5 < value < 1 for value in published.values())
    assert verify.CATS_LOGITS.keys() <= verify.ZERO_SHOT.keys()
    assert torch.tensor([*verify.CATS_LOGITS.values()]).shape[1] == len(verify.CATS_TEXTS)
