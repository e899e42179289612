"""The graph each method decomposes, in float64 and unquantised, and how far a method's pairs are from its exact ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from affinities import pymatting_knn, start_near
from methods import Pairs
from problems import Array, Problem

import deepspec

GRAPHS = ("deepspec", "pymatting", "without diagonal", "features alone")
LARGEST_DENSE = 4096  # cells, up to which exact pairs come from LAPACK; above, from ARPACK to 1e-12
STRIP = 2048  # rows
COMPARED = 5  # vectors whose space is compared


@dataclass(frozen=True)
class Errors:
    """How far a method's pairs are from the exact ones of its own graph."""

    values: float  # largest difference of the eigenvalues
    angle: float  # radians, the largest between the spaces of the first five vectors
    angle_bound: float  # max(1e-3, 2 · residual / gap) of these five
    residual: float  # largest ‖D^-½((D−W)y − μDy)‖ / ‖D^½y‖


class ExactGraphs:
    """The graphs of one problem at one λ; n × n float64 are held once for all of them."""

    def __init__(self, problem: Problem, gram: Array, k: int, color_weight: float) -> None:
        self._problem = problem
        self._gram = gram
        self._k = k
        self._color_weight = color_weight
        self._graphs: dict[str, ExactGraph] = {}

    def __getitem__(self, name: str) -> ExactGraph:
        """One of `GRAPHS`."""
        if name not in self._graphs:
            color = self._colors(name)
            diagonal = color.diagonal() + self._gram.diagonal() if name == "without diagonal" else 0.0
            self._graphs[name] = ExactGraph(self._gram, color, diagonal, self._k + 1)
        return self._graphs[name]

    def difference(self, name: str) -> float:
        """The share of the colour graph's entries that are not deepspec's: ties between neighbours, broken otherwise."""
        own = self["deepspec"].colors
        return (self[name].colors != own).nnz / own.nnz if own.nnz else 0.0

    def _colors(self, name: str) -> scipy.sparse.csr_array:
        if name == "features alone" or self._color_weight == 0:
            return scipy.sparse.csr_array((self._problem.n,) * 2)
        find = deepspec.color_affinity if name == "deepspec" else pymatting_knn
        return self._color_weight * find(self._problem.image)


def exact_gram(problem: Problem) -> Array:
    """(n, n) float64: relu(F Fᵀ) divided by its largest entry."""
    rows = problem.exact_rows()
    gram = np.empty((problem.n, problem.n))
    # In strips: numpy hands rows @ rows.T to OpenBLAS's dsyrk, which can crash at 2 GB (numpy's issue 19685).
    for start in range(0, problem.n, STRIP):
        strip = gram[start : start + STRIP]
        np.matmul(rows[start : start + STRIP], rows.T, out=strip)
        np.maximum(strip, 0, out=strip)
    gram /= gram.max()
    return gram


@dataclass(frozen=True, eq=False)
class ExactGraph:
    """W = gram + colors − diag(diagonal), in float64."""

    gram: Array
    colors: scipy.sparse.csr_array
    diagonal: Array | float
    n_exact: int  # pairs to compare with

    def product(self, x: Array) -> Array:
        """W x of (n,) or (n, m)."""
        diagonal = np.broadcast_to(self.diagonal, len(x)).reshape(-1, *[1] * (x.ndim - 1))
        result: Array = self.gram @ x + self.colors @ x - diagonal * x
        return result

    @cached_property
    def degrees(self) -> Array:
        degrees = self.product(np.ones(len(self.gram)))
        degrees[degrees < 1e-12] = 1
        return degrees

    def errors(self, found: Pairs, kind: str = "y") -> Errors:
        """Against the exact pairs; the vectors are "y" or "D^½ y"."""
        k = len(found.vectors)
        u = found.vectors.T.astype(np.float64)
        u = np.sqrt(self.degrees)[:, None] * u if kind == "y" else u
        u = u / np.linalg.norm(u, axis=0)
        applied = self.laplacian_product(u)
        values = (u * applied).sum(0) if found.values is None else found.values
        residuals = np.linalg.norm(applied - values * u, axis=0)
        exact_values, exact_vectors = self.exact
        compared = min(COMPARED, k)
        gap = exact_values[compared] - exact_values[compared - 1]
        return Errors(
            values=float(abs(values - exact_values[:k]).max()),
            angle=angle(u[:, :compared], exact_vectors[:, :compared]),
            angle_bound=angle_bound(residuals[:compared].max(), gap),
            residual=float(residuals.max()),
        )

    def laplacian_product(self, u: Array) -> Array:
        """(I − D^-½ W D^-½) u of (n,) or (n, m)."""
        scale = (1 / np.sqrt(self.degrees)).reshape(-1, *[1] * (u.ndim - 1))
        return u - scale * self.product(scale * u)

    @cached_property
    def exact(self) -> tuple[Array, Array]:
        """The smallest eigenvalues of I − D^-½ W D^-½, ascending, and its eigenvectors as columns."""
        return self._dense() if len(self.gram) <= LARGEST_DENSE else self._iterated()

    def _dense(self) -> tuple[Array, Array]:
        scale = 1 / np.sqrt(self.degrees)
        matrix = self.gram + self.colors
        matrix[np.diag_indices_from(matrix)] -= self.diagonal
        matrix *= -scale * scale[:, None]
        matrix[np.diag_indices_from(matrix)] += 1
        values, vectors = scipy.linalg.eigh(
            matrix, subset_by_index=(0, self.n_exact - 1), overwrite_a=True, check_finite=False
        )
        return values, vectors

    def _iterated(self) -> tuple[Array, Array]:
        operator = scipy.sparse.linalg.LinearOperator(
            self.gram.shape, matvec=lambda u: u - self.laplacian_product(u), dtype=np.float64
        )
        start = start_near(np.sqrt(self.degrees))
        values, vectors = scipy.sparse.linalg.eigsh(operator, k=self.n_exact, which="LA", tol=1e-12, v0=start)
        order = np.argsort(-values)
        return 1 - values[order], vectors[:, order]


def angle(vectors: Array, others: Array) -> float:
    """Radians: the largest principal angle between the spaces of two sets of columns."""
    return float(scipy.linalg.subspace_angles(vectors, others).max())


def angle_bound(residual: float, gap: float) -> float:
    """Radians: what an eigenspace may be turned by, given its residuals and the gap to the next eigenvalue."""
    return min(max(1e-3, 2 * residual / gap), np.pi / 2) if gap > 0 else np.pi / 2
