"""The atlas says what the package measures, and its pages lead nowhere but to each other."""

import json

import open_clip
import pytest
import torch
from pages import crawl
from small_clips import get_tokenizer, noise, tiny_model

import interp_utils as iu
from interp_utils import atlas
from interp_utils.atlas.__main__ import main, with_concepts
from interp_utils.sandbox.known import mining, units

POOL = iu.texts.Pool([f"text {k}" for k in range(8)] + ["<b>& “quoted”</b>"], ["odd", "even"] * 4 + [""])


@pytest.fixture(scope="module")
def found():
    preprocess = open_clip.image_transform(32, is_train=False)
    clip = iu.Clip(tiny_model(layers=4), preprocess, get_tokenizer("ViT-B-32"))
    images = [(image, 0) for image in noise(clip, 12)]
    return clip, images, atlas.measure(clip, images, POOL, n_texts=3, n_images=2, n_neurons=2)


@pytest.fixture(scope="module")
def mined():
    """One model of chapter 4, and what the known generator shares with it."""
    return mining.mine(("sandbox/viewers/resnet",), n=12)


@pytest.fixture(scope="module")
def pages(found, mined, tmp_path_factory):
    out, book = tmp_path_factory.mktemp("atlas"), tmp_path_factory.getbasetemp() / "book"
    book.mkdir()
    for name in ("02_attention_heads", "03_neurons", "04_rosetta_neurons"):
        (book / f"{name}.html").write_text(f"<title>{name}</title>")
    return out, atlas.write(with_concepts(found[2], mined, 10), out, notebooks="../book")


def test_crawl_no_dead_link_no_missing_picture_no_other_host(pages):
    out, written = pages
    reached, files = crawl(written[0])
    assert reached == {page.resolve() for page in [*written, *(out.parent / "book").iterdir()]}, "a page that no link leads to"
    pictures = {file for file in files if file.suffix == ".webp"}
    assert pictures == {file.resolve() for file in (out / "images").iterdir()}, "a picture that no page shows"
    for file in (out / "atlas.js", out / "atlas.css", out / "index.html"):
        assert not any(word in file.read_text(encoding="utf-8") for word in ("http:", "https:", "//cdn", "@import", "fetch("))


def test_every_head_the_strongest_neurons_and_all_their_texts_have_a_page(found, pages):
    clip, _, made = found
    out, _ = pages
    assert len(made.heads) == clip.n_layers * clip.n_heads
    assert len(made.neurons) == 2 * 3, "two of each layer that a later head reads"
    named = {text["text"] for entry in (*made.heads, *made.neurons) for text in entry["texts"]}
    assert {entry["text"] for entry in made.texts} == named
    assert len(list((out / "texts").iterdir())) == len(named)
    saved = json.loads((out / "atlas.json").read_text(encoding="utf-8"))
    assert saved["heads"] == made.heads and saved["neurons"] == made.neurons and saved["texts"] == made.texts


def test_texts_and_maps_are_the_packages_own(found):
    clip, images, made = found
    features = clip.encode_text(POOL.texts)
    entry = made.heads[2 * clip.n_heads + 1]
    span = iu.heads.textspan(iu.heads.head_moments(clip, images)[2, 1], features, POOL.texts, 10)
    assert [text["text"] for text in entry["texts"]] == span.texts[:3] and entry["name"] == "L2H1"
    assert entry["explained"] == pytest.approx(span.explained[:3].sum().item())
    shown = entry["texts"][1]["images"]
    scores = []
    for number in range(len(images)):
        effects = iu.heads.direct_effects(clip, images[number][0][None])
        length = effects.total().norm()
        scores.append((effects.heads()[0, 2, 1] @ features[span.indices[1]] / length).item())
        if number == shown[0]["number"]:
            toward = features[span.indices[1]] - features.mean(0)
            expected = (effects.head_tokens(2, 1)[0, 1:] @ toward / length).unflatten(0, clip.grid)
    assert [image["number"] for image in shown] == sorted(range(12), key=lambda k: -scores[k])[:2]
    assert torch.allclose(torch.tensor(shown[0]["map"]), expected, rtol=0.01, atol=1e-6)


def test_a_concept_shows_its_strongest_unit_in_every_model(found, mined):
    made = with_concepts(found[2], mined, 10)
    concepts = mined.dictionary.concepts()
    assert len(made.concepts) == len(concepts) > 0
    entry, strongest = made.concepts[0], concepts[0][0]
    assert [unit["unit"] for unit in entry["units"]] == [strongest.unit, strongest.partners["sandbox/viewers/resnet"]]
    assert entry["units"][1]["correlation"] == pytest.approx(strongest.correlations["sandbox/viewers/resnet"])
    assert entry["object"] == pytest.approx(mining.with_objects(mined.generator)[strongest.number].item())
    z, kinds, _ = mining.chosen(10)
    images, maps = mined.generator(units.style(mined.generator, z), kinds)
    every = iu.rosetta.unit_map(maps, mined.generator.units, strongest.number)
    every = (every - every.mean()) / every.std()
    order = every.flatten(1).amax(1).argsort(descending=True)[:3].tolist()
    assert [image["number"] for image in entry["images"]] == [f"drawn_{k}" for k in order]
    assert torch.allclose(torch.tensor(entry["images"][0]["maps"][0]), every[order[0]], rtol=0.01, atol=1e-4)
    assert made.captions[f"drawn_{order[0]}"].endswith(iu.sandbox.known.KINDS[order[0] % 10])


def test_pages_of_an_earlier_atlas_go(found, tmp_path):
    atlas.write(found[2], tmp_path)
    (tmp_path / "heads" / "L9H9.html").write_text("old")
    atlas.write(found[2], tmp_path)
    assert not (tmp_path / "heads" / "L9H9.html").exists()
    assert "02_attention_heads" not in (tmp_path / "index.html").read_text(encoding="utf-8"), "no notebooks, no link"


def test_text_of_a_pool_is_escaped(pages):
    for page in pages[1]:
        assert "<b>&" not in page.read_text(encoding="utf-8")


def test_too_little_to_measure_on(found):
    clip, images, _ = found
    with pytest.raises(ValueError, match="at least two images and one text"):
        atlas.measure(clip, images[:1], POOL, n_images=1)
    with pytest.raises(ValueError, match="at least two images and one text"):
        atlas.measure(clip, images, iu.texts.Pool([], []))


def test_on_the_sandbox_the_truth_is_told(tmp_path, capsys):
    """Through the command, on few images: shares of true factors, and how often a text is true."""
    main(["--n-images", "40", "--neurons", "0", "--mined", "0", "--out", str(tmp_path)])
    saved = json.loads((tmp_path / "atlas.json").read_text(encoding="utf-8"))
    assert set(saved["heads"][0]["truth"]) == set(iu.sandbox.FACTORS)
    assert saved["neurons"] == [] and "open" in capsys.readouterr().out
    images = iu.datasets.load_task("sandbox", None, 40).images
    facts = iu.sandbox.fact_of_prompt()
    told = [entry for entry in saved["texts"] if "true" in entry]
    assert told
    for entry in told[:20]:
        caption = iu.sandbox.Caption(entry["text"], (facts[entry["text"].casefold()],))
        holds = iu.sandbox.truth([caption], images.specs)[0]
        assert entry["base"] == pytest.approx(holds.mean())
        assert entry["true"] == sum(holds[image["number"]] for image in entry["images"])


def test_a_folder_of_images_and_a_file_of_texts(tmp_path, found, monkeypatch):
    folder, file = tmp_path / "photos", tmp_path / "texts.txt"
    folder.mkdir()
    for k, picture in found[2].pictures.items():
        picture.save(folder / f"{k}.png")
    file.write_text("a cat\na ship\nsnow\n", encoding="utf-8")
    clip = found[0]
    monkeypatch.setattr(iu, "load_clip", lambda name: clip)
    main(["--clip", "tiny", "--images", str(folder), "--texts", str(file), "--neurons", "1", "--out", str(tmp_path / "out")])
    saved = json.loads((tmp_path / "out" / "atlas.json").read_text(encoding="utf-8"))
    assert {text["text"] for head in saved["heads"] for text in head["texts"]} <= {"a cat", "a ship", "snow"}
    assert "truth" not in saved["heads"][0]
