"""Checks an installed deepspec: a photograph-like image through the solver, the decomposition and the command line.

Needs nothing but the package's own dependencies, so that it runs on every wheel.
"""

import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.linalg import eigh

import deepspec


def disc_image(size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A noisy orange disc on a noisy blue ground, and its mask."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    mask = np.hypot(rows - 0.45 * size, columns - 0.55 * size) < 0.25 * size
    colors = np.where(mask[..., None], (220, 140, 40), (40, 80, 160))
    return np.clip(colors + rng.normal(0, 8, colors.shape), 0, 255).astype(np.uint8), mask


def check_solver(image: np.ndarray) -> None:
    """Eigenpairs equal a dense solver's on the same affinity, colour and features fused."""
    features = np.random.default_rng(1).normal(size=(16, 16, 24))
    pairs = deepspec.eigenpairs(features, image, color_weight=10.0, k=4)
    affinity = deepspec.affinity(features, image, color_weight=10.0).toarray()
    degrees = affinity.sum(axis=1)
    expected = eigh(np.diag(degrees) - affinity, np.diag(degrees), eigvals_only=True)[:4]
    np.testing.assert_allclose(pairs.values, expected, atol=1e-5)
    assert pairs.residuals.max() <= 1e-5
    assert math.isclose(pairs.values[0], 0.0, abs_tol=1e-7)


def check_decomposition(image: np.ndarray, mask: np.ndarray) -> None:
    """The object's mask is found from the built-in features."""
    d = deepspec.decompose(image, features="classical")
    found = deepspec.segment_object(d)
    iou = (found & mask).sum() / (found | mask).sum()
    assert iou > 0.7, f"segment_object found the disc with IoU {iou:.2f}"


def check_command_line(image: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder, "disc.png"), Path(folder, "out")
        Image.fromarray(image).save(path)
        command = [sys.executable, "-m", "deepspec.cli"]
        subprocess.run([*command, "info"], check=True)
        subprocess.run(
            [*command, "segment", path, "-o", output, "--features", "classical", "--page", "--jobs", "2"],
            check=True,
        )
        assert (output / "masks" / "disc.png").exists(), "the segment command wrote no mask"
        assert (output / "segment.html").exists(), "the segment command wrote no page"


if __name__ == "__main__":
    image, mask = disc_image()
    check_solver(image)
    check_decomposition(image, mask)
    check_command_line(image)
    print(f"deepspec {deepspec.__version__} works")
