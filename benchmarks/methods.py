"""deepspec and the ways its eigenpairs are computed without it: from features and image to values and vectors.

deepspec          `deepspec.eigenpairs`
deepspec-fast     the same with `precision="fast"`
deepspec-spectra  the same with `solver="spectra"`
published         dense D − W of float32 `F @ F.T` and PyMatting's KNN made dense,
                  `scipy.sparse.linalg.eigsh(D - W, k, sigma=0, which="LM", M=D)`, from near the constant vector
tuned             `eigsh(which="LA")` on D^-½ W D^-½ as a LinearOperator (dense float32 and CSR), from near
                  its leading vector; PyMatting's KNN
scipy-lobpcg      `scipy.sparse.linalg.lobpcg` on the same operator, from D^½ 1 and a random block. The block is
                  float64: with a float32 one it stalls above the tolerance. No preconditioner: the diagonal is
                  constant, and a sparse LU of I minus the colour part saves a fifth of the products for the price of all.
torch-eigh        `torch.linalg.eigh` of D^-½ W D^-½ in float32
torch-lobpcg      `torch.lobpcg` of the same, from the block of scipy-lobpcg
scikit-learn      `sklearn.manifold.spectral_embedding` of W, which it takes without its diagonal
ncut-pytorch      `ncut_pytorch.Ncut` on relu(F Fᵀ): of features alone, and approximate (a randomised SVD; above 8192
                  cells of a sample, by Nyström's method)

All but the first three find neighbours with PyMatting, and get features that have been upsampled already.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import scipy.sparse.linalg
from affinities import dense_affinity, normalized_affinity, normalized_operator, start_near
from problems import Array, Problem

import deepspec

TOLERANCE = 1e-5  # of the iterative methods, and the default of deepspec


class Pairs(NamedTuple):
    values: Array | None  # (k,) ascending; None where a method keeps them for itself
    vectors: Array  # (k, n): y with (D − W) y = μ D y


Solve: TypeAlias = Callable[[Problem, int, float, int], Pairs]  # problem, k, λ, threads


@dataclass(frozen=True)
class Method:
    """A way to the eigenpairs."""

    solve: Solve
    graph: str = "pymatting"  # whose pairs it finds, a name of `graphs.GRAPHS`
    needs: tuple[str, ...] = ("pymatting",)
    largest: int | None = None  # cells; above, it is left out because of `limit`
    limit: str = ""
    vectors: str = "y"  # or "D^½ y", where it returns those

    def missing(self) -> str:
        """Why it cannot run here; empty where it can."""
        names = [name for name in self.needs if find_spec(name) is None]
        if names:
            return f"not installed: {', '.join(names)} (pip install deepspec[bench])"
        return ""


# deepspec


def deepspec_default(problem: Problem, k: int, color_weight: float, threads: int) -> Pairs:
    return _deepspec(problem, k, color_weight, threads)


def deepspec_fast(problem: Problem, k: int, color_weight: float, threads: int) -> Pairs:
    return _deepspec(problem, k, color_weight, threads, precision="fast")


def deepspec_spectra(problem: Problem, k: int, color_weight: float, threads: int) -> Pairs:
    return _deepspec(problem, k, color_weight, threads, solver="spectra")


def _deepspec(problem: Problem, k: int, color_weight: float, threads: int, **options: Any) -> Pairs:
    pairs = deepspec.eigenpairs(
        problem.features,
        problem.image,
        grid=problem.grid,
        k=k,
        color_weight=color_weight,
        threads=threads,
        **options,
    )
    return Pairs(pairs.values, pairs.vectors.reshape(k, -1))


# SciPy


def published(problem: Problem, k: int, color_weight: float, threads: int) -> Pairs:
    return shift_inverted(dense_affinity(problem, color_weight), k)


def shift_inverted(affinity: Array, k: int) -> Pairs:
    """Pairs of a dense W (n, n) float32, from a factorisation of D − W."""
    degrees = affinity.sum(1)
    degrees[degrees < 1e-12] = 1
    diagonal = np.diag(degrees)
    # D − W is singular: its zero becomes a value of 1e7 beside ones below 100. A start with little of that pair's vector,
    # which is constant, as SciPy's own now and then is, leaves residuals of 1e-5 to 1e-3 in float32. As many solves either way.
    start = start_near(np.ones_like(degrees))
    values, vectors = scipy.sparse.linalg.eigsh(
        diagonal - affinity, k=k, sigma=0, which="LM", M=diagonal, v0=start
    )
    order = np.argsort(values)
    return Pairs(values[order], vectors.T[order])


def tuned(problem: Problem, k: int, color_weight: float, threads: int) -> Pairs:
    operator, degrees = normalized_operator(problem, color_weight, np.float32)
    start = start_near(np.sqrt(degrees))
    values, vectors = scipy.sparse.linalg.eigsh(operator, k=k, which="LA", tol=TOLERANCE, v0=start)
    return _from_largest(values, vectors, degrees)


def scipy_lobpcg(problem: Problem, k: int, color_weight: float, threads: int) -> Pairs:
    operator, degrees = normalized_operator(problem, color_weight, np.float64)
    start = start_block(degrees, k).astype(np.float64)
    values, vectors, *_ = scipy.sparse.linalg.lobpcg(
        operator, start, tol=TOLERANCE, maxiter=500, largest=True
    )
    return _from_largest(values, vectors, degrees)


# PyTorch


def torch_eigh(problem: Problem, k: int, color_weight: float, threads: int) -> Pairs:
    import torch

    affinity, degrees = normalized_affinity(problem, color_weight)
    values, vectors = torch.linalg.eigh(torch.from_numpy(affinity))
    return _from_largest(values[-k:].numpy(), vectors[:, -k:].numpy(), degrees)


def torch_lobpcg(problem: Problem, k: int, color_weight: float, threads: int) -> Pairs:
    import torch

    affinity, degrees = normalized_affinity(problem, color_weight)
    start = torch.from_numpy(start_block(degrees, k))
    values, vectors = torch.lobpcg(
        torch.from_numpy(affinity), X=start, tol=TOLERANCE, niter=500, largest=True
    )
    return _from_largest(values.numpy(), vectors.numpy(), degrees)


def ncut_pytorch(problem: Problem, k: int, color_weight: float, threads: int) -> Pairs:
    import torch
    from ncut_pytorch import Ncut

    def affinity(rows: torch.Tensor, columns: torch.Tensor | None = None, sigma: float = 1) -> torch.Tensor:
        return torch.mm(rows, (rows if columns is None else columns).T).relu_()

    torch.manual_seed(0)
    ncut = Ncut(n_eig=k, affinity_fn=affinity, sigma=1.0, device="cpu")
    return Pairs(None, ncut.fit_transform(torch.from_numpy(problem.rows())).numpy().T)


# scikit-learn


def scikit_learn(problem: Problem, k: int, color_weight: float, threads: int) -> Pairs:
    from sklearn.manifold import spectral_embedding

    affinity = dense_affinity(problem, color_weight)
    embedding = spectral_embedding(
        affinity, n_components=k, eigen_tol=TOLERANCE, random_state=0, drop_first=False
    )
    return Pairs(None, embedding.T)


def start_block(degrees: Array, k: int) -> Array:
    """(n, k) float32: D^½ 1, which is the leading vector, and random ones."""
    leading = np.sqrt(degrees) / np.linalg.norm(np.sqrt(degrees))
    others = np.random.default_rng(0).normal(size=(len(degrees), k - 1))
    return np.column_stack([leading, others / np.sqrt(len(degrees))]).astype(np.float32)


def _from_largest(values: Array, vectors: Array, degrees: Array) -> Pairs:
    """Pairs of D^-½ W D^-½ as those of the Laplacian, ascending."""
    order = np.argsort(-values)
    return Pairs(1 - values[order], (vectors / np.sqrt(degrees)[:, None]).T[order])


METHODS: dict[str, Method] = {
    "deepspec": Method(deepspec_default, graph="deepspec", needs=()),
    "deepspec-fast": Method(deepspec_fast, graph="deepspec", needs=()),
    "deepspec-spectra": Method(deepspec_spectra, graph="deepspec", needs=()),
    "published": Method(published, largest=9216, limit="factorises a dense matrix: minutes, and gigabytes"),
    "tuned": Method(tuned),
    "scipy-lobpcg": Method(scipy_lobpcg),
    "torch-eigh": Method(
        torch_eigh, needs=("pymatting", "torch"), largest=4096, limit="computes all n pairs: minutes"
    ),
    "torch-lobpcg": Method(
        torch_lobpcg, needs=("pymatting", "torch"), largest=9216, limit="tens of seconds a run"
    ),
    "scikit-learn": Method(
        scikit_learn,
        graph="without diagonal",
        needs=("pymatting", "sklearn"),
        largest=4096,
        limit="factorises a dense matrix: tens of seconds a run",
    ),
    "ncut-pytorch": Method(
        ncut_pytorch, graph="features alone", needs=("ncut_pytorch", "torch"), vectors="D^½ y"
    ),
}
