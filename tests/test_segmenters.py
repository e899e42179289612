from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")

from official_networks import Checkpoint, normalized
from saved_networks import random_weights
from torch.nn import functional as F

from deepspec import checkpoints, downloads
from deepspec.networks import recipe
from deepspec.segmenters import Segmenter, build

IMAGE = np.random.default_rng(0).integers(0, 256, (70, 100, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def logits(network: torch.nn.Module, image: np.ndarray = IMAGE) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(torch.from_numpy(image)[None])


@pytest.mark.parametrize(
    ("architecture", "backbone", "stride"),
    [
        ("deeplabv3plus", "resnet18", 32),
        ("deeplabv3", "resnet18", 32),
        ("fcn", "resnet18", 32),
        ("deeplabv3", "test_vit", 16),
        ("fcn", "test_vit", 16),
    ],
)
def test_every_pixel_has_a_score_for_every_class(architecture: str, backbone: str, stride: int) -> None:
    network = build(architecture, backbone, 5)
    assert network.encoder.stride == stride
    found = logits(network, IMAGE[:64, :96])
    assert found.shape == (1, 5, 64, 96)
    assert found.std() > 0


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_bottlenecks_are_dilated_to_the_output_stride(stride: int) -> None:
    network = build("deeplabv3", "resnet50", 3, output_stride=stride)
    with torch.no_grad():
        fine, coarse = network.eval().encoder(torch.zeros(1, 3, 64, 96))
    assert fine.shape == (1, 256, 16, 24)
    assert coarse.shape == (1, 2048, 64 // stride, 96 // stride)
    # The pyramid's rates keep their reach in the image.
    rates = [
        module.dilation[0]
        for module in network.head.modules()
        if getattr(module, "dilation", 1) not in (1, (1, 1))
    ]
    assert rates == [factor * 96 // stride for factor in (1, 2, 3)]


def test_decoder_joins_the_fine_map() -> None:
    network = build("deeplabv3plus", "resnet18", 3)
    maps = [torch.randn(1, 64, 16, 16), torch.randn(1, 512, 2, 2)]
    head = network.head.eval()
    with torch.no_grad():
        before = head(maps)
        assert before.shape == (1, 3, 16, 16)
        maps[0][:, :, 3, 3] += 5
        changed = (head(maps) - before).abs().amax(dim=1)[0] > 0
    # Two 3 x 3 convolutions see two pixels around.
    rows, columns = torch.nonzero(changed, as_tuple=True)
    assert rows.min() >= 1
    assert rows.max() <= 5
    assert columns.min() >= 1
    assert columns.max() <= 5


def resnet50(w: Checkpoint, pixels: torch.Tensor) -> torch.Tensor:
    """The last stage of an official ResNet-50 at output stride 8, by the official names: (1, 2048, h, w)."""
    x = w.convolution("conv1", normalized(pixels), 64, 7, stride=2, padding=3, bias=False)
    x = F.max_pool2d(F.relu(w.batch_norm("bn1", x)), 3, stride=2, padding=1)
    dilation = 1
    for stage, (width, depth) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True), start=1):
        for block in range(depth):
            key = f"layer{stage}.{block}"
            stride = 2 if stage == 2 and block == 0 else 1
            # A stage whose stride is replaced begins with the dilation of the stage before.
            own = dilation if block == 0 else {1: 1, 2: 1, 3: 2, 4: 4}[stage]
            y = F.relu(w.batch_norm(f"{key}.bn1", w.convolution(f"{key}.conv1", x, width, 1, bias=False)))
            w.draw(f"{key}.conv2.weight", width, width, 3, 3, std=(9 * width) ** -0.5)
            y = F.conv2d(y, w[f"{key}.conv2.weight"], None, stride, padding=own, dilation=own)
            y = F.relu(w.batch_norm(f"{key}.bn2", y))
            y = w.batch_norm(f"{key}.bn3", w.convolution(f"{key}.conv3", y, 4 * width, 1, bias=False))
            if block == 0:
                x = w.convolution(f"{key}.downsample.0", x, 4 * width, 1, stride=stride, bias=False)
                x = w.batch_norm(f"{key}.downsample.1", x)
            x = F.relu(x + y)
        dilation = {1: 1, 2: 1, 3: 2, 4: 4}[stage]
    return x


@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_dinos_official_resnet_50_is_the_encoder(prefix: str, tmp_path: Path) -> None:
    official = Checkpoint()
    pixels = torch.from_numpy(IMAGE[:64, :64].copy())
    expected = resnet50(official, pixels)
    state = {f"{prefix}{key}": value for key, value in official.items()}
    torch.save({"teacher": state} if prefix else state, tmp_path / "official.pth")
    network = build("deeplabv3", "dino_resnet50", 3, weights=tmp_path / "official.pth").eval()
    with torch.no_grad():
        pixels_in = (pixels.movedim(2, 0)[None] / 255 - network.mean) / network.std
        found = network.encoder(pixels_in)[-1]
    torch.testing.assert_close(found, expected, atol=1e-3 * expected.abs().max().item(), rtol=0)


def test_published_weights_are_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official = Checkpoint()
    resnet50(official, torch.from_numpy(IMAGE[:64, :64].copy()))
    asked: list[str] = []

    def download(url: str, file: str, *_: object, **__: object) -> None:
        asked.append(url)
        torch.save(dict(official), file)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setattr(downloads, "_unreachable", lambda url: "")
    for _ in range(2):
        network = build("fcn", "dino_resnet50", 3, weights=None)
        torch.testing.assert_close(network.encoder.backbone.conv1.weight.detach(), official["conv1.weight"])
    assert asked == [recipe("dino_resnet50").checkpoint]


def test_torchvisions_weights_are_published_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    url = torchvision.models.ResNet18_Weights.DEFAULT.url
    source = torchvision.models.resnet18()
    torch.save(source.state_dict(), tmp_path / "checkpoints" / url.rpartition("/")[2])
    network = build("fcn", "resnet18", 3, weights=None)
    expected = source.state_dict()
    for key, value in network.encoder.backbone.state_dict().items():
        torch.testing.assert_close(value, expected[key])


@pytest.mark.parametrize("backbone", ["resnet18", "test_vit"])
def test_weights_of_a_training_are_taken(backbone: str, tmp_path: Path) -> None:
    if backbone == "resnet18":
        source = build("fcn", backbone, 2).encoder.backbone
        torch.save(source.state_dict(), tmp_path / "random.pth")
    else:
        random_weights(backbone, tmp_path)
    network = build("fcn", backbone, 3, weights=tmp_path / "random.pth")
    expected = checkpoints.read(tmp_path / "random.pth")
    for key, value in network.encoder.backbone.state_dict().items():
        torch.testing.assert_close(value, expected[key])


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=r"part.pth does not fit resnet18: \d+ missing \(bn1.weight"):
        build("fcn", "resnet18", 3, weights=tmp_path / "part.pth")


def trained(network: torch.nn.Module) -> set[str]:
    return {
        name for name, parameter in network.encoder.backbone.named_parameters() if parameter.requires_grad
    }


def test_frozen_layers_of_a_resnet_are_its_stem_and_stages() -> None:
    every = trained(build("fcn", "resnet18", 3))
    assert "conv1.weight" in every
    network = build("fcn", "resnet18", 3, frozen_layers=2)
    assert trained(network) == {name for name in every if not name.startswith(("conv1", "bn1", "layer1"))}
    network.train()(torch.from_numpy(np.stack([IMAGE, IMAGE[::-1]])))
    backbone = network.encoder.backbone
    # Running statistics of frozen layers stay as well.
    assert backbone.bn1.num_batches_tracked == backbone.layer1[0].bn1.num_batches_tracked == 0
    assert backbone.layer2[0].bn1.num_batches_tracked == 1
    assert trained(build("fcn", "resnet18", 3, frozen_layers="all")) == set()


def test_frozen_layers_of_a_transformer_are_its_embedding_and_blocks() -> None:
    left = trained(build("fcn", "test_vit", 3, frozen_layers=2))
    assert not any(name.startswith(("patch_embed", "pos_embed", "cls_token", "blocks.0.")) for name in left)
    assert {"blocks.1.attn.qkv.weight", "norm.weight"} <= left
    assert trained(build("fcn", "test_vit", 3, frozen_layers="all")) == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("unet", "resnet18", 3),
            "architecture must be one of 'deeplabv3plus', 'deeplabv3', 'fcn', got 'unet'",
        ),
        (("fcn", "resnet18", 1), "n_classes must be at least 2, got 1"),
        (("fcn", "vgg11", 3), "backbone must be dino_resnet50, a ResNet .* got 'vgg11'"),
        (("fcn", "dino_resnet5", 3), "no backbone is called 'dino_resnet5'; the nearest are dino_resnet50"),
        (("deeplabv3plus", "test_vit", 3), "architecture must be deeplabv3 or fcn for test_vit"),
    ],
)
def test_networks_that_cannot_be_built(arguments: tuple[str, str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(*arguments)


def test_strides_and_layers_that_are_not_there() -> None:
    with pytest.raises(
        ValueError, match="output_stride must be 32 for resnet18, whose blocks cannot be dilated"
    ):
        build("fcn", "resnet18", 3, output_stride=8)
    with pytest.raises(ValueError, match="output_stride must be 8, 16, 32, got 4"):
        build("fcn", "resnet50", 3, output_stride=4)
    with pytest.raises(ValueError, match="output_stride must be the patch size 16 for test_vit, got 8"):
        build("fcn", "test_vit", 3, output_stride=8)
    with pytest.raises(
        ValueError, match="frozen_layers must be 'all' or from 0 to 5, the layers of resnet18, got 6"
    ):
        build("fcn", "resnet18", 3, frozen_layers=6)


@pytest.mark.parametrize("backbone", ["resnet18", "test_vit"])
def test_segmenter_labels_each_pixel_of_an_image_of_any_size(backbone: str) -> None:
    network = build("fcn", backbone, 4).train()
    segmenter = Segmenter(network, {"n_classes": 4})
    labels = segmenter.predict(IMAGE)
    assert labels.shape == (70, 100)
    assert labels.dtype == np.int32
    assert network.training
    # A transformer's sides are filled up to whole patches with the last row and column.
    padded = np.pad(IMAGE, [(0, 10), (0, 12), (0, 0)], mode="edge") if backbone == "test_vit" else IMAGE
    expected = logits(network, padded)[0, :, :70, :100].argmax(dim=0)
    np.testing.assert_array_equal(labels, expected.numpy())
    assert segmenter.predict(IMAGE[:1, :1]).shape == (1, 1)


def test_segmenter_takes_8_bit_color_alone() -> None:
    segmenter = Segmenter(build("fcn", "test_vit", 2), {"n_classes": 2})
    for wrong in (IMAGE[..., 0], IMAGE / 255, IMAGE[:0]):
        with pytest.raises(ValueError, match=r"image must be \(H, W, 3\) uint8"):
            segmenter.predict(wrong)
