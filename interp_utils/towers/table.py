"""Writes docs/models.md: what can be done with each configuration that OpenCLIP lists. python -m interp_utils.towers.table"""

import copy
from pathlib import Path

import open_clip
import torch
from open_clip.model import CLIP

from . import NotCovered, describe

_TEXT = {"context_length": 4, "vocab_size": 4, "width": 8, "heads": 1, "layers": 1}
_HEAD = """# Which models can be taken apart

Written by `python -m interp_utils.towers.table` from the {count} configurations of OpenCLIP {version}; do not edit.
{exact} of them have an exact sum: embedding, heads, tokens, MLPs and neurons add up to the image representation.
`iu.load_clip` takes all of these but the ResNets, of which only the attention pool is taken apart (`iu.towers.decompose`). Direct,
second-order and indirect effects, ablations, TextSpan, maps, the logit lens and circuits serve every family. Where a family is read
out at more than a class token, what needs one says so: the tuned lens, a class token's attention to itself, ln="split", registers,
maps by relevance.

| model | family | layers x heads | patches | or why not |
|---|---|---|---|---|
"""


def row(name: str) -> tuple[bool, str]:
    """Whether a configuration has an exact sum, and its line of the table; the model is built without numbers."""
    vision = copy.deepcopy(open_clip.get_model_config(name)["vision_cfg"])
    with torch.device("meta"):
        visual = CLIP(8, vision, _TEXT).eval().visual
    try:
        tower = describe(visual)
    except NotCovered as reason:
        return False, f"| {name} | - | - | - | {reason} |"
    blocks = f"{len(tower.blocks)} x {tower.n_heads}" if tower.blocks else "-"
    return True, f"| {name} | {tower.family} | {blocks} | {tower.grid[0]} x {tower.grid[1]} | |"


def table(names: list[str]) -> str:
    """The page for some configurations."""
    rows = [row(name) for name in names]
    head = _HEAD.format(count=len(names), version=open_clip.__version__, exact=sum(exact for exact, _ in rows))
    return head + "".join(f"{line}\n" for _, line in rows)


if __name__ == "__main__":
    path = Path(__file__).parents[2] / "docs" / "models.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(table(open_clip.list_models()))
    print(f"wrote {path}")
