"""An edit counts as done where masks say so, and not where they do not."""

import pytest
import torch

from interp_utils.rosetta import outcome, success


def boxes(*sides):
    """A mask for each list of boxes (top, left, size)."""
    masks = torch.zeros(len(sides), 64, 64, dtype=torch.bool)
    for mask, each in zip(masks, sides):
        for top, left, size in each:
            mask[top : top + size, left : left + size] = True
    return masks


MIDDLE = (24, 24, 16)


@pytest.mark.parametrize(
    "edit, done, undone",
    [
        ("right", [(24, 40, 16)], [[(24, 28, 16)], [(32, 40, 16)], [(24, 8, 16)], [MIDDLE], []]),
        ("left", [(24, 8, 16)], [[(24, 40, 16)], []]),
        ("up", [(8, 24, 16)], [[(40, 24, 16)], [(8, 34, 16)]]),
        ("down", [(40, 24, 16)], [[(8, 24, 16)]]),
        ("zoom", [(16, 16, 32)], [[(22, 22, 20)], [MIDDLE], []]),
        ("copy", [(24, 8, 16), (24, 40, 16)], [[MIDDLE], [(0, 0, 16), (0, 30, 16), (40, 0, 16)], [(24, 8, 16), (0, 60, 4)], []]),
        ("remove", [], [[MIDDLE], [(24, 24, 6)]]),
    ],
)
def test_success_is_what_was_asked_for_and_nothing_else(edit, done, undone):
    after = boxes(done, *undone)
    before = boxes([MIDDLE]).expand(len(after), -1, -1)
    assert success(edit, outcome(before, after)).tolist() == [True] + [False] * len(undone)


def test_what_nobody_asked_for_is_no_success():
    before = boxes([MIDDLE])
    still = outcome(before, before)
    assert still["growth"] == 1 and still["pieces"] == 1 and still["right"] == 0
    with pytest.raises(ValueError, match="choose right, left"):
        success("sideways", still)
    with pytest.raises(ValueError, match="an object in each mask before"):
        outcome(boxes([]), before)
