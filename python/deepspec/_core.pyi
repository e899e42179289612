"""
The native core. Arguments are checked by the Python modules that call it.
"""

from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing

__all__: list[str] = [
    "build_info",
    "color_knn",
    "color_knn_hsv",
    "color_random_walk",
    "default_threads",
    "dense_eigenpairs",
    "feature_eigenpairs",
    "feature_gram",
    "sparse_eigenpairs",
]

def build_info() -> dict: ...
def color_knn(
    image: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    *,
    searches: collections.abc.Sequence[
        tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex]
    ] = [(20, 2.0), (10, 0.1)],
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> tuple[
    numpy.typing.NDArray[numpy.int64], numpy.typing.NDArray[numpy.int32], numpy.typing.NDArray[numpy.float64]
]: ...
def color_knn_hsv(
    image: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    *,
    neighbors: typing.SupportsInt | typing.SupportsIndex = 20,
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> tuple[
    numpy.typing.NDArray[numpy.int64], numpy.typing.NDArray[numpy.int32], numpy.typing.NDArray[numpy.float64]
]: ...
def color_random_walk(
    image: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    *,
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> tuple[
    numpy.typing.NDArray[numpy.int64], numpy.typing.NDArray[numpy.int32], numpy.typing.NDArray[numpy.float64]
]: ...
def default_threads() -> int: ...
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
def feature_eigenpairs(
    features: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
    | typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    *,
    grid: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
    normalize: bool,
    colors: tuple[
        typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
        typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    ]
    | None,
    color_weight: typing.SupportsFloat | typing.SupportsIndex,
    k: typing.SupportsInt | typing.SupportsIndex,
    laplacian: str,
    solver: str,
    tolerance: typing.SupportsFloat | typing.SupportsIndex,
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> dict: ...
def feature_gram(
    features: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
    | typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    *,
    grid: tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex],
    normalize: bool,
    threads: typing.SupportsInt | typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.float32]: ...
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
