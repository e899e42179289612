"""Deep spectral methods: an image taken apart by the eigenvectors of a graph of its features and colours."""

from deepspec import pipeline, semantics, training
from deepspec._core import __version__
from deepspec.backbones import Backbone, load_backbone
from deepspec.decomposition import Decomposition, decompose
from deepspec.features import Features
from deepspec.graph import affinity, color_affinity, laplacian
from deepspec.matte_layers import Layers
from deepspec.matting import matte
from deepspec.predictions import predict_dataset
from deepspec.refine import dense_crf, unary_from_labels
from deepspec.regions import (
    Box,
    ObjectLostWarning,
    ObjectMask,
    find_object,
    localize,
    objectness,
    segment_object,
    segment_regions,
)
from deepspec.semantics import segment_dataset
from deepspec.spectral import ConvergenceError, Eigenpairs, eigenpairs, eigenpairs_batch, laplacian_eigenpairs

__all__ = [
    "Backbone",
    "Box",
    "ConvergenceError",
    "Decomposition",
    "Eigenpairs",
    "Features",
    "Layers",
    "ObjectLostWarning",
    "ObjectMask",
    "__version__",
    "affinity",
    "color_affinity",
    "decompose",
    "dense_crf",
    "eigenpairs",
    "eigenpairs_batch",
    "find_object",
    "laplacian",
    "laplacian_eigenpairs",
    "load_backbone",
    "localize",
    "matte",
    "objectness",
    "pipeline",
    "predict_dataset",
    "segment_dataset",
    "segment_object",
    "segment_regions",
    "semantics",
    "training",
    "unary_from_labels",
]
