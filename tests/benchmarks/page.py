"""Tables that programs write into pages."""

from pathlib import Path


def marks(name: str) -> tuple[str, str]:
    """The lines between which a table stands."""
    return f"<!-- {name} -->", f"<!-- end of {name} -->"


def put_in(page: Path, name: str, text: str) -> str:
    """Replace what stands between the marks of a page; what stood there. Raises ValueError for a page without them."""
    first, last = marks(name)
    before, start, rest = page.read_text().partition(first)
    old, end, after = rest.partition(last)
    if not (start and end):
        raise ValueError(f"{page} has no place for this table; put the lines {first} and {last} where it belongs")
    page.write_text(f"{before}{start}\n{text}\n{end}{after}")
    return old.strip()
