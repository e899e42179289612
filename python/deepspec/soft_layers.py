"""Eigenvectors at full resolution → soft layers that sum to one at every pixel, and those in front (section 4.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from deepspec._blocks import blocks
from deepspec.checks import check_choice, check_whole
from deepspec.clustering import kmeans
from deepspec.features import border_cells
from deepspec.spectral import Eigenpairs
from deepspec.spectral_matting import sparse_components

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
#: From pixels' entries of y₁ … y_{k−1}, (n, k − 1), to their layers, (n, n_layers).
Layering = Callable[[Float64], Float64]

LAYERINGS = ("kmeans", "sparse")

_SAMPLE = 8192  # pixels fitted to: all of a photograph change its soft clusters by 0.01 at most, on average


def soft_layers(pairs: Eigenpairs, n_layers: int, *, method: str = "kmeans", seed: int = 0) -> Float32:
    """Layers of an image, each an alpha between 0 and 1, from the eigenvectors at its pixels (section 4.4).

    Both methods begin with k-means over the pixels' entries of eigenvectors, all with the same weight, and look at
    8192 pixels drawn at random, or at all where these are fewer; the other pixels follow by the same formula.

    Parameters
    ----------
    pairs : Eigenpairs
        Of an image's pixels: vectors (k, H, W). For ``"kmeans"`` as many as layers are about right, for ``"sparse"``
        three to four times as many.
    n_layers : int
        From 1 to the number of pixels; more than k too. Where k-means finds fewer clusters, because fewer of the
        pixels looked at differ to six digits, the layers that remain are 0.
    method : {"kmeans", "sparse"}
        ``"kmeans"``: of clusters over y₁ … y_{k−1}, a pixel's share of one is exp(−d²/2σ²) over the sum of all
        clusters', d its distance to the cluster's centre and σ² the variance within clusters along one axis: it is a
        mixture only where it lies about halfway between centres. ``"sparse"``: sums of multiples of all eigenvectors
        that are close to 0 or 1, as in spectral matting (Levin, Rav-Acha, Lischinski, PAMI 2008): at most 20 steps
        that lower Σ |α|^0.8 + |1 − α|^0.8 over pixels and layers, from clusters over y₁ … y_{n_layers−1}; then clipped
        to [0, 1] and divided by their sum. Mixtures are in proportion, but flat regions too are a little transparent
        where the eigenvectors are not flat. One layer that is 1 everywhere is best by that sum, so that a layer shrinks
        where the eigenvectors cannot tell it from others well; the steps end before one loses half of its cluster.
    seed : int
        Of the pixels looked at and of k-means, which keeps the best of 10 starts.

    Returns
    -------
    (n_layers, H, W) float32
        In [0, 1], 1 in all at each pixel; the layer that covers most comes first.

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    ValueError
        The vectors are not those of an image or not finite, there are more layers than pixels, or the method is unknown.
    """
    check_choice("method", method, LAYERINGS)
    vectors = _checked(pairs.vectors)
    k, *size = vectors.shape
    entries = vectors.reshape(k, -1)[1:]
    n_pixels = entries.shape[1]
    n_layers = check_whole("n_layers", n_layers, 1, n_pixels)
    check_whole("seed", seed, 0)
    layers = np.zeros((n_layers, n_pixels), np.float32)
    if k == 1 or n_layers == 1:
        layers[0] = 1
        return layers.reshape(n_layers, *size)
    sample = entries[:, _sample(n_pixels, seed)].T.astype(np.float64)
    # A graph of n_layers parts has as many eigenvectors that tell them apart: the others refine sparse layers.
    dividing = sample if method == "kmeans" else sample[:, : n_layers - 1]
    labels = kmeans(dividing, n_layers, seed)
    fit = {"kmeans": _soft_clusters, "sparse": _sparse}[method]
    # One thread, as in k-means: many would wait for each other over products this small, and show in the last bits.
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(limits=1):
        layering = fit(sample, labels)
        for pixels in blocks(n_pixels, k + n_layers):
            found = layering(entries[:, pixels].T.astype(np.float64))
            layers[: found.shape[1], pixels] = found.T
    order = np.argsort(-layers.sum(axis=1, dtype=np.float64), kind="stable")
    for pixels in blocks(n_pixels, k + n_layers):
        layers[:, pixels] = layers[order, pixels]
    return layers.reshape(n_layers, *size)


def front_layers(layers: npt.ArrayLike, *, most_border: float = 2 / 3) -> tuple[int, ...]:
    """Which layers are in front: those that touch the border least.

    A layer's mean over the pixels on the image's border is set beside its mean over all pixels. In front are the
    layers where the quotient is at most `most_border`, and the one where it is least in any case; the one where it is
    greatest is behind, unless it is the only one. A layer that is 0 everywhere is behind.

    Parameters
    ----------
    layers : (n, H, W) floating point
        In [0, 1], as from `soft_layers`.
    most_border : float
        At least 0.

    Returns
    -------
    tuple of int
        Ascending, at least one.

    Raises
    ------
    ValueError
        A shape or value is wrong, or all layers are 0.
    """
    alphas = np.asarray(layers)
    if alphas.ndim != 3 or 0 in alphas.shape or alphas.dtype.kind != "f":
        raise ValueError(f"layers must be (n, H, W) floating point, got {alphas.shape} {alphas.dtype}")
    if not most_border >= 0:
        raise ValueError(f"most_border must be at least 0, got {most_border}")
    means = alphas.mean(axis=(1, 2), dtype=np.float64)
    if not (means.min() >= 0 and 0 < means.max() <= 1):
        raise ValueError(
            f"layers must be in [0, 1] and not all 0, got means of {means.min()} … {means.max()}"
        )
    on_border = alphas[:, border_cells(*alphas.shape[1:])].mean(axis=1, dtype=np.float64)
    covering = np.flatnonzero(means)
    quotients = on_border[covering] / means[covering]
    order = np.argsort(quotients, kind="stable")
    in_front = max(1, np.count_nonzero(quotients[order[:-1]] <= most_border))
    return tuple(sorted(covering[order[:in_front]].tolist()))


def _checked(vectors: NDArray[Any]) -> NDArray[Any]:
    if vectors.ndim != 3 or 0 in vectors.shape:
        raise ValueError(f"vectors must be (k, H, W), of an image's pixels, got {vectors.shape}")
    for j, vector in enumerate(vectors):
        if not np.isfinite(vector).all():
            raise ValueError(f"vectors must be finite, found NaN or infinity in y_{j}")
    return vectors


def _sample(n_pixels: int, seed: int) -> NDArray[np.intp] | slice:
    if n_pixels <= _SAMPLE:
        return slice(None)
    return np.sort(np.random.default_rng(seed).choice(n_pixels, _SAMPLE, replace=False))


def _soft_clusters(sample: Float64, labels: NDArray[np.intp]) -> Layering:
    members = np.eye(labels.max() + 1)[labels]
    centers = (members.T @ sample) / members.sum(axis=0)[:, None]
    # Above 0 where every cluster is one point: then a pixel is wholly of the nearest.
    least = 1e-12 * max(float(np.square(centers).max()), float(np.finfo(np.float32).tiny))
    variance = max(float(np.square(sample - centers[labels]).mean()), least)

    def layering(points: Float64) -> Float64:
        squares = np.square(centers).sum(axis=1) - 2 * points @ centers.T
        shares = np.exp((squares.min(axis=1, keepdims=True) - squares) / (2 * variance))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    return layering


def _sparse(sample: Float64, labels: NDArray[np.intp]) -> Layering:
    center = sample.mean(axis=0)
    variances, axes = np.linalg.eigh((sample - center).T @ (sample - center) / len(sample))
    # Float32 eigenvectors that depend on each other do so to seven digits.
    kept = variances > 1e-10 * variances.max()
    axes = axes[:, kept] / np.sqrt(variances[kept])

    def basis(points: Float64) -> Float64:
        """Of unit variance over the sample, after a constant."""
        return np.concatenate([np.ones((len(points), 1)), (points - center) @ axes], axis=1)

    coefficients = sparse_components(basis(sample), np.eye(labels.max() + 1)[labels])

    def layering(points: Float64) -> Float64:
        alphas = (basis(points) @ coefficients).clip(0, 1)
        # They summed to 1 before those below 0 were raised: the sum is at least 1.
        return np.asarray(alphas / alphas.sum(axis=1, keepdims=True))

    return layering
