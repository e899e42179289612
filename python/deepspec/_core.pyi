"""
The native core. Arguments are checked by the Python modules that call it.
"""

from __future__ import annotations
import numpy
import numpy.typing
import typing

__all__: list[str] = [
    "available_memory",
    "border_distances",
    "build_info",
    "color_graph",
    "default_threads",
    "dense_crf",
    "dense_eigenpairs",
    "eigenpairs",
    "eigenpairs_bytes",
    "feature_gram",
    "feature_products",
    "pixel_eigenpairs",
    "pixel_eigenpairs_bytes",
    "release_kept_memory",
    "sparse_eigenpairs",
]

def available_memory() -> int: ...
def border_distances(
    grid: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32]]: ...
def build_info() -> dict: ...
def color_graph(
    image: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    *,
    method: str,
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> tuple[
    numpy.typing.NDArray[numpy.int64], numpy.typing.NDArray[numpy.int32], numpy.typing.NDArray[numpy.float64]
]: ...
def default_threads() -> int: ...
def dense_crf(
    image: typing.Annotated[numpy.typing.ArrayLike, numpy.uint8],
    unary: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    *,
    bilateral_weight: typing.SupportsFloat | typing.SupportsIndex,
    bilateral_xy: typing.SupportsFloat | typing.SupportsIndex,
    bilateral_rgb: typing.SupportsFloat | typing.SupportsIndex,
    gaussian_weight: typing.SupportsFloat | typing.SupportsIndex,
    gaussian_xy: typing.SupportsFloat | typing.SupportsIndex,
    n_iterations: typing.SupportsInt | typing.SupportsIndex,
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.float32]: ...
def dense_eigenpairs(
    affinity: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
    | typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    *,
    k: typing.SupportsInt | typing.SupportsIndex,
    laplacian: str,
    solver: str,
    tolerance: typing.SupportsFloat | typing.SupportsIndex,
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> dict: ...
def eigenpairs(
    features: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
    | typing.Annotated[numpy.typing.ArrayLike, numpy.float64]
    | None,
    image: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None,
    *,
    grid: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
    normalize: bool,
    color: str,
    color_weight: typing.SupportsFloat | typing.SupportsIndex,
    k: typing.SupportsInt | typing.SupportsIndex,
    laplacian: str,
    solver: str,
    tolerance: typing.SupportsFloat | typing.SupportsIndex,
    precision: str,
    threshold: tuple[typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex]
    | None,
    max_memory: typing.SupportsFloat | typing.SupportsIndex,
    threads: typing.SupportsInt | typing.SupportsIndex,
    poll: typing.Any = None,
) -> dict: ...
def eigenpairs_bytes(
    features: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
    | typing.Annotated[numpy.typing.ArrayLike, numpy.float64]
    | None,
    *,
    grid: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
    k: typing.SupportsInt | typing.SupportsIndex,
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> float: ...
def feature_gram(
    features: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
    | typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    *,
    grid: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
    normalize: bool,
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.float32]: ...
def feature_products(
    features: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
    | typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    vectors: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    *,
    grid: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.float64]: ...
def pixel_eigenpairs(
    image: typing.Annotated[numpy.typing.ArrayLike, numpy.uint8],
    *,
    features: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
    | typing.Annotated[numpy.typing.ArrayLike, numpy.float64]
    | None,
    gram: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None,
    grid: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
    cell: tuple[typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex],
    feature_weight: typing.SupportsFloat | typing.SupportsIndex,
    color_weight: typing.SupportsFloat | typing.SupportsIndex,
    k: typing.SupportsInt | typing.SupportsIndex,
    tolerance: typing.SupportsFloat | typing.SupportsIndex,
    seed: typing.SupportsInt | typing.SupportsIndex,
    threads: typing.SupportsInt | typing.SupportsIndex,
    poll: typing.Any = None,
    watch: typing.Any = None,
) -> dict: ...
def pixel_eigenpairs_bytes(
    n_pixels: typing.SupportsInt | typing.SupportsIndex,
    *,
    features: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
    | typing.Annotated[numpy.typing.ArrayLike, numpy.float64]
    | None,
    sampled: bool,
    grid: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
    k: typing.SupportsInt | typing.SupportsIndex,
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> float: ...
def release_kept_memory() -> None: ...
def sparse_eigenpairs(
    affinity: tuple[
        typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
        typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    ],
    *,
    k: typing.SupportsInt | typing.SupportsIndex,
    laplacian: str,
    solver: str,
    tolerance: typing.SupportsFloat | typing.SupportsIndex,
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> dict: ...

__version__: str = "0.1.0"
