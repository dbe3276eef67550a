"""The course as pages, as a reader opens them from a disk."""

import pytest
from browser.conftest import OUT, ROOT, serious_faults, watched

from interp_utils import book

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return book.write(tmp_path_factory.mktemp("book"), ROOT)


@pytest.mark.parametrize("scheme, width", [("light", 1280), ("dark", 700)])
def test_every_page_light_and_wide_dark_and_narrow(chromium, written, scheme, width):
    context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page, faults = watched(context), {}
    for path in written:
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path.name} is wider than the window"
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth)")
        page.screenshot(path=OUT / f"book_{path.stem}_{scheme}_{width}.png")
        if scheme == "light" or path.stem in ("index", "glossary", "01_opening_the_black_box"):  # the others look like these
            faults[path.name] = serious_faults(page)
    assert page.errors == [] and page.hosts <= {""}
    assert not any(faults.values()), faults
    context.close()
