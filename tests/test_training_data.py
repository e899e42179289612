from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from segmentation_data import write_scenes

from deepspec import images
from deepspec.datasets import VOID
from deepspec.training_data import Sampling, batches, load_training_data
from deepspec.training_evaluation import TruthScore


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    write_scenes(tmp_path)
    return tmp_path


def test_images_meet_the_label_maps_of_their_paths(scenes: Path) -> None:
    shutil.move(scenes / "images" / "1.png", scenes / "images" / "unlabelled.png")
    data = load_training_data(scenes / "labels", [scenes / "images"])
    assert [example.name for example in data.examples] == [
        "2.png",
        "4.png",
        "5.png",
        "sub/0.png",
        "sub/3.png",
    ]
    assert [example.labels for example in data.examples[2:4]] == [
        scenes / "labels" / "5.png",
        scenes / "labels" / "sub" / "0.png",
    ]
    assert data.unlabelled == ("unlabelled.png",)
    assert data.n_classes == 3


def test_label_maps_within_the_images_folder_are_no_images(scenes: Path) -> None:
    shutil.move(scenes / "labels", scenes / "images" / "labels")
    data = load_training_data(scenes / "images" / "labels", scenes / "images")
    assert len(data.examples) == 6
    assert data.unlabelled == ()


def test_ignored_pixels_are_no_class(scenes: Path) -> None:
    labels = np.full((64, 64), VOID, np.uint8)
    labels[3, 3] = 4
    Image.fromarray(labels).save(scenes / "labels" / "1.png")
    assert load_training_data(scenes / "labels", scenes / "images").n_classes == 5


def test_the_digest_tells_names_and_labels(scenes: Path) -> None:
    def digest() -> str:
        return load_training_data(scenes / "labels", scenes / "images").digest

    first = digest()
    assert digest() == first
    labels = np.array(Image.open(scenes / "labels" / "1.png"))
    labels[0, 0] ^= 1
    Image.fromarray(labels).save(scenes / "labels" / "1.png")
    second = digest()
    for folder in ("images", "labels"):
        (scenes / folder / "1.png").rename(scenes / folder / "7.png")
    assert len({first, second, digest()}) == 3


def test_sizes_are_compared_before_anything_is_read(scenes: Path) -> None:
    Image.new("L", (64, 63), 1).save(scenes / "labels" / "2.png")
    # Read, this image would be an error itself.
    (scenes / "images" / "2.png").unlink()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    cut = scenes / "images" / "2.jpg"
    Image.fromarray(noise).save(cut)
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(OSError, match=r"2\.jpg"):
        images.load(cut)
    message = (
        rf"labels must have their image's size, got 63 x 64 in {scenes}/labels/2.png and 64 x 64 in .*2.jpg"
    )
    with pytest.raises(ValueError, match=message):
        load_training_data(scenes / "labels", scenes / "images")


def test_sizes_are_those_of_the_upright_image(scenes: Path) -> None:
    image = Image.new("RGB", (40, 64))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(scenes / "images" / "1.png", exif=exif)
    Image.new("L", (64, 40), 1).save(scenes / "labels" / "1.png")
    data = load_training_data(scenes / "labels", scenes / "images")
    image_read, labels = data.examples[0].load()
    assert image_read.shape[:2] == labels.shape == (40, 64)


def test_data_that_does_not_serve(scenes: Path) -> None:
    with pytest.raises(NotADirectoryError, match="nowhere is no folder of label maps"):
        load_training_data(scenes / "nowhere", scenes / "images")
    (scenes / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"none of the 6 images has a label map in .*; 1.png would need .*empty/1.png"
    ):
        load_training_data(scenes / "empty", scenes / "images")
    Image.new("RGB", (64, 64)).save(scenes / "labels" / "2.png")
    with pytest.raises(
        ValueError, match=r"2.png: labels must be 8-bit palette or gray, got an image of mode RGB"
    ):
        load_training_data(scenes / "labels", scenes / "images")
    for path in (scenes / "labels").rglob("*.png"):
        Image.new("L", (64, 64), 0).save(path)
    with pytest.raises(ValueError, match="hold label 0 alone"):
        load_training_data(scenes / "labels", scenes / "images")


def test_every_image_comes_once_before_any_comes_again() -> None:
    sampling = Sampling(batch_size=4, seed=3)
    drawn = np.concatenate([sampling.draw(10, step) for step in range(15)]).reshape(6, 10)
    np.testing.assert_array_equal(np.sort(drawn), np.tile(np.arange(10), (6, 1)))
    assert len({tuple(order) for order in drawn}) == 6
    # From any step on, and with another seed otherwise.
    np.testing.assert_array_equal(sampling.draw(10, 11), drawn.ravel()[44:48])
    others = [Sampling(batch_size=4, seed=4).draw(10, step) for step in range(15)]
    assert not np.array_equal(np.concatenate(others), drawn.ravel())
    # A batch may hold an image twice.
    np.testing.assert_array_equal(np.sort(Sampling(batch_size=6).draw(3, 0)), [0, 0, 1, 1, 2, 2])


@given(st.integers(0, 2**32), st.integers(1, 50), st.integers(1, 50), st.integers(1, 40))
def test_image_and_labels_are_cut_alike(step: int, height: int, width: int, crop: int) -> None:
    rng = np.random.default_rng(step)
    labels = np.kron(rng.integers(0, 3, (-(-height // 16), -(-width // 16))), np.ones((16, 16)))
    labels = labels[:height, :width].astype(np.uint8)
    image = np.stack([80 * labels + 5] * 3, axis=2)
    sampling = Sampling(batch_size=2, crop=crop, fill=(250, 250, 250))
    square, ids = sampling.augment(image, labels, step, 1)
    assert square.shape == (crop, crop, 3)
    assert ids.shape == (crop, crop)
    # Colours are mixed near borders of the labels alone, which may lie outside of the square.
    exact = np.where(ids == VOID, 250, 80 * np.minimum(ids, 2) + 5) == square[..., 0]
    for row, column in 3 + np.argwhere(~exact[3:-3, 3:-3]):
        around = ids[row - 3 : row + 4, column - 3 : column + 4]
        assert len(set(around[around != VOID].tolist())) > 1
    again = sampling.augment(image, labels, step, 1)
    np.testing.assert_array_equal(again[0], square)
    np.testing.assert_array_equal(again[1], ids)


def test_augmentation_scales_cuts_and_mirrors() -> None:
    # Each pixel's place is its colour: columns in red, rows in green.
    rows, columns = np.mgrid[:100, :100]
    image = np.stack([columns, rows, 0 * rows], axis=2).astype(np.uint8)
    labels = np.zeros((100, 100), np.uint8)
    sampling = Sampling(batch_size=1, crop=20, scales=(0.5, 2.0))
    squares = [sampling.augment(image, labels, step, 0)[0].astype(float) for step in range(300)]
    across = np.array([(square[10, 15, 0] - square[10, 5, 0]) / 10 for square in squares])
    down = np.array([(square[15, 10, 1] - square[5, 10, 1]) / 10 for square in squares])
    # Pixels of the image a pixel of the square: 1 / scale, the same both ways, half of them mirrored.
    np.testing.assert_allclose(np.abs(across), down, atol=0.11)
    assert down.min() == pytest.approx(0.5, abs=0.1)
    assert down.max() == pytest.approx(2, abs=0.1)
    assert 0.4 < np.mean(across < 0) < 0.6
    middles = np.array([square[10, 10, :2] for square in squares])
    assert middles.min() < 15
    assert middles.max() > 85
    unscaled = Sampling(batch_size=1, crop=20, scales=(1.0, 1.0)).augment(image, labels, 0, 0)[0]
    assert set(np.abs(np.diff(unscaled[..., 0].astype(int), axis=1)).ravel()) == {1}


def test_small_images_are_filled_up_with_nothing_known() -> None:
    image, labels = np.zeros((10, 10, 3), np.uint8), np.ones((10, 10), np.uint8)
    sampling = Sampling(batch_size=1, crop=16, scales=(1.0, 1.0), fill=(1, 2, 3))
    square, ids = sampling.augment(image, labels, 0, 0)
    assert np.count_nonzero(ids == 1) == 100
    assert np.count_nonzero(ids == VOID) == 156
    np.testing.assert_array_equal(square[ids == VOID], np.tile([1, 2, 3], (156, 1)))


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_do_not_depend_on_where_they_begin_and_who_reads(scenes: Path, workers: int) -> None:
    examples = load_training_data(scenes / "labels", scenes / "images").examples
    sampling = Sampling(batch_size=5, crop=24)
    whole = list(batches(examples, sampling, range(4), range(5)))
    assert [(pixels.shape, labels.shape) for pixels, labels in whole] == [((5, 24, 24, 3), (5, 24, 24))] * 4
    later = batches(examples, sampling, range(2, 4), range(3, 5), workers=workers)
    for (pixels, labels), (pixels_all, labels_all) in zip(later, whole[2:], strict=True):
        np.testing.assert_array_equal(pixels, pixels_all[3:])
        np.testing.assert_array_equal(labels, labels_all[3:])


def test_an_unreadable_image_is_named(scenes: Path) -> None:
    examples = load_training_data(scenes / "labels", scenes / "images").examples
    (scenes / "images" / "4.png").write_bytes(b"\x89PNG no more")
    with pytest.raises(OSError, match=r"4.png: not a readable image"):
        list(batches(examples, Sampling(batch_size=6, crop=8), range(1), range(6)))


class Fixed:
    """Labels the rectangles as the truth does, by their colours."""

    def predict(self, image: np.ndarray) -> np.ndarray:
        orange, green = image[..., 0] > 180, image[..., 1] > 180
        return (2 * orange + green).astype(np.int32)


def test_truth_is_matched_to_clusters(scenes: Path) -> None:
    def evaluation(**options: object) -> TruthScore:
        return TruthScore(scenes / "images", scenes / "labels", scenes / "truth", n_clusters=3, **options)

    found = evaluation()
    assert found.n_images == 6
    # The label maps have 1 and 2 the other way round, which no score minds.
    assert found.pseudo_labels_miou == 1.0
    assert found(Fixed()) == 1.0
    assert evaluation(limit=2).n_images == 2
    (scenes / "val.txt").write_text("3\n5\n\n")
    assert evaluation(names=scenes / "val.txt").n_images == 2
    (scenes / "labels" / "5.png").unlink()
    shutil.rmtree(scenes / "labels" / "sub")
    assert evaluation(names=scenes / "val.txt").pseudo_labels_miou is None


def test_pixels_without_a_pseudo_label_do_not_count(scenes: Path) -> None:
    for path in (scenes / "labels").rglob("*.png"):
        labels = np.array(Image.open(path))
        labels[:, :10] = VOID
        Image.fromarray(labels).save(path)
    options = {"n_clusters": 3}
    found = TruthScore(scenes / "images", scenes / "labels", scenes / "truth", **options)
    assert found.pseudo_labels_miou == 1.0


def test_truths_that_do_not_serve(scenes: Path) -> None:
    def evaluation(folder: str, **options: object) -> TruthScore:
        return TruthScore(scenes / "images", scenes / "labels", scenes / folder, n_clusters=3, **options)

    with pytest.raises(NotADirectoryError, match="nowhere is no folder of ground truth"):
        evaluation("nowhere")
    (scenes / "val.txt").write_text("other\n")
    with pytest.raises(ValueError, match=r"no image that .*val.txt names has a ground truth in"):
        evaluation("truth", names=scenes / "val.txt")
    Image.new("L", (64, 60), 1).save(scenes / "truth" / "2.png")
    with pytest.raises(ValueError, match="labels must have their image's size, got 60 x 64 in"):
        evaluation("truth")
    for path in (scenes / "truth").rglob("*.png"):
        Image.new("L", (64, 64), VOID).save(path)
    with pytest.raises(ValueError, match="is 255, which does not count, everywhere"):
        evaluation("truth")


def test_a_list_names_the_images_that_count(scenes: Path) -> None:
    names = scenes / "trainaug.txt"
    names.write_text("3\n\nimages/4.png\n17\n")
    data = load_training_data(scenes / "labels", scenes / "images", names=names)
    assert [example.name for example in data.examples] == ["4.png", "sub/3.png"]
    assert data.unlabelled == ()
    names.write_text("17\n")
    with pytest.raises(ValueError, match=r"trainaug\.txt names none of the images"):
        load_training_data(scenes / "labels", scenes / "images", names=names)
    with pytest.raises(FileNotFoundError):
        load_training_data(scenes / "labels", scenes / "images", names=scenes / "absent.txt")
