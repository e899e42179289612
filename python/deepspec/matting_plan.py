"""What it takes to take a photograph apart, and how its eigenvectors are found within that."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deepspec import _core, full_resolution
from deepspec.features import Features
from deepspec.full_resolution import Plan


@dataclass(frozen=True)
class MattingPlan:
    """How a photograph will be taken apart.

    Attributes
    ----------
    eigenpairs : Plan
    bytes : int
        About what is held at most at a time, the photograph and its features included.
    """

    eigenpairs: Plan
    bytes: int

    @property
    def line(self) -> str:
        """For the screen."""
        return replace(self.eigenpairs, bytes=self.bytes).line


def plan_matting(
    size: tuple[int, int],
    features: Features | None,
    *,
    affinity: str,
    k: int,
    n_layers: int,
    guided: bool,
    colors: bool,
    max_memory: float | None,
    threads: int | None,
) -> MattingPlan:
    """How an image of (height, width), which is loaded, can be taken apart within `max_memory` bytes.

    Parameters
    ----------
    guided : bool
        Whether a trimap or scribbles are held beside the image.
    colors : bool
        Whether the colours in front and behind will be estimated too.
    max_memory : float or None
        In all; None: what the machine has beside what is held already.

    Raises
    ------
    MemoryError
        It cannot.
    """
    n_pixels = size[0] * size[1]
    held = n_pixels * (_IMAGE + _KNOWN * guided) + (0 if features is None else features.array.nbytes)
    budget = float(_core.available_memory()) if max_memory is None else max_memory - held
    after = _layers_bytes(n_pixels, k, n_layers, guided)
    if colors:
        after = max(after, _results_bytes(n_pixels, n_layers))
    if after > budget:
        raise MemoryError(
            f"the layers of {size[1]} x {size[0]} pixels need {(after + held) / 1e6:.0f} MB of memory, "
            f"there are {(budget + held) / 1e6:.0f} MB; "
            f"fewer layers ({n_layers}) or eigenvectors ({k}), or a smaller image, take less"
        )
    pairs = full_resolution.plan(size, features, affinity=affinity, k=k, max_memory=budget, threads=threads)
    return MattingPlan(pairs, round(held + max(after, pairs.bytes)))


_IMAGE, _KNOWN = 3, 5  # bytes a pixel


def _layers_bytes(n_pixels: int, k: int, n_layers: int, guided: bool) -> float:
    """Of the eigenvectors and degrees, the layers, and what is held while these are made."""
    at_a_time = min(1e8, 50.0 * n_pixels * (k + n_layers))
    return n_pixels * (4.0 * (k + 1) + 4.0 * n_layers + (16.0 if guided else 8.0)) + at_a_time


def _results_bytes(n_pixels: int, n_layers: int) -> float:
    """Of the layers and files of 16 bits, or of the layers and the colours in front and behind.

    PyMatting holds both sides' colours, those of half the size, and three copies of the photograph in floating point.
    """
    return n_pixels * max(10.0 * n_layers + 8.0, 4.0 * n_layers + 80.0)
