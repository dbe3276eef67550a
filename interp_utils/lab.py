"""Open the course in JupyterLab, on copies of the notebooks that are the reader's own: python -m interp_utils.lab

What you do in `my_notebooks/` changes no file of the course, and nothing of yours there is ever written over. Options go on to
JupyterLab.
"""

import filecmp
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = Path(__file__).with_name("lab_settings")  # defaults of JupyterLab; what you set yourself goes first
COPIES = "my_notebooks"


def copies(root: Path) -> list[Path]:
    """Copy the notebooks that are not there yet into `my_notebooks/`; returns the copies that differ from the course's."""
    folder, changed = root / COPIES, []
    folder.mkdir(exist_ok=True)
    for notebook in sorted((root / "notebooks").glob("*.ipynb")):
        mine = folder / notebook.name
        if not mine.exists():
            shutil.copyfile(notebook, mine)
        elif not filecmp.cmp(notebook, mine, shallow=False):
            changed.append(mine)
    return changed


def command(root: Path) -> list[str]:
    """How JupyterLab is started: the first notebook open, and beside it nothing but notebooks."""
    first = min((root / COPIES).glob("*.ipynb")).name
    return [
        sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}", f"--LabApp.app_settings_dir={SETTINGS}",
        f"--LabApp.default_url=/lab/tree/{COPIES}/{first}",
    ]  # fmt: skip


def main(options: list[str]) -> int:
    if not (ROOT / "notebooks").is_dir():
        raise SystemExit(
            f"no notebooks beside {Path(__file__).parent}: start this in a clone of the course, installed by `make lab`"
        )
    for mine in copies(ROOT):
        print(f"kept your {mine.relative_to(ROOT)}; delete it to start afresh from the course's")
    return subprocess.call([*command(ROOT), *options])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
