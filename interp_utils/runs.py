"""The file of a pass over a dataset: what it has gathered, where it is, and which run it belongs to."""

import importlib.metadata
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .fingerprints import Hasher
from .processes import merge, rank_and_count, wait
from .saved import read, write

NEEDED = ("count", "merge", "state_dict", "load_state_dict")  # of a statistic that is saved


@dataclass
class Progress:
    """Where a process is in its part of a dataset."""

    batches: int = 0  # that all statistics have seen
    images: int = 0
    skipped: list = field(default_factory=list)  # [number, why]
    most: int = 2**62  # images at a time that fit in memory


def contents(model, images, statistics: Sequence[tuple], places: Sequence[int], batch_size: int, ln: str | None) -> dict[str, str]:
    """What a run is a run of, part by part: two runs of the same contents give the same."""
    of = Hasher().of
    about = {
        "weights of the model": of(getattr(model, "model", model)),
        "preprocessing": of(getattr(model, "preprocess", None)),
        "ln": f"{ln or getattr(model, 'ln', None)}",
        "number of images in the dataset": f"{len(images)}",
        "listing of the dataset": of(images),
        "choice of images": of(list(places)),
        "batch size": f"{batch_size}",
        "number of statistics": f"{len(statistics)}",
    }
    for k, (statistic, view) in enumerate(statistics, 1):
        about[f"statistic {k}, {type(statistic).__name__}"] = of([statistic, view])
    return about | {"version of interp_utils": version()}


def version() -> str:
    """This package's version."""
    try:
        return importlib.metadata.version("interp-utils")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # where it runs from its folder


def check_same(path: Path, there: dict[str, str], here: dict[str, str]) -> None:
    """Raises ValueError, with what differs, where a file there is not of the run here."""
    pairs = {part: (there.get(part), here.get(part)) for part in {**there, **here}}
    differs = [f"{part} ({_shown(one)} there, {_shown(other)} here)" for part, (one, other) in pairs.items() if one != other]
    if differs:
        raise ValueError(f"{path} belongs to another run: it differs in {'; '.join(differs)}. Give this run another save_to")


class Run:
    """A pass with a file, which several processes share: each has a part of its own beside it until all are done.

    path: where the result stands in the end; every: seconds from one writing of what is there to the next.
    """

    def __init__(self, path: str | Path, about: dict[str, str], every: float, device):
        rank, self.processes = rank_and_count()
        self.path, self.about, self.every, self.device = Path(path), about, every, device
        beside = self.path.with_name(f"{self.path.stem}.{rank + 1}of{self.processes}{self.path.suffix}")
        self.first, self.own, self.written = rank == 0, beside if self.processes > 1 else self.path, time.monotonic()

    def resume(self, statistics: Sequence, progress: Progress) -> bool:
        """Bring statistics and progress to where the file is, if there is one; whether the run is finished.

        Raises TypeError for statistics that cannot be saved, ValueError for those that have seen something, and where the file
        belongs to another run.
        """
        lacking = [type(each).__name__ for each in statistics if not all(hasattr(each, name) for name in NEEDED)]
        if lacking:
            raise TypeError(f"a {lacking[0]} cannot be saved: it needs {', '.join(NEEDED)}, as `moments.Statistic` has them")
        if any(statistic.count for statistic in statistics):
            raise ValueError("save_to needs statistics that have seen nothing yet: make them anew; the file has the rest")
        path = self.path if self.path.exists() else self.own
        if not path.exists():
            return False
        (state, of), about = read(path, self.device)
        check_same(path, about, self.about)
        if path != self.own and not of["finished"]:
            raise ValueError(f"{path} was begun by one process and has no end yet: go on with one, or name another file")
        for statistic, each in zip(statistics, state, strict=True):
            statistic.load_state_dict(each)
        vars(progress).update(of["progress"])
        if of["finished"] and path != self.own:
            self.own.unlink(missing_ok=True)  # a process that was killed at the very end may have left it
        return of["finished"]

    def write(self, statistics: Sequence, progress: Progress) -> None:
        """What this process has gathered so far."""
        self._write(self.own, statistics, progress, False)

    def write_if_due(self, statistics: Sequence, progress: Progress) -> None:
        if time.monotonic() - self.written >= self.every:
            self.write(statistics, progress)

    def finish(self, statistics: Sequence, progress: Progress) -> None:
        """The whole result, by the first process; then the parts are of no more use."""
        if self.first:
            self._write(self.path, statistics, progress, True)
        wait()
        if self.own != self.path:
            self.own.unlink(missing_ok=True)

    def _write(self, path: Path, statistics: Sequence, progress: Progress, finished: bool) -> None:
        state = [statistic.state_dict() for statistic in statistics]
        write(path, [state, {"progress": asdict(progress), "finished": finished}], self.about)
        self.written = time.monotonic()


def merged(statistics: Sequence, progress: Progress) -> None:
    """Bring statistics and progress of all processes together, in the order of their ranks; see `processes.merge`."""
    all_progress = [Progress(**each) for each in merge(statistics, asdict(progress))]
    progress.batches, progress.images = (sum(getattr(each, name) for each in all_progress) for name in ("batches", "images"))
    progress.skipped = sorted(each for one in all_progress for each in one.skipped)


def _shown(part: str | None) -> str:
    return "nothing" if part is None else part[:12]
