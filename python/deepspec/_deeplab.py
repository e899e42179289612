"""The parts of segmentation networks as torch modules; imported by `segmenters` when a network is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional

Part: TypeAlias = "list[nn.Module | nn.Parameter]"


class SegmentationNetwork(nn.Module):
    """Images (N, H, W, 3) uint8 → logits (N, n_classes, H, W).

    An encoder gives maps from fine to coarse, a head one map of logits, which is interpolated bilinearly. The
    normalisation of the encoder's images is part of the network, and of its state.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, encoder: Encoder, head: nn.Module, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1))
        self._frozen: list[nn.Module] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images.movedim(3, 1).float() / 255
        logits: torch.Tensor = self.head(self.encoder((pixels - self.mean) / self.std))
        return functional.interpolate(logits, pixels.shape[2:], mode="bilinear", align_corners=False)

    def freeze(self, parts: Sequence[Part]) -> None:
        """Train neither the parameters nor the running statistics of these parts of the encoder."""
        for item in (item for part in parts for item in part):
            item.requires_grad_(False)
            if isinstance(item, nn.Module):
                self._frozen.append(item)
        self.train(self.training)

    def train(self, mode: bool = True) -> SegmentationNetwork:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


class ResNetEncoder(nn.Module):
    """What a ResNet of torchvision's makes of images in its first and its last stage.

    Attributes
    ----------
    stride : int
        Image pixels of a cell of the last map.
    channels : tuple
        Of each map.
    multiple : int
        What the images' sides must be a multiple of.
    """

    multiple = 1

    def __init__(self, resnet: Any, stride: int) -> None:
        super().__init__()
        self.backbone = resnet
        self.stride = stride
        self.channels = tuple(_width(stage) for stage in (resnet.layer1, resnet.layer4))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        resnet = self.backbone
        fine = resnet.layer1(resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(images)))))
        return [fine, resnet.layer4(resnet.layer3(resnet.layer2(fine)))]

    def parts(self) -> list[Part]:
        """The stem and the four stages."""
        resnet = self.backbone
        return [
            [resnet.conv1, resnet.bn1],
            [resnet.layer1],
            [resnet.layer2],
            [resnet.layer3],
            [resnet.layer4],
        ]


class TransformerEncoder(nn.Module):
    """The grid of a vision transformer's last patch tokens, after its last norm; attributes as above."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.backbone = transformer
        self.stride = self.multiple = int(transformer.patch_embed.patch_size[0])
        self.channels = (int(transformer.num_features),)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        maps: list[torch.Tensor] = self.backbone.forward_intermediates(
            images, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps

    def parts(self) -> list[Part]:
        """The embedding of patches and positions, and the blocks."""
        transformer = self.backbone
        own = [parameter for _, parameter in transformer.named_parameters(recurse=False)]
        return [[*own, transformer.patch_embed], *([block] for block in transformer.blocks)]


Encoder: TypeAlias = ResNetEncoder | TransformerEncoder


class Coarsest(nn.Sequential):
    """A head that takes the last of the encoder's maps alone."""

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        logits = maps[-1]
        for module in self:
            logits = module(logits)
        return logits


class Decoder(nn.Module):
    """DeepLabV3+: atrous pyramid on the coarse map, joined by a projection of the fine one (Chen et al., ECCV 2018).

    Parameters
    ----------
    pyramid : module
        The coarse map's, to 256 channels.
    fine_channels, n_classes : int
    """

    def __init__(self, pyramid: nn.Module, fine_channels: int, n_classes: int) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.project = _convolution(fine_channels, 48, 1)
        self.fuse = nn.Sequential(_convolution(256 + 48, 256, 3), _convolution(256, 256, 3))
        self.classify = nn.Conv2d(256, n_classes, 1)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        fine, coarse = self.project(maps[0]), self.pyramid(maps[-1])
        coarse = functional.interpolate(coarse, fine.shape[2:], mode="bilinear", align_corners=False)
        logits: torch.Tensor = self.classify(self.fuse(torch.cat([coarse, fine], dim=1)))
        return logits


def _width(stage: Any) -> int:
    """Channels that a stage of a ResNet puts out."""
    block = stage[-1]
    return int((block.conv3 if hasattr(block, "conv3") else block.conv2).out_channels)


def _convolution(inputs: int, outputs: int, size: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )
