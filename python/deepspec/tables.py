"""The paper's tables of boxes, masks and classes as data: each row's published number, and what asks for the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_VOC07, _VOC12, _COCO = ("voc2007", "voc2012", "coco20k")


@dataclass(frozen=True)
class Row:
    """A number of the paper, and what asks for the same.

    Attributes
    ----------
    label, dataset : str
    published : float
        CorLoc in per cent, or mean IoU; of classes, in per cent.
    features : str
    backbone : mapping
        What `load_backbone` takes besides.
    settings : mapping
        What `pipeline.run` takes besides; for classes, `segment_dataset`.
    method : str
        Of `baselines.METHODS`: what `load_backbone` and `pipeline.run` take before these; for classes, of
        `semantics.METHODS`.
    measure : {"localization", "segmentation", "semantic"}
    deviation : float or None
        Of the published number over four seeds, where the paper has it.
    self_training : bool
        Whether a network trained on the label maps answers.
    """

    label: str
    dataset: str
    published: float
    features: str
    backbone: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    method: str = "deep-spectral"
    measure: str = "localization"
    deviation: float | None = None
    self_training: bool = False


def _classes(label: str, published: float, **options: Any) -> Row:
    return Row(label, _VOC12, published, "dino_vits16", measure="semantic", **options)


def _color(weight: float) -> dict[str, float]:
    return {"color_weight": weight}


_BACKBONES = {
    "dino_vits16": "ViT-S/16 DINO",
    "dino_vitb16": "ViT-B/16 DINO",
    "dino_vits8": "ViT-S/8 DINO",
    "dino_vitb8": "ViT-B/8 DINO",
    "mocov3_vits16": "ViT-S/16 MoCo-v3",
    "mocov3_vitb16": "ViT-B/16 MoCo-v3",
    "dino_resnet50": "ResNet-50 DINO",
}
_TABLE2 = (61.6, 61.6, 62.6, 62.7, 37.3, 61.1, 26.9)
_TABLE7: dict[str, dict[float, float]] = {
    "dino_vits16": {0: 58.0, 1: 60.1, 8: 61.9, 10: 61.5},
    "dino_vitb16": {0: 57.7, 1: 59.5, 8: 61.1, 10: 61.2, float("inf"): 24.2},
    "dino_vits8": {0: 59.4, 1: 60.0, 8: 62.6, 10: 62.5},
    "dino_vitb8": {0: 60.5, 1: 61.2, 8: 62.7, 10: 62.5},
}
# Of the size of the ResNet-50 that Table 9 compares it with, and of the ImageNet that "ImageNet" means.
_CONVNEXT = "convnext_tiny.fb_in1k"

_LOST2 = (61.9, 60.1, 55.5, 46.6, 32.5, 53.3, 36.8)
_DATASETS1 = (_VOC07, _VOC12, _COCO)
_TABLE10 = {3: (29.7, 32.7), 5: (33.3, 36.3), 10: (31.4, 37.5), 15: (31.8, 36.0)}

#: The rows of each table that this command runs. Where the paper does not say which network gave its best
#: numbers (Tables 1, 3, 4, 10 and 11), ViT-B/8 (1) and ViT-S/16 are taken. TokenCut's numbers are its own paper's, and not
#: in Table 1. Table 4 takes "yᵢ, i < K" with K = 15 (supplement), of which y₀ is constant and says nothing: k = 15;
#: Table 10 counts y₁ … yₘ: k = m + 1. Table 11 names no number of eigenvectors: Table 4's.
TABLES: dict[str, tuple[Row, ...]] = {
    "table1": (
        *(
            Row("best", dataset, published, "dino_vitb8", settings=_color(8))
            for dataset, published in zip(_DATASETS1, (62.7, 66.4, 52.2), strict=True)
        ),
        *(
            Row(label, dataset, published, "dino_vits16", method=method)
            for method, label, row in (
                ("lost", "LOST", (61.9, 64.0, 50.7)),
                ("dino-cls", "DINO-[CLS]", (45.8, 46.2, 42.1)),
                ("tokencut", "TokenCut, by its own paper", (68.8, 72.1, 58.8)),
            )
            for dataset, published in zip(_DATASETS1, row, strict=True)
        ),
    ),
    "table2": (
        *(
            Row(label, _VOC07, published, features, settings=_color(0))
            for (features, label), published in zip(_BACKBONES.items(), _TABLE2, strict=True)
        ),
        *(
            Row(f"LOST, {label}", _VOC07, published, features, method="lost")
            for (features, label), published in zip(_BACKBONES.items(), _LOST2, strict=True)
        ),
    ),
    "table3": tuple(
        Row("with CRF", dataset, published, "dino_vits16", measure="segmentation")
        for dataset, published in (("cub", 0.769), ("duts", 0.514), ("omron", 0.567), ("ecssd", 0.733))
    ),
    "table4": (
        _classes("Cluster-Patch", 5.3, method="cluster-patch"),
        _classes("Cluster-Seg", 12.1, method="cluster-seg"),
        _classes("without self-training", 30.8, deviation=2.7),
        _classes("with self-training", 37.2, deviation=3.8, self_training=True),
    ),
    "table6": tuple(
        Row(facet, _VOC07, published, "dino_vits16", {"facet": facet}, _color(0))
        for facet, published in (("key", 61.6), ("query", 33.1), ("value", 49.9), ("output", 37.3))
    ),
    "table7": tuple(
        Row(f"{_BACKBONES[features]}, λ = {weight:g}", _VOC12, published, features, settings=_color(weight))
        for features, row in _TABLE7.items()
        for weight, published in row.items()
    ),
    "table8": tuple(
        Row(
            f"block {block}",
            _VOC07,
            published,
            "dino_vits16",
            {"layers": block - 13, "facet": "key"},
            _color(0),
        )
        for block, published in ((12, 61.6), (11, 61.4), (8, 50.5), (4, 28.2))
    ),
    # Stages count from 0, so that the last one is among them. The last convolution of a block is the depthwise
    # one: what follows it is linear.
    "table9": (
        Row("ConvNeXt conv2", _VOC07, 41.8, _CONVNEXT, {"layers": "stages.2.blocks.8.conv_dw"}, _color(0)),
        Row("ConvNeXt conv3", _VOC07, 40.7, _CONVNEXT, {"layers": "stages.3.blocks.2.conv_dw"}, _color(0)),
        Row("ConvNeXt block 2", _VOC07, 38.8, _CONVNEXT, {"layers": "stages.2"}, _color(0)),
        Row("ConvNeXt block 3", _VOC07, 31.2, _CONVNEXT, {"layers": "stages.3"}, _color(0)),
        Row("XCiT DINO", _VOC07, 33.6, "dino_xcit_small_12_p16", {}, _color(0)),
        Row("ResNet-50 DINO", _VOC07, 26.6, "dino_resnet50", {}, _color(0)),
    ),
    "table10": tuple(
        _classes(
            f"{m} eigenvectors" + ", self-training" * trained,
            published[trained],
            settings={"k": m + 1},
            self_training=trained,
        )
        for trained in (False, True)
        for m, published in _TABLE10.items()
    ),
    "table11": tuple(
        _classes(f"K = {n_classes}", published, settings={"n_classes": n_classes})
        for n_classes, published in ((20, 33.3), (30, 38.5), (40, 42.8))
    ),
}
