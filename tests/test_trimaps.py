from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import deepspec
from deepspec import images
from deepspec.spectral import Eigenpairs
from deepspec.trimaps import Known, known_from_scribbles, known_from_trimap, solve_alpha

TRIMAP = np.array([[0, 1, 128], [128, 254, 255]], np.uint8)
STROKES = np.array([[-1, 0, 0], [0, 0, 1]])


def says(known: Known) -> list[list[int]]:
    """1 in front, −1 behind, 0 unknown."""
    return np.where(known.mask, 2 * known.alpha.astype(int) - 1, 0).tolist()


def as_file(picture: Image.Image, kind: str = "png", **options: object) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file


@pytest.mark.parametrize(
    "trimap",
    [
        TRIMAP,
        TRIMAP / 255,
        TRIMAP.astype(np.uint16) * 257,
        np.stack([TRIMAP] * 3, axis=2),
        Image.fromarray(TRIMAP),
        as_file(Image.fromarray(TRIMAP)),
        as_file(Image.fromarray(TRIMAP).convert("RGBA")),
    ],
)
def test_trimap_is_known_where_it_is_black_or_white(trimap: object) -> None:
    for read in (known_from_trimap, known_from_scribbles):
        known = read(trimap, (2, 3))
        assert says(known) == STROKES.tolist()
        assert known.alpha.dtype == np.float32


def test_scribbles_from_numbers() -> None:
    for kind in (np.int8, np.int64):
        assert says(known_from_scribbles(STROKES.astype(kind), (2, 3))) == STROKES.tolist()


def test_strokes_on_a_transparent_ground(tmp_path: Path) -> None:
    # Under what is transparent lies black, as painting programs leave it; the soft edge of a stroke says nothing.
    gray = np.array([[0, 0, 255], [0, 255, 255]], np.uint8)
    alpha = np.array([[255, 0, 128], [0, 0, 255]], np.uint8)
    pictures = [
        np.dstack([gray, alpha]),
        np.dstack([gray, gray, gray, alpha]),
        as_file(Image.fromarray(np.dstack([gray, alpha]))),
        as_file(Image.fromarray(np.dstack([gray, gray, gray, alpha]))),
    ]
    Image.fromarray(np.dstack([gray, alpha])).save(tmp_path / "strokes.png")
    for picture in (*pictures, tmp_path / "strokes.png"):
        assert says(known_from_scribbles(picture, (2, 3))) == STROKES.tolist()


def test_strokes_are_turned_as_the_image_is() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    alpha = np.where(STROKES != 0, 255, 0).astype(np.uint8)
    gray = np.where(STROKES == 1, 255, 0).astype(np.uint8)
    file = as_file(Image.fromarray(np.dstack([gray, alpha])), exif=exif)
    assert says(known_from_scribbles(file, (3, 2))) == np.rot90(STROKES, -1).tolist()


def test_transparency_is_kept() -> None:
    gray = np.array([[10, 200]], np.uint8)
    assert images.load_rgba(gray).tolist() == [[[10, 10, 10, 255], [200, 200, 200, 255]]]
    alpha = np.array([[0, 128]], np.uint8)
    assert images.load_rgba(np.dstack([gray, alpha])).tolist() == [[[10, 10, 10, 0], [200, 200, 200, 128]]]
    rgba = np.arange(8, dtype=np.uint8).reshape(1, 2, 4)
    for source in (rgba, Image.fromarray(rgba), as_file(Image.fromarray(rgba))):
        found = images.load_rgba(source)
        assert found.tolist() == rgba.tolist()
        assert not np.shares_memory(found, rgba)
    assert images.load_rgba(rgba[..., :3]).tolist() == [[[0, 1, 2, 255], [4, 5, 6, 255]]]


@pytest.mark.parametrize("read", [known_from_trimap, known_from_scribbles])
def test_what_pictures_must_be(read: object, tmp_path: Path) -> None:
    what = "trimap" if read is known_from_trimap else "scribbles"
    with pytest.raises(ValueError, match=rf"{what} must have the image's size of 3 x 2 .* got 2 x 3$"):
        read(TRIMAP, (3, 2))
    colors = np.stack([TRIMAP] * 3, axis=2)
    colors[1, 2] = (255, 0, 9)
    with pytest.raises(
        ValueError, match=rf"{what} must be gray, got the colour \(255, 0, 9\) in row 1, column 2"
    ):
        read(colors, (2, 3))
    for value, counts in (
        (0, "0 of the foreground and 6"),
        (255, "6 of the foreground and 0"),
        (9, "0 .* 0"),
    ):
        with pytest.raises(
            ValueError, match=rf"{what}: pixels of both .*, got {counts} of the background among 6"
        ):
            read(np.full((2, 3), value, np.uint8), (2, 3))
    (tmp_path / "no.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(OSError, match=r"no\.png"):
        read(tmp_path / "no.png", (2, 3))
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read(tmp_path / "none.png", (2, 3))


def test_what_numbers_must_be() -> None:
    with pytest.raises(ValueError, match=r"scribbles must be 1 in front.* got -1 to 2$"):
        known_from_scribbles(STROKES + (STROKES == 1), (2, 3))
    with pytest.raises(ValueError, match="scribbles must have the image's size of 2 x 4"):
        known_from_scribbles(STROKES, (2, 4))
    with pytest.raises(ValueError, match="got 1 of the foreground and 0 of the background"):
        known_from_scribbles(STROKES.clip(0), (2, 3))


def test_what_is_known_is_checked() -> None:
    mask = np.ones((1, 2), bool)
    with pytest.raises(ValueError, match=r"\(1, 2\) bool and \(1, 2\) float64"):
        Known(mask, np.array([[0.0, 1.0]]))
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\] where it is known, got 0.0 to 1.5"):
        Known(mask, np.array([[0, 1.5]], np.float32))
    Known(np.array([[True, True, False]]), np.array([[0, 1, 7]], np.float32))


def pairs_of(vectors: np.ndarray, values: list[float], degrees: np.ndarray) -> Eigenpairs:
    k = len(vectors)
    return Eigenpairs(
        np.array(values), vectors.astype(np.float32), degrees.astype(np.float32), np.zeros(k), 0
    )


def line(strokes: list[int]) -> Known:
    return known_from_scribbles(np.array([strokes]), (1, len(strokes)))


def test_alpha_by_hand() -> None:
    # Four pixels of degree 2, so Σ d = 8: y_0 = 1 / √8, y_1 = (−1, −1, 1, 1) / √8, in other units 1 and ±1.
    sign = np.array([[-1.0, -1, 1, 1]])
    pairs = pairs_of(np.stack([np.ones((1, 4)), sign]) / np.sqrt(8), [0, 0.3], np.full((1, 4), 2))
    # Both ends have the same share of unknown pixels around them: (z_0 − z_1)² / 2 + (z_0 + z_1 − 1)² / 2 + s z_1² is
    # least at z_0 = ½, z_1 = ½ / (1 + s).
    known = line([-1, 0, 0, 1])
    for smoothness in (0.1, 1.0, 10.0):
        z = 0.5 / (1 + smoothness)
        found = solve_alpha(pairs, known, smoothness=smoothness)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, [[0, 0.5 - z, 0.5 + z, 1]], atol=1e-6)


def test_pixels_count_by_the_share_of_unknown_ones_around_them() -> None:
    # A constant can only take the weighted mean. Of three pixels around them, 0, 0, 1 and 2 are unknown.
    pairs = pairs_of(np.full((1, 1, 6), 6**-0.5), [0], np.ones((1, 6)))
    found = solve_alpha(pairs, line([1, 1, -1, 0, 1, 0]), window=3)
    np.testing.assert_allclose(found, [[1, 1, 0, 2 / 3, 1, 2 / 3]], atol=1e-6)


def test_energy_has_no_unit() -> None:
    """Neither larger eigenvalues nor larger degrees change anything."""
    rng = np.random.default_rng(1)
    vectors, values = rng.normal(size=(4, 3, 30)) / 9, [0, 0.01, 0.02, 0.04]
    known = line([-1] * 9 + [0] * 12 + [1] * 9)
    known = Known(np.repeat(known.mask, 3, axis=0), np.repeat(known.alpha, 3, axis=0))
    found = solve_alpha(pairs_of(vectors, values, np.ones((3, 30))), known)
    again = solve_alpha(pairs_of(vectors, [20 * value for value in values], np.ones((3, 30))), known)
    np.testing.assert_allclose(again, found, atol=1e-5)
    heavy = solve_alpha(pairs_of(vectors / 2, values, np.full((3, 30), 4)), known)
    np.testing.assert_allclose(heavy, found, atol=1e-5)


def test_nothing_is_left_to_solve_where_all_is_known() -> None:
    known = line([-1, 1, 1])
    found = solve_alpha(pairs_of(np.ones((1, 1, 3)), [0], np.ones((1, 3))), known)
    assert found.tolist() == [[0, 1, 1]]
    assert not np.shares_memory(found, known.alpha)


def test_alpha_is_clipped_and_known_pixels_stay() -> None:
    ramp = np.array([[-3.0, -1, 1, 3]]) / np.sqrt(20)
    pairs = pairs_of(np.stack([np.full((1, 4), 0.5), ramp]), [0, 0], np.ones((1, 4)))
    # The line through 0 and 1 in the middle goes beyond both at the ends.
    assert solve_alpha(pairs, line([0, -1, 1, 0])).tolist() == [[0, 0, 1, 1]]
    # With a soft value known at an end.
    soft = Known(np.array([[True, False, False, True]]), np.array([[0, 0, 0, 0.6]], np.float32))
    np.testing.assert_allclose(solve_alpha(pairs, soft), [[0, 0.2, 0.4, 0.6]], atol=1e-6)


def test_what_lies_far_from_the_unknown_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    vectors = np.concatenate([np.full((1, 1, 40), 40**-0.5), rng.normal(size=(3, 1, 40))])
    known = line([-1] * 18 + [0] * 4 + [1] * 18)
    found = solve_alpha(pairs_of(vectors, [0, 0.1, 0.2, 0.3], np.ones((1, 40))), known, window=5)
    vectors[1:, :, :14] = 7  # three pixels away and more
    again = solve_alpha(pairs_of(vectors, [0, 0.1, 0.2, 0.3], np.ones((1, 40))), known, window=5)
    np.testing.assert_array_equal(found, again)


def test_parts_of_the_graph_without_a_known_pixel_stay_finite() -> None:
    # Two parts, so two eigenvalues of 0, and nothing is said about the second.
    first, second = np.array([[1.0, 1, 1, 0]]), np.array([[0.0, 0, 0, 1]])
    pairs = pairs_of(np.stack([first / np.sqrt(3), second]), [0, 0], np.ones((1, 4)))
    # One of three pixels around the background's is unknown, two of three around the foreground's.
    np.testing.assert_allclose(
        solve_alpha(pairs, line([-1, 0, 1, 0]), window=3), [[0, 2 / 3, 1, 0]], atol=1e-6
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_alpha_is_the_least_by_another_way(seed: int, k: int) -> None:
    """Least squares of all pixels at once, in float64."""
    rng = np.random.default_rng(seed)
    shape = (7, 9)
    vectors = rng.normal(size=(k, *shape)).astype(np.float32)
    vectors[0] = 1 / np.sqrt(2 * 63)
    values = np.sort(rng.random(k)) * (np.arange(k) > 0)
    strokes = rng.integers(-1, 2, shape)
    strokes[0, :3] = (-1, 0, 1)
    known = known_from_scribbles(strokes, shape)
    found = solve_alpha(pairs_of(vectors, list(values), np.full(shape, 2)), known, smoothness=0.3, window=3)
    share = np.zeros(shape)
    padded = np.pad(strokes == 0, 1, mode="edge")
    for y, x in np.ndindex(3, 3):
        share += padded[y : y + 7, x : x + 9] / 9
    share = np.where(known.mask, share, 0) / share[known.mask].sum()
    root = np.sqrt(share[known.mask])
    rows = vectors[:, known.mask].T.astype(float) * root[:, None]
    roughness = 0.3 * values / max(values.max(), 1e-300) / (2 * 63)  # Σ d = 126
    a = np.concatenate([rows, np.diag(np.sqrt(roughness))])
    b = np.concatenate([root * known.alpha[known.mask], np.zeros(k)])
    z = np.linalg.lstsq(a, b, rcond=None)[0]
    expected = np.where(known.mask, known.alpha, np.tensordot(z, vectors, axes=1).clip(0, 1))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_alpha_of_a_real_graph() -> None:
    """Two squares of two colours: strokes in their middles choose one of them."""
    image = np.full((24, 24, 3), 40, np.uint8)
    image[6:18, 6:18] = (230, 130, 30)
    image += np.random.default_rng(0).integers(0, 9, image.shape).astype(np.uint8)
    strokes = np.zeros((24, 24), np.int8)
    strokes[11:13, 9:15], strokes[2:4, 2:20] = 1, -1
    pairs = deepspec.eigenpairs(None, image, grid=(24, 24), color_weight=np.inf, k=6)
    alpha = solve_alpha(pairs, known_from_scribbles(strokes, (24, 24)))
    truth = np.zeros((24, 24))
    truth[6:18, 6:18] = 1
    assert np.abs(alpha - truth).mean() < 0.05


def test_what_the_solver_must_be_given() -> None:
    pairs = pairs_of(np.ones((1, 1, 4)), [0], np.ones((1, 4)))
    with pytest.raises(ValueError, match=r"vectors must be \(k, 1, 3\) as what is known is, got \(1, 1, 4\)"):
        solve_alpha(pairs, line([-1, 0, 1]))
    known = line([-1, 0, 0, 1])
    for smoothness in (0, -1, np.inf, np.nan, "1"):
        with pytest.raises(ValueError, match="smoothness must be finite and above 0"):
            solve_alpha(pairs, known, smoothness=smoothness)
    with pytest.raises(ValueError, match="window must be an odd number of pixels, got 4"):
        solve_alpha(pairs, known, window=4)
    for window in (1, 3.0, True):
        with pytest.raises(ValueError, match="window must be a whole number of at least 3"):
            solve_alpha(pairs, known, window=window)
