"""Real photographs and the features of real networks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import checks
import dinov2
import numpy as np
import objects
import oracle
import pytest
from builders import decomposition
from PIL import Image
from scipy import ndimage
from squeezenet import SqueezeNet

import deepspec
from deepspec import images
from deepspec.datasets import Dataset, load_dataset
from deepspec.metrics import mask_iou

# photograph, short side for SqueezeNet (0: DINOv2's own picture and tokens), arguments
REAL_PROBLEMS: list[tuple[str, int, dict[str, Any]]] = [
    ("photos/chelsea.png", 240, {"color_weight": 10}),
    ("photos/astronaut.png", 320, {"color_weight": 0}),
    ("photos/coffee.png", 320, {"color_weight": 1}),
    ("photos/rocket.jpg", 320, {"color_weight": math.inf}),
    ("photos/motorcycle_left.png", 320, {"color_weight": 10, "color": "knn_hsv"}),
    ("photos/chelsea.png", 320, {"color_weight": 10, "color": "random_walk", "k": 10}),
    ("photos/coffee.png", 320, {"color_weight": math.inf, "color": "random_walk"}),
    ("photos/rocket.jpg", 240, {"color_weight": 1, "color": "knn_hsv", "laplacian": "unnormalized"}),
    ("ECSSD/images/0011.jpg", 400, {"color_weight": 4, "k": 15}),
    ("ECSSD/images/0012.jpg", 480, {"color_weight": 10, "normalize_features": False}),
    ("dinov2", 0, {"color_weight": 0, "k": 15}),
    ("dinov2", 0, {"color_weight": 10}),
    ("photos/coffee.png", 368, {"color_weight": 10, "grid": (46, 62)}),
]


@pytest.fixture(scope="module")
def squeezenet(test_data: Path) -> SqueezeNet:
    return SqueezeNet(test_data / "squeezenet" / "squeezenet_v1.0.npz")


@pytest.mark.parametrize(("name", "short_side", "options"), REAL_PROBLEMS)
def test_real_problem_agrees_with_the_oracle(
    test_data: Path, name: str, short_side: int, options: dict[str, Any]
) -> None:
    if name == "dinov2":
        image, features = dinov2.load(test_data / "dinov2_features")
    else:
        image = images.load(test_data / name)
        network = SqueezeNet(test_data / "squeezenet" / "squeezenet_v1.0.npz", short_side)
        features = network(image).array
    laplacian = options.get("laplacian", "normalized")
    graph = {name: value for name, value in options.items() if name not in ("k", "laplacian")}
    affinity = checks.fused_affinity(features, image, **graph)
    spectrum = oracle.eigenpairs(affinity, laplacian)
    for solver in checks.SOLVERS:
        pairs = deepspec.eigenpairs(features, image, solver=solver, **options)
        checks.assert_agrees(pairs, affinity, laplacian, spectrum)


@pytest.mark.parametrize("color_weight", [0, 10])
def test_fast_precision_on_a_network(test_data: Path, color_weight: float) -> None:
    image, features = dinov2.load(test_data / "dinov2_features")
    affinity = checks.fused_affinity(features, image, color_weight=color_weight)
    spectrum = oracle.eigenpairs(affinity)
    pairs = deepspec.eigenpairs(features, image, color_weight=color_weight, precision="fast")
    checks.assert_agrees(pairs, affinity, spectrum=spectrum, residual=2e-4)


@pytest.mark.parametrize(("name", "classes"), [("chelsea.png", {281, 282, 285}), ("coffee.png", {967, 968})])
def test_squeezenet_recognises(test_data: Path, squeezenet: SqueezeNet, name: str, classes: set[int]) -> None:
    """The rest of the network on top of our features names a cat (tabby, tiger, Egyptian) and a coffee."""
    with np.load(test_data / "squeezenet" / "squeezenet_v1.0.npz") as weights:
        weight, bias = weights["conv_final.weight"][:, :, 0, 0], weights["conv_final.bias"]
    picture = Image.open(test_data / "photos" / name).resize((256, 256))
    activations = squeezenet.fire9(np.asarray(picture))
    assert activations.shape == (16, 16, 512)
    scores = np.maximum(activations @ weight.T + bias, 0).mean((0, 1))
    assert int(scores.argmax()) in classes


def test_squeezenet_cells_cover_the_image(squeezenet: SqueezeNet) -> None:
    image = np.random.default_rng(0).integers(0, 256, (123, 211, 3), dtype=np.uint8)
    features = squeezenet(image)
    assert features.array.shape == (30, 51, 512)
    np.testing.assert_allclose(features.cell, (16 * 123 / 480, 16 * 211 / 823))
    np.testing.assert_allclose(features.array.mean((0, 1)), 0, atol=1e-3)


@pytest.mark.parametrize("color_weight", [0, 10])
def test_second_eigenvector_of_dinov2_features_is_the_creature(test_data: Path, color_weight: float) -> None:
    """A drawing in saturated colours on a gray ground: which pixels are the creature's is known."""
    image, tokens = dinov2.load(test_data / "dinov2_features")
    creature = ndimage.binary_fill_holes(np.ptp(image.astype(int), axis=-1) > 20)
    d = deepspec.decompose(image, tokens, k=5, color_weight=color_weight)
    assert d.pairs.vectors.shape == (5, 37, 37)
    assert mask_iou(deepspec.segment_object(d, refine=None), creature) > 0.8
    box, (rows, columns) = deepspec.localize(d), np.nonzero(creature)
    truth = np.zeros_like(creature)
    truth[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    found = np.zeros_like(creature)
    found[box.ymin : box.ymax, box.xmin : box.xmax] = True
    assert mask_iou(found, truth) > 0.8


@pytest.mark.parametrize("name", ["COCO_train2014_000000000036", "COCO_train2014_000000001025"])
def test_sign_rule_is_that_of_the_authors_eigenvectors(test_data: Path, name: str) -> None:
    folder = test_data / "authors_eigenvectors"
    with Image.open(folder / f"{name}.jpg") as image:
        width, height = image.size
    with np.load(folder / f"{name}.npz") as archive:
        values, vectors = archive["eigenvalues"], archive["eigenvectors"]
    assert vectors.shape == (20, (height // 8) * (width // 8))
    assert (np.diff(values) >= 0).all()
    assert np.ptp(vectors[0]) < 1e-3 * abs(vectors[0]).max()
    for vector in vectors[1:]:
        np.testing.assert_array_equal(oracle.signed(vector), vector)
        np.testing.assert_array_equal(oracle.signed(-vector), vector)


@pytest.mark.parametrize(
    ("name", "box", "kept"),
    [
        ("COCO_train2014_000000000036", (176, 160, 480, 640), 0.99),  # the woman with the parasol
        ("COCO_train2014_000000001025", (288, 176, 408, 320), 0.22),  # a dog that is 4 % of the picture
    ],
)
def test_objects_of_the_authors_eigenvectors(
    test_data: Path, name: str, box: tuple[int, ...], kept: float
) -> None:
    folder = test_data / "authors_eigenvectors"
    image = np.asarray(Image.open(folder / f"{name}.jpg").convert("RGB"))
    with np.load(folder / f"{name}.npz") as archive:
        y1 = archive["eigenvectors"][1].reshape(image.shape[0] // 8, image.shape[1] // 8)
    d = replace(decomposition(y1, cell=(8, 8), size=image.shape[:2]), image=image)
    found = deepspec.localize(d)
    assert (found.xmin, found.ymin, found.xmax, found.ymax) == box
    refined = deepspec.find_object(d)
    assert refined.kept == pytest.approx(kept, abs=0.01)
    assert refined.lost == (kept < 0.25)


def mean_ious(examples: Dataset, network: SqueezeNet, color_weight: float) -> dict[str, float]:
    """Of coarse masks, by foreground rule."""
    scores: dict[str, list[float]] = {"smaller": [], "border": []}
    for example in examples:
        image = images.load(example.image)
        d = deepspec.decompose(image, network(image), k=2, color_weight=color_weight)
        for rule, row in scores.items():
            row.append(mask_iou(deepspec.segment_object(d, foreground=rule, refine=None), *example.mask()))
    return {rule: float(np.mean(row)) for rule, row in scores.items()}


def test_mean_iou_on_some_of_ecssd(test_data: Path, squeezenet: SqueezeNet) -> None:
    examples = load_dataset("ecssd", test_data)[::10]
    scores = mean_ious(examples, squeezenet, 4.0)
    assert scores["smaller"] > 0.40
    assert scores["border"] > 0.47
    masks = [example.mask() for example in examples]
    ellipse = np.mean([mask_iou(objects.centred_ellipse(mask.shape), mask, valid) for mask, valid in masks])
    assert scores["border"] > ellipse + 0.05


@pytest.mark.slow
def test_mean_iou_on_ecssd(test_data: Path, squeezenet: SqueezeNet) -> None:
    examples = load_dataset("ecssd", test_data)
    assert len(examples) == 200
    for color_weight in (3.0, 4.0, 5.0):
        scores = mean_ious(examples, squeezenet, color_weight)
        assert scores["smaller"] >= 0.41
        assert scores["border"] >= 0.48
