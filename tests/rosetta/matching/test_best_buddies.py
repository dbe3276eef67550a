import pytest
import torch

from interp_utils.rosetta import (
    Correlation,
    Dictionary,
    Units,
    best_buddies,
    buddy_summary,
    build_dictionary,
    overlap_beyond_hubs,
    stability,
)


def plain(corr, k, k_row=None):
    """Eq. 4.3 with sorted lists."""
    corr, pairs = corr.tolist(), []
    columns = list(zip(*corr))
    for i, row in enumerate(corr):
        for j, value in enumerate(row):
            near_row = sorted(range(len(row)), key=lambda c: -row[c])[: k_row or k]
            near_column = sorted(range(len(corr)), key=lambda r: -columns[j][r])[:k]
            if j in near_row and i in near_column and value > 0:
                pairs.append([i, j])
    return pairs


@pytest.mark.parametrize("k", [1, 2, 5, 50])
def test_buddies_are_mutual_neighbours(k):
    corr = torch.rand(12, 17, generator=torch.Generator().manual_seed(k)) * 2 - 1
    assert best_buddies(corr, k).tolist() == plain(corr, k)
    assert best_buddies(corr, k, "published").tolist() == plain(corr, k, k_row=1)


def test_buddies_of_a_small_matrix_by_hand():
    corr = torch.tensor([[0.9, 0.8, 0.1], [0.7, 0.3, 0.2], [-0.1, -0.2, -0.05]])
    assert best_buddies(corr, 1).tolist() == [[0, 0]]  # row 1 likes column 0, which likes row 0; row 2 has negative ones only
    assert best_buddies(corr, 2).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert best_buddies(corr, 2, "published").tolist() == [[0, 0], [1, 0]]
    assert buddy_summary(corr, 2) == {"pairs": 4, "units": 2, "mean": pytest.approx(0.675)}
    assert buddy_summary(-torch.ones(2, 2)) == {"pairs": 0, "units": 0, "mean": 0.0}


def test_stability_is_the_share_of_common_pairs():
    first = torch.tensor([[0.9, 0.1], [0.1, 0.8]])
    assert stability(first, first, 1) == 1
    assert stability(first, first.flip(0), 1) == 0
    assert stability(first, torch.tensor([[0.9, 0.8], [0.1, 0.05]]), 1) == 0.5
    with pytest.raises(ValueError, match="same units"):
        stability(first, first[:1])


def matches_with_hubs(seed, common=0):
    """Two matchings of 200 units with 40, ten of the 200 near to everything, and the partners of the first twelve in each.

    The first of the twelve, as many as `common`, have the same partner in both.
    """
    generator, found = torch.Generator().manual_seed(seed), []
    for _ in range(2):
        corr = torch.rand(40, 200, generator=generator)
        corr[:, :10] += 0.4
        corr[range(common), range(100, 100 + common)] = 2.0
        pairs, chosen = best_buddies(corr), torch.zeros(200, dtype=torch.bool)
        for row in range(12):
            buddies = pairs[pairs[:, 0] == row, 1]
            chosen[buddies[corr[row, buddies].argsort()[-1:]]] = True
        found.append((corr, chosen))
    (one, first), (two, second) = found
    return first, second, [one, two]


def test_hubs_alone_come_back_no_more_often_than_by_chance():
    drawn = [matches_with_hubs(seed) for seed in range(60)]
    shared, expected, sd = torch.tensor([overlap_beyond_hubs(*each) for each in drawn], dtype=torch.float64).T
    assert (shared - expected).mean().abs() < 3 * sd.square().sum().sqrt() / len(drawn)
    naive = torch.tensor([first.sum() * second.sum() / 200 for first, second, _ in drawn])
    assert shared.mean() > 2 * naive.mean(), "to a chance that knows no hubs they would be a finding"


def test_units_that_two_references_share_come_back_beyond_hubs():
    drawn = [overlap_beyond_hubs(*matches_with_hubs(seed, common=8)) for seed in range(10)]
    shared, expected, sd = torch.tensor(drawn, dtype=torch.float64).T
    assert (shared - expected).sum() > 5 * sd.square().sum().sqrt()
    first, second, matches = matches_with_hubs(0)
    with pytest.raises(ValueError, match="two matches of the same units"):
        overlap_beyond_hubs(first[:9], second[:9], matches)


def test_overlap_by_hand():
    """Two groups of units: those with a best buddy in both matchings, 2 of 2 chosen, and four without, of which none is."""
    corr = torch.tensor([[0.9, 0.1, -1, -1, -1, -1], [0.1, 0.9, -1, -1, -1, -1]])
    first = torch.tensor([True, False, True, False, False, False])
    second = torch.tensor([True, False, False, True, True, False])
    shared, expected, sd = overlap_beyond_hubs(first, second, [corr, corr], k=1)
    assert (shared, expected) == (1, pytest.approx(1 * 1 / 2 + 1 * 2 / 4))
    assert sd == pytest.approx((0.5 * 1 * 1 / (2 * 1) + 0.5 * 3 * 2 / (4 * 3)) ** 0.5)


@pytest.mark.parametrize("corr, k, rule", [(torch.zeros(0, 3), 1, "mutual"), (torch.full((2, 2), torch.nan), 1, "mutual"),
                                           (torch.eye(2), 0, "mutual"), (torch.eye(2), 1, "other")])  # fmt: skip
def test_wrong_buddy_requests_are_refused(corr, k, rule):
    with pytest.raises(ValueError):
        best_buddies(corr, k, rule)


def correlation(a, b, left, right):
    """Of rows of values [units, images], as maps of one pixel; a and b: name -> layers and their unit counts."""
    found = Correlation(Units(a[0], *zip(*a[1])), Units(b[0], *zip(*b[1])))
    parts = [list(x.T[:, :, None, None].split([count for _, count in side[1]], 1)) for x, side in ((left, a), (right, b))]
    found.update(*parts)
    return found


@pytest.fixture
def zoo():
    """Six units of a generator: 0 and 3 show one thing, 4 another, both seen by two models; 1 is seen by the first only."""
    x = torch.randn(8, 4000, generator=torch.Generator().manual_seed(0))
    shared, other, alone = x[:3]
    generator = torch.stack([shared + 0.1 * x[3], alone, x[4], shared + 0.3 * x[5], other, x[6]])
    first = torch.stack([alone, other + 0.2 * x[7], shared])
    second = torch.stack([x[7], shared + 0.05 * x[6], other])
    g, a, b = ("G", [("top", 2), ("low", 4)]), ("A", [("p", 3)]), ("B", [("q", 1), ("r", 2)])
    return [correlation(g, a, generator, first), correlation(g, b, generator, second)], correlation(g, g, generator, generator)


def test_dictionary_holds_what_all_models_share_as_concepts(zoo):
    matches, own = zoo
    found = build_dictionary(matches, own, k=2)
    chosen = {name: r for r, name in enumerate(found.unit_names)}
    assert {"top.0", "low.1", "low.2"} <= set(chosen)
    assert found.partner_names[chosen["top.0"]] == ("p.2", "r.0") == found.partner_names[chosen["low.1"]]
    assert found.partner_names[chosen["low.2"]] == ("p.1", "r.1")
    clusters = found.clusters
    assert clusters[chosen["top.0"]] == clusters[chosen["low.1"]]
    strict = build_dictionary(matches, own, k=1)
    assert strict.unit_names == ("top.0", "low.2") and strict.clusters.tolist() == [0, 1]
    assert torch.allclose(strict.correlations[0], torch.stack([matches[0].matrix[0, 2], matches[1].matrix[0, 1]]))
    concept = strict.concepts()[0]
    assert concept[0].partners == {"A": "p.2", "B": "r.0"} and concept[0].strength > 0.9
    assert "concept 1" in str(strict) and "A:p.2" in str(strict)


def test_clusters_are_connected_components_of_rosetta_units_without_self():
    """A chain 0-1-2 is one concept, though 0 and 2 are no neighbours; unit 3, no Rosetta unit, does not bridge to 4."""
    corr = torch.eye(5)
    for i, j, value in [(0, 1, 0.9), (1, 2, 0.8), (2, 3, 0.7), (3, 4, 0.6)]:
        corr[i, j] = corr[j, i] = value
    from interp_utils.rosetta.matching.dictionary import _clusters

    def near(k):
        return best_buddies(corr.clone().fill_diagonal_(-1), k)

    units, strength = torch.tensor([0, 1, 2, 4]), torch.tensor([0.1, 0.2, 0.3, 0.9])
    assert _clusters(near(2), units, 5, strength).tolist() == [1, 1, 1, 0]
    assert _clusters(near(1), units, 5, strength).tolist() == [2, 2, 1, 0]


def test_dictionary_is_saved_loaded_and_compared(zoo, tmp_path):
    matches, own = zoo
    found = build_dictionary(matches, own, k=2)
    found.save(tmp_path / "d.safetensors")
    loaded = Dictionary.load(tmp_path / "d.safetensors")
    assert str(loaded) == str(found) and loaded.models == ("A", "B") and torch.equal(loaded.partners, found.partners)
    assert found.overlap(loaded) == {"units": 1.0, "tuples": 1.0}
    strict = build_dictionary(matches, own, k=1)
    assert found.overlap(strict)["units"] == pytest.approx(2 / len(found))
    strict.save(tmp_path / "e.safetensors")
    (tmp_path / "e.json").write_text((tmp_path / "d.json").read_text())
    with pytest.raises(ValueError, match="different dictionaries"):
        Dictionary.load(tmp_path / "e.safetensors")
    with pytest.raises(ValueError, match="different models"):
        found.overlap(build_dictionary(matches[:1], own))


def test_nothing_shared_gives_an_empty_dictionary(zoo, tmp_path):
    matches, own = zoo
    for total in (matches[0].sums["cross"], matches[1].sums["cross"]):
        total.abs_().neg_()
    found = build_dictionary(matches, own)
    assert len(found) == 0 and found.concepts() == [] and "0 Rosetta units" in str(found)
    found.save(tmp_path / "d.safetensors")
    assert len(Dictionary.load(tmp_path / "d.safetensors")) == 0


def test_correlations_that_do_not_belong_together_are_refused(zoo):
    matches, own = zoo
    with pytest.raises(ValueError, match="at least one"):
        build_dictionary([], own)
    with pytest.raises(ValueError, match="same reference"):
        build_dictionary([matches[0]], matches[1])
    with pytest.raises(ValueError, match="different models"):
        build_dictionary([matches[0], matches[0]], own)
