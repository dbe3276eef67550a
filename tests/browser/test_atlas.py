"""The atlas as a reader opens it from a disk."""

import json

import open_clip
import pytest
from browser.conftest import OUT, serious_faults, watched
from small_clips import get_tokenizer, noise, tiny_model

import interp_utils as iu
from interp_utils import atlas
from interp_utils.atlas.__main__ import with_concepts
from interp_utils.sandbox.known import mining

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("atlas")
    clip = iu.Clip(tiny_model(layers=4), open_clip.image_transform(32, is_train=False), get_tokenizer("ViT-B-32"))
    pool = iu.texts.Pool(["a cat", "a ship", "snow", "<i>odd</i> & “text”"], ["object", "object", "weather", ""])
    found = atlas.measure(clip, [(image, 0) for image in noise(clip, 12)], pool, n_texts=3, n_neurons=2)
    atlas.write(with_concepts(found, mining.mine(("sandbox/viewers/resnet", "sandbox/viewers/mae_vit"), n=12), 10), out)
    return out


def entry(folder, head: str) -> dict:
    return next(each for each in json.loads((folder / "atlas.json").read_text())["heads"] if each["name"] == head)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 700])
def test_every_kind_of_page_in_light_and_dark_wide_and_narrow(chromium, folder, scheme, width):
    context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page, faults = watched(context), {}
    neuron = min((folder / "neurons").iterdir()).name
    for name in ("index.html", "heads/L2H1.html", f"neurons/{neuron}", "texts/0.html", "concepts/0.html"):
        page.goto((folder / name).as_uri())
        assert page.locator("[data-view] > *").count(), "a view that was not drawn"
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "wider than the window"
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth)")
        page.screenshot(path=OUT / f"atlas_{name.split('/')[0].removesuffix('.html')}_{scheme}_{width}.png")
        faults[name] = serious_faults(page)
    assert page.errors == [] and page.hosts <= {""}
    assert not any(faults.values()), faults
    context.close()


def test_the_head_grid_by_mouse_and_keys(chromium, folder):
    page = watched(chromium.new_context())
    page.goto((folder / "index.html").as_uri())
    grid = page.get_by_role("grid")
    said = page.locator("[data-view=head_grid] .iu-said")
    grid.get_by_role("link", name="L1H2:").hover()
    assert said.inner_text().startswith("L1H2: ")
    cell = grid.get_by_role("link", name="L3H0:")
    cell.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("L2H1: ")
    before = cell.get_attribute("aria-label")
    page.get_by_label("colour:").select_option("texts about weather")
    assert cell.get_attribute("aria-label") != before and "texts about weather" in grid.get_attribute("aria-label")
    page.keyboard.press("Tab")
    grid.get_by_role("link", name="L2H1:").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/heads/L2H1.html")
    assert page.errors == []


def test_a_patch_tells_its_value_without_a_kernel(chromium, folder):
    page = watched(chromium.new_context())
    page.goto((folder / "heads" / "L2H1.html").as_uri())
    values = entry(folder, "L2H1")["texts"][0]["images"][0]["map"]
    first = page.locator("[data-view=unit_card] figure").first
    cell = first.get_by_role("gridcell").nth(4 * 2 + 3)  # the third row, the fourth column
    cell.hover()
    said = first.locator(".iu-said").inner_text()
    place, value = said.split(": ")
    assert place == "row 3, column 4" and float(value.replace("−", "-")) == pytest.approx(values[2][3], rel=0.05)
    cell.focus()
    page.keyboard.press("ArrowLeft")
    assert first.locator(".iu-said").inner_text().startswith("row 3, column 3")
    assert page.errors == []


def test_a_place_is_read_in_all_models_of_a_concept(chromium, folder):
    page = watched(chromium.new_context())
    page.goto((folder / "concepts" / "0.html").as_uri())
    concept = json.loads((folder / "atlas.json").read_text())["concepts"][0]
    first, second = page.locator("[data-view=concept_board] .iu-images").all()[:2]
    box = first.locator(".iu-map").nth(1).bounding_box()
    page.mouse.move(box["x"] + 0.01 * box["width"], box["y"] + 0.99 * box["height"])  # the lower left corner
    said = page.locator("[data-view=concept_board] > .iu-said")
    for unit, each in zip(concept["units"], concept["images"][0]["maps"]):
        value = f"{each[-1][0]:+.2f}".replace("-", "−")
        assert f"{unit['model']} {unit['unit']} {value}" in said.inner_text()
    page.mouse.move(0, 0)
    page.locator(".iu-board").focus()
    for _ in range(5):
        page.keyboard.press("ArrowDown")  # from the middle over the lower edge into the next image
    assert second.locator(".iu-mark").first.is_visible() and not first.locator(".iu-mark").first.is_visible()
    assert page.errors == []


def test_pages_can_be_read_without_scripts(chromium, folder):
    page = chromium.new_context(java_script_enabled=False).new_page()
    page.goto((folder / "heads" / "L2H1.html").as_uri())
    text = entry(folder, "L2H1")["texts"][0]["text"]
    assert page.get_by_role("link", name=text).count() == 1 and page.locator("main img").count()
    page.goto((folder / "index.html").as_uri())
    assert page.get_by_role("link", name="L2H1").first.is_visible()
