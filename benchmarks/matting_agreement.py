"""How far the sparse forms of the affinity of pixels lead to the eigenvectors of the exact, dense one.

On photographs of `side` × `side` pixels (128: 16 384 pixels, a dense matrix of 1 GB) the exact pairs are
`deepspec.eigenpairs` on the grid of pixels, whose W is 1/s of the exact one with λ / s for λ; a residual on a matrix that
numpy built shows them to be right. Compared are u = D^½ y, orthonormal, each with its own D. A form's feature term has
another mean degree than the exact one's (relu of an interpolated value is at most the interpolated relu); "matched" scales it by one
number to that mean, by dividing λ by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pixel_methods
import pixel_problems
import scipy.linalg
from methods import Pairs
from pixel_graphs import SHARE, TERMS, FeatureTerm, PixelGraph, PixelProblem
from pixel_methods import Question
from problems import Array

import deepspec

FORMS = pixel_methods.OURS
EXACT_TOLERANCE = 2e-6


@dataclass(frozen=True)
class Agreement:
    """One form on one photograph."""

    kind: str
    photo: str
    side: int
    form: str
    matched: bool
    degree_ratio: float  # mean feature degree of the exact graph, of the form's
    first: float  # |cos| between the first vectors that are not constant
    cosines: list[
        float
    ]  # of the principal angles between the spaces of all that are not constant, descending
    residual: float  # the largest, on the form's own graph in float64 where numpy can build it
    exact_residual: float
    values: list[float]  # μ of the form
    exact_values: list[float]  # μ of the exact graph, and the next one: the gap the space hangs on


class Found(NamedTuple):
    """Pairs of a graph, its degrees (n,), and the largest residual on that graph."""

    pairs: Pairs
    degrees: Array
    residual: float


Solve = Callable[[PixelProblem, Question, PixelGraph], Found]


def compare_all(
    kinds: Sequence[str],
    side: int,
    forms: Sequence[str],
    question: Question,
    oracle: bool,
    progress: Callable[[str], None],
) -> Iterator[Agreement]:
    """Every form on every photograph of the kinds, by deepspec, or by SciPy where the oracle is asked."""
    for kind in kinds:
        for photo, problem in pixel_problems.several(kind, side):
            progress(f"{photo}: exact pairs")
            colors = pixel_methods.deepspec_colors(problem, question.color_weight)
            exact = Exact(problem, question, colors)
            for form in forms:
                term = TERMS[form](problem, True)
                solve = by_scipy if oracle else partial(by_deepspec, form)
                for matched in (False, True):
                    progress(f"{photo}: {form}{', matched' * matched}")
                    yield exact.compare(kind, photo, form, term, solve, matched)


class Exact:
    """The exact graph of a problem, and its pairs."""

    def __init__(self, problem: PixelProblem, question: Question, colors: Array) -> None:
        self._problem, self._question, self._colors = problem, question, colors
        covered = np.multiply(problem.features.array.shape[:2], problem.features.cell)
        if not np.allclose(covered, problem.grid):
            raise ValueError(f"the features must cover the image, {problem.grid}, not {tuple(covered)} of it")
        pairs = deepspec.eigenpairs(
            problem.features.array,
            problem.image,
            grid=problem.grid,
            color_weight=question.color_weight / SHARE,
            k=question.k + 1,
            tol=EXACT_TOLERANCE,
            threads=question.threads,
        )
        self._graph = PixelGraph(TERMS["exact"](problem, True), colors)
        vectors = pairs.vectors.reshape(question.k + 1, -1)
        self._values, self._vectors = pairs.values, _orthonormal(vectors, self._graph.degrees)
        self._residual = float(self._graph.residuals(vectors, pairs.values).max())
        self._mean_degree = mean_degree(self._graph.term, problem.n)

    def compare(
        self, kind: str, photo: str, form: str, term: FeatureTerm, solve: Solve, matched: bool
    ) -> Agreement:
        ratio = self._mean_degree / mean_degree(term, self._problem.n)
        weight = ratio if matched else 1.0
        # weight · W_feat + λ W_knn has the pairs of W_feat + (λ / weight) W_knn.
        graph = PixelGraph(term, self._colors / weight)
        question = replace(self._question, color_weight=self._question.color_weight / weight)
        found = solve(self._problem, question, graph)
        vectors = _orthonormal(found.pairs.vectors, found.degrees)
        k = self._question.k
        return Agreement(
            kind,
            photo,
            self._problem.grid[0],
            form,
            matched,
            ratio,
            first=float(abs(vectors[:, 1] @ self._vectors[:, 1])),
            cosines=cosines(vectors[:, 1:], self._vectors[:, 1:k]),
            residual=found.residual,
            exact_residual=self._residual,
            values=np.asarray(found.pairs.values).tolist(),
            exact_values=self._values.tolist(),
        )


def by_deepspec(form: str, problem: PixelProblem, question: Question, graph: PixelGraph) -> Found:
    """deepspec's pairs, with its degrees: its sample is another than numpy's, and its own word is taken for the residual."""
    found = pixel_methods.by_deepspec(problem, question, form)
    pairs = Pairs(found.values, found.vectors.reshape(question.k, -1))
    residuals = found.residuals if form == "sampled" else graph.residuals(pairs.vectors, pairs.values)
    return Found(pairs, found.degrees.ravel().astype(np.float64), float(residuals.max()))


def by_scipy(problem: PixelProblem, question: Question, graph: PixelGraph) -> Found:
    """The pairs of the graph numpy built."""
    pairs = pixel_methods.largest_pairs(
        lambda x: graph.product(x[:, None])[:, 0], problem.n, question, 40, np.float64
    )
    return Found(pairs, graph.degrees, float(graph.residuals(pairs.vectors, pairs.values).max()))


def mean_degree(term: FeatureTerm, n: int) -> float:
    return float(term.product(np.ones((n, 1))).mean())


def cosines(vectors: Array, others: Array) -> list[float]:
    """Of all principal angles between the spaces of two sets of columns, descending."""
    return sorted(np.cos(scipy.linalg.subspace_angles(vectors, others)).tolist(), reverse=True)


def _orthonormal(vectors: Array, degrees: Array) -> Array:
    """(n, k): D^½ y of length 1, of (k, n) y."""
    u: Array = np.sqrt(degrees)[:, None] * vectors.T.astype(np.float64)
    u /= np.linalg.norm(u, axis=0)
    return u
