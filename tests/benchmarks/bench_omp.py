"""Orthogonal matching pursuit beside scikit-learn's: 512 targets, 10,000 atoms of width 512, 64 picks.

python tests/benchmarks/bench_omp.py

scikit-learn runs on the first targets and is scaled to 512: its inner products of all atoms, which it needs once, are timed
apart, and what is left is proportional to the number of targets. Ours runs on all of them.
"""

import numpy as np
import torch
from measure import seconds
from sklearn.decomposition import SparseCoder

from interp_utils.neurons import omp

TARGETS, ATOMS, WIDTH, SIZE = 512, 10_000, 512, 64
BY_SKLEARN = 16


def main():
    generator = torch.Generator().manual_seed(0)
    atoms = torch.nn.functional.normalize(torch.randn(ATOMS, WIDTH, dtype=torch.double, generator=generator), dim=1)
    targets = torch.nn.functional.normalize(torch.randn(TARGETS, WIDTH, dtype=torch.double, generator=generator), dim=1)
    found = {}
    ours = {
        dtype: seconds(lambda d=dtype: found.update({d: omp(targets.to(d), atoms.to(d), SIZE)}))
        for dtype in (torch.double, torch.float)
    }
    rows, few = atoms.numpy(), targets[:BY_SKLEARN].numpy()
    coder = SparseCoder(rows, transform_algorithm="omp", transform_n_nonzero_coefs=SIZE)
    once, codes = seconds(lambda: np.dot(rows, rows.T)), []
    theirs = seconds(lambda: codes.append(coder.transform(few)))
    slow = once + max(theirs - once, 0) / BY_SKLEARN * TARGETS
    indices, weights = found[torch.double]
    same = sum(set(row.tolist()) == set(np.flatnonzero(code)) for row, code in zip(indices, codes[0]))
    dense = torch.zeros(BY_SKLEARN, ATOMS, dtype=torch.double).scatter_(1, indices[:BY_SKLEARN], weights[:BY_SKLEARN])
    print(f"same atoms for {same} of {BY_SKLEARN} targets, weights apart by {np.abs(dense.numpy() - codes[0]).max():.1e} at most")
    print(f"scikit-learn: {theirs:.1f} s for {BY_SKLEARN} targets, of which {once:.1f} s once; scaled to {TARGETS}: {slow:.0f} s")
    print(f"float64: {ours[torch.double]:.1f} s, {slow / ours[torch.double]:.0f} times faster (goal: at least 10)")
    print(f"float32: {ours[torch.float]:.1f} s, {slow / ours[torch.float]:.0f} times faster than scikit-learn in float64")
    assert same == BY_SKLEARN


if __name__ == "__main__":
    main()
