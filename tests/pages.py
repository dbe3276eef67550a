"""Reading pages that were written: what they lead to and show."""

import json
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Addresses that a page asks for (`asked`) or leads to (`links`), places in it, pictures without alt, models of its views."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.asked, self.links, self.places, self.mute, self.models, self._in = path, [], [], set(), [], [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.places |= {given["id"]} if "id" in given else set()
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif "href" in given or "src" in given:
            self.asked.append(given.get("href") or given["src"])
        self._in = "model" if given.get("type") == "application/json" else tag
        if tag == "img" and not given.get("alt"):
            self.mute.append(given["src"][:80])

    def handle_data(self, data):
        if self._in == "model":
            self.models.append(json.loads(data))

    def handle_endtag(self, tag):
        self._in = ""


def addresses_in(model):
    """Links and pictures that a view will show."""
    if isinstance(model, dict):
        for name, value in model.items():
            if name in ("link", "image") and isinstance(value, str):
                yield value
            elif name == "links":
                yield from value
            else:
                yield from addresses_in(value)
    elif isinstance(model, list):
        for each in model:
            yield from addresses_in(each)


def crawl(index: Path) -> tuple[set[Path], set[Path]]:
    """Follow every link from a page; returns the pages reached and the files they ask for.

    Raises AssertionError for a dead link, a missing file, a picture without alt, or a request to another host.
    """
    pages, files, todo = {}, set(), [index.resolve()]
    wanted = []
    while todo:
        path = todo.pop()
        if path in pages:
            continue
        page = pages[path] = Page(path)
        assert not page.mute, f"{path.name} shows pictures without words: {page.mute[:3]}"
        shown = [each for model in page.models for each in addresses_in(model)]
        for address in [*page.asked, *page.links, *shown]:
            parts = urlsplit(address)
            if address.startswith("data:") or address in page.links and parts.scheme:
                continue  # a link to elsewhere asks for nothing until it is followed
            assert not parts.scheme and not parts.netloc, f"{path.name} asks {address[:80]}"
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name} leads to {address}, which is not there"
            if target.suffix == ".html":
                todo.append(target)
                wanted += [(path, target, unquote(parts.fragment))] if parts.fragment else []
            else:
                files.add(target)
    for path, target, place in wanted:
        assert place in pages[target].places, f"{path.name} leads to a place {place!r} that {target.name} has not"
    return set(pages), files
