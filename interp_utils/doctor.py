"""What works on this machine, on one screen, and what to do about the rest: python -m interp_utils.doctor

Where the package itself cannot be imported, because part of it is not installed: python interp_utils/doctor.py
Nothing is downloaded, and no model is loaded but the sandbox's. The exit code is 0 where the sandbox preset works, else 1.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

if not __package__:  # run as a file: its own folder, with a `statistics.py` and the like, must not hide Python's modules
    sys.path[0] = str(Path(__file__).resolve().parents[1])

GIB = 2**30
SPARE = 4 * GIB  # of a disk: more than the largest file that the laptop preset fetches, unpacked
MEMORY = {"sandbox": 2, "laptop": 4, "colab": 16, "paper": 16}  # GiB; on the CPU 2 to work in, and twice the CLIP's weights
ON_GPU = ("colab", "paper")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "firefox")


class Line(NamedTuple):
    """What was found out of one thing: `mark` is "ok", "warn" (something is missing that not all need) or "bad"."""

    mark: str
    what: str
    found: str
    advice: str = ""


def python() -> Line:
    """Whether Python's version is one that pyproject.toml asks for."""
    from packaging.specifiers import SpecifierSet

    wanted, have = _declared()[0], platform.python_version()
    good = SpecifierSet(wanted).contains(have, prereleases=True)
    found = f"{have} at {sys.executable}, {platform.system()} {platform.machine()}"
    return Line(
        "ok" if good else "bad", "Python", found, "" if good else f"need {wanted}; make a new environment with such a Python"
    )


def packages() -> Line:
    """Whether all that pyproject.toml asks for is installed, in a version that it allows."""
    from packaging.requirements import Requirement

    wrong = []
    for each in map(Requirement, _declared()[1]):
        if each.marker is not None and not each.marker.evaluate({"extra": ""}):
            continue
        try:
            have = importlib.metadata.version(each.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{each} is not installed")
            continue
        if not each.specifier.contains(have, prereleases=True):
            wrong.append(f"{each.name} is {have}, need {each.specifier}")
    if wrong:
        return Line(
            "bad", "packages", "; ".join(wrong), 'run `make lab`, or `pip install -e ".[lab]"`, in the folder of the course'
        )
    return Line("ok", "packages", "all that pyproject.toml asks for")


def _declared() -> tuple[str, list[str]]:
    """Which Python and packages the course needs: from pyproject.toml, or from what was installed of it."""
    file = Path(__file__).parents[1] / "pyproject.toml"
    if file.exists():
        import tomllib

        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        return project["requires-python"], project["dependencies"]
    return importlib.metadata.metadata("interp-utils")["Requires-Python"], importlib.metadata.requires("interp-utils") or []


def device() -> Line:
    """Torch, how it was built, and the device that models go to."""
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}" if torch.version.hip else "no CUDA"
    about = f"torch {torch.__version__} ({build}, {torch.get_num_threads()} threads)"
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        found = f"{about}: {torch.cuda.get_device_name()}, {_size(free)} of {_size(total)} free"
        return Line("ok", "device", found)
    if torch.backends.mps.is_available():
        return Line("ok", "device", f"{about}: Apple's MPS, which shares the memory below")
    if shutil.which("nvidia-smi"):
        advice = "this machine has NVIDIA's driver, but torch finds no GPU: install the build that https://pytorch.org names for it"
        return Line("warn", "device", f"{about}: the CPU", advice)
    return Line("ok", "device", f"{about}: the CPU")


def memory() -> Line:
    """Main memory, as far as the system and its container let us have it."""
    total, free = ram()
    enough = free >= MEMORY["sandbox"] * GIB
    advice = "" if enough else f"the sandbox's notebooks need {MEMORY['sandbox']} GiB: close other programs"
    return Line("ok" if enough else "warn", "memory", f"{_size(free)} of {_size(total)} free", advice)


def ram(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> tuple[int, int]:
    """Bytes of main memory: in all, and free."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = free = os.sysconf("SC_PHYS_PAGES") * page
    if (proc / "meminfo").exists():
        rows = dict(line.split(":") for line in (proc / "meminfo").read_text().splitlines())
        free = int(rows["MemAvailable"].split()[0]) * 1024
    limit, used = cgroup / "memory.max", cgroup / "memory.current"
    if limit.exists() and used.exists() and limit.read_text().strip().isdigit():  # a container may have less
        allowed = int(limit.read_text())
        total, free = min(total, allowed), min(free, max(0, allowed - int(used.read_text())))
    return total, free


def disk() -> list[Line]:
    """Room where downloads are kept, and whether we may write there."""
    lines = []
    for what, folder in caches().items():
        there = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(there).free
        found, advice = f"{folder}, {_size(free)} free", ""
        if not os.access(there, os.W_OK):
            advice = f"cannot write there; set {_VARIABLE[what]} to a folder of yours"
        elif free < SPARE:
            advice = f"the real presets want {_size(SPARE)} and more; set {_VARIABLE[what]} to a folder on a larger disk"
        lines.append(Line("warn" if advice else "ok", what, found, advice))
    return lines


_VARIABLE = {"weights": "HF_HOME", "torch's weights": "TORCH_HOME", "image sets": "INTERP_DATA"}


def caches() -> dict[str, Path]:
    """The folders that hold downloads: of OpenCLIP and timm, of torch, and of image sets."""
    import torch
    from huggingface_hub.constants import HF_HUB_CACHE

    from interp_utils import datasets

    return {"weights": Path(HF_HUB_CACHE), "torch's weights": Path(torch.hub.get_dir()), "image sets": datasets.ROOT}


def jupyter() -> Line:
    """Whether notebooks open here, with the Python that runs this."""
    advice = 'run `make lab`, or `pip install -e ".[lab]"`; other editors with notebooks need `pip install ipykernel`'
    try:
        have = importlib.metadata.version("jupyterlab")
        from jupyter_client.kernelspec import KernelSpecManager
    except ImportError:
        return Line("warn", "Jupyter", "JupyterLab is not installed", advice)
    folder = KernelSpecManager().find_kernel_specs().get("python3")
    if folder is None:
        return Line("warn", "Jupyter", f"JupyterLab {have}, without a Python kernel", "pip install ipykernel")
    runs = json.loads((Path(folder) / "kernel.json").read_text())["argv"][0]
    if os.path.isabs(runs) and not os.path.realpath(runs) == os.path.realpath(sys.executable):
        return Line("warn", "Jupyter", f"JupyterLab {have}; its kernel runs {runs}", "python -m ipykernel install --sys-prefix")
    return Line("ok", "Jupyter", f"JupyterLab {have}, with a kernel of this Python")


def widgets() -> Line:
    """Whether ipywidgets is here, and JupyterLab finds its part that runs in the browser."""
    from jupyter_core.paths import jupyter_path

    have = importlib.metadata.version("ipywidgets")
    folders = [Path(each) / "@jupyter-widgets" / "jupyterlab-manager" for each in jupyter_path("labextensions")]
    folder = next((each for each in folders if (each / "package.json").exists()), None)
    if folder is None:
        advice = "pip install jupyterlab_widgets, into the Python that starts JupyterLab; until then explorers show one picture"
        return Line("warn", "widgets", f"ipywidgets {have}; JupyterLab does not find its extension", advice)
    return Line("ok", "widgets", f"ipywidgets {have}, extension {json.loads((folder / 'package.json').read_text())['version']}")


def browser() -> Line:
    """A browser that tests can drive, if there is one; the course runs without."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    return Line("ok", "browser", found or "none on the PATH; JupyterLab prints an address that you can open elsewhere")


def sandbox() -> Line:
    """Whether the sandbox preset works: its CLIP loads, sees an image, and its parts add up to the whole."""
    import torch

    import interp_utils as iu

    clip = iu.load_clip("sandbox", device="cpu")
    task = iu.datasets.load_task("sandbox", clip.preprocess, 2)
    pixels = torch.stack([task.images[k][0] for k in range(2)])
    with torch.no_grad():
        error = (iu.heads.direct_effects(clip, pixels).total() - clip.encode_image(pixels)).abs().max().item()
    if not error < 1e-4:
        return Line(
            "bad", "sandbox", f"the parts of its CLIP miss its output by {error:.1g}", "report this with the whole of this text"
        )
    return Line("ok", "sandbox", f"works; the parts of its CLIP add up to its output to {error:.0e}")


def presets() -> list[Line]:
    """What each preset needs of memory and downloads, and what of it is here."""
    import torch
    from huggingface_hub.constants import HF_HUB_OFFLINE

    from interp_utils.downloads import needs
    from interp_utils.presets import PRESETS

    gpu = torch.cuda.mem_get_info()[1] if torch.cuda.is_available() else 0
    lines = []
    for name, preset in PRESETS.items():
        wanted, advice = MEMORY[name] * GIB, []
        if name in ON_GPU and gpu < 0.9 * wanted:  # a card of 16 GB shows 15 GiB and less
            advice.append(f"needs a GPU of {MEMORY[name]} GB, found " + (_size(gpu) if gpu else "none"))
        elif name not in ON_GPU and ram()[0] < wanted:
            advice.append(f"needs {MEMORY[name]} GiB of memory")
        every = list(needs(preset))
        missing = [each for each in every if each.path() is None]
        fetched, by_hand = ([each.name for each in missing if each.automatic is kind] for kind in (True, False))
        if fetched:
            how = "HF_HUB_OFFLINE is set, so these are not fetched" if HF_HUB_OFFLINE else "fetched when first used"
            advice.append(f"{how}: {', '.join(fetched)}")
        if by_hand:
            advice.append(f"to be put into {caches()['image sets']} by hand: {', '.join(by_hand)}")
        found = f"{len(every) - len(missing)} of {len(every)} downloads are here" if every else "needs no download"
        lines.append(Line("warn" if advice else "ok", f"preset {name}", found, "; ".join(advice)))
    return lines


def _size(n: int) -> str:
    return f"{n / GIB:.1f} GiB"


CHECKS: tuple[Callable[[], Line | list[Line]], ...] = (
    python, packages, device, memory, disk, jupyter, widgets, browser, sandbox, presets,
)  # fmt: skip


def examine(checks) -> list[Line]:
    """One line or several for each check. One that raises is bad for the sandbox itself, else a warning with its message."""
    lines = []
    for check in checks:
        try:
            found = check()
        except Exception as error:  # a broken machine raises anything, and this is for broken machines
            mark = "bad" if check.__name__ == "sandbox" else "warn"
            found = Line(mark, check.__name__, f"could not find out: {type(error).__name__}: {error}"[:300], _repair(error))
        lines += found if isinstance(found, list) else [found]
    return lines


def _repair(error: Exception) -> str:
    return f"pip install {error.name}" if isinstance(error, ModuleNotFoundError) and error.name else ""


def screen(lines: list[Line], width: int = 120) -> str:
    """The lines as text, the advice below what it is about."""
    room = max(len(line.what) for line in lines)
    text = []
    for line in lines:
        text += textwrap.wrap(f"{line.mark:5}{line.what:{room}}  {line.found}", width, subsequent_indent=" " * (room + 7))
        indent = " " * (room + 7)
        text += textwrap.wrap(line.advice, width, initial_indent=indent + "-> ", subsequent_indent=indent + "   ")
    return "\n".join(text)


def main(checks=CHECKS) -> int:
    lines = examine(checks)
    works = any(line.what == "sandbox" and line.mark == "ok" for line in lines)
    print(screen(lines))
    print(
        "\nThe sandbox preset works: open the notebooks."
        if works
        else "\nThe sandbox preset does not work here; mend what is bad first."
    )
    return 0 if works else 1


if __name__ == "__main__":
    sys.exit(main())
