"""Orthogonal matching pursuit as the thesis's experiments call it (section 3.4): scikit-learn's coder, target by target."""

from sklearn.decomposition import SparseCoder
from torch import Tensor, from_numpy


def omp(targets: Tensor, atoms: Tensor, size: int) -> Tensor:
    """Weights [n, T] of atoms [T, E] of unit length for targets [n, E], at most `size` of a row not 0."""
    coder = SparseCoder(atoms.numpy(), transform_algorithm="omp", transform_n_nonzero_coefs=size)
    return from_numpy(coder.transform(targets.numpy()))
