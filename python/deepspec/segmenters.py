"""Segmentation networks: DeepLab and simpler heads on a ResNet or a vision transformer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepspec import checkpoints
from deepspec.checks import check_choice
from deepspec.downloads import official_checkpoint, published
from deepspec.networks import Recipe, recipe, torch_module, torchvision

if TYPE_CHECKING:
    import torch

    from deepspec._deeplab import Encoder, Part, SegmentationNetwork

#: DeepLabV3+, DeepLabV3 (Chen et al., ECCV 2018 and 2017), and two convolutions (Long et al., CVPR 2015).
ARCHITECTURES = ("deeplabv3plus", "deeplabv3", "fcn")


class Segmenter:
    """A trained network that labels images; made by `deepspec.training.load`.

    Parameters
    ----------
    network : SegmentationNetwork
    settings : dict
        How it was built and trained, `n_classes` among them.

    Attributes
    ----------
    n_classes : int
        The labels are 0 … n_classes − 1, of which 0 is the background.
    settings : dict
    device : torch.device
    """

    def __init__(self, network: SegmentationNetwork, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.n_classes = int(settings["n_classes"])
        self.device = network.mean.device
        self._network = network

    def predict(self, image: NDArray[np.uint8]) -> NDArray[np.int32]:
        """The label of each pixel, from the whole image at its own size.

        Parameters
        ----------
        image : (H, W, 3) uint8

        Returns
        -------
        (H, W) int32

        Raises
        ------
        ValueError
            The image has another shape or type.
        """
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape or image.dtype != np.uint8:
            raise ValueError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
        torch = torch_module()
        height, width = image.shape[:2]
        missing = [(0, -side % self._network.encoder.multiple) for side in (height, width)]
        padded = np.pad(image, [*missing, (0, 0)], mode="edge")
        was_training = self._network.training
        self._network.eval()
        try:
            with torch.inference_mode():
                logits = self._network(torch.from_numpy(padded)[None].to(self.device))
                labels = logits[0, :, :height, :width].argmax(dim=0)
        finally:
            self._network.train(was_training)
        return np.asarray(labels.cpu().numpy(), np.int32)


def build(
    architecture: str,
    backbone: str,
    n_classes: int,
    *,
    weights: str | os.PathLike[str] | None = "none",
    output_stride: int | None = None,
    frozen_layers: int | str = 0,
) -> SegmentationNetwork:
    """A segmentation network whose head is drawn from torch's generator.

    Parameters
    ----------
    architecture : {"deeplabv3plus", "deeplabv3", "fcn"}
        A pyramid of atrous convolutions with a decoder, which needs the fine map of a ResNet; the same without a decoder;
        or a 3×3 and a 1×1 convolution. The rates of the pyramid are 1, 2 and 3 times 96 / stride: (12, 24, 36) at
        stride 8.
    backbone : str
        "dino_resnet50", a ResNet of torchvision's, or a vision transformer by any name of `networks.recipe`. A
        transformer's position embedding is interpolated as timm does, and trained with the rest.
    n_classes : int
        At least 2.
    weights : path, "none" or None
        A checkpoint of the backbone, official or a training's; "none": drawn at random; None: the published one,
        downloaded once.
    output_stride : int, optional
        Image pixels of a cell of the coarse map: 8, 16 or 32, the last of which alone fits ResNets without bottlenecks,
        as these cannot be dilated; a transformer's patch size. None: the smallest.
    frozen_layers : int or "all"
        How many of the backbone's layers are not trained, batch norms in them included: of a ResNet the stem and
        the four stages, so that 2 are the stem and layer1; of a transformer the embedding and each block.

    Raises
    ------
    ImportError
        torch, torchvision or timm is missing.
    OSError
        The weights cannot be read or downloaded.
    ValueError
        An argument is none of the above, or the weights do not fit.
    """
    check_choice("architecture", architecture, ARCHITECTURES)
    if n_classes < 2:
        raise ValueError(f"n_classes must be at least 2, got {n_classes}")
    torch_module()
    from deepspec._deeplab import SegmentationNetwork

    how = _recipe(backbone)
    encoder = (_resnet if how.library == "torchvision" else _transformer)(how, output_stride)
    head = _head(architecture, encoder, n_classes, how)
    frozen = _frozen(frozen_layers, encoder, how)
    mean, std = _load(encoder.backbone, weights, how)
    network = SegmentationNetwork(encoder, head, mean, std)
    network.freeze(frozen)
    return network


def _recipe(backbone: str) -> Recipe:
    """Of a ResNet that can be dilated, hence torchvision's, or of another network, timm's."""
    models = torchvision().models
    builder = models.get_model_builder(backbone) if backbone in models.list_models(module=models) else None
    if builder is not None and builder.__module__ == models.resnet.__name__:
        return Recipe(backbone, "torchvision", backbone)
    how = recipe(backbone)
    if how.architecture == "resnet50" and how.checkpoint:
        return Recipe(backbone, "torchvision", "resnet50", checkpoint=how.checkpoint)
    return how


def _resnet(how: Recipe, output_stride: int | None) -> Encoder:
    from deepspec._deeplab import ResNetEncoder

    models = torchvision().models
    if output_stride not in (None, *_DILATED):
        raise ValueError(f"output_stride must be {', '.join(map(str, _DILATED))}, got {output_stride!r}")
    try:
        resnet = models.get_model(
            how.architecture, weights=None, replace_stride_with_dilation=_DILATED[output_stride or 8]
        )
    except NotImplementedError as error:  # Blocks without a bottleneck.
        if output_stride is not None:
            raise ValueError(
                f"output_stride must be 32 for {how.name}, whose blocks cannot be dilated, got {output_stride}"
            ) from error
        return _resnet(how, 32)
    resnet.fc = torch_module().nn.Identity()
    return ResNetEncoder(resnet, output_stride or 8)


# Whether each of the last three stages has its stride replaced by a dilation.
_DILATED = {8: (False, True, True), 16: (False, False, True), 32: (False, False, False)}


def _transformer(how: Recipe, output_stride: int | None) -> Encoder:
    from deepspec._deeplab import TransformerEncoder

    outline = how.outline()
    if not all(hasattr(outline, name) for name in ("patch_embed", "blocks", "forward_intermediates")):
        raise ValueError(
            f"backbone must be dino_resnet50, a ResNet of torchvision's or a vision transformer, got {how.name!r}"
        )
    encoder = TransformerEncoder(how.build())
    if output_stride not in (None, encoder.stride):
        raise ValueError(
            f"output_stride must be the patch size {encoder.stride} for {how.name}, got {output_stride}"
        )
    return encoder


def _head(architecture: str, encoder: Encoder, n_classes: int, how: Recipe) -> torch.nn.Module:
    from deepspec._deeplab import Coarsest, Decoder

    segmentation = torchvision().models.segmentation
    rates = tuple(max(1, round(96 / encoder.stride)) * factor for factor in (1, 2, 3))
    channels = encoder.channels
    if architecture == "deeplabv3":
        return Coarsest(*segmentation.deeplabv3.DeepLabHead(channels[-1], n_classes, rates))
    if architecture == "fcn":
        return Coarsest(*segmentation.fcn.FCNHead(channels[-1], n_classes))
    if len(channels) == 1:
        raise ValueError(
            f"architecture must be deeplabv3 or fcn for {how.name}, which has no finer map, got 'deeplabv3plus'"
        )
    return Decoder(segmentation.deeplabv3.ASPP(channels[-1], rates), channels[0], n_classes)


def _frozen(frozen_layers: int | str, encoder: Encoder, how: Recipe) -> list[Part]:
    if frozen_layers == "all":
        return [[encoder.backbone]]
    parts = encoder.parts()
    if not (isinstance(frozen_layers, int) and 0 <= frozen_layers <= len(parts)):
        raise ValueError(
            f"frozen_layers must be 'all' or from 0 to {len(parts)}, the layers of {how.name}, got {frozen_layers!r}"
        )
    return parts[:frozen_layers]


def _load(
    network: torch.nn.Module, weights: str | os.PathLike[str] | None, how: Recipe
) -> checkpoints.Normalization:
    """Put the backbone's weights in place."""
    if weights == "none":
        return how.normalization()
    if weights is None and not how.checkpoint:
        source: Any = published(how)[0]
        if how.library == "torchvision":
            source.fc = torch_module().nn.Identity()
        network.load_state_dict(source.state_dict())
        return how.normalization()
    file = official_checkpoint(how) if weights is None else weights
    return checkpoints.load(network, file, how)
