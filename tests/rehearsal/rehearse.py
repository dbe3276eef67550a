"""Execute the notebooks under the presets for real models, on stand-ins of all that these download.

python tests/rehearsal/rehearse.py [laptop ...] [--notebooks 01 04] [--images 24] [--narrow] [--folder kept]

What is rehearsed is all but the meaning: names, shapes, sizes, formats and memory are those of the real thing, weights and
images are random. Every cell runs, also after one that failed; the exit code is 1 where one did.
"""

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
STARTUP = "import open_clip\nopen_clip.add_model_config({folder!r})\n"  # see stand_ins.configure


def prepare(folder: Path, images: int) -> None:
    """Caches of the rehearsal's own, for this process and the kernels that it starts; to be called before the first import."""
    caches = {"HF_HOME": "hf", "TORCH_HOME": "torch", "INTERP_DATA": "data", "IPYTHONDIR": "ipython"}
    os.environ.update({variable: str(folder / name) for variable, name in caches.items()})
    os.environ.update({"HF_HUB_OFFLINE": "1", "INTERP_IMAGES": str(images), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"})
    startup = folder / "ipython" / "profile_default" / "startup" / "00-configurations.py"
    startup.parent.mkdir(parents=True, exist_ok=True)
    startup.write_text(STARTUP.format(folder=str(folder / "configs")))


def execute(path: Path, preset: str, verbose: bool, images: int | None = None) -> int:
    """How many cells failed; each is printed when it does, with the last line of its error. Then the time of a processor."""
    import nbformat
    import psutil
    from nbclient import NotebookClient

    failed, name, used = [], f"{preset} {path.name[:3].rstrip('_')}", [0.0]

    def after(cell, cell_index, execute_reply):
        answer = execute_reply["content"]
        now = psutil.Process(client.km.provisioner.pid).cpu_times()
        before, used[0] = used[0], now.user + now.system
        if verbose:
            print(f"{name} {cell.id}  {used[0] - before:.0f} s", flush=True)
        if answer["status"] == "error":
            failed.append(cell.id)
            print(f"{name} {cell.id}  {answer['ename']}: {answer['evalue']}"[:400], flush=True)
            if verbose:
                print("\n".join(answer["traceback"][-4:]), flush=True)

    client = NotebookClient(
        nbformat.read(path, as_version=4),
        timeout=1800,
        startup_timeout=600,
        kernel_name="python3",
        allow_errors=True,
        on_cell_executed=after,
        resources={"metadata": {"path": str(path.parent)}},
    )
    cut = {"INTERP_IMAGES": str(images)} if images else {}
    client.execute(env={**os.environ, "INTERP_PRESET": preset, **cut})
    print(f"{name}: {len(failed)} cells failed, {used[0]:.0f} s of a processor", flush=True)
    return len(failed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", default=["laptop"])
    parser.add_argument("--notebooks", nargs="*", default=[""], help="how their names begin")
    parser.add_argument("--images", type=int, default=24, help="of each set, as INTERP_IMAGES")
    parser.add_argument("--narrow", action="store_true", help="image towers a quarter as wide, for slow machines")
    parser.add_argument("--folder", type=Path, help="keep the stand-ins there, for another run with as many images")
    parser.add_argument("--jobs", type=int, default=1, help="so many notebooks at a time")
    parser.add_argument("-v", action="store_true", help="print the time of each cell, and whole errors")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rehearsal") as temporary:
        folder = asked.folder or temporary
        prepare(Path(folder).resolve(), asked.images)
        sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "rehearsal")]
        import stand_ins

        from interp_utils.presets import PRESETS

        stand_ins.configure(Path(folder).resolve() / "configs", asked.narrow)
        for preset in asked.presets:
            started = time.monotonic()
            stand_ins.write(PRESETS[preset], asked.images)
            print(f"{preset}: stand-ins made in {time.monotonic() - started:.0f} s", flush=True)
        paths = [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if path.name.startswith(tuple(asked.notebooks))]
        todo = [(path, preset, asked.v) for preset in asked.presets for path in paths]
        with ThreadPoolExecutor(asked.jobs) as pool:
            return int(any(pool.map(execute, *zip(*todo))))


if __name__ == "__main__":
    sys.exit(main())
