"""Execute the notebooks under the presets for real models, on stand-ins of all that these download.

python tests/rehearsal/rehearse.py [laptop ...] [--notebooks 01 04] [--size narrow] [--images 24] [--folder kept]

What is rehearsed is all but the meaning: names, shapes, formats and files are those of the real thing, weights and images are
random. Image towers keep their patches, heads and joint space; their width is cut, and where a notebook runs a model thousands
of times its depth (`PLAN`, `sizes.SIZES`). Every preset has notebooks on towers of full depth. The models of
some notebooks (`ON_OTHER_DEVICE`), or with --other-device of all, lie on a device of their own, as on a GPU, so that a cell which
mixes tensors of two devices fails here too. Every cell runs, also after one that failed; the exit code is 1 where one did.
`sandbox`, where nothing is made up, runs only when it is asked for: rehearse.py sandbox --other-device
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import psutil
import sizes
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

ROOT = Path(__file__).parents[2]
PATHS = (ROOT, ROOT / "tests", ROOT / "tests" / "rehearsal")
STARTUP = "import sizes\nfrom pathlib import Path\nsizes.use({size!r}, Path({folder!r}))\ndel sizes, Path\n"
ELSEWHERE = "import other_device\nother_device.use()\ndel other_device\n"
PLAN = {  # of each notebook: size of the image towers, images of a set; at most 25 minutes in all on two cores
    "laptop": {
        "01": ("real", 12), "02": ("narrow", 24), "03": ("narrow", 24), "04": ("real", 24),
        "05a": ("narrow", 72), "05b": ("narrow", 72), "05c": ("narrow", 24),
    },
    "colab": {
        "01": ("shallow", 16), "02": ("narrow", 16), "03": ("shallow", 24), "04": ("narrow", 16),
        "05a": ("shallow", 72), "05b": ("shallow", 40), "05c": ("shallow", 24),
    },
    "paper": {
        "01": ("shallow", 16), "02": ("narrow", 16), "03": ("narrow", 24), "04": ("narrow", 3),
        "05a": ("shallow", 72), "05b": ("shallow", 40), "05c": ("shallow", 24),
    },
    "sandbox": {name: ("drawn", 0) for name in ("01", "02", "03", "04", "05a", "05b", "05c")},
}  # fmt: skip
DRAWN = "drawn"  # the size of the sandbox's models, which are there
ON_OTHER_DEVICE = {("laptop", "02"), ("laptop", "05a"), ("laptop", "05b")}  # and those that are asked for
BIG_GAN = "torch/hub/checkpoints/biggan-deep-256-pytorch_model.bin"


def environment(folder: Path, size: str) -> dict[str, str]:
    """Variables for processes that make or load stand-ins of a size: caches of the rehearsal's own, and no network."""
    caches = {"HF_HOME": "hf", "TORCH_HOME": "torch", "INTERP_DATA": "../data"}
    paths = [*map(str, PATHS), *filter(None, [os.environ.get("PYTHONPATH")])]
    offline = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}
    return {**os.environ, **offline, **{variable: str(folder / size / name) for variable, name in caches.items()}}


def make_stand_ins(folder: Path, size: str, images: int, presets: list[str]) -> None:
    script = [sys.executable, PATHS[-1] / "stand_ins.py", size, folder / size, str(images), *presets]
    subprocess.run(script, env=environment(folder, size), check=True)


def execute(path: Path, preset: str, size: str, images: int, folder: Path, elsewhere: bool = False, verbose: bool = False) -> int:
    """How many cells failed; each is printed when it does, with the last line of its error."""
    failed, name, used, started = [], f"{preset} {path.name.split('_')[0]}", [0.0], time.monotonic()

    def after(cell, cell_index, execute_reply):
        answer, times = execute_reply["content"], psutil.Process(client.km.provisioner.pid).cpu_times()
        before, used[0] = used[0], times.user + times.system
        if verbose:
            print(f"{name} {cell.id}  {used[0] - before:.0f} s", flush=True)
        if answer["status"] == "error":
            failed.append(cell.id)
            print(f"{name} {cell.id}  {answer['ename']}: {answer['evalue']}"[:400], flush=True)
            if verbose:
                print("\n".join(answer["traceback"][-4:]), flush=True)

    apart = tempfile.mkdtemp(dir=folder)  # what cells write here must not be found by a run on real models
    startup = Path(apart) / "ipython" / "profile_default" / "startup" / "00.py"
    startup.parent.mkdir(parents=True)
    of_size = STARTUP.format(size=size, folder=str(folder / size)) if size != DRAWN else ""
    startup.write_text(of_size + (ELSEWHERE if elsewhere else ""))
    client = NotebookClient(
        nbformat.read(path, as_version=4),
        timeout=1800,
        startup_timeout=600,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        allow_errors=True,
        on_cell_executed=after,
        resources={"metadata": {"path": apart}},
    )
    variables = {"INTERP_PRESET": preset, "IPYTHONDIR": str(startup.parents[2])}
    if size != DRAWN:
        variables["INTERP_IMAGES"] = str(images)
    if path.name.startswith("04") and (big_gan := folder / size / BIG_GAN).exists():
        variables["REHEARSED_BIGGAN"] = hashlib.sha256(big_gan.read_bytes()).hexdigest()
    try:
        client.execute(env=environment(folder, size) | variables)
    except (DeadKernelError, CellTimeoutError) as error:
        failed.append("kernel")
        print(f"{name}: {error}"[:400], flush=True)
    times = f"{used[0]:.0f} s of a processor, {time.monotonic() - started:.0f} s in all"
    print(f"{name}, {size}, {images} images: {len(failed)} cells failed; {times}", flush=True)
    return len(failed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", default=["laptop", "colab", "paper"], help="by default laptop, colab, paper")
    parser.add_argument("--notebooks", nargs="*", help="how their names begin; by default all that have a plan")
    parser.add_argument("--size", choices=sizes.SIZES, help="of all image towers")
    parser.add_argument("--images", type=int, help="of each set, as INTERP_IMAGES")
    parser.add_argument("--folder", type=Path, help="keep the stand-ins there, for another run")
    parser.add_argument("--jobs", type=int, default=2, help="so many notebooks at a time")
    parser.add_argument("--other-device", action="store_true", help="put all models on the device that is not there")
    parser.add_argument("-v", action="store_true", help="print the time of each cell, and whole errors")
    asked = parser.parse_args()
    if unknown := set(asked.presets) - set(PLAN):
        parser.error(f"no plan for {', '.join(unknown)}; there are {', '.join(PLAN)}")
    todo, left_out, started = [], set(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rehearsal") as temporary:
        folder = (asked.folder or Path(temporary)).resolve()
        for preset in asked.presets:
            for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
                plan = PLAN[preset].get(path.name.split("_")[0])
                if path.name.startswith(tuple(asked.notebooks)) if asked.notebooks else plan:
                    size, images = plan or ("narrow", 24)
                    elsewhere = asked.other_device or (preset, path.name.split("_")[0]) in ON_OTHER_DEVICE
                    todo.append((path, preset, asked.size or size, asked.images or images, folder, elsewhere, asked.v))
                elif not asked.notebooks:
                    left_out.add(path.name)
        if not todo:
            parser.error(f"no notebook begins with {' or '.join(asked.notebooks)}")
        most = max(images for _, _, _, images, *_ in todo)
        for size in dict.fromkeys(size for _, _, size, *_ in todo if size != DRAWN):
            presets = dict.fromkeys(preset for _, preset, own, *_ in todo if own == size)
            make_stand_ins(folder, size, most, presets)
        print(f"stand-ins made in {time.monotonic() - started:.0f} s", flush=True)
        with ThreadPoolExecutor(asked.jobs) as pool:
            failures = sum(pool.map(execute, *zip(*todo)))
    print(f"{failures} cells failed, {(time.monotonic() - started) / 60:.1f} minutes")
    if left_out:
        print(f"not rehearsed, unless --notebooks asks for it: {', '.join(sorted(left_out))}")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
