"""What fails on a GPU alone is found without one, see `other_device`."""

import os
import subprocess
import sys
from pathlib import Path

import torch

import interp_utils as iu

HERE = Path(__file__).parent


def in_pytest(*tests: str | Path, **variables: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]), "INTERP_TEST_DEVICE": "other"}
    command = [sys.executable, "-m", "pytest", *tests, "-n", "0", "-q", "-o", "addopts=--import-mode=importlib"]
    ended = subprocess.run(command, env=environment | variables, capture_output=True, text=True, cwd=HERE.parent)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]


def test_the_device_computes_as_the_cpu_does_and_functions_keep_to_it(tmp_path):
    clip = iu.load_clip("sandbox", device="cpu")
    pixels = iu.datasets.take(iu.datasets.load_task("sandbox", clip.preprocess, 3).images, range(3))[0]
    torch.save(pixels, tmp_path / "numbers.pt")
    files = HERE / "on_other_device.py", HERE / "towers" / "test_every_function.py"
    some = "the_device or class and (circuits or textspan or maps or ablations)"
    in_pytest(*files, "-k", some, INTERP_TEST_NUMBERS=str(tmp_path / "numbers.pt"))
    moved = pixels.clone().requires_grad_()
    slope = torch.autograd.grad(clip.encode_image(moved)[:, 0].sum(), moved)[0]
    expected = [iu.heads.direct_effects(clip, pixels).heads(), iu.neurons.second_order(clip, 7).norms(pixels), slope]
    expected[1][0, :2] = 1.0
    for found, each in zip(torch.load(tmp_path / "numbers.pt"), expected, strict=True):
        torch.testing.assert_close(found, each, rtol=1e-4, atol=1e-5)
