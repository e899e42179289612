"""What the paper's tables compare with: other vectors in place of the Laplacian's, and whole methods by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import linalg

from deepspec.checks import check_choice
from deepspec.graph import affinity as affinity_matrix
from deepspec.spectral import Eigenpairs

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Method:
    """A method of the literature as settings of this package's parts.

    Attributes
    ----------
    help : str
    backbone : mapping
        What `load_backbone` takes.
    graph : mapping
        What `decompose` takes.
    answer : mapping
        What `localize` and `segment_object` take.
    """

    help: str
    backbone: Mapping[str, Any] = field(default_factory=dict)
    graph: Mapping[str, Any] = field(default_factory=dict)
    answer: Mapping[str, Any] = field(default_factory=dict)


_FEATURES_ALONE = {"color_weight": 0.0, "grid": "patch"}

METHODS = {
    "deep-spectral": Method("the paper's: the Laplacian of features and colours, y₁ split at 0"),
    "tokencut": Method(
        "TokenCut's graph of bits, y₁ split at its mean, the part with its largest entry (Wang et al., CVPR 2022)",
        graph={**_FEATURES_ALONE, "affinity": "threshold", "threshold": 0.2, "epsilon": 1e-5},
        answer={"partition": "mean", "foreground": "seed"},
    ),
    "lost": Method(
        "LOST's seed and what is similar to it (Siméoni et al., BMVC 2021)",
        graph={**_FEATURES_ALONE, "vectors": "lost"},
        answer={"foreground": "seed"},
    ),
    "dino-cls": Method(
        "the [CLS] token's attention in one head of the last block (Caron et al., ICCV 2021)",
        backbone={"facet": "attention"},
        graph={**_FEATURES_ALONE, "vectors": "attention"},
        answer={"foreground": "seed"},
    ),
    "affinity": Method(
        "the leading eigenvector of the features' affinity, without a Laplacian, split at its mean",
        graph={**_FEATURES_ALONE, "vectors": "affinity"},
        answer={"partition": "mean"},
    ),
    "svd": Method(
        "the leading left singular vector of the features, split at its mean",
        graph={**_FEATURES_ALONE, "vectors": "svd"},
        answer={"partition": "mean"},
    ),
    "color": Method("the Laplacian of the colours alone", graph={"color_weight": float("inf")}),
}


def lost_object(features: npt.ArrayLike, n_similar: int = 100) -> Mask:
    """LOST's object (Siméoni et al., BMVC 2021), (h, w) bool, from the keys of a network, not normalised.

    A = F Fᵀ. A patch's degree is the number of patches with which it has a positive entry. The seed has the lowest one;
    of the `n_similar` patches of lowest degree, those with a positive entry to the seed are similar to it; what they are
    positive to, in sum, is the object: the 4-connected part of it that holds the seed. Ties go to the first patch.

    Raises
    ------
    ValueError
        Features are not (h, w, C), or `n_similar` is not positive.
    """
    array = _grid_of(features)
    if n_similar < 1:
        raise ValueError(f"n_similar must be at least 1, got {n_similar}")
    rows = array.reshape(-1, array.shape[2])
    products = rows @ rows.T
    by_degree = np.argsort(np.count_nonzero(products > 0, axis=1), kind="stable")
    seed = by_degree[0]
    similar = by_degree[:n_similar][products[seed, by_degree[:n_similar]] > 0]
    front = (products[similar].sum(axis=0) > 0).reshape(array.shape[:2])
    place = np.unravel_index(seed, array.shape[:2])
    front[place] = True  # a zero feature is similar to nothing
    parts, _ = ndimage.label(front)
    return np.asarray(parts == parts[place])


def attention_object(attention: npt.ArrayLike, head: int = 4, mass: float = 0.6) -> Mask:
    """The object of DINO-[CLS] (LOST's baseline, after Caron et al., ICCV 2021), (h, w) bool.

    Of one head's attention to the patches, the largest weights that make up a share `mass` of the sum are in front;
    the object is the largest 4-connected part of these, the first of equal ones.

    Parameters
    ----------
    attention : (h, w, n_heads)
        Of the [CLS] token: `load_backbone(…, facet="attention")`. Not negative.
    head : int
        From 0.
    mass : float
        Above 0 and at most 1.

    Raises
    ------
    ValueError
        The weights are not attention, there is no such head, or `mass` is out of range.
    """
    array = _grid_of(attention)
    # A head's weights sum to 1, of which the other tokens have a share.
    if array.min() < 0 or array.sum(axis=(0, 1)).max() > 1.01:
        raise ValueError("attention must be weights, such as of facet='attention', got other features")
    if not 0 <= head < array.shape[2]:
        raise ValueError(f"head must be one of the {array.shape[2]} from 0 on, got {head}")
    if not 0 < mass <= 1:
        raise ValueError(f"mass must be above 0 and at most 1, got {mass}")
    weights = array[..., head].ravel()
    ascending = np.argsort(weights, kind="stable")
    behind = np.cumsum(weights[ascending]) <= (1 - mass) * weights.sum()
    behind[-1] = False  # where rounding, or no weight at all, leaves nothing in front
    front = np.ones(len(weights), bool)
    front[ascending[behind]] = False
    parts, _ = ndimage.label(front.reshape(array.shape[:2]))
    return np.asarray(parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1)


def _affinity_vectors(
    features: npt.ArrayLike, image: npt.ArrayLike | None, *, k: int, **options: Any
) -> Eigenpairs:
    """Of W itself, the eigenvectors of the largest eigenvalues, in `vectors[1]` and on; values are 1 − λᵢ / λ₁."""
    graph = {name: options[name] for name in ("grid", "color_weight", "color")}
    W = affinity_matrix(features, image, **graph)
    wanted = _check_k(k, W.shape[0])
    values, vectors = linalg.eigsh(W, wanted, which="LA", v0=np.ones(W.shape[0]))
    return _leading(values[::-1], vectors[:, ::-1], options["grid"])


def _singular_vectors(
    features: npt.ArrayLike, image: npt.ArrayLike | None, *, k: int, **options: Any
) -> Eigenpairs:
    """Of the features, scaled to length 1, the leading left singular vectors; values are 1 − (σᵢ / σ₁)²."""
    array = _grid_of(features)
    rows = array.reshape(-1, array.shape[2])
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    wanted = _check_k(k, min(rows.shape))
    vectors, values, _ = np.linalg.svd(rows, full_matrices=False)
    return _leading(values[:wanted] ** 2, vectors[:, :wanted], array.shape[:2])


def _lost_vector(features: npt.ArrayLike, image: npt.ArrayLike | None, **options: Any) -> Eigenpairs:
    return _of_object(lost_object(features))


def _attention_vector(features: npt.ArrayLike, image: npt.ArrayLike | None, **options: Any) -> Eigenpairs:
    return _of_object(attention_object(features))


#: Instead of `eigenpairs`, by the name that `decompose(vectors=…)` has for them. `vectors[1]` is what is split.
VECTORS: dict[str, Callable[..., Eigenpairs]] = {
    "affinity": _affinity_vectors,
    "svd": _singular_vectors,
    "lost": _lost_vector,
    "attention": _attention_vector,
}


def check_vectors(vectors: str, *, color_weight: float, grid: str | int, affinity: str) -> None:
    """ValueError where there are no such vectors of such a graph."""
    check_choice("vectors", vectors, ("laplacian", *VECTORS))
    needed: dict[str, dict[str, Any]] = {"affinity": {"affinity": "relu"}}
    for name in ("svd", "lost", "attention"):
        needed[name] = {"color_weight": 0, "grid": "patch"}
    given = {"color_weight": color_weight, "grid": grid, "affinity": affinity}
    for name, value in needed.get(vectors, {}).items():
        if given[name] != value:
            raise ValueError(f"vectors={vectors!r} needs {name}={value!r}, got {given[name]!r}")


def _leading(values: NDArray[Any], vectors: NDArray[Any], shape: tuple[int, ...]) -> Eigenpairs:
    """Vectors given as columns, of the largest value first, behind the constant one; their largest entries positive."""
    signs = np.sign(vectors[np.argmax(np.abs(vectors), axis=0), np.arange(vectors.shape[1])])
    first = np.full((1, *shape), len(vectors) ** -0.5)
    found = np.concatenate([first, (vectors * signs).T.reshape(-1, *shape)])
    return _pairs(np.append(0.0, 1 - values / values[0]), found)


def _of_object(mask: Mask) -> Eigenpairs:
    """A partition already: y₁ is 1 on the object and 0 elsewhere."""
    return _pairs(np.zeros(2), np.stack([np.full(mask.shape, mask.size**-0.5), mask]))


def _pairs(values: NDArray[Any], vectors: NDArray[Any]) -> Eigenpairs:
    return Eigenpairs(
        values=np.asarray(values, np.float64),
        vectors=np.asarray(vectors, np.float32),
        degrees=np.ones(vectors.shape[1:], np.float32),
        residuals=np.zeros(len(values)),
        n_products=0,
    )


def _grid_of(features: npt.ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(features, np.float64)
    if array.ndim != 3 or array.size == 0:
        raise ValueError(f"features must be (h, w, C), got {array.shape}")
    return array


def _check_k(k: int, most: int) -> int:
    """How many vectors there are beside the constant one."""
    if not 2 <= k <= most:
        raise ValueError(f"k must be from 2 to {most} for these vectors, got {k}")
    return k - 1
