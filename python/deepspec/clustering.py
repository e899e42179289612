"""Points → clusters: of an image's cells, and of a whole dataset's segments (section 3.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from deepspec.checks import check_choice, check_whole

Floats = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]

CLUSTERINGS = ("minibatch", "spherical", "faiss")
_BATCH = 4096  # points in a batch of mini-batch k-means, and
_MOST_ITERATIONS = 5000  # as the paper's authors have them
_BLOCK = 65536  # rows of a matrix that may be larger than memory


def kmeans(points: Floats, n_clusters: int, seed: int) -> NDArray[np.intp]:
    """Cluster numbers 0 … of few points of few dimensions, the best of 10 starts; every number occurs.

    Parameters
    ----------
    points : (n, m) floating
        Entries that agree to six digits of the largest are one point.
    n_clusters : int
        At most; as many as there are points that differ, where these are fewer.
    seed : int

    Returns
    -------
    (n,) intp

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    """
    cluster, limits = _sklearn()
    scale = max(float(np.abs(points).max()), np.finfo(np.float32).tiny)
    scaled = np.asarray(points, np.float64) / scale
    n_clusters = min(n_clusters, len(np.unique(scaled.round(6), axis=0)))
    # One thread: the order in which several add up their parts would show in the last bits.
    with limits(limits=1):
        found = cluster.KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(scaled)
    return np.unique(found, return_inverse=True)[1].reshape(-1)


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of a dataset's vectors, numbered by decreasing size.

    Attributes
    ----------
    labels : (N,) int32
        Of each vector, 0 … n_clusters − 1.
    distances : (N,) float32
        Of each vector to its centre.
    centers : (n_clusters, C') float32
        In the space of the principal components, where there are any.
    inertia : float
        Sum of the squared distances of the vectors that the centres were fitted to.
    """

    labels: NDArray[np.int32]
    distances: NDArray[np.float32]
    centers: NDArray[np.float32]
    inertia: float


def cluster_vectors(
    vectors: Floats,
    n_clusters: int,
    *,
    algorithm: str = "minibatch",
    n_components: int | None = None,
    n_restarts: int = 1,
    seed: int = 0,
    n_fit: int | None = None,
) -> Clusters:
    """Cluster the vectors of a dataset's segments (section 3.5).

    Parameters
    ----------
    vectors : (N, C) float32
        Of length 1. A memory map stays on disk: blocks of it are read.
    n_clusters : int
    algorithm : {"minibatch", "spherical", "faiss"}
        Mini-batch k-means of scikit-learn (batches of 4096, at most 5000 iterations, as published); k-means by
        cosine, whose centres have length 1; or the same by FAISS, for millions of vectors.
    n_components : int, optional
        Of a principal component analysis before.
    n_restarts : int
        From other starts, of which the one with the least inertia is kept: what is found depends on the start.
    seed : int
        The same seed gives the same clusters.
    n_fit : int, optional
        The centres are fitted to the first vectors alone, and the others go to the nearest one.

    Raises
    ------
    ImportError
        scikit-learn or FAISS is not installed.
    ValueError
        The algorithm is unknown, there are fewer vectors than clusters, or fewer channels than components.
    """
    check_choice("clustering", algorithm, CLUSTERINGS)
    n_fit = len(vectors) if n_fit is None else n_fit
    if not 1 <= n_clusters <= n_fit:
        raise ValueError(
            f"n_classes must be from 1 to the number of segments to cluster, {n_fit}, got {n_clusters}"
        )
    check_whole("n_restarts", n_restarts, 1)
    _, limits = _sklearn()
    fit = {"minibatch": _minibatch, "spherical": _spherical, "faiss": _faiss}[algorithm]
    # A start's own seed where there are several: neighbouring seeds share none.
    seeds = [seed] if n_restarts == 1 else np.random.SeedSequence(seed).generate_state(n_restarts).tolist()
    with limits(limits=1):
        if n_components is not None:
            vectors = _principal_components(vectors, n_components, n_fit)
        found = [_assigned(vectors, fit(vectors[:n_fit], n_clusters, start), n_fit) for start in seeds]
    return min(found, key=lambda clusters: clusters.inertia)


def _minibatch(vectors: Floats, n_clusters: int, seed: int) -> Floats:
    cluster, _ = _sklearn()
    model = cluster.MiniBatchKMeans(
        n_clusters, batch_size=_BATCH, max_iter=_MOST_ITERATIONS, random_state=seed, n_init=3
    )
    centers: Floats = model.fit(vectors).cluster_centers_
    return centers


def _spherical(vectors: Floats, n_clusters: int, seed: int, most_iterations: int = 100) -> Floats:
    """Lloyd's algorithm by cosine: a centre is the mean direction of what is nearest to it."""
    cluster, _ = _sklearn()
    rng = np.random.default_rng(seed)
    # k-means++ looks at all points for every centre.
    sample = np.sort(rng.permutation(len(vectors))[: max(_BLOCK // 4, 3 * n_clusters)])
    start, _ = cluster.kmeans_plusplus(np.asarray(vectors[sample], np.float32), n_clusters, random_state=seed)
    centers: Any = start
    labels = np.full(len(vectors), -1)
    for _ in range(most_iterations):
        before, sums = labels, np.zeros(centers.shape)
        labels = np.empty(len(vectors), np.intp)
        for rows in _blocks(len(vectors)):
            block = np.asarray(vectors[rows], np.float32)
            labels[rows] = (block @ directions(centers).T).argmax(axis=1)
            members = scipy.sparse.csr_array(
                (np.ones(len(block)), labels[rows], np.arange(len(block) + 1)), (len(block), n_clusters)
            )
            sums += members.T @ block.astype(np.float64)
        occurring = np.bincount(labels, minlength=n_clusters) > 0
        centers = np.asarray(np.where(occurring[:, None], sums, centers), np.float32)
        if np.array_equal(labels, before):
            break
    return directions(centers)


def _faiss(vectors: Floats, n_clusters: int, seed: int) -> Floats:
    try:
        import faiss
    except ImportError as error:
        raise ImportError("clustering='faiss' needs FAISS: pip install 'deepspec[faiss]'") from error
    faiss.omp_set_num_threads(1)
    model = faiss.Kmeans(
        vectors.shape[1],
        n_clusters,
        niter=100,
        spherical=True,
        seed=seed % 2**31,
        # All vectors count, however few or many there are.
        min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),
    )
    model.train(np.ascontiguousarray(vectors, np.float32))
    return np.asarray(model.centroids, np.float32)


def directions(vectors: Floats) -> Float32:
    """Rows of length 1; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def _assigned(vectors: Floats, centers: Floats, n_fit: int) -> Clusters:
    """Every vector to its nearest centre; the cluster of most vectors comes first, and of equal ones the first found."""
    labels = np.empty(len(vectors), np.int32)
    squares = np.empty(len(vectors), np.float64)
    centers = np.asarray(centers, np.float64)
    for rows in _blocks(len(vectors)):
        block = np.asarray(vectors[rows], np.float64)
        distances = (
            np.square(block).sum(axis=1)[:, None] - 2 * block @ centers.T + np.square(centers).sum(axis=1)
        )
        labels[rows] = distances.argmin(axis=1)
        squares[rows] = distances.min(axis=1).clip(min=0)
    order = np.argsort(-np.bincount(labels, minlength=len(centers)), kind="stable")
    return Clusters(
        np.argsort(order).astype(np.int32)[labels],
        np.sqrt(squares).astype(np.float32),
        centers[order].astype(np.float32),
        float(squares[:n_fit].sum()),
    )


def _principal_components(vectors: Floats, n_components: int, n_fit: int) -> Floats:
    """Projected vectors, which are in memory: they are short."""
    from sklearn.decomposition import IncrementalPCA

    most = min(n_fit, vectors.shape[1])
    if not 1 <= n_components <= most:
        raise ValueError(
            f"n_components must be from 1 to {most}, for {n_fit} vectors of {vectors.shape[1]} channels, "
            f"got {n_components}"
        )
    model = IncrementalPCA(n_components)
    parts = _blocks(n_fit)
    if len(parts) > 1 and parts[-1].stop - parts[-1].start < n_components:
        # A part has to have as many vectors as there are components.
        parts[-2:] = [slice(parts[-2].start, parts[-1].stop)]
    for rows in parts:
        model.partial_fit(np.asarray(vectors[rows]))
    projected = [model.transform(np.asarray(vectors[rows])) for rows in _blocks(len(vectors))]
    return np.concatenate(projected).astype(np.float32)


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]


def _sklearn() -> tuple[Any, Any]:
    """`sklearn.cluster`, and what limits its threads."""
    try:
        import sklearn.cluster
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("segments need scikit-learn: pip install 'deepspec[cluster]'") from error
    return sklearn.cluster, threadpool_limits
