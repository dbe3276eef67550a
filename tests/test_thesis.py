import re

import open_clip
import pytest

from interp_utils.heads import AUTHOR_HEADS
from interp_utils.neurons import late_layers
from interp_utils.thesis import MORE_PAIRS, PAIRS, SEGMENTATION, WATERBIRDS, printed_texts, side_by_side


@pytest.mark.parametrize(("table", "layer"), [("A.3", 20), ("A.4", 21), ("A.5", 22), ("A.6", 23)])
def test_every_late_head_of_vit_l_has_its_texts(table, layer):
    texts = printed_texts(table)
    assert list(texts) == [f"L{layer}H{head}" for head in range(16)]
    assert {len(said) for said in texts.values()} <= {4, 5} and sum(len(said) == 4 for said in texts.values()) <= 2
    assert all(text == text.strip() and len(set(said)) == len(said) for said in texts.values() for text in said)


def test_the_selected_heads_are_those_of_the_long_tables():
    """All but one: table 2.2 prints under L23H12 what table A.5 prints under L22H0."""
    selected, long = printed_texts("2.2"), {unit: texts for k in range(3, 7) for unit, texts in printed_texts(f"A.{k}").items()}
    assert len(selected) == 9 and set(selected) < set(long)
    differing = {row.unit for row in side_by_side(selected, long) if row.overlap < 0.95}
    assert differing == {"L23H12"} and selected["L23H12"] == long["L22H0"]


def test_neurons_have_four_signed_texts_from_each_pool():
    layers = late_layers(open_clip.get_model_config("ViT-B-32")["vision_cfg"]["layers"])
    for table, numbers in (("3.2", {4, 391, 2137, 2914}), ("B.1", {600, 974, 1517, 2002})):
        for pool in ("words", "classes"):
            texts = printed_texts(table, pool)
            assert {tuple(map(int, re.fullmatch(r"L(\d+)N(\d+)", unit).groups())) for unit in texts} == {(9, n) for n in numbers}
            assert all(len(said) == 4 and all(text[:2] in ("+ ", "- ") for text in said) for said in texts.values())
    assert 9 in layers and printed_texts("3.2", "words")["L9N391"] == ["+ woodworking", "- swelling", "+ cedar", "+ heirloom"]


def test_what_is_not_printed_is_named():
    with pytest.raises(ValueError, match="no texts of table '2.3'; choose one of 2.2, A.3"):
        printed_texts("2.3")
    with pytest.raises(ValueError, match="table 3.2 has no texts from the pool 'general'; choose classes or words"):
        printed_texts("3.2")


def test_both_stand_side_by_side_with_their_overlap():
    thesis = {"L1H0": ["Image with a red color", "An image with dogs"], "L1H1": ["+ snowy", "- bus"], "L9H9": ["A bowl"]}
    ours = {"L1H1": ["- snowy", "- a bus"], "L1H0": ["a red colour", "dogs", "a bowl"], "L0H0": ["a bowl"]}
    first, second = side_by_side(thesis, ours)
    assert (first.unit, second.unit) == ("L1H0", "L1H1") and first.ours == ours["L1H0"] and first.thesis == thesis["L1H0"]
    assert first.overlap == 1, "frames do not count"
    assert second.overlap == 0.5, "a text of the other sign says the opposite"
    assert first.chance == second.chance == 0
    (alone,) = side_by_side({"L1H0": ["two red dogs"]}, {"L1H0": ["red dogs and cats", "blue"]})
    assert alone.overlap == 0.5 and alone.chance != alone.chance
    assert side_by_side({"a": ["x"], "b": ["y"]}, {"a": [], "b": ["x"]})[0] == ("a", ["x"], [], 0, 1)
    assert side_by_side({"a": ["a photo"]}, {"a": ["A photo"]})[0].overlap == 1, "a text of frames alone is compared by them"
    with pytest.raises(ValueError, match="no unit is in both; the thesis has L1H0, L1H1, L9H9; we have none"):
        side_by_side(thesis, {})


def test_waterbirds_numbers_agree_with_each_other():
    assert WATERBIRDS.keys() == AUTHOR_HEADS.keys()
    sizes = (2255, 2255, 642, 642)  # of the groups of the test set
    for name, printed in WATERBIRDS.items():
        assert printed.worst_group[0] == min(printed.base) and printed.worst_group[2] == min(printed.ours)
        for groups, overall in zip((printed.base, printed.ours), printed.overall):
            mean = sum(share * size for share, size in zip(groups, sizes)) / sum(sizes)
            assert (abs(mean - overall) < 0.11) == (name != "ViT-B-16/laion2b_s34b_b88k")


def test_pairs_of_classes():
    assert len(PAIRS) == 5 and len(set(MORE_PAIRS)) == len(MORE_PAIRS)
    for rates in PAIRS.values():
        assert len(rates) == 4 and rates[3] == max(rates)
    assert all(true != wrong for true, wrong in (*PAIRS, *MORE_PAIRS))


def test_the_thesis_leads_its_table_of_segmentation():
    ours = SEGMENTATION["token decomposition"]
    assert all(ours[k] > row[k] for name, row in SEGMENTATION.items() if name != "token decomposition" for k in range(3))
