"""The file of a run: read where it is there, written by the first process, and never taken for another run's."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..fingerprints import fingerprint
from ..models import Clip
from ..processes import rank_and_count, wait
from ..runs import check_same, version
from ..saved import read, write
from ..stream import in_pass, memory


def about_run(clip: Clip, images: Sequence, ln: str | None, options: dict) -> dict[str, str]:
    """What decides the numbers of a run, but for what it asks."""
    return {
        "clip": clip.name, "weights": fingerprint(clip.model), "preprocessing": fingerprint(clip.preprocess),
        "ln": clip.checked_ln(ln), "images": f"{len(images)}", "listing of the dataset": fingerprint(images),
        "choice of images": fingerprint(options.get("numbers")), "version of interp_utils": version(),
    }  # fmt: skip


def kept_in(path: Path | None, about: dict[str, str], device, passes: Callable[[], object]) -> tuple:
    """What the file holds where it is there, else what `passes()` gives, which the first process writes; and its `about`.

    A file may have more statistics than are asked for. Raises ValueError, with what differs, for one of another run.
    """
    if path and path.exists():
        found, own = read(path, device)
        there = {part: each for part, each in own.items() if part in about or part not in ("texts", "top images")}
        if set(about["statistics"].split(",")) <= set(there.get("statistics", "").split(",")):
            there |= {"statistics": about["statistics"]}
        check_same(path, there, about)
        return found, own
    found = passes()
    if path and rank_and_count()[0] == 0:
        write(path, found, about)
        for number in (1, 2):  # the files of the passes are of no more use
            in_pass(number, {"save_to": path})["save_to"].unlink(missing_ok=True)
    wait()
    return found, about


def kept_meanwhile(images: Sequence, path) -> dict:
    """For `feed`: passes without a file share what they find in a small set. Those with one take the same memory for any set."""
    return {} if path else {"kept": memory(images)}
