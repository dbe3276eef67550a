"""Files of torch.save, read without torch.load: by the same machine and within the same budget as NVIDIA's pickles."""

import io
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from .inert import Budget, Node, read_inert
from .tensors import announced, as_dict, in_storages, numbers, read_old_format, tensor, unpickling_errors, what

DEEPEST = 64  # levels of containers in one another


def read_torch_file(path: str | Path) -> Any:
    """What torch.save wrote, in its new or its old format, as long as it is made of tensors and plain values. Runs nothing of it.

    An OrderedDict comes as a dict. Raises UnpicklingError for a damaged file and for one that would need code of its own.
    """
    path = Path(path)
    with path.open("rb") as file, unpickling_errors(path, "a file of torch.save with tensors alone"):
        budget, zipped = Budget(path.stat().st_size), file.read(4) == b"PK\x03\x04"
        file.seek(0)
        content, storages = (_read_new_format if zipped else read_old_format)(file, budget)
        return _Plain(storages, budget)(content)


class _SmallReads:
    """A file for zipfile, which reads the whole list of entries at once: `most` says how long that may be."""

    def __init__(self, file: BinaryIO, most: int):
        self.file, self.most, self.seek, self.tell, self.seekable = file, most, file.seek, file.tell, file.seekable

    def read(self, n: int = -1) -> bytes:
        if n > self.most:
            raise ValueError(f"{n} bytes of a zip file are wanted at once, more than {self.most}")
        return self.file.read(n)


def _read_new_format(file: BinaryIO, budget: Budget) -> tuple[Any, dict[str, Tensor]]:
    """Content and storages of a zip file with one pickle and, uncompressed, the raw bytes of each storage."""
    source = _SmallReads(file, 70_000 + budget.size // 4)
    with zipfile.ZipFile(source) as archive:
        source.most = budget.size
        entries = {entry.filename: entry for entry in archive.infolist()}

        def entry(name: str) -> zipfile.ZipInfo:
            found = entries[name]
            if found.compress_type != zipfile.ZIP_STORED or not found.file_size == found.compress_size <= budget.size:
                raise ValueError(f"the entry {name} is compressed, or larger than the file")
            return found

        (main,) = (name for name in entries if name.endswith("/data.pkl"))
        root, names = main.removesuffix("data.pkl"), []
        if root + "byteorder" in entries and archive.read(entry(root + "byteorder")) != b"little":
            raise ValueError("written by a big-endian machine")
        content = read_inert(io.BytesIO(archive.read(entry(main))), budget, names)
        storages = {}
        for place, (dtype, count) in announced(names, budget).items():
            found = entry(f"{root}data/{place}")
            if found.file_size != count * dtype.itemsize:
                raise ValueError(f"storage {place} has {found.file_size} bytes, but {count} numbers were announced")
            with archive.open(found) as raw:
                storages[place] = numbers(raw, dtype, count, budget)
    return content, storages


class _Plain:
    """Turns what a pickle describes into tensors, texts, numbers, lists, tuples and dicts."""

    def __init__(self, storages: dict[str, Tensor], budget: Budget):
        self.find, self.budget, self.known = in_storages(storages), budget, {}

    def __call__(self, value: Any, depth: int = 0) -> Any:
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        if depth > DEEPEST:
            raise ValueError(f"values are nested more than {DEEPEST} deep, or without end")
        if id(value) not in self.known:
            self.known[id(value)] = self._converted(value, depth + 1)
        return self.known[id(value)]

    def _converted(self, value: Any, depth: int) -> Any:
        pairs = as_dict(value, self.budget)
        if pairs is not None:
            self.budget.spend(200 * (1 + len(pairs)))
            if any(isinstance(name, Node) for name in pairs):
                raise ValueError("the names in a dict must be texts or small integers")
            return {name: self(item, depth) for name, item in pairs.items()}
        if isinstance(value, list | tuple):
            self.budget.spend(100 * (1 + len(value)))
            return type(value)(self(item, depth) for item in value)
        if not isinstance(value, Node):
            raise ValueError(f"it holds a {what(value)}")
        return tensor(value, self.find, self.budget)
