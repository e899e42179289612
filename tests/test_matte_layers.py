from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from builders import two_colors
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deepspec import Layers

IMAGE = two_colors(12, 16, np.s_[3:9, 4:12])


def layers(n: int = 3, front: tuple[int, ...] = (0,), seed: int = 0) -> Layers:
    """Random ones."""
    alphas = np.random.default_rng(seed).random((n, 12, 16)) ** 4
    return Layers(IMAGE, (alphas / alphas.sum(axis=0)).astype(np.float32), front, {"n_layers": n})


def one_layer_for_all() -> Layers:
    """The first has everything."""
    alphas = np.zeros((2, 12, 16), np.float32)
    alphas[0] = 1
    return Layers(IMAGE, alphas, (0,), {})


def test_alpha_is_the_sum_of_the_front() -> None:
    found = layers(front=(2, 0))
    assert found.front == (0, 2)
    np.testing.assert_allclose(found.alpha, 1 - found.alphas[1], atol=1e-6)
    assert found.alpha.dtype == np.float32
    other = found.with_front(1)
    assert other.front == (1,)
    assert other.settings == {"n_layers": 3, "foreground": [1]}
    np.testing.assert_array_equal(other.alpha, found.alphas[1])
    assert found.settings == {"n_layers": 3}
    np.testing.assert_array_equal(layers(front=()).alpha, np.zeros((12, 16)))


@given(st.integers(0, 20), st.sampled_from([(0,), (1, 2), (), (0, 1, 2)]))
def test_the_photograph_is_its_foreground_over_its_background(seed: int, front: tuple[int, ...]) -> None:
    found = layers(front=front, seed=seed)
    back = found.composite(found.background)
    assert np.abs(back.astype(int) - IMAGE).max() <= 1
    assert found.foreground.dtype == np.uint8


def test_an_opaque_foreground_is_the_photograph() -> None:
    found = one_layer_for_all()
    np.testing.assert_array_equal(found.foreground, IMAGE)
    np.testing.assert_array_equal(found.composite("red"), IMAGE)
    np.testing.assert_array_equal(
        found.with_front(1).composite((1, 2, 3)), np.broadcast_to([1, 2, 3], IMAGE.shape)
    )


def test_recoloring_is_of_the_layers_named() -> None:
    found = one_layer_for_all()
    np.testing.assert_array_equal(found.recolor(1, "red"), IMAGE)
    red = found.recolor([0, 1], "red").astype(float)
    assert (red[..., 0] > red[..., 1]).all()
    np.testing.assert_allclose(red @ (0.3, 0.59, 0.11), IMAGE @ (0.3, 0.59, 0.11), atol=1)
    np.testing.assert_array_equal(found.recolor(0, (255, 0, 0)), red)


@pytest.mark.parametrize("bits", [8, 16])
def test_files_hold_the_layers(bits: int, tmp_path: Path) -> None:
    found = layers(4, front=(1, 3))
    found.save(tmp_path / "a", bits=bits)
    most = 2**bits - 1
    names = ["alpha.png", "foreground.png", *(f"layer_{n}.png" for n in (1, 2, 3, 4)), "layers.json"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    total, picture = np.zeros((12, 16), int), np.zeros((12, 16, 3))
    for number, alpha in enumerate(found.alphas, start=1):
        pixels = cv2.imread(str(tmp_path / "a" / f"layer_{number}.png"), cv2.IMREAD_UNCHANGED)
        assert pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
        np.testing.assert_array_equal(pixels[..., 2::-1], IMAGE.astype(int) * (most // 255))
        assert np.abs(pixels[..., 3] / most - alpha).max() <= 1.01 / most
        total += pixels[..., 3]
        picture += pixels[..., 2::-1] / most * (pixels[..., 3:] / most)
    assert (total == most).all()
    np.testing.assert_allclose(255 * picture, IMAGE, atol=1e-9)
    alpha = cv2.imread(str(tmp_path / "a" / "alpha.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(alpha / most, found.alpha, atol=0.501 / most)
    foreground = cv2.imread(str(tmp_path / "a" / "foreground.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(foreground[..., 3], alpha)
    np.testing.assert_allclose(foreground[..., 2::-1] / most, found.foreground / 255, atol=1 / 255)


@pytest.mark.parametrize("bits", [8, 16])
def test_what_was_saved_is_loaded(bits: int, tmp_path: Path) -> None:
    found = layers(3, front=(0, 2))
    found.save(tmp_path, bits=bits)
    back = Layers.load(tmp_path)
    rounded = found.rounded(bits)
    np.testing.assert_array_equal(back.alphas, rounded.alphas)
    np.testing.assert_array_equal(back.image, IMAGE)
    assert (back.front, back.settings) == (found.front, found.settings)
    assert np.abs(back.alphas - found.alphas).max() <= 1.01 / (2**bits - 1)
    np.testing.assert_array_equal(rounded.rounded(bits).alphas, rounded.alphas)


def test_pillow_sees_gray_and_colors_with_alpha(tmp_path: Path) -> None:
    layers().save(tmp_path)
    for name, mode in (("alpha", "L"), ("foreground", "RGBA"), ("layer_1", "RGBA")):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.mode == mode


def test_folders_that_are_no_layers(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"layers\.json"):
        Layers.load(tmp_path)
    found = layers()
    found.save(tmp_path)
    Image.new("RGBA", (3, 3)).save(tmp_path / "layer_2.png")
    with pytest.raises(ValueError, match="the layers must be of one size and depth"):
        Layers.load(tmp_path)
    Image.new("RGBA", (16, 12)).save(tmp_path / "layer_2.png")
    with pytest.raises(ValueError, match="sum to 1 at every pixel"):
        Layers.load(tmp_path)
    for content in ("[]", json.dumps({"front": [0], "settings": {}}), "no json"):
        (tmp_path / "layers.json").write_text(content)
        with pytest.raises(ValueError, match=r"layers\.json: not written by deepspec"):
            Layers.load(tmp_path)


def test_a_file_that_cannot_be_written_leaves_no_half(tmp_path: Path) -> None:
    (tmp_path / "layer_2.png").mkdir()
    with pytest.raises(OSError, match=r"layer_2\.png"):
        layers().save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"layer_1.png", "layer_2.png"}
    with pytest.raises(ValueError, match="bits must be 8 or 16, got 12"):
        layers().save(tmp_path / "b", bits=12)
    assert not (tmp_path / "b").exists()


def test_parts_that_do_not_belong_together_are_refused() -> None:
    good = layers()
    for changed, message in (
        ({"image": IMAGE.astype(float)}, r"image must be \(H, W, 3\) uint8, got \(12, 16, 3\) float64"),
        ({"alphas": good.alphas[:, :5]}, r"alphas must be \(n, 12, 16\) float32 as the image is"),
        ({"alphas": good.alphas.astype(float)}, "got .* float64"),
        ({"alphas": good.alphas[:2]}, "sum to 1 at every pixel"),
        ({"alphas": good.alphas * np.float32("nan")}, "from 0 to 1"),
        ({"front": (3,)}, "front, counted from 0, must be a whole number from 0 to 2, got 3"),
        ({"front": (0.5,)}, "got 0.5"),
    ):
        with pytest.raises(ValueError, match=message):
            Layers(**{**vars(good), **changed})
    with pytest.raises(ValueError, match="front, counted from 0, must be a whole number from 0 to 2, got -1"):
        good.with_front([0, -1])
    with pytest.raises(ValueError, match=r"layers, counted from 0, .* got 7"):
        good.recolor(7, "red")
    with pytest.raises(
        ValueError, match=r"color must be \(r, g, b\) or a colour such as 'orange'.* got 'rde'"
    ):
        good.recolor(0, "rde")
