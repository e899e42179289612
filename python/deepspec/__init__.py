"""Deep spectral methods: an image taken apart by the eigenvectors of a graph of its features and colours."""

from deepspec import pipeline
from deepspec._core import __version__
from deepspec.backbones import Backbone, load_backbone
from deepspec.decomposition import Decomposition, decompose
from deepspec.features import Features
from deepspec.graph import affinity, color_affinity, laplacian
from deepspec.regions import Box, localize, objectness, segment_object, segment_regions
from deepspec.spectral import ConvergenceError, Eigenpairs, eigenpairs, eigenpairs_batch, laplacian_eigenpairs

__all__ = [
    "Backbone",
    "Box",
    "ConvergenceError",
    "Decomposition",
    "Eigenpairs",
    "Features",
    "__version__",
    "affinity",
    "color_affinity",
    "decompose",
    "eigenpairs",
    "eigenpairs_batch",
    "laplacian",
    "laplacian_eigenpairs",
    "load_backbone",
    "localize",
    "objectness",
    "pipeline",
    "segment_object",
    "segment_regions",
]
