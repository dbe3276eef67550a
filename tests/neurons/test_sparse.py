import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import orthogonal_mp

from interp_utils.neurons import SparseTexts, omp, sparse_texts, text_atoms


def draw(seed, n=5, atoms=40, width=12):
    """Targets and atoms of unequal length, float64."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.rand(atoms, 1, generator=generator, dtype=torch.double) + 0.5
    return (
        torch.randn(n, width, generator=generator, dtype=torch.double),
        lengths * torch.randn(atoms, width, generator=generator, dtype=torch.double),
    )


def dense(indices, weights, n_atoms):
    """Weights of all atoms, [n, T]."""
    return torch.zeros(len(weights), n_atoms, dtype=weights.dtype).scatter_add_(1, indices.clamp(min=0), weights)


def by_sklearn(targets, atoms, size):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # "ended prematurely", where atoms depend on each other
        found = orthogonal_mp(atoms.T.numpy(), targets.T.numpy(), n_nonzero_coefs=size)
    return torch.from_numpy(found.reshape(len(atoms), len(targets)).T)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_equals_scikit_learn(seed, size):
    targets, atoms = draw(seed)
    indices, weights = omp(targets, atoms, size)
    expected = by_sklearn(targets, atoms, size)
    assert indices.shape == weights.shape == (5, size) and all(len(set(row)) == size for row in indices.tolist())
    torch.testing.assert_close(dense(indices, weights, 40), expected, rtol=1e-7, atol=1e-9)
    assert torch.equal(dense(indices, weights, 40).sign(), expected.sign())
    rest = targets - torch.einsum("ns,nsE->nE", weights, atoms[indices])
    assert torch.einsum("nE,nsE->ns", rest, atoms[indices]).abs().max() < 1e-10, "what is left is orthogonal to what was taken"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_invariances(seed, random):
    """A scaled target scales its weights, permuted atoms permute the picks, and each target is coded for itself."""
    targets, atoms = draw(seed)
    indices, weights = omp(targets, atoms, 6)
    scale = torch.tensor([[random.uniform(0.01, 100)] for _ in range(5)], dtype=torch.double)
    same, scaled = omp(-scale * targets, atoms, 6)
    assert torch.equal(same, indices)
    torch.testing.assert_close(scaled, -scale * weights, rtol=1e-7, atol=1e-9)
    mixed = torch.tensor(random.sample(range(40), 40))
    moved, unmoved = omp(targets, atoms[mixed], 6)
    assert torch.equal(mixed[moved], indices)
    torch.testing.assert_close(unmoved, weights, rtol=1e-7, atol=1e-9)
    flipped, negated = omp(targets, -atoms, 6)
    assert torch.equal(flipped, indices)
    torch.testing.assert_close(negated, -weights, rtol=1e-7, atol=1e-9)
    for k in range(5):
        assert torch.equal(omp(targets[k : k + 1], atoms, 6)[0], indices[k : k + 1])


def test_shorter_codes_are_prefixes_and_many_targets_come_in_portions():
    targets, atoms = draw(3, n=700)
    indices, weights = omp(targets, atoms, 8)  # more than one portion
    left = torch.full((700,), torch.inf, dtype=torch.double)
    for size in (1, 3, 8):
        shorter, own = omp(targets, atoms, size)
        assert torch.equal(shorter, indices[:, :size])
        rest = (targets - torch.einsum("ns,nsE->nE", own, atoms[shorter])).norm(dim=1)
        assert (rest < left).all()
        left = rest
    assert torch.equal(omp(targets[650:], atoms, 8)[0], indices[650:])
    first = (targets @ atoms.T).abs().argmax(1)
    assert torch.equal(indices[:, 0], first)
    torch.testing.assert_close(omp(targets, atoms, 1)[1][:, 0], (targets * atoms[first]).sum(1) / atoms[first].square().sum(1))


def test_a_target_of_few_atoms_needs_no_more():
    """Orthogonal atoms of unequal length: exactly those of the sum are taken, and then nothing."""
    basis, _ = torch.linalg.qr(torch.randn(12, 12, dtype=torch.double, generator=torch.Generator().manual_seed(0)))
    atoms = torch.arange(1, 13)[:, None] * basis
    targets = torch.stack([2 * atoms[3] - 0.25 * atoms[7], torch.zeros(12).double(), -atoms[11], atoms.sum(0)])
    indices, weights = omp(targets, atoms, 10)
    assert indices[0].tolist() == [3, 7, *[-1] * 8] and indices[1].tolist() == [-1] * 10 and indices[2].tolist() == [11, *[-1] * 9]
    assert indices[3].tolist() == list(range(11, 1, -1)), "of equal weights, the longest atoms come first"
    torch.testing.assert_close(weights[0], torch.tensor([2, -0.25, *[0] * 8], dtype=torch.double))
    assert not weights[1].any() and weights[2, 0].item() == pytest.approx(-1) and not weights[2, 1:].any()
    texts = SparseTexts([str(k) for k in range(12)], atoms, targets, indices, weights)
    torch.testing.assert_close(texts.reconstruct()[:3], targets[:3])
    assert texts.of(1) == [] and texts.of(2) == [("11", pytest.approx(-1))]


@pytest.mark.parametrize("kind", ["duplicates", "low rank", "zeros"])
def test_dependent_atoms_end_with_nothing_left(kind):
    targets, atoms = draw(1, n=4, atoms=10, width=6)
    if kind == "duplicates":
        atoms = torch.cat([atoms, atoms, -2 * atoms])
    elif kind == "low rank":
        atoms = torch.randn(30, 3, dtype=torch.double, generator=torch.Generator().manual_seed(2)) @ atoms[:3]
        targets = targets[:, :3] @ atoms[:3]
    else:
        atoms = torch.cat([torch.zeros(4, 6).double(), atoms])
    rank = 3 if kind == "low rank" else 6
    indices, weights = omp(targets, atoms, 10)
    assert (indices[:, :rank] >= 0).all() and (indices[:, rank:] == -1).all() and not weights[:, rank:].any()
    torch.testing.assert_close(dense(indices, weights, len(atoms)) @ atoms, targets)
    if kind == "duplicates":
        assert all(len({k % 10 for k in row[:6]}) == 6 for row in indices.tolist()), "an atom and its copies count once"
    torch.testing.assert_close(SparseTexts([], atoms, targets, indices, weights).reconstruct(), targets)
    nothing = omp(targets, torch.zeros_like(atoms), 3)
    assert (nothing[0] == -1).all() and not nothing[1].any()


def test_what_no_atom_can_say_stays_unsaid():
    """Atoms of rank 3 and targets outside of their span: three picks, and the projection on the span is what is rebuilt."""
    targets, atoms = draw(8, n=4, atoms=3, width=6)
    pool = torch.cat([atoms, torch.randn(20, 3, dtype=torch.double, generator=torch.Generator().manual_seed(2)) @ atoms])
    indices, weights = omp(targets, pool, 6)
    assert (indices[:, :3] >= 0).all() and (indices[:, 3:] == -1).all()
    projection = targets @ torch.linalg.pinv(atoms) @ atoms
    texts = SparseTexts([], pool, targets, indices, weights)
    for size in (3, 4, 6):
        torch.testing.assert_close(texts.reconstruct(size), projection)
    torch.testing.assert_close(dense(indices, weights, 23) @ pool, projection)


def test_float32_is_close():
    targets, atoms = draw(4, n=20, atoms=200, width=64)
    exact, rough = omp(targets, atoms, 10), omp(targets.float(), atoms, 10)
    assert rough[1].dtype == torch.float32 and torch.equal(rough[0], exact[0])
    torch.testing.assert_close(rough[1].double(), exact[1], rtol=1e-3, atol=1e-4)
    spanned = (3 * atoms[5] + atoms[6] - atoms[7]).float()[None]
    indices, weights = omp(spanned, F.normalize(atoms, dim=1).float(), 64)
    assert (indices[0] >= 0).sum() < 64 and weights.isfinite().all()
    torch.testing.assert_close(dense(indices, weights, 200) @ F.normalize(atoms, dim=1).float(), spanned, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scaling", ["unit", "published"])
def test_rebuilt_directions_are_least_squares_fits(scaling):
    targets, texts = draw(5, n=6, width=10)
    texts = F.normalize(texts, dim=1)
    found = sparse_texts(targets, texts, [str(k) for k in range(40)], size=8, scaling=scaling)
    last = torch.full((6,), torch.inf, dtype=torch.double)
    for size in range(1, 9):
        rebuilt = found.reconstruct(size)
        for row, chosen, target in zip(rebuilt, found.indices[:, :size], targets):
            columns = found.atoms[chosen].T
            torch.testing.assert_close(row, columns @ torch.linalg.lstsq(columns, target[:, None]).solution[:, 0])
        rest = (targets - rebuilt).norm(dim=1)
        assert (rest < last).all()
        last = rest
    assert torch.equal(found.reconstruct(), found.reconstruct(8))
    torch.testing.assert_close(found.reconstruct(), torch.einsum("ns,nsE->nE", found.weights, found.atoms[found.indices]))
    ended = sparse_texts(torch.cat([targets[:1], 4 * found.atoms[9:10]]), texts, [str(k) for k in range(40)], 8, scaling)
    assert ended.indices[1, 0] == 9 and (ended.indices[1, 1:] == -1).all(), "one atom is enough for itself"
    for size in (1, 4, 8):
        torch.testing.assert_close(ended.reconstruct(size)[1], ended.directions[1])
    with pytest.raises(ValueError, match="size must be between 1 and 8, got 9"):
        found.reconstruct(9)
    with pytest.raises(ValueError, match="size must be between 1 and 8, got 0"):
        found.reconstruct(0)


def test_more_texts_than_dimensions_rebuild_the_direction():
    targets, texts = draw(6, n=3, width=5)
    found = sparse_texts(targets, texts, [str(k) for k in range(40)], size=12)
    assert (found.indices[:, 5:] == -1).all()
    torch.testing.assert_close(found.reconstruct(12), targets)


def test_published_atoms():
    _, texts = draw(7, atoms=60)
    texts = F.normalize(texts + torch.randn(12, generator=torch.Generator().manual_seed(0)), dim=1)
    assert text_atoms(texts) is texts
    atoms = text_atoms(texts, "published")
    torch.testing.assert_close(atoms.norm(dim=0), torch.full((12,), 100.0).double())
    torch.testing.assert_close(atoms.mean(0), torch.zeros(12).double(), rtol=0, atol=1e-10)
    torch.testing.assert_close(text_atoms(3 * texts, "published"), atoms)
    torch.testing.assert_close(text_atoms(texts + 1, "published"), atoms)
    stretched = torch.linspace(0.1, 5, 12).double()
    torch.testing.assert_close(text_atoms(texts * stretched, "published"), atoms, msg="each axis is put on one scale")
    assert not torch.allclose(text_atoms(texts[:50], "published"), atoms[:50]), "they depend on the pool"
    flat = texts.clone()
    flat[:, 4] = 0.3
    assert text_atoms(flat, "published").isfinite().all()
    for scale in (1e-9, 1.0, 1e9):
        still = scale * texts.float()
        still[:, 2] = 0.3 * scale  # whose mean over the pool is a rounding away
        found = text_atoms(still, "published")
        assert (found[:, 2] == 0).all() and torch.allclose(found[:, :2], atoms[:, :2].float(), atol=1e-2)
    with pytest.raises(ValueError, match="'unit' or 'published', got 'whitened'"):
        text_atoms(texts, "whitened")


def test_texts_come_by_the_size_of_their_weight():
    atoms = torch.eye(4)
    indices, weights = torch.tensor([[0, 1, 2, 3, -1], [3, 2, -1, -1, -1]]), torch.tensor([[1, -5, 2, 0.5, 0], [-1, 2, 0, 0, 0]])
    texts = SparseTexts(["a", "b", "c", "d"], atoms, torch.zeros(2, 4), indices, weights)
    assert texts.of(0) == [("b", -5), ("c", 2), ("a", 1), ("d", 0.5)]
    assert texts.of(0, 2) == [("b", -5), ("c", 2)] and texts.of(0, 99) == texts.of(0)
    assert texts.of(1) == [("c", 2), ("d", -1)]


def test_bad_input():
    targets, atoms = draw(0)
    for size in (0, 41):
        with pytest.raises(ValueError, match=f"size must be between 1 and 40, got {size}"):
            omp(targets, atoms, size)
    with pytest.raises(ValueError, match=r"of one width, got \[5, 12\] and \[40, 11\]"):
        omp(targets, atoms[:, :11], 3)
    with pytest.raises(ValueError, match=r"got \[12\] and"):
        omp(targets[0], atoms, 3)
    for bad in ((targets * float("nan"), atoms), (targets, atoms * float("inf"))):
        with pytest.raises(ValueError, match="not finite"):
            omp(*bad, 3)
    with pytest.raises(ValueError, match="got 39 texts, 40 features"):
        sparse_texts(targets, atoms, ["text"] * 39, 4)
    with pytest.raises(ValueError, match="got 0 texts, 0 features"):
        sparse_texts(targets, atoms[:0], [], 4)


def test_the_cosine_is_that_of_the_directions_with_what_is_rebuilt():
    generator = torch.Generator().manual_seed(0)
    directions, atoms = torch.randn(9, 6, generator=generator), torch.randn(20, 6, generator=generator)
    coded = sparse_texts(directions, F.normalize(atoms, dim=1), [str(k) for k in range(20)], 6)
    for size in (1, 3):
        same = [(a @ b / a.norm() / b.norm()).item() for a, b in zip(directions, coded.reconstruct(size))]
        assert coded.cosine(size) == pytest.approx(sum(same) / 9, abs=1e-5)
    assert coded.cosine() == pytest.approx(1, abs=1e-4) and coded.cosine(1) < coded.cosine(3) < 1
