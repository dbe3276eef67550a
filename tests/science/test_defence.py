"""Fine-tuning on adversarial images: a part of the saved table comes out again, and only what shall learn learns."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from interp_utils import sandbox as world
from interp_utils.science import defence
from interp_utils.statistics import mean_interval


@pytest.fixture(scope="module")
def lexicon(sandbox):
    return defence.Lexicon(sandbox)


def test_a_part_of_the_saved_table_comes_out_again(sandbox, lexicon):
    saved, some = defence.saved()["sandbox"]["none"], slice(4)
    for test, words, n in (("similar words", lexicon.similar, defence.N_TESTED), ("clean", None, defence.N_CLEAN)):
        seen = sandbox.encode_image(defence.tested_images("other", lexicon, words, n, 4))
        found = defence.right_by_pair(F.normalize(seen, dim=-1), lexicon, defence.pairs()["other"][some])
        assert np.allclose(found, saved[test]["other"][some], atol=1.01 / n), "one image may lie on the edge"
    named = defence.named_by_pair(seen, world.zero_shot_classifier(sandbox, "object"), defence.pairs()["other"][some])
    assert np.allclose(named, saved["named"]["other"][some], atol=1.01 / defence.N_CLEAN)


def test_the_saved_table_has_all_arms_and_trainings():
    table = defence.saved()
    assert table.keys() == set(defence.CLIPS) and all(each.keys() == set(defence.ARMS) for each in table.values())
    shares = np.array(
        [[each[arm][test][group] for arm in defence.ARMS for test in defence.TESTS for group in defence.GROUPS]
         for each in table.values()]
    )  # fmt: skip
    assert shares.shape[2] == defence.N_KINDS and 0 <= shares.min() <= shares.max() <= 1
    of = {arm: np.mean([each[arm]["old attack"]["tuned"] for each in table.values()], 0) for arm in defence.ARMS}
    assert mean_interval(of["adversarial"] - of["ordinary"]).above(0), "tuning on attacks helps against them"


def test_staged_images_show_the_true_kind_and_never_the_wrong_one(lexicon):
    pair = defence.pairs()["tuned"][0]
    images = defence.staged(lexicon, lexicon.similar, pair, 12, 0)
    shown = defence.shown_in(images, pair)
    assert shown[:, 0].all() and not shown[:, 1].any()
    assert sum(len(image.factors.others) for image in images) > 6, "further things stand beside it"
    other = defence.staged(lexicon, lexicon.by_lot(0), pair, 12, 0)
    assert [image.factors for image in images] != [image.factors for image in other]


def test_what_shall_learn_learns_and_nothing_else(sandbox, lexicon, tmp_path):
    members = defence.pairs()["tuned"][:4]
    kinds = [true for true, _ in members]
    images = [image for k, pair in enumerate(members) for image in defence.staged(lexicon, lexicon.similar, pair, 4, k)]
    labels, targets = torch.arange(4).repeat_interleave(4), lexicon.encode(kinds)
    tokens = defence.lower(sandbox, defence.pixels_of(images))
    shown = defence.shown_in(images, kinds)
    tuned = defence.tune(sandbox, tokens, shown, labels, targets, tmp_path / "tuned.pt", 6)

    def right(clip):
        scores = defence.upper(clip.visual, tokens) @ targets.T
        return scores.softmax(1)[range(16), labels].mean()

    with torch.no_grad():
        assert right(tuned) > right(sandbox)
        assert torch.allclose(defence.upper(sandbox.visual, tokens), F.normalize(sandbox.encode_image(defence.pixels_of(images))))
    changed = {name.split(".")[0:4][-1] if "resblocks" in name else name for name, new in tuned.model.named_parameters()
               if not torch.equal(new, dict(sandbox.model.named_parameters())[name])}  # fmt: skip
    assert changed == {"8", "9", "visual.proj", "visual.ln_post.weight", "visual.ln_post.bias"}
    again = defence.tune(sandbox, tokens, shown, labels, targets, tmp_path / "tuned.pt", 6)  # from its checkpoint: no step
    assert torch.equal(again.visual.proj, tuned.visual.proj)
