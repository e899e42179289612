"""Deep spectral methods: an image taken apart by the eigenvectors of a graph of its features and colours."""

from deepspec._core import __version__
from deepspec.spectral import (
    ConvergenceError,
    Eigenpairs,
    affinity,
    color_affinity,
    eigenpairs,
    laplacian,
    laplacian_eigenpairs,
)

__all__ = [
    "ConvergenceError",
    "Eigenpairs",
    "__version__",
    "affinity",
    "color_affinity",
    "eigenpairs",
    "laplacian",
    "laplacian_eigenpairs",
]
