from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import two_colors
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from deepspec import plots
from deepspec.decomposition import Decomposition, decompose
from deepspec.images import palette
from deepspec.regions import Box

MASK = np.zeros((75, 93), bool)
MASK[20:50, 30:70] = True


@pytest.fixture(scope="module")
def d() -> Decomposition:
    return decompose(two_colors(75, 93, np.s_[20:50, 30:70]), "classical", k=4)


def test_eigenvectors_are_centred_at_zero_and_cover_their_region(d: Decomposition) -> None:
    ax = plots.show_eigenvector(d, 2)
    (picture,) = ax.images
    low, high = picture.get_clim()
    assert low == -high < 0
    np.testing.assert_array_equal(picture.get_array(), d.pairs.vectors[2])
    # 72 x 88 of 75 x 93 pixels; pixel centres are at whole numbers.
    assert picture.get_extent() == [-0.5, 87.5, 71.5, -0.5]
    assert ax.get_xlim() == (-0.5, 92.5)
    assert ax.get_ylim() == (74.5, -0.5)
    assert len(ax.get_xticks()) == len(ax.get_yticks()) == 0


def test_constant_eigenvectors_can_be_drawn(d: Decomposition) -> None:
    flat = replace(d, pairs=replace(d.pairs, vectors=np.zeros_like(d.pairs.vectors)))
    assert plots.show_eigenvector(flat).images[0].get_clim() == (-1, 1)


def test_all_eigenvectors_side_by_side(d: Decomposition) -> None:
    axes = plots.show_eigenvectors(d)
    assert [ax.get_title().split()[0] for ax in axes] == ["$y_{1}$", "$y_{2}$", "$y_{3}$"]
    given = list(Figure().subplots(1, 2))
    assert plots.show_eigenvectors(d, axes=given) == given
    with pytest.raises(ValueError, match="between 1 and k - 1 = 3, got 4"):
        plots.show_eigenvectors(d, axes=list(Figure().subplots(1, 4)))
    with pytest.raises(ValueError, match="below k = 4, got 4"):
        plots.show_eigenvector(d, 4)


def test_box_is_drawn_around_its_pixels(d: Decomposition) -> None:
    ax = plots.show_box(d, Box(30, 20, 70, 50, 0.5))
    np.testing.assert_array_equal(ax.images[0].get_array(), d.image)
    for outline in ax.patches:
        assert outline.get_bbox().bounds == (29.5, 19.5, 40, 30)


def test_mask_leaves_the_object_as_it_is(d: Decomposition) -> None:
    ax = plots.show_mask(d, MASK)
    shown = np.asarray(ax.images[0].get_array())
    np.testing.assert_array_equal(shown[MASK], d.image[MASK])
    outside = shown[~MASK]
    assert (outside == outside[:, :1]).all()
    assert outside.min() > 170
    for uniform in (np.zeros_like(MASK), np.ones_like(MASK)):
        plots.show_mask(d, uniform)


def test_segments_have_the_palettes_colors_and_a_gray_background(d: Decomposition) -> None:
    labels = MASK.astype(np.int32) * 4
    shown = np.asarray(plots.show_segments(d, labels).images[0].get_array()).astype(float)
    gray = d.image.mean(axis=2)
    np.testing.assert_allclose(shown[~MASK], np.repeat(gray[~MASK][:, None], 3, axis=1), atol=1)
    np.testing.assert_allclose(
        shown[MASK] - 0.35 * gray[MASK][:, None], 0.65 * palette()[[4]] * np.ones((1200, 1)), atol=1
    )


def test_parts_of_another_shape_are_refused(d: Decomposition) -> None:
    with pytest.raises(ValueError, match=r"mask must have the image's shape \(75, 93\), got \(9, 11\)"):
        plots.show_mask(d, np.zeros((9, 11), bool))
    with pytest.raises(ValueError, match="labels must have the image's shape"):
        plots.show_segments(d, np.zeros((9, 11), np.int32))
    with pytest.raises(ValueError, match=r"labels must be in \[0, 255\], got \[0, 256\]"):
        plots.show_segments(d, MASK.astype(np.int32) * 256)


def test_page_has_a_row_for_each_image_and_a_column_for_each_part(d: Decomposition, tmp_path: Path) -> None:
    small = decompose(two_colors(40, 93, np.s_[10:30, 20:60]), "classical", k=2)
    full = plots.Row("full", d, Box(30, 20, 70, 50, 0.5), MASK, MASK.astype(np.int32))
    sizes = {}
    for name, rows in {
        "one": [full],
        "two": [full, plots.Row("bare", small)],
        "bare": [plots.Row("bare", small)],
    }.items():
        plots.save_page(rows, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as page:
            assert page.format == "PNG"
            sizes[name] = page.size
            pixels = np.asarray(page.convert("RGB")).reshape(-1, 3)
        accent = np.round(255 * np.array(to_rgb("#e31a1c")))
        assert (np.abs(pixels - accent).max(axis=1) < 3).any() == (name != "bare")
    # Image, three eigenvectors, box, mask, segments; and image and one eigenvector.
    assert sizes["one"][0] == sizes["two"][0] == 7 * 240
    assert sizes["bare"][0] == 2 * 240
    assert sizes["one"][1] < sizes["two"][1]


def test_page_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        plots.save_page([], tmp_path / "page.png")
    assert not list(tmp_path.iterdir())


def test_training_curve_shows_scores_where_there_are_some(tmp_path: Path) -> None:
    losses = [{"step": step, "loss": 1 / step} for step in range(1, 40)]
    scores = {"miou": 0.5, "pseudo_labels_miou": 0.3}

    def colored(records: list[dict[str, float]]) -> int:
        plots.save_training_curve(records, tmp_path / "curve.png")
        with Image.open(tmp_path / "curve.png") as picture:
            return int((np.ptp(np.asarray(picture.convert("RGB")).astype(int), axis=2) > 100).sum())

    assert colored([]) == colored(losses) == 0
    network_alone = colored([*losses, {**losses[-1], "miou": 0.5}])
    assert 0 < network_alone < colored([*losses, {**losses[-1], **scores}])


def test_missing_matplotlib_names_the_extra(d: Decomposition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"deepspec\[plots\]"):
        plots.show_image(d)


def test_matplotlib_is_loaded_on_use_and_pyplot_never(tmp_path: Path) -> None:
    code = """
import sys
import numpy as np
from deepspec import decomposition, plots
assert "matplotlib" not in sys.modules
d = decomposition.decompose(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), "classical")
plots.save_page([plots.Row("noise", d)], sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "page.png")], check=True)
