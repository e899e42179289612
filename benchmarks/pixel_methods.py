"""The full-resolution eigenpairs by deepspec and by what one builds from SciPy and PyMatting: image and features in, pairs out.

patch, patch4, sampled   `deepspec.pixel_eigenpairs` with that affinity
scipy, scipy-40          the graph of "patch" as a LinearOperator in float32 (PyMatting's KNN in CSR; relu of the patches' Gram matrix
                         between two sparse interpolations), and `eigsh(which="LA")` of SciPy's own 20 Lanczos vectors, or of 40
literal                  what the paper describes: 1 / 16² of relu(F Fᵀ) at pixels, drawn and worked out in numpy, in one CSR
                         matrix with PyMatting's KNN, and the same `eigsh`
literal-40               the same of 40 Lanczos vectors

ARPACK's tolerance bounds the residual by `tol` times the eigenvalue of D^-½ W D^-½, at most 1: the peers stop at the
residual deepspec is asked for. Shift and invert, as the paper's code uses on patches, would factorise a matrix of
random entries, which fills in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pixel_graphs
import scipy.sparse
import scipy.sparse.linalg
from affinities import pymatting_knn, start_near
from methods import Pairs
from numpy.typing import DTypeLike
from pixel_graphs import PixelGraph, PixelProblem, Sampled
from problems import Array

import deepspec
from deepspec.full_resolution import pixel_eigenpairs

Product = Callable[[Array], Array]


@dataclass(frozen=True)
class Question:
    """What is asked of a method."""

    k: int = 5
    tol: float = 1e-3
    color_weight: float = 10.0
    threads: int = 1


@dataclass(frozen=True)
class PixelMethod:
    """A way to the eigenpairs."""

    solve: Callable[[PixelProblem, Question], Pairs]
    graph: (
        Callable[[PixelProblem, float], PixelGraph] | None
    )  # of a problem and λ; None: nobody else can build it
    pymatting: bool = True
    largest: int | None = None  # pixels a side, above which it runs once where asked to, else not

    def missing(self) -> str:
        """Why it cannot run here; empty where it can."""
        absent = self.pymatting and find_spec("pymatting") is None
        return "not installed: pymatting (pip install deepspec[bench])" if absent else ""


# deepspec


def patch(problem: PixelProblem, question: Question) -> Pairs:
    return _pairs(by_deepspec(problem, question, "patch"))


def patch4(problem: PixelProblem, question: Question) -> Pairs:
    return _pairs(by_deepspec(problem, question, "patch4"))


def sampled(problem: PixelProblem, question: Question) -> Pairs:
    return _pairs(by_deepspec(problem, question, "sampled"))


def by_deepspec(problem: PixelProblem, question: Question, affinity: str) -> deepspec.Eigenpairs:
    return pixel_eigenpairs(
        problem.image,
        problem.features,
        affinity=affinity,
        color_weight=question.color_weight,
        k=question.k,
        tol=question.tol,
        threads=question.threads,
    )


def _pairs(found: deepspec.Eigenpairs) -> Pairs:
    return Pairs(found.values, found.vectors.reshape(len(found.values), -1))


# SciPy


def scipy_default(problem: PixelProblem, question: Question) -> Pairs:
    return _scipy(problem, question, None)


def scipy_40(problem: PixelProblem, question: Question) -> Pairs:
    return _scipy(problem, question, 40)


def _scipy(problem: PixelProblem, question: Question, ncv: int | None) -> Pairs:
    colors = np.float32(question.color_weight) * pymatting_knn(problem.image).astype(np.float32)
    rows = pixel_graphs.unit_rows(problem.features).astype(np.float32)
    gram = np.maximum(rows @ rows.T, 0)
    gram *= np.float32(pixel_graphs.SHARE) / gram.max()
    lift = pixel_graphs.patch_lift(problem, np.float32)

    def product(x: Array) -> Array:
        product: Array = colors @ x + lift.up(gram @ lift.down(x[:, None]))[:, 0]
        return product

    return largest_pairs(product, problem.n, question, ncv)


def literal(problem: PixelProblem, question: Question) -> Pairs:
    return _literal(problem, question, None)


def literal_40(problem: PixelProblem, question: Question) -> Pairs:
    return _literal(problem, question, 40)


def _literal(problem: PixelProblem, question: Question, ncv: int | None) -> Pairs:
    affinity = literal_term(problem).matrix
    affinity = affinity + np.float32(question.color_weight) * pymatting_knn(problem.image).astype(np.float32)
    return largest_pairs(affinity.__matmul__, problem.n, question, ncv)


def literal_term(problem: PixelProblem) -> Sampled:
    return Sampled(pixel_graphs.pixel_rows(problem, np.float32), pixel_graphs.SHARE)


def largest_pairs(
    product: Product, n: int, question: Question, ncv: int | None, dtype: DTypeLike = np.float32
) -> Pairs:
    """Pairs by SciPy of W as a product with (n,) vectors of a precision, from D^½ 1 and some noise."""
    degrees = product(np.ones(n, dtype))
    degrees[degrees < 1e-12] = 1
    scale = 1 / np.sqrt(degrees)
    operator = scipy.sparse.linalg.LinearOperator(
        (n, n), matvec=lambda x: scale * product(scale * x.ravel()), dtype=dtype
    )
    start = start_near(np.sqrt(degrees))
    values, vectors = scipy.sparse.linalg.eigsh(
        operator, k=question.k, which="LA", tol=question.tol, v0=start, ncv=ncv
    )
    order = np.argsort(-values)
    return Pairs(1 - values[order], (scale[:, None] * vectors).T[order])


# The graphs they decompose


def patch_graph(problem: PixelProblem, color_weight: float) -> PixelGraph:
    return PixelGraph(pixel_graphs.patch_term(problem), deepspec_colors(problem, color_weight))


def patch4_graph(problem: PixelProblem, color_weight: float) -> PixelGraph:
    return PixelGraph(pixel_graphs.patch4_term(problem), deepspec_colors(problem, color_weight))


def scipy_graph(problem: PixelProblem, color_weight: float) -> PixelGraph:
    return PixelGraph(pixel_graphs.patch_term(problem), color_weight * pymatting_knn(problem.image))


def literal_graph(problem: PixelProblem, color_weight: float) -> PixelGraph:
    return PixelGraph(literal_term(problem), color_weight * pymatting_knn(problem.image))


def deepspec_colors(problem: PixelProblem, color_weight: float) -> scipy.sparse.csr_array:
    return color_weight * deepspec.color_affinity(problem.image).astype(np.float64)


OURS = ("patch", "patch4", "sampled")
METHODS: dict[str, PixelMethod] = {
    "patch": PixelMethod(patch, patch_graph, pymatting=False),
    "patch4": PixelMethod(patch4, patch4_graph, pymatting=False, largest=512),
    "sampled": PixelMethod(sampled, None, pymatting=False, largest=256),
    "scipy": PixelMethod(scipy_default, scipy_graph, largest=512),
    "scipy-40": PixelMethod(scipy_40, scipy_graph, largest=512),
    "literal": PixelMethod(literal, literal_graph, largest=256),
    "literal-40": PixelMethod(literal_40, literal_graph, largest=256),
}
