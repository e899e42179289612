"""The paper's tables of boxes and masks, row by row: the published number beside ours."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deepspec import pipeline
from deepspec._files import replacing, write_json
from deepspec.baselines import METHODS
from deepspec.datasets import load_dataset
from deepspec.evaluation import MEASURES, Score, evaluate, markdown_table
from deepspec.graph import check_choice

_VOC07, _VOC12, _COCO = ("voc2007", "voc2012", "coco20k")


@dataclass(frozen=True)
class Row:
    """A number of the paper, and what asks for the same.

    Attributes
    ----------
    label, dataset : str
    published : float
        CorLoc in per cent, or mean IoU.
    features : str
    backbone : mapping
        What `load_backbone` takes besides.
    settings : mapping
        What `pipeline.run` takes besides.
    method : str
        Of `baselines.METHODS`: what `load_backbone` and `pipeline.run` take before these.
    measure : str
    """

    label: str
    dataset: str
    published: float
    features: str
    backbone: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    method: str = "deep-spectral"
    measure: str = "localization"


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

#: The rows of each table that this command runs. Where the paper does not say which network gave its best
#: numbers (Tables 1 and 3), ViT-B/8 and ViT-S/16 are taken. TokenCut's numbers are its own paper's, and not in Table 1.
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
}


@dataclass(frozen=True)
class Outcome:
    """What became of a row: its score and number of images, or why there is none."""

    row: Row
    score: Score | None = None
    n_images: int = 0
    reason: str = ""

    def cells(self) -> list[str]:
        percent = 100 if self.row.measure == "localization" else 1
        ours = self.reason
        if self.score is not None:
            low, high = self.score.interval or (self.score.value, self.score.value)
            ours = f"{percent * self.score.value:.3g} ({percent * low:.3g} to {percent * high:.3g})"
        return [self.row.label, self.row.dataset, f"{self.row.published:g}", ours, str(self.n_images or "–")]


def reproduce(
    table: str,
    data: Path,
    output: Path,
    *,
    limit: int | None = None,
    features: str | None = None,
    backbone: Mapping[str, Any] | None = None,
    follow: Callable[[pipeline.Run], None] | None = None,
    **settings: Any,
) -> list[Outcome]:
    """Run the rows of a table of the paper and write `<table>.md` and `<table>.json`.

    Each row has a folder of its own in `output`, where it goes on from what is there. A row that cannot run,
    for want of its dataset or its weights, says why, and the next one follows.

    Parameters
    ----------
    table : {"table1", "table2", "table3", "table6", "table7", "table8", "table9"}
    data : Path
        The folder that holds the datasets.
    output : Path
    limit : int, optional
        The first images of each dataset alone.
    features, backbone : optional
        Other features for every row, for a trial where the weights are missing.
    follow : callable, optional
        Consumes each run.
    **settings
        For every row that does not have its own, as `pipeline.run` takes them: `jobs`, `threads`, `batch_size`,
        `foreground`.

    Raises
    ------
    ValueError
        The table is unknown.
    """
    check_choice("table", table, TABLES)
    outcomes = []
    for number, row in enumerate(TABLES[table]):
        if features is not None:
            row = replace(row, label=f"{row.label}: {features}", features=features, backbone={})
        row = replace(row, backbone={**row.backbone, **(backbone or {})})
        outcomes.append(_outcome(row, data, output / table / f"{number:02}", limit, follow, settings))
    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / f"{table}.md") as file:
        file.write(to_markdown(outcomes).encode())
    content = [
        {
            "label": o.row.label,
            "dataset": o.row.dataset,
            "published": o.row.published,
            "score": None if o.score is None else {"value": o.score.value, "interval": o.score.interval},
            "images": o.n_images,
            "reason": o.reason,
        }
        for o in outcomes
    ]
    write_json(content, output / f"{table}.json")
    return outcomes


def _outcome(
    row: Row,
    data: Path,
    folder: Path,
    limit: int | None,
    follow: Callable[[pipeline.Run], None] | None,
    settings: Mapping[str, Any],
) -> Outcome:
    method = METHODS[row.method]
    try:
        dataset = load_dataset(row.dataset, data)[:limit]
        run = pipeline.run(
            [example.image for example in dataset],
            folder,
            MEASURES[row.measure],
            row.features,
            backbone={**method.backbone, **row.backbone},
            **{**settings, **method.graph, **method.answer, **row.settings},
        )
        (follow or deque)(run)
        if run.failed and run.counts["failed"] == len(run):
            path, reason = next(iter(run.failed.items()))
            raise ValueError(f"no image could be taken apart, such as {path}: {reason}")
        found = evaluate(row.measure, dataset, folder)
    except (ImportError, OSError, ValueError) as error:
        return Outcome(row, reason=f"did not run: {' '.join(str(error).split())}")
    return Outcome(row, found.scores[0], found.n_images)


def to_markdown(outcomes: list[Outcome]) -> str:
    head = ["row", "dataset", "published", "ours (95 % interval)", "images"]
    return markdown_table(head, [outcome.cells() for outcome in outcomes], n_words=2)
