"""Image → soft layers at full resolution (section 4.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspec import _core, images
from deepspec.checks import check_choice, check_color_weight, check_max_memory, check_tol, check_whole
from deepspec.decomposition import plain_weight
from deepspec.features import Features, FeatureSource, extract
from deepspec.full_resolution import StageProgress, pixel_eigenpairs
from deepspec.images import ImageSource
from deepspec.matte_layers import Layers
from deepspec.matting_plan import MattingPlan, plan_matting
from deepspec.pixel_problem import AFFINITIES
from deepspec.soft_layers import LAYERINGS, front_layers, soft_layers
from deepspec.spectral import Eigenpairs
from deepspec.trimaps import Known, known_from_scribbles, known_from_trimap, solve_alpha

#: By the guide's name.
_READERS: dict[str, Callable[[ImageSource, tuple[int, int]], Known]] = {
    "trimap": known_from_trimap,
    "scribbles": known_from_scribbles,
}
_GUIDED_EIGENVECTORS = 50


def matte(
    image: ImageSource,
    features: FeatureSource = "dino_vits16",
    *,
    n_layers: int = 5,
    n_eigenvectors: int | None = None,
    color_weight: float | None = None,
    affinity: str = "patch",
    layering: str = "kmeans",
    foreground: str | int | Sequence[int] = "border",
    trimap: ImageSource | None = None,
    scribbles: ImageSource | None = None,
    max_size: int | None = 1024,
    tol: float | None = None,
    seed: int = 0,
    max_memory: float | None = None,
    threads: int | None = None,
    progress: StageProgress | None = None,
) -> Layers:
    """Take a photograph apart into soft layers of its full size (section 4.4).

    The layers come from the first eigenvectors of the graph of all pixels; with a trimap or scribbles there are two,
    the foreground and the rest.

    Parameters
    ----------
    image : path, file object, PIL image or array
        Anything `images.load` reads.
    features : str, callable, Features or array
        As `decompose` takes them. Where `color_weight` is infinite they are not looked at.
    n_layers : int
        At most the number of pixels. It has no meaning with a trimap or scribbles.
    n_eigenvectors : int, optional
        The constant one included, at most the number of pixels. Default: n_layers, but 2 at least, for "kmeans",
        4 n_layers for "sparse", and 50 with a trimap or scribbles.
    color_weight : float in [0, inf], optional
        λ of `W = W_feat + λ W_color`; `math.inf` leaves the features out: the layers are of colours alone. Default:
        10, and `math.inf` with a trimap or scribbles, since what these leave open are the finest details, which
        colours tell and features blur: where the truth is known, features at 10 double the error.
    affinity : {"patch", "patch4", "sampled"}
        See `pixel_eigenpairs`.
    layering : {"kmeans", "sparse"}
        See `soft_layers`.
    foreground : "border", int or several
        The layers that make up the foreground, counted from 0; `"border"`: those that have little of the image's
        border.
    trimap : image, optional
        Of the image's size: white where the foreground is known, black where the rest is, gray elsewhere, see
        `known_from_trimap`.
    scribbles : image, optional
        Of the image's size: white strokes in front and black ones behind on a transparent ground, see
        `known_from_scribbles`.
    max_size : int or None
        In pixels: features are extracted from a copy whose longer side is this where the image is larger; None:
        never. The layers have the image's size all the same.
    tol : float, optional
        Largest residual of the eigenvectors. Default: 1e-3, and 1e-2 with a trimap or scribbles, for which all that counts
        is what the vectors span: where the truth is known, smaller ones take longer and come no closer to it.
    seed : int
    max_memory : float, optional
        In bytes, of all that is held at a time, the photograph included. Where the whole graph does not fit, its
        eigenvectors are found on a smaller copy, brought to the full size and polished there in tiles, and `settings`
        of the result has the copy's (height, width) as `solved_at`; with affinity="sampled" it must fit. Default: what
        the machine has.
    threads : int, optional
        Default: `$DEEPSPEC_NUM_THREADS`, else the cores available.
    progress : callable, optional
        Told of a stage by name ("features", "graph", "eigenvectors", "polish", "layers"), and of the share of it that
        is done, in [0, 1]. What it raises ends the work.

    Returns
    -------
    Layers

    Raises
    ------
    ImportError
        The features are a network's and torch or timm is not installed, or scikit-learn is not.
    OSError
        An image cannot be read, or the network's weights cannot be had.
    ValueError
        A parameter is out of range, or the image is too small for the features.
    MemoryError
        It needs more than `max_memory`, from a smaller copy too; nothing is begun but the features.
    ConvergenceError
        The eigenvectors did not reach `tol`.
    """
    guides = {
        name: source for name, source in (("trimap", trimap), ("scribbles", scribbles)) if source is not None
    }
    if len(guides) == 2:
        raise ValueError("trimap and scribbles exclude each other, got both")
    guide = next(iter(guides), None)
    matting = Matting(
        n_layers=n_layers,
        n_eigenvectors=n_eigenvectors,
        color_weight=color_weight,
        affinity=affinity,
        layering=layering,
        guide=guide,
        max_size=max_size,
        tol=tol,
        seed=seed,
    )
    front = matting.check_foreground(foreground)
    check_max_memory(max_memory)
    pixels = images.load(image)
    matting.check_size(pixels)
    known = None if guide is None else matting.known(guides[guide], pixels.shape[:2])
    progress = progress or (lambda stage, share: None)
    found = matting.features(pixels, features, progress)
    plan = matting.plan(pixels, found, colors=False, max_memory=max_memory, threads=threads)
    pairs = matting.eigenpairs(pixels, found, plan, threads=threads, progress=progress)
    return matting.with_front(matting.layers(pixels, found, pairs, known, plan, progress), front)


@dataclass(frozen=True)
class Matting:
    """What determines the layers of a photograph: the parameters of `matte`.

    Attributes
    ----------
    guide : {"trimap", "scribbles"} or None
        What tells which pixels are in front.

    Raises
    ------
    ValueError
        A parameter is out of range, whatever the image holds.
    """

    n_layers: int = 5
    n_eigenvectors: int | None = None
    color_weight: float | None = None
    affinity: str = "patch"
    layering: str = "kmeans"
    guide: str | None = None
    max_size: int | None = 1024
    tol: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("n_layers", self.n_layers, 1)
        if self.n_eigenvectors is not None:
            check_whole("n_eigenvectors", self.n_eigenvectors, 2)
        check_color_weight(self.used_color_weight)
        check_choice("affinity", self.affinity, AFFINITIES)
        check_choice("layering", self.layering, LAYERINGS)
        if self.max_size is not None:
            check_whole("max_size, where not None,", self.max_size, 1)
        check_tol(self.used_tol)
        check_whole("seed", self.seed, 0, 2**32 - 1)

    @property
    def used_color_weight(self) -> float:
        """λ."""
        default = math.inf if self.guide else 10.0
        return default if self.color_weight is None else self.color_weight

    @property
    def used_eigenvectors(self) -> int:
        """Of an image that has as many pixels."""
        by_layering = {"kmeans": max(2, self.n_layers), "sparse": 4 * self.n_layers}
        return self.n_eigenvectors or (_GUIDED_EIGENVECTORS if self.guide else by_layering[self.layering])

    @property
    def used_tol(self) -> float:
        """Of the eigenvectors."""
        default = 1e-2 if self.guide else 1e-3
        return default if self.tol is None else self.tol

    @property
    def needs_features(self) -> bool:
        return not math.isinf(self.used_color_weight)

    @property
    def settings(self) -> dict[str, Any]:
        """As plain JSON values: what is used, without what has no meaning."""
        used = {
            **asdict(self),
            "n_eigenvectors": self.used_eigenvectors,
            "color_weight": plain_weight(self.used_color_weight),
            "tol": float(self.used_tol),
        }
        unused = (
            *(("n_layers", "layering") if self.guide else ("guide",)),
            *(() if self.needs_features else ("affinity", "max_size")),
        )
        return {name: value for name, value in used.items() if name not in unused}

    def check_foreground(self, foreground: str | int | Sequence[int]) -> tuple[int, ...] | None:
        """The layers of the foreground, counted from 0, or None for those `front_layers` finds; ValueError for others."""
        if isinstance(foreground, str):
            check_choice("foreground, where it is no layer,", foreground, ("border",))
            return None
        if self.guide:
            raise ValueError(f"foreground must not be given with {self.guide}, which tells it")
        numbers = [foreground] if isinstance(foreground, (int, np.integer)) else list(foreground)
        if not numbers:
            raise ValueError("foreground must name at least one layer, got none")
        return tuple(check_whole("foreground, counted from 0,", n, 0, self.n_layers - 1) for n in numbers)

    def check_size(self, pixels: NDArray[np.uint8]) -> None:
        """ValueError where an image has too few pixels."""
        n_pixels = pixels.shape[0] * pixels.shape[1]
        least = {"n_layers": 1 if self.guide else self.n_layers, "n_eigenvectors": self.n_eigenvectors or 1}
        for name, value in least.items():
            if value > n_pixels:
                raise ValueError(f"{name} must be at most the image's {n_pixels} pixels, got {value}")

    def known(self, source: ImageSource, size: tuple[int, int]) -> Known:
        """What a trimap or scribbles say of an image of (height, width)."""
        assert self.guide is not None
        return _READERS[self.guide](source, size)

    def features(
        self, pixels: NDArray[np.uint8], source: FeatureSource, progress: StageProgress
    ) -> Features | None:
        """An image's features, their cells counted in its own pixels; None where colours decide alone."""
        if not self.needs_features:
            return None
        progress("features", 0.0)
        ready = not (isinstance(source, str) or callable(source))
        working = pixels if ready else images.shrink(pixels, self.max_size)
        found = extract(working, source)
        progress("features", 1.0)
        scale = pixels.shape[0] / working.shape[0], pixels.shape[1] / working.shape[1]
        return replace(found, cell=(found.cell[0] * scale[0], found.cell[1] * scale[1]))

    def plan(
        self,
        pixels: NDArray[np.uint8],
        features: Features | None,
        *,
        colors: bool,
        max_memory: float | None,
        threads: int | None,
    ) -> MattingPlan:
        """How an image will be taken apart, see `plan_matting`."""
        return plan_matting(
            pixels.shape[:2],
            features,
            affinity=self.affinity,
            k=self._k(pixels),
            n_layers=2 if self.guide else self.n_layers,
            guided=self.guide is not None,
            colors=colors,
            max_memory=max_memory,
            threads=threads,
        )

    def eigenpairs(
        self,
        pixels: NDArray[np.uint8],
        features: Features | None,
        plan: MattingPlan,
        *,
        threads: int | None,
        progress: StageProgress,
    ) -> Eigenpairs:
        """Of the graph of an image's pixels."""
        return pixel_eigenpairs(
            pixels,
            features,
            affinity=self.affinity,
            color_weight=self.used_color_weight,
            k=self._k(pixels),
            tol=self.used_tol,
            seed=self.seed,
            max_memory=plan.eigenpairs.bytes + 1,  # rounded: within these it goes about it as planned
            threads=threads,
            progress=progress,
        )

    def layers(
        self,
        pixels: NDArray[np.uint8],
        features: Features | None,
        pairs: Eigenpairs,
        known: Known | None,
        plan: MattingPlan,
        progress: StageProgress,
    ) -> Layers:
        """An image's layers, from where its eigenvectors are known; none of them is in front yet."""
        progress("layers", 0.0)
        if known is None:
            alphas = soft_layers(pairs, self.n_layers, method=self.layering, seed=self.seed)
        else:
            alpha = solve_alpha(pairs, known)
            alphas = np.stack([alpha, 1 - alpha])
        progress("layers", 1.0)
        copy = {} if plan.eigenpairs.tile is None else {"solved_at": list(plan.eigenpairs.working)}
        settings = {
            **({"features": "none"} if features is None else features.settings),
            **self.settings,
            "n_eigenvectors": len(pairs.values),
            **copy,
            "deepspec": _core.__version__,
        }
        return Layers(pixels, alphas, (), settings)

    def with_front(self, layers: Layers, front: tuple[int, ...] | None) -> Layers:
        """The layers with those in front as asked for, or None: as they are found."""
        if front is not None:
            return layers.with_front(front)
        if self.guide:
            return layers.with_front(0)
        found = front_layers(layers.alphas)
        return replace(layers, front=found, settings={**layers.settings, "foreground": "border"})

    def _k(self, pixels: NDArray[np.uint8]) -> int:
        n_pixels: int = pixels.shape[0] * pixels.shape[1]
        return min(self.used_eigenvectors, n_pixels)
