"""Networks as features: against an independent forward pass, and over kinds of networks."""

from __future__ import annotations

import json
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from saved_networks import random_weights
from squeezenet import SqueezeNet
from vit_oracle import SIZES, ViT, checkpoint

import deepspec
from deepspec.backbones import Backbone, load_backbone

Save = Callable[..., Path]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest, relative to the largest entry."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def mark(image: np.ndarray, row: int, column: int, stride: int) -> np.ndarray:
    """The image with one cell red."""
    marked = image.copy()
    marked[row * stride : (row + 1) * stride, column * stride : (column + 1) * stride] = (255, 0, 0)
    return marked


def oracle(size: str, patch: int, image: np.ndarray) -> dict[str, np.ndarray]:
    network = ViT(checkpoint(size, patch, (224 // patch, 224 // patch)), SIZES[size][1])
    with torch.inference_mode():
        return {name: tensor.numpy() for name, tensor in network(torch.from_numpy(image)).items()}


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Save:
    """Writes a checkpoint with random weights in the layout of DINO's official ones, once."""
    folder = tmp_path_factory.mktemp("official")

    def save(size: str, patch: int) -> Path:
        path = folder / f"{size}{patch}.pth"
        if not path.exists():
            torch.save(checkpoint(size, patch, (224 // patch, 224 // patch)), path)
        return path

    return save


@pytest.fixture(scope="module")
def dino(official: Save) -> Backbone:
    return load_backbone("dino_vits16", official("s", 16), "cpu")


@pytest.mark.parametrize(
    ("size", "patch", "shape"),
    [
        ("s", 16, (224, 224)),
        ("s", 16, (375, 500)),
        ("s", 8, (150, 100)),
        ("b", 8, (224, 224)),
        pytest.param("b", 8, (375, 500), marks=pytest.mark.slow),
    ],
)
def test_keys_are_those_of_an_independent_forward_pass(
    official: Save, size: str, patch: int, shape: tuple[int, int]
) -> None:
    image = picture(*shape)
    expected = oracle(size, patch, image)
    features = load_backbone(f"dino_vit{size}{patch}", official(size, patch), "cpu")(image)
    assert features.array.shape == (shape[0] // patch, shape[1] // patch, SIZES[size][0])
    assert features.array.dtype == np.float32
    assert features.cell == (patch, patch)
    assert difference(features.array, expected["11.key"]) < 1e-5
    assert difference(features.array, expected["11.query"]) > 0.1
    assert difference(features.array, expected["10.key"]) > 0.1


def test_timm_positions_differ_from_dinos_where_the_grid_is_not_the_trained_one(
    official: Save, dino: Backbone
) -> None:
    timm = load_backbone("dino_vits16", official("s", 16), "cpu", pos_embed="timm")
    assert difference(timm(picture(224, 224)).array, dino(picture(224, 224)).array) < 1e-5
    assert difference(timm(picture(368, 496)).array, dino(picture(368, 496)).array) > 1e-3
    assert (dino.settings["pos_embed"], timm.settings["pos_embed"]) == ("dino", "timm")


def test_every_facet_and_block_is_that_of_the_forward_pass(official: Save) -> None:
    image = picture(150, 260)
    expected = oracle("s", 16, image)

    def together(facet: str, *blocks: int) -> np.ndarray:
        return np.concatenate([expected[f"{block}.{facet}"] for block in blocks], axis=2)

    for facet in ("query", "key", "value", "output"):
        backbone = load_backbone("dino_vits16", official("s", 16), "cpu", facet=facet, layers=(0, 7, -1))
        assert difference(backbone(image).array, together(facet, 0, 7, 11)) < 1e-5
    columns = ["blocks.3", "blocks.11.attn", 7]
    backbone = load_backbone("dino_vits16", official("s", 16), "cpu", facet="key", layers=columns)
    assert difference(backbone(image).array, together("key", 3, 11, 7)) < 1e-5


def test_the_embedding_is_the_class_token_after_the_last_norm(dino: Backbone) -> None:
    crops = [picture(100, 70), picture(224, 224), picture(100, 70, seed=1)]
    expected = np.stack([oracle("s", 16, crop)["cls"] for crop in crops])
    embedded = dino.embed(crops)
    assert embedded.shape == (3, 384)
    assert embedded.dtype == np.float32
    assert difference(embedded, expected) < 1e-5


def test_features_do_not_depend_on_the_batch_or_the_order(official: Save, dino: Backbone) -> None:
    images = [
        picture(*shape, seed) for seed, shape in enumerate([(96, 64), (64, 96), (99, 70), (96, 64), (64, 64)])
    ]
    alone = [dino(image).array for image in images]
    assert dino.batch_size == 1
    batched = load_backbone("dino_vits16", official("s", 16), "cpu")
    batched.batch_size = 3
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 1, 3]):
        for index, features in zip(order, batched.extract([images[index] for index in order]), strict=True):
            assert difference(features.array, alone[index]) < 1e-5
    assert dino.extract([]) == []


def test_the_same_image_has_the_same_bits_whatever_came_before_and_in_any_thread(dino: Backbone) -> None:
    images = [picture(96, 64), picture(224, 224), picture(48, 200)]
    first = [dino(image).array.tobytes() for image in images]
    assert [features.array.tobytes() for features in dino.extract(images[::-1])] == first[::-1]
    with ThreadPoolExecutor(3) as pool:
        assert [features.array.tobytes() for features in pool.map(dino, images * 3)] == first * 3


def test_a_result_says_how_it_was_made(official: Save, dino: Backbone) -> None:
    settings = dino(picture(64, 64)).settings
    assert settings == dino.settings
    assert json.loads(json.dumps(settings)) == settings
    assert settings["features"] == "dino_vits16"
    assert settings["weights"]["file"] == "s16.pth"
    assert (settings["facet"], settings["layers"], settings["dtype"]) == (
        "key",
        ["blocks.11.attn"],
        "float32",
    )
    assert len(settings["weights"]["sha256"]) == 16
    assert dino.stride == (16, 16)
    assert (dino.device.type, dino.dtype) == ("cpu", torch.float32)


@pytest.mark.parametrize(
    ("name", "options", "stride", "channels"),
    [
        ("dinov2_vits14", {}, 14, 384),
        ("dinov2_vits14_reg", {}, 14, 384),
        ("dinov2_vits14_reg", {"pos_embed": "dino"}, 14, 384),
        ("dinov3_vits16", {}, 16, 384),
        ("vit_small_patch16_dinov3_qkvb", {"facet": "query"}, 16, 384),
        ("dino_xcit_small_12_p16", {"layers": 0}, 16, 384),
        ("mocov3_vits16", {}, 16, 384),
        ("test_vit", {"layers": "blocks.5", "facet": "output"}, 16, 64),
    ],
)
def test_a_patch_changes_its_own_cell_most(
    name: str, options: dict[str, Any], stride: int, channels: int, tmp_path: Path
) -> None:
    backbone = load_backbone(name, random_weights(name, tmp_path), "cpu", **options)
    image = np.full((6 * stride + 5, 9 * stride + 7, 3), 128, np.uint8)
    features = backbone(image)
    assert features.array.shape == (6, 9, channels)
    assert features.cell == backbone.stride == (stride, stride)
    for row, column in ((1, 3), (4, 7)):
        change = np.linalg.norm(backbone(mark(image, row, column, stride)).array - features.array, axis=2)
        assert np.unravel_index(change.argmax(), change.shape) == (row, column)


@pytest.mark.parametrize(
    ("name", "options", "stride", "channels"),
    [
        ("dinov3_convnext_tiny", {"layers": "stages.2.blocks.8.conv_dw"}, 16, 384),
        ("dinov3_convnext_tiny", {}, 32, 768),
        ("dino_resnet50", {"layers": -2}, 16, 1024),
        ("swin_t", {"layers": 1}, 8, 192),  # torchvision's; (N, h, w, C)
        ("shufflenet_v2_x0_5", {"layers": 2}, 8, 48),
    ],
)
def test_a_convolutional_network_answers_around_the_cell(
    name: str, options: dict[str, Any], stride: int, channels: int, tmp_path: Path
) -> None:
    backbone = load_backbone(name, random_weights(name, tmp_path), "cpu", **options)
    image = np.full((9 * stride + stride // 2, 10 * stride + 1, 3), 128, np.uint8)
    features = backbone(image)
    assert features.array.shape == (9, 10, channels)
    assert features.cell == backbone.stride == (stride, stride)
    offsets = []
    for row, column in ((4, 4), (4, 5), (3, 5)):
        energy = ((backbone(mark(image, row, column, stride)).array - features.array) ** 2).sum(axis=2)
        centre = [float((energy * index).sum() / energy.sum()) for index in np.indices(energy.shape)]
        offsets.append([centre[0] - row, centre[1] - column])
    assert (
        np.abs(np.mean(offsets, axis=0)).max() < 0.6
    )  # padding before a stride moves it by up to half a cell


@pytest.mark.parametrize(
    "name", ["dino_vits16", "dinov2_vits14_reg", "dinov3_vits16", "vit_small_patch16_dinov3_qkvb"]
)
def test_the_first_blocks_key_depends_on_its_own_patch_alone(name: str, tmp_path: Path) -> None:
    # Were [CLS] or registers among the patches, the grid would be shifted.
    backbone = load_backbone(name, random_weights(name, tmp_path), "cpu", layers=0)
    side = backbone.stride[0]
    image = picture(5 * side, 7 * side)
    marked = image.copy()
    marked[2 * side : 3 * side, 4 * side : 5 * side] += 100
    changed = (backbone(marked).array != backbone(image).array).any(axis=2)
    assert np.argwhere(changed).tolist() == [[2, 4]]


def test_stages_of_a_convolutional_network_make_hyper_columns(tmp_path: Path) -> None:
    weights = random_weights("test_resnet", tmp_path)
    image = picture(130, 200)
    single = [load_backbone("test_resnet", weights, "cpu", layers=layer) for layer in (-2, -1)]
    fine, coarse = (backbone(image[:128, :192]).array for backbone in single)
    both = load_backbone("test_resnet", weights, "cpu", layers=(-2, -1))
    features = both(image)
    assert [backbone.stride[0] for backbone in (*single, both)] == [16, 32, 16]
    assert features.array.shape == (8, 12, fine.shape[2] + coarse.shape[2])
    assert difference(features.array[..., : fine.shape[2]], fine) < 1e-5
    enlarged = features.array[..., fine.shape[2] :]
    # Bilinear: a fine cell lies a quarter of a coarse one from its centre.
    inner = (9 * coarse[1, 1] + 3 * coarse[1, 2] + 3 * coarse[2, 1] + coarse[2, 2]) / 16
    assert difference(enlarged[3, 3], inner) < 1e-5
    assert difference(both.embed([image])[0], single[1].embed([image])[0]) < 1e-5


def test_squeezenet_is_the_same_network_in_numpy(test_data: Path) -> None:
    weights = test_data / "squeezenet" / "squeezenet_v1.0.npz"
    backbone, twin = load_backbone("squeezenet1_0", weights, "cpu"), SqueezeNet(weights)
    paths = sorted((test_data / "ECSSD").rglob("*.jpg"))[::60]
    assert len(paths) >= 3
    for path in paths:
        image = np.asarray(Image.open(path).convert("RGB"))[: -len(paths), 3:]
        features = backbone(image)
        assert features.cell == (16, 16)
        assert difference(features.array, twin.fire9(image)) < 1e-4
        assert difference(backbone.embed([image])[0], twin.fire9(image).mean(axis=(0, 1))) < 1e-4


def test_centred_features_have_no_mean_and_say_so(tmp_path: Path) -> None:
    weights = random_weights("squeezenet1_0", tmp_path)
    plain, centred = (
        load_backbone("squeezenet1_0", weights, "cpu", center=center) for center in (False, True)
    )
    images = [picture(64, 96), picture(80, 48, 1)]
    for raw, found in zip(plain.extract(images), centred.extract(images), strict=True):
        np.testing.assert_allclose(found.array, raw.array - raw.array.mean(axis=(0, 1)), atol=1e-6)
        assert (raw.settings["center"], found.settings["center"]) == (False, True)


@pytest.mark.parametrize(("layers", "stride"), [(0, 2), (1, 4), (2, 8), (3, 16)])
def test_cells_of_a_network_without_padding_are_centred_on_their_fields(
    layers: int, stride: int, tmp_path: Path
) -> None:
    weights = random_weights("squeezenet1_0", tmp_path)
    backbone = load_backbone("squeezenet1_0", weights, "cpu", layers=layers)
    assert backbone.stride == (stride, stride)
    image = picture(320, 160)
    base = backbone(image).array
    assert base.shape[:2] == (320 // stride, 160 // stride)
    row, column = 160 // stride, 80 // stride

    def reaches(rows: slice) -> bool:
        changed = image.copy()
        changed[rows] ^= 255
        return bool((backbone(changed).array[row, column] != base[row, column]).any())

    # The first and last rows of pixels that the cell looks at, by bisection.
    last = bisect_left(range(161, 320), True, key=lambda y: not reaches(np.s_[y:])) + 160
    first = bisect_left(range(160), True, key=lambda y: reaches(np.s_[: y + 1]))
    assert 0 < first < last < 319
    assert abs((first + last + 1) / 2 - (row + 0.5) * stride) <= 1


def test_half_precision_is_close_and_overflow_is_an_error(
    official: Save, dino: Backbone, tmp_path: Path
) -> None:
    image = picture(96, 64)
    half = load_backbone("dino_vits16", official("s", 16), "cpu", "bfloat16")
    assert (half.dtype, half(image).array.dtype) == (torch.bfloat16, np.float32)
    assert 1e-4 < difference(half(image).array, dino(image).array) < 0.1
    state = checkpoint("s", 16, (14, 14))
    state["blocks.11.attn.qkv.weight"] *= 1e6
    torch.save(state, tmp_path / "large.pth")
    with pytest.raises(ValueError, match="overflow in float16: load it with dtype='float32'"):
        load_backbone("dino_vits16", tmp_path / "large.pth", "cpu", torch.float16)(image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "dino_vits61"}, "no backbone is called 'dino_vits61'; the nearest are dino_vits16"),
        ({"name": "resnet50.none"}, "no backbone is called 'resnet50.none'"),
        ({"layers": 12}, "layers of dino_vits16 go from -12 to 11, got 12"),
        ({"layers": ()}, "at least one layer"),
        ({"layers": "block.11"}, "dino_vits16 has no layer 'block.11'; there are blocks.11"),
        ({"layers": "blocks.3.mlp", "facet": "key"}, "facet='key' needs attention, and layer blocks.3.mlp"),
        ({"layers": "cls_token"}, "no layer 'cls_token'"),
        (
            {"facet": "keys"},
            "facet must be one of 'key', 'query', 'value', 'output', 'attention', got 'keys'",
        ),
        ({"pos_embed": "bicubic"}, "pos_embed must be 'dino' or 'timm', got 'bicubic'"),
        ({"name": "resnet50", "facet": "value"}, "needs attention"),
        (
            {"name": "resnet50", "pos_embed": "dino"},
            "needs an absolute position embedding, which resnet50 has not",
        ),
        ({"name": "dinov3_vits16", "pos_embed": "dino"}, "absolute position embedding"),
        ({"name": "resnet50", "layers": "global_pool"}, "ran without calling|grid of whole pixels"),
        ({"name": "inception_v3"}, "does not lie on a grid of whole pixels"),
        ({"name": "mixer_s16_224"}, "images are of one size only"),
        ({"name": "squeezenet1_0", "layers": (2, 3)}, "must share a stride"),
        ({"device": "tpu"}, "device must be one of .*cpu, got 'tpu'"),
        ({"device": "cuda:77"}, "got 'cuda:77'"),
        ({"dtype": "int8"}, "dtype must be one of float32, float16, bfloat16, got 'int8'"),
    ],
)
def test_a_wrong_argument_is_named_before_any_weights_are_looked_for(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_backbone(**arguments)


def test_a_layer_that_is_never_run_is_an_error(official: Save) -> None:
    with pytest.raises(ValueError, match="dino_vits16 ran without calling its layer head"):
        load_backbone("dino_vits16", official("s", 16), layers="head")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (picture(15, 400), "at least 16 x 16 pixels for dino_vits16, got 15 x 400"),
        (picture(64, 64)[..., 0], r"\(H, W, 3\) uint8, got uint8 of shape \(64, 64\)"),
        (picture(64, 64) / 255, "uint8, got float64"),
    ],
)
def test_a_wrong_image_is_named(dino: Backbone, image: np.ndarray, message: str) -> None:
    for use in (
        dino,
        lambda image: dino.extract([picture(64, 64), image]),
        lambda image: dino.embed([image]),
    ):
        with pytest.raises(ValueError, match=message):
            use(image)


def test_a_backbone_is_a_source_of_features(official: Save, dino: Backbone) -> None:
    image = picture(150, 200)
    d = deepspec.decompose(image, features=dino, k=3)
    assert d.pairs.vectors.shape == (3, 18, 24)  # 8-pixel cells of the 9 × 12 patches
    assert deepspec.localize(d).xmax <= 192


def test_too_little_memory_is_an_error_with_the_size(official: Save) -> None:
    resource = pytest.importorskip("resource")
    script = f"""
import resource, numpy as np
from deepspec.backbones import load_backbone
backbone = load_backbone("dino_vits16", {str(official("s", 16))!r}, "cpu")
backbone(np.zeros((32, 32, 3), np.uint8))
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 300_000_000,) * 2)
try:
    backbone(np.zeros((4000, 5000, 3), np.uint8))
except MemoryError as error:
    print(error)
"""
    assert resource.RLIMIT_AS
    if not Path("/proc/self/statm").exists():
        pytest.skip("the size of a process is read from /proc")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "cpu has too little memory for dino_vits16 on 1 image(s) of 4000 x 4992 pixels" in done.stdout


def test_importing_the_module_leaves_torch_alone() -> None:
    script = "import sys, deepspec.backbones as b; assert b.names()[0] == 'dino_vits16'; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
