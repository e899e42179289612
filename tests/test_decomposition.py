from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import decomposition, two_colors
from hypothesis import given, settings
from hypothesis import strategies as st

from deepspec.decomposition import Decomposition, decompose
from deepspec.features import Features, named
from deepspec.regions import localize
from deepspec.spectral import eigenpairs

IMAGE = two_colors(75, 93, np.s_[20:50, 30:70])
FEATURES = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)


def assert_same(a: Decomposition, b: Decomposition) -> None:
    np.testing.assert_array_equal(a.image, b.image)
    assert a.cell == b.cell
    assert a.settings == b.settings
    for name in ("values", "vectors", "degrees", "residuals", "n_products"):
        left, right = getattr(a.pairs, name), getattr(b.pairs, name)
        np.testing.assert_array_equal(left, right)
        assert np.asarray(left).dtype == np.asarray(right).dtype


def test_image_is_kept_whole_and_the_strip_is_known() -> None:
    d = decompose(IMAGE, "classical")
    np.testing.assert_array_equal(d.image, IMAGE)
    assert d.cell == (8, 8)
    assert d.pairs.vectors.shape == (5, 9, 11)
    assert d.covered == (72, 88)


def test_settings_are_plain_json_and_make_the_same_again() -> None:
    d = decompose(IMAGE, "classical", k=3, color_weight=4, grid=4, color="random_walk", tol=1e-4)
    settings = json.loads(json.dumps(d.settings, allow_nan=False))
    assert settings.pop("deepspec")
    assert settings == {
        "features": "classical",
        "center_prior": True,
        "max_size": 1024,
        "k": 3,
        "color_weight": 4.0,
        "grid": 4,
        "vectors": "laplacian",
        "affinity": "relu",
        "color": "random_walk",
        "laplacian": "normalized",
        "solver": "auto",
        "tol": 1e-4,
    }
    features = named(settings.pop("features"), center_prior=settings.pop("center_prior"))
    assert_same(decompose(IMAGE, features, **settings), d)


def test_large_images_are_taken_apart_small_and_answered_in_their_own_pixels() -> None:
    large = IMAGE.repeat(4, axis=0).repeat(4, axis=1)
    d = decompose(large, "classical", k=2, max_size=93)
    np.testing.assert_array_equal(d.image, large)
    assert d.cell == (32, 32)
    assert d.covered == (288, 352)
    small = decompose(IMAGE, "classical", k=2)
    np.testing.assert_allclose(d.pairs.vectors, small.pairs.vectors, atol=1e-3)
    box, expected = localize(d), localize(small)
    assert (box.xmin, box.ymin, box.xmax, box.ymax) == tuple(
        4 * side for side in (expected.xmin, expected.ymin, expected.xmax, expected.ymax)
    )
    whole = decompose(large, "classical", k=2, max_size=None)
    assert whole.cell == (8, 8)
    assert decompose(large, FEATURES, k=2, max_size=93).cell == (75, 93 * 4 / 5)


def test_names_of_features_that_have_none() -> None:
    def my_backbone(image: np.ndarray) -> np.ndarray:
        return FEATURES

    assert "my_backbone" in decompose(IMAGE, my_backbone, k=2).settings["features"]
    assert decompose(IMAGE, FEATURES, k=2).settings["features"] == "array"


def test_colors_alone() -> None:
    d = decompose(IMAGE, "classical", color_weight=math.inf)
    assert d.settings["color_weight"] == "inf"
    alone = eigenpairs(None, IMAGE[:72, :88], grid=(9, 11), color_weight=math.inf)
    np.testing.assert_array_equal(d.pairs.vectors, alone.vectors)


@pytest.mark.parametrize(
    ("cell", "grid", "shape", "new_cell"),
    [
        ((8, 8), "auto", (4, 5), (8, 8)),
        ((16, 16), "auto", (8, 10), (8, 8)),
        ((16, 16), "patch", (4, 5), (16, 16)),
        ((16, 16), 4, (16, 20), (4, 4)),
        ((16, 16), 16, (4, 5), (16, 16)),
        ((14, 14), "auto", (4, 5), (14, 14)),
        # 56 and 70 pixels in cells of about 5.
        ((14, 14), 5, (11, 14), (56 / 11, 5)),
    ],
)
def test_grids(
    cell: tuple[float, float], grid: str | int, shape: tuple[int, int], new_cell: tuple[float, float]
) -> None:
    d = decompose(IMAGE, Features(FEATURES, cell), k=2, grid=grid)
    assert d.pairs.vectors.shape[1:] == shape
    assert d.cell == pytest.approx(new_cell)
    assert d.covered == (4 * cell[0], 5 * cell[1])


def test_uncovered_strip_has_no_effect() -> None:
    features = Features(FEATURES, (16, 16))
    d = decompose(IMAGE, features)
    other = IMAGE.copy()
    other[64:], other[:, 80:] = 255, 255
    np.testing.assert_array_equal(decompose(other, features).pairs.vectors, d.pairs.vectors)
    other[0, 0] = 255
    assert not np.array_equal(decompose(other, features).pairs.vectors, d.pairs.vectors)


def test_number_of_threads_has_no_effect() -> None:
    one = decompose(IMAGE, "classical", threads=1)
    for threads in (2, 4, 7):
        np.testing.assert_array_equal(
            decompose(IMAGE, "classical", threads=threads).pairs.vectors, one.pairs.vectors
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"grid": "fine"},
            "grid must be 'auto', 'patch' or a whole number of pixels, at least 1, got 'fine'",
        ),
        ({"grid": 0}, "at least 1, got 0"),
        ({"grid": 2.5}, "whole number of pixels, at least 1, got 2.5"),
        ({"grid": 9}, "at most the features' own cell of 8 x 8 pixels, got 9"),
        ({"max_size": 0}, "max_size must be None or a whole number of pixels, at least 1, got 0"),
        ({"k": 100}, "100"),
        ({"color_weight": -1}, "-1"),
    ],
)
def test_bad_parameters(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decompose(IMAGE, "classical", **options)


def test_decomposition_refuses_parts_that_do_not_belong_together() -> None:
    d = decomposition(np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"image must be \(H, W, 3\) uint8, got \(24, 32\) uint8"):
        replace(d, image=d.image[..., 0])
    with pytest.raises(ValueError, match=r"shapes \(2,\), \(2, 3, 4\) and \(4, 3\)"):
        replace(d, pairs=replace(d.pairs, degrees=np.ones((4, 3), np.float32)))
    with pytest.raises(ValueError, match="cell must be two positive numbers"):
        replace(d, cell=(8, -8))


@pytest.mark.parametrize("options", [{}, {"color_weight": math.inf}, {"grid": 3, "k": 2}])
def test_saved_and_loaded_is_the_same_to_the_bit(options: dict[str, object], tmp_path: Path) -> None:
    d = decompose(IMAGE, "classical", **options)
    path = tmp_path / "folder" / "without-extension"
    d.save(path)
    assert list(path.parent.iterdir()) == [path]
    assert_same(Decomposition.load(path), d)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "d.npz"
    decompose(IMAGE, "classical", k=2).save(path)
    return path


@settings(max_examples=50)
@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated_files_are_named(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    path = saved.with_name("truncated.npz")
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"truncated\.npz: not a saved decomposition, or incomplete"):
        Decomposition.load(path)


def with_arrays(saved: Path, **changed: object) -> io.BytesIO:
    """The saved file with some of its arrays changed, or left out where None."""
    with np.load(saved) as file:
        arrays = {name: file[name] for name in file.files} | changed
    content = io.BytesIO()
    np.savez(content, **{name: array for name, array in arrays.items() if array is not None})
    return content


@pytest.mark.parametrize(
    "changed",
    [
        {"vectors": None},
        {"settings": None},
        {"settings": np.array("{")},
        {"settings": np.array([{"a": 1}], dtype=object)},
        {"image": np.zeros((4, 4), np.uint8)},
        {"vectors": np.zeros((2, 3), np.float32)},
        {"cell": np.array([8.0])},
        {"cell": np.array([8.0, np.nan])},
        {"n_products": np.array([1, 2])},
    ],
)
def test_other_files_are_named(saved: Path, changed: dict[str, object]) -> None:
    path = saved.with_name("changed.npz")
    path.write_bytes(with_arrays(saved, **changed).getvalue())
    with pytest.raises(ValueError, match=r"changed\.npz: not a saved decomposition"):
        Decomposition.load(path)


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("text")
    for name in ("array.npy", "text.npz"):
        with pytest.raises(ValueError, match=name):
            Decomposition.load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"missing\.npz"):
        Decomposition.load(tmp_path / "missing.npz")


def test_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    d = decompose(IMAGE, "classical", k=2)
    path = tmp_path / "d.npz"
    d.save(path)
    with pytest.raises(ValueError, match="JSON"):
        replace(d, settings={"x": math.nan}).save(path)
    assert_same(Decomposition.load(path), d)
    assert list(tmp_path.iterdir()) == [path]
