"""What the paper's tables compare with: LOST and TokenCut, by their published rules."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepspec.decomposition import Decomposition, decompose
from deepspec.features import Features, FeatureSource, extract
from deepspec.images import ImageSource, load
from deepspec.regions import Box, box_of_cells, objectness, second_eigenvector, split

Mask = NDArray[np.bool_]


def tokencut(
    image: ImageSource,
    features: FeatureSource = "dino_vits16",
    *,
    threshold: float = 0.2,
    epsilon: float = 1e-5,
    threads: int | None = None,
) -> Decomposition:
    """TokenCut's decomposition (Wang et al., CVPR 2022): two eigenvectors of the thresholded graph on the features' own grid.

    W is 1 where the cosine of two features is above the threshold and ε elsewhere; `tokencut_object` and `tokencut_box`
    are its answers. The parameters are `decompose`'s.
    """
    return decompose(
        image,
        features,
        k=2,
        color_weight=0.0,
        grid="patch",
        affinity="threshold",
        threshold=threshold,
        epsilon=epsilon,
        threads=threads,
    )


def tokencut_object(d: Decomposition) -> Mask:
    """TokenCut's object, (H', W') bool: y₁ split at its mean, the side and the 4-connected part that hold its
    entry of largest absolute value.

    Raises
    ------
    ValueError
        k is 1.
    """
    front, y = split(d, "mean"), second_eigenvector(d)
    seed = np.unravel_index(np.argmax(np.abs(y)), y.shape)
    if not front[seed]:
        front = ~front
    return _part_with(front, seed)


def tokencut_box(d: Decomposition) -> Box:
    """The box of `tokencut_object`."""
    return box_of_cells(tokencut_object(d), d.image.shape[:2], d.cell, objectness(d))


def lost_object(features: NDArray[np.floating], n_similar: int = 100) -> Mask:
    """LOST's object (Siméoni et al., BMVC 2021), (h, w) bool, from the keys of a network, not normalised.

    A = F Fᵀ. A patch's degree is the number of patches with which it has a positive entry. The seed has the lowest one;
    of the `n_similar` patches of lowest degree, those with a positive entry to the seed are similar to it; what they are
    positive to, in sum, is the object: the 4-connected part of it that holds the seed. Ties go to the first patch.

    Raises
    ------
    ValueError
        Features are not (h, w, C), or `n_similar` is not positive.
    """
    array = np.asarray(features, np.float64)
    if array.ndim != 3 or array.size == 0:
        raise ValueError(f"features must be (h, w, C), got {array.shape}")
    if n_similar < 1:
        raise ValueError(f"n_similar must be at least 1, got {n_similar}")
    rows = array.reshape(-1, array.shape[2])
    affinity = rows @ rows.T
    by_degree = np.argsort(np.count_nonzero(affinity > 0, axis=1), kind="stable")
    seed = by_degree[0]
    similar = by_degree[:n_similar][affinity[seed, by_degree[:n_similar]] > 0]
    front = (affinity[similar].sum(axis=0) > 0).reshape(array.shape[:2])
    place = np.unravel_index(seed, array.shape[:2])
    front[place] = True  # a zero feature is similar to nothing
    return _part_with(front, place)


def lost_box(image: ImageSource, features: FeatureSource = "dino_vits16", n_similar: int = 100) -> Box:
    """The box of `lost_object` in an image, with the score 1."""
    pixels = load(image)
    found: Features = extract(pixels, features)
    return box_of_cells(lost_object(found.array, n_similar), pixels.shape[:2], found.cell, 1.0)


def _part_with(front: Mask, place: tuple[np.intp, ...]) -> Mask:
    parts, _ = ndimage.label(front)
    return np.asarray(parts == parts[place])
