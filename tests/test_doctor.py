"""The doctor says what is wrong with machines that we make up, and never falls ill itself."""

import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import jupyter_client.kernelspec
import jupyter_core.paths
import pytest
import torch

import interp_utils as iu
from interp_utils import doctor, downloads
from interp_utils.presets import PRESETS

GIB = 2**30


def test_on_this_machine_the_sandbox_works(capsys):
    assert doctor.main() == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 50 and max(map(len, text.splitlines())) <= 120, "one screen"
    assert all(f"preset {name}" in text for name in PRESETS)


@pytest.mark.parametrize(
    "problem", [FileNotFoundError("no sandbox weights at here"), MemoryError(), ModuleNotFoundError("x", name="h5py")]
)
def test_without_the_sandbox_the_exit_code_is_1(monkeypatch, capsys, problem):
    def fails(*args, **options):
        raise problem

    monkeypatch.setattr(iu, "load_clip", fails)
    assert doctor.main((doctor.python, doctor.sandbox)) == 1
    text = capsys.readouterr().out
    assert type(problem).__name__ in text and "does not work" in text
    assert "pip install h5py" in text or not isinstance(problem, ModuleNotFoundError)


def test_a_sandbox_whose_parts_do_not_add_up_is_bad(monkeypatch):
    real = iu.heads.direct_effects
    monkeypatch.setattr(iu.heads, "direct_effects", lambda *args: SimpleNamespace(total=lambda: 1.01 * real(*args).total()))
    assert doctor.sandbox().mark == "bad"


def test_as_a_file_it_runs_where_nothing_is_installed():
    found = subprocess.run([sys.executable, "-I", "-S", doctor.__file__], capture_output=True, text=True)
    assert found.returncode == 1 and found.stderr == ""
    assert "No module named 'torch'" in found.stdout and "memory" in found.stdout and "does not work" in found.stdout


@pytest.mark.parametrize("error", [OSError("disk"), KeyError("MemAvailable"), AttributeError("os.sysconf"), RuntimeError("CUDA")])
def test_a_check_that_fails_is_a_line(error):
    def check():
        raise error

    (line,) = doctor.examine((check,))
    assert line.mark == "warn" and type(error).__name__ in line.found


@pytest.mark.parametrize("version, mark", [("3.9.18", "bad"), ("3.11.0", "ok"), ("3.13.2", "ok"), ("3.14.0", "bad")])
def test_python_is_held_against_pyproject(monkeypatch, version, mark):
    monkeypatch.setattr(platform, "python_version", lambda: version)
    line = doctor.python()
    assert line.mark == mark and version in line.found and (mark == "ok" or "3.11" in line.advice)


def test_packages_that_are_missing_or_too_old_are_named(monkeypatch):
    real = importlib.metadata.version
    assert doctor.packages().mark == "ok"

    def version(name):
        if name == "h5py":
            raise importlib.metadata.PackageNotFoundError(name)
        return "8.1.9" if name == "ipywidgets" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    line = doctor.packages()
    assert line.mark == "bad" and "h5py" in line.found and "8.1.9" in line.found and "torch" not in line.found


def fake_gpu(monkeypatch, total):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (total // 2, total))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")


@pytest.mark.parametrize("gib, fits", [(15, True), (8, False)])
def test_presets_for_a_gpu_are_held_against_its_memory(monkeypatch, gib, fits):
    fake_gpu(monkeypatch, gib * GIB)
    assert "Tesla T4" in doctor.device().found
    lines = {line.what: line for line in doctor.presets()}
    assert ("needs a GPU" not in lines["preset colab"].advice) == fits
    assert "needs a GPU" not in lines["preset laptop"].advice


def test_a_driver_that_torch_does_not_use_is_noticed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name == "nvidia-smi" else None)
    assert doctor.device().mark == "warn" and "pytorch.org" in doctor.device().advice
    assert doctor.browser().mark == "ok", "the course runs without a browser on this machine"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert doctor.device().mark == "ok"


def test_a_container_may_have_less_memory_than_its_machine(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:       8000000 kB\nMemAvailable:   3000000 kB\n")
    assert doctor.ram(tmp_path, tmp_path)[1] == 3_000_000 * 1024
    (tmp_path / "memory.max").write_text(f"{2 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{GIB}\n")
    assert doctor.ram(tmp_path, tmp_path) == (2 * GIB, GIB)
    (tmp_path / "memory.max").write_text("max\n")
    assert doctor.ram(tmp_path, tmp_path)[1] == 3_000_000 * 1024


def test_too_little_memory_is_said_and_which_presets_it_stops(monkeypatch):
    monkeypatch.setattr(doctor, "ram", lambda: (3 * GIB, GIB))
    assert doctor.memory().mark == "warn"
    lines = {line.what: line for line in doctor.presets()}
    assert "memory" in lines["preset laptop"].advice and lines["preset sandbox"].mark == "ok"


def test_full_and_locked_disks(monkeypatch):
    assert {line.what for line in doctor.disk()} == {"weights", "torch's weights", "image sets"}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=GIB))
    assert all(line.mark == "warn" and "larger disk" in line.advice for line in doctor.disk())
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert all(variable in str(doctor.disk()) for variable in ("HF_HOME", "TORCH_HOME", "INTERP_DATA"))


def test_jupyter_missing_without_a_kernel_or_with_another_python(monkeypatch, tmp_path):
    assert doctor.jupyter().mark == "ok"
    (tmp_path / "kernel.json").write_text(json.dumps({"argv": [str(tmp_path / "bin" / "python"), "-m", "ipykernel"]}))
    found = {"python3": str(tmp_path)}
    monkeypatch.setattr(jupyter_client.kernelspec.KernelSpecManager, "find_kernel_specs", lambda self: found)
    assert doctor.jupyter().mark == "warn" and str(tmp_path) in doctor.jupyter().found
    found.clear()
    assert doctor.jupyter().advice == "pip install ipykernel"

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert "not installed" in doctor.jupyter().found


def test_widgets_without_their_extension(monkeypatch, tmp_path):
    assert doctor.widgets().mark == "ok"
    monkeypatch.setattr(jupyter_core.paths, "jupyter_path", lambda *parts: [str(tmp_path)])
    assert doctor.widgets().mark == "warn" and "jupyterlab_widgets" in doctor.widgets().advice


def test_what_is_in_the_caches_is_counted(monkeypatch, tmp_path):
    monkeypatch.setattr(iu.datasets, "ROOT", tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    here = {}  # repository and file -> path
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, file, revision: here.get((repo, file)))
    every = list(downloads.needs(PRESETS["paper"]))
    assert not any(each.path() for each in every)
    assert "fetched when first used" in str(doctor.presets()) and "by hand: imagenet" in str(doctor.presets())

    for each in every:  # now put all of it there
        if each.source.startswith("hf-hub:"):
            here[each.source.removeprefix("hf-hub:"), each.places[-1]] = str(tmp_path / each.name)
        for place in () if each.source.startswith("hf-hub:") else map(Path, each.places):
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.suffix:
                place.write_text("something")
            else:
                (place / "n01440764").mkdir(parents=True)
    assert all(each.path() for each in every)
    line = next(line for line in doctor.presets() if line.what == "preset paper")
    assert line.found.startswith(f"{len(every)} of {len(every)}") and "by hand" not in line.advice


def test_a_file_of_a_pinned_revision_is_found_where_the_hub_keeps_it(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    download = downloads.unit_download("stylegan2_cat")
    assert download.path() is None
    repo, (file,) = download.source.removeprefix("hf-hub:"), download.places
    path = tmp_path / f"models--{repo.replace('/', '--')}" / "snapshots" / download.revision / file  # and no refs/main
    path.parent.mkdir(parents=True)
    path.write_text("weights")
    asked = {"revision": download.revision, "cache_dir": tmp_path, "local_files_only": True}
    assert str(download.path()) == huggingface_hub.hf_hub_download(repo, file, **asked)


def test_a_folder_without_anything_in_it_is_not_here(monkeypatch, tmp_path):
    monkeypatch.setattr(iu.datasets, "ROOT", tmp_path)
    pets = downloads.image_download("pets")
    (tmp_path / "pets" / "oxford-iiit-pet" / "images").mkdir(parents=True)
    (tmp_path / "pets" / "oxford-iiit-pet" / "annotations" / "trimaps").mkdir(parents=True)
    assert pets.path() is None


def test_chapters_4_and_5_load_nothing_that_is_not_counted():
    """Names of real models in the notebooks are among the presets' downloads."""
    notebooks = Path(__file__).parents[1] / "notebooks"
    text = "".join(path.read_text() for path in notebooks.glob("0[45]*.ipynb"))
    named = {name for name in iu.rosetta.matching.zoo.LOADERS if f'\\"{name}\\"' in text and not name.startswith("sandbox/")}
    counted = {each.name for preset in PRESETS.values() for each in downloads.needs(preset)}
    assert named and named <= counted
