"""What fails on a GPU alone is found without one, see `other_device`."""

import os
import subprocess
import sys
from pathlib import Path

import torch

import interp_utils as iu

HERE = Path(__file__).parent
SCRIPT = """
import sys
import numpy as np, torch, interp_utils as iu, other_device
other_device.use()
clip = iu.load_clip("sandbox")
pixels = torch.load(sys.argv[1])
moved = pixels.to(clip.device).requires_grad_()
slope = torch.autograd.grad(clip.encode_image(moved)[:, 0].sum(), moved)[0]
found = iu.heads.direct_effects(clip, pixels).heads(), iu.neurons.second_order(clip, 7).norms(pixels), slope
assert all(each.device == other_device.DEVICE for each in found)
rows = found[1][:, :2]
for mixed in (
    lambda: rows + rows.cpu(),
    lambda: rows @ torch.ones(2, 2),
    lambda: torch.arange(9)[rows.argmax(0)],
    lambda: torch.stack([rows, rows.cpu()]),
    lambda: np.asarray(rows),
):
    try:
        mixed()
    except (RuntimeError, TypeError):
        continue
    sys.exit("two devices were mixed")
rows[torch.tensor([0])] = 1.0  # as a GPU takes it
torch.save([each.cpu() for each in found], sys.argv[1])
"""


def in_process(*command: str | Path, **variables: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]), **variables}
    ended = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, cwd=HERE.parent)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]


def test_the_device_computes_as_the_cpu_does_and_refuses_what_a_gpu_refuses(tmp_path):
    clip = iu.load_clip("sandbox", device="cpu")
    pixels = iu.datasets.take(iu.datasets.load_task("sandbox", clip.preprocess, 3).images, range(3))[0]
    torch.save(pixels, tmp_path / "numbers.pt")
    in_process("-c", SCRIPT, tmp_path / "numbers.pt")
    moved = pixels.clone().requires_grad_()
    slope = torch.autograd.grad(clip.encode_image(moved)[:, 0].sum(), moved)[0]
    expected = [iu.heads.direct_effects(clip, pixels).heads(), iu.neurons.second_order(clip, 7).norms(pixels), slope]
    expected[1][0, :2] = 1.0
    for found, each in zip(torch.load(tmp_path / "numbers.pt"), expected, strict=True):
        torch.testing.assert_close(found, each, rtol=1e-4, atol=1e-5)


def test_functions_keep_to_one_device():
    every, some = HERE / "towers" / "test_every_function.py", "class and (circuits or textspan or maps or ablations)"
    in_process(
        "-m", "pytest", every, "-k", some, "-n", "0", "-q", "-o", "addopts=--import-mode=importlib", INTERP_TEST_DEVICE="other"
    )
