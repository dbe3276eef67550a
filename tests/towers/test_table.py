"""The table of models is what its script writes."""

from pathlib import Path

import open_clip

from interp_utils.towers import table

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()


def test_every_configuration_has_its_line():
    rows = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.splitlines() if line.startswith("| ")][1:]
    assert f"OpenCLIP {open_clip.__version__}" not in PAGE or rows == open_clip.list_models()


def test_lines_are_as_the_script_writes_them():
    for name in ("ViT-B-32", "coca_ViT-B-32", "RN50", "EVA02-B-16", "ViT-B-16-SigLIP2", "convnext_base"):
        assert table.row(name)[1] in PAGE.splitlines()
