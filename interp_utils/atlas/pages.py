"""The atlas as static pages: they can be read without a script, and the views of `widgets.views` take their places with one."""

import html
import json
from pathlib import Path

from ..widgets.views import CSS, LIMIT, page_script
from .measure import Atlas

NOTEBOOKS = {
    "heads": "02_attention_heads",
    "neurons": "03_neurons",
    "concepts": "04_rosetta_neurons",
}  # where each kind of entry is explained


def write(atlas: Atlas, out: str | Path, notebooks: str | None = None) -> list[Path]:
    """Write the pages, their pictures and all entries as `atlas.json` into a folder; returns the pages.

    notebooks: the address of the notebooks' own pages, as seen from the folder, to link to; None for none.
    Pages of an earlier atlas in the folder are replaced.
    """
    out = Path(out)
    for part in ("heads", "neurons", "texts", "concepts", "images"):
        (out / part).mkdir(parents=True, exist_ok=True)
        for old in (out / part).iterdir():
            old.unlink()
    for number, picture in atlas.pictures.items():
        picture.save(out / "images" / f"{number}.webp", quality=90)
    (out / "atlas.css").write_text(CSS + _PAGE_CSS, encoding="utf-8")
    (out / "atlas.js").write_text(page_script(), encoding="utf-8")
    entries = {
        "about": atlas.about,
        "heads": atlas.heads,
        "neurons": atlas.neurons,
        "texts": atlas.texts,
        "concepts": atlas.concepts,
    }
    (out / "atlas.json").write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    text_pages = {entry["text"]: f"texts/{k}.html" for k, entry in enumerate(atlas.texts)}
    pages = {"index.html": _index(atlas, notebooks)}
    for group in (atlas.heads, atlas.neurons):
        for k, entry in enumerate(group):
            near = (group[k - 1]["name"] if k else None, group[k + 1]["name"] if k + 1 < len(group) else None)
            kind = "neurons" if "neuron" in entry else "heads"
            pages[f"{kind}/{entry['name']}.html"] = _unit(entry, kind, near, text_pages, atlas.captions, notebooks)
    pages |= {text_pages[entry["text"]]: _text(entry, atlas.captions) for entry in atlas.texts}
    for k, entry in enumerate(atlas.concepts):
        near = (str(k - 1) if k else None, str(k + 1) if k + 1 < len(atlas.concepts) else None)
        pages[f"concepts/{k}.html"] = _concept(entry, near, atlas.captions, notebooks)
    for name, content in pages.items():
        (out / name).write_text(content, encoding="utf-8")
    return [out / name for name in pages]


def _index(atlas: Atlas, notebooks: str | None) -> str:
    about, heads = atlas.about, atlas.heads
    scores = {"variance that the first texts explain": [head["explained"] for head in heads]}
    kinds = sorted({kind for head in heads for kind in head["kinds"]})
    scores |= {f"texts about {kind}": [head["kinds"].get(kind, 0.0) for head in heads] for kind in kinds}
    factors = list(heads[0].get("truth", {}))
    scores |= {f"truth: {factor}": [head["truth"][factor] for head in heads] for factor in factors}
    model = {
        "rows": about["layers"], "columns": about["heads"], "scores": scores, "shown": next(iter(scores)),
        "picked": (about["layers"] - 1) * about["heads"], "label": "heads",
        "notes": ["; ".join(text["text"] for text in head["texts"][:3]) for head in heads],
        "links": [f"heads/{head['name']}.html" for head in heads],
    }  # fmt: skip
    rows = "".join(
        f"<tr><td>{_link(head['name'], link)}</td><td>{head['explained']:.0%}</td><td>{html.escape(note)}</td></tr>"
        for head, link, note in zip(heads, model["links"], model["notes"])
    )
    table = f"<table><tr><th>head</th><th>explained</th><th>first texts</th></tr>{rows}</table>"
    neurons = "".join(
        f"<li>{_link(each['name'], 'neurons/' + each['name'] + '.html')}: {html.escape(_signed(each['texts'][:3]))}</li>"
        for each in atlas.neurons
    )
    concepts = "".join(
        f"<li>{_link(each['name'], f'concepts/{k}.html')}: {len(each['members'])} × {html.escape(each['units'][0]['unit'])}"
        f" and alike{_object(each)}</li>"
        for k, each in enumerate(atlas.concepts)
    )
    texts = "".join(
        f"<li>{_link(entry['text'], f'texts/{k}.html')} ({len(entry['heads'])} heads, {len(entry['neurons'])} neurons)</li>"
        for k, entry in sorted(enumerate(atlas.texts), key=lambda item: item[1]["text"].casefold())
    )
    said = (
        f"{about['layers']} layers of {about['heads']} heads, measured on {about['images']} images with {about['pool']} texts to "
        "choose from. A head is described by the texts along which what it writes varies most (TextSpan), a neuron by few texts "
        "with signs that add up to its direction."
    )
    truth = (
        "<p>Colours named <i>truth</i> show the share of a head's variance that a known factor of the images explains.</p>"
        if factors
        else ""
    )
    body = (
        f"<h1>Atlas of {html.escape(about['model'])}</h1><p>{said}</p>{truth}<h2>Heads</h2>"
        f"{_view('head_grid', model, table)}<details><summary>All heads as a table</summary>{table}</details>"
        + (f"<h2>Neurons</h2><p>Those with the largest effects in each layer.</p><ul>{neurons}</ul>" if neurons else "")
        + (f"<h2>Concepts</h2><p>{_SHARED}.</p><ul>{concepts}</ul>" if concepts else "")
        + f"<h2>Texts</h2><p>Every text that names one of these.</p>{_SEARCH}<ul id='texts'>{texts}</ul>"
    )
    return _page(
        f"Atlas of {about['model']}", body, "", _explained(["heads", "neurons", *(["concepts"] if concepts else [])], notebooks, "")
    )


def _unit(entry: dict, kind: str, near: tuple, text_pages: dict[str, str], captions: dict[int, str], notebooks: str | None) -> str:
    name, above = entry["name"], "../"
    if kind == "heads":
        percent, label = True, "variance explained by each text, and the images that say most of it through this head"
    else:
        percent, label = False, "weight of each text in the neuron's direction"
    value = "explained" if percent else "weight"
    texts = [
        {
            "text": text["text"], "value": text[value], "link": above + text_pages[text["text"]],
            "images": _images(text.get("images", []), captions),
        }
        for text in entry["texts"]
    ]  # fmt: skip
    images = _images(entry.get("images", []), captions)
    model = {"label": label, "texts": texts, "images": images, "percent": percent}
    facts = []
    if entry.get("truth"):
        ranked = sorted(entry["truth"].items(), key=lambda item: -item[1])
        facts.append("True factors: " + ", ".join(f"{html.escape(factor)} {max(share, 0):.0%}" for factor, share in ranked[:5]))
    if entry.get("kinds"):
        kinds = ", ".join(f"{html.escape(k)} {share:.0%}" for k, share in entry["kinds"].items())
        facts.append(f"Variance by kind of text, first ten texts: {kinds}")
    if entry.get("neighbours"):
        links = (f"{_link(n['name'], n['name'] + '.html')} ({n['overlap']:.0%})" for n in entry["neighbours"])
        facts.append("Heads whose texts overlap most: " + ", ".join(links))
    if "one_direction" in entry:
        facts.append(f"One direction carries {entry['one_direction']:.0%} of its largest effects")
    if not entry["texts"]:
        facts.append("It writes the same for all images: no text describes it")
    said = "".join(f"<li>{fact}.</li>" for fact in facts)
    summed = f" The texts here explain {entry['explained']:.0%} of its variance." if percent else ""
    what = f"{'Head' if percent else 'Neuron'} {name}"
    body = f"<h1>{what}</h1><p>{_MAPS[kind]}{summed}</p><ul>{said}</ul>{_view('unit_card', model, _plain(texts, images, percent))}"
    steps = [_link(f"{word} {other}", f"{other}.html") for word, other in zip(("before:", "next:"), near) if other]
    return _page(what, body, above, steps + _explained([kind], notebooks, above))


def _text(entry: dict, captions: dict[int, str]) -> str:
    named = [
        {
            "text": unit["name"],
            "value": unit["explained" if kind == "heads" else "weight"],
            "link": f"../{kind}/{unit['name']}.html",
        }
        for kind in ("heads", "neurons")
        for unit in sorted(entry[kind], key=lambda unit: -abs(unit.get("explained", unit.get("weight"))))
    ]
    images = _images(entry["images"], captions)
    label = "share of a head's variance, or weight in a neuron's direction"
    model = {"label": label, "texts": named, "images": images, "percent": False}
    true = ""
    if "true" in entry:
        true = f" It is true of {entry['true']} of these {len(images)} images, and of {entry['base']:.1%} of all."
    body = (
        f"<h1>“{html.escape(entry['text'])}”</h1><p>The heads and neurons that it names, and the images closest to it, with what "
        f"each patch writes toward it through all heads.{true}</p>{_view('unit_card', model, _plain(named, images, False))}"
    )
    return _page(entry["text"], body, "../", [])


def _concept(entry: dict, near: tuple, captions: dict, notebooks: str | None) -> str:
    above, units = "../", entry["units"]
    images = [
        {"image": f"{above}images/{each['number']}.webp", "alt": captions[each["number"]], "maps": each["maps"]}
        for each in entry["images"]
    ]
    notes = ["" if unit["correlation"] is None else f"r\u00a0=\u00a0{unit['correlation']:.2f}" for unit in units]
    model = {
        "units": [{"name": f"{unit['model']} {unit['unit']}", "note": note} for unit, note in zip(units, notes)],
        "images": images, "limit": LIMIT, "measure": "standard deviations from the mean",
    }  # fmt: skip
    rows = "".join(
        f"<tr><td>{html.escape(unit['model'])}</td><td>{html.escape(unit['unit'])}</td><td>{note}</td></tr>"
        for unit, note in zip(units, notes)
    )
    plain = f"<table><tr><th>model</th><th>unit</th><th>correlation</th></tr>{rows}</table>{''.join(map(_img, images))}"
    members = ", ".join(f"{html.escape(each['unit'])} ({each['strength']:.2f})" for each in entry["members"])
    body = (
        f"<h1>{entry['name'].capitalize()}</h1><p>{_SHARED}{_object(entry)}.</p>{_view('concept_board', model, plain)}"
        f"<p>Units of this concept, with the mean correlation with their partners: {members}.</p>"
    )
    steps = [_link(f"{word} concept {k}", f"{k}.html") for word, k in zip(("before:", "next:"), near) if k]
    return _page(entry["name"], body, above, steps + _explained(["concepts"], notebooks, above))


def _object(entry: dict) -> str:
    return f"; correlation with the true object {entry['object']:.2f}".replace("-", "−") if "object" in entry else ""


def _images(shown: list[dict], captions: dict[int, str]) -> list[dict]:
    """Images of one row, their maps on one scale."""
    limit = max((abs(value) for image in shown for row in image["map"] for value in row), default=0.0)
    return [
        {
            "image": f"../images/{image['number']}.webp", "alt": captions[image["number"]], "map": image["map"], "limit": limit,
        }
        for image in shown
    ]  # fmt: skip


def _plain(texts: list[dict], images: list[dict], percent: bool) -> str:
    """The same as a unit card, without maps: for browsers without scripts."""
    form = "{:.1%}" if percent else "{:+.2f}"
    shown = "".join(
        f"<li>{form.format(text['value'])} {_link(text['text'], text['link'])}<br>{''.join(map(_img, text.get('images', [])))}</li>"
        for text in texts
    )
    return f"<ul>{shown}</ul>{''.join(map(_img, images))}"


def _signed(texts: list[dict]) -> str:
    return ", ".join(f"{'+' if text['weight'] > 0 else '−'} {text['text']}" for text in texts)


def _img(image: dict) -> str:
    return f'<img src="{image["image"]}" alt="{html.escape(image["alt"])}" width="96" height="96">'


def _link(words: str, address: str) -> str:
    return f'<a href="{html.escape(address)}">{html.escape(words)}</a>'


def _view(name: str, model: dict, instead: str) -> str:
    data = json.dumps(model, ensure_ascii=False).replace("<", "\\u003c")
    return f'<div data-view="{name}"><script type="application/json">{data}</script>{instead}</div>'


def _explained(kinds: list[str], notebooks: str | None, above: str) -> list[str]:
    if notebooks is None:
        return []
    return [_link(f"about {kind}", f"{above}{notebooks}/{NOTEBOOKS[kind]}.html") for kind in kinds]


def _page(title: str, body: str, above: str, links: list[str]) -> str:
    steps = " · ".join([_link("atlas", f"{above}index.html"), *links] if above else links)
    return (
        f'<!doctype html><html lang="en" class="iu-page"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><link rel="stylesheet" href="{above}atlas.css"></head><body><nav>{steps}</nav>'
        f'<main>{body}</main><script src="{above}atlas.js"></script></body></html>'
    )


_MAPS = {
    "heads": "Below each text stand the images that say most of it through this head; a map shows which patches do, less what they "
    "say of the mean text: red speaks for it, blue against it.",
    "neurons": "Its texts with their signs, and the images on which it has its largest effects, with where it is active.",
}
_SHARED = (
    "Units of a generator that have a partner in every model that sees; those that answer alike are one concept. Shown are the "
    "strongest unit and its partners, on drawn images where the generator's map is highest"
)
_SEARCH = """<p><label>search <input id="search" type="search"></label></p><script>
document.getElementById("search").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const item of document.querySelectorAll("#texts li")) item.hidden = !item.textContent.toLowerCase().includes(wanted);
});</script>"""
_PAGE_CSS = """
html { color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.5; background: #fff; color: #1b1b1b; }
a { color: #0b57d0; }
@media (prefers-color-scheme: dark) { html { background: #121212; color: #e8e8e8; } a { color: #8ab4f8; } }
body { margin: 0 auto; max-width: 60rem; padding: 0.5rem 1rem 3rem; overflow-wrap: anywhere; }
nav { padding: 0.4rem 0; }
h1 { font-size: 1.6rem; }
h2 { font-size: 1.2rem; }
td, th { text-align: left; padding: 0.1rem 0.8rem 0.1rem 0; vertical-align: top; overflow-wrap: break-word; }
#texts { columns: 18rem; }
"""
