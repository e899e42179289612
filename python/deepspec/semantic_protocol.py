"""The protocol of Tables 4, 10 and 11: find a dataset's classes once with each seed, and score the label maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepspec.backbones import pick_device
from deepspec.checks import check_choice, check_whole
from deepspec.dataset_run import Progress, Segmentation
from deepspec.datasets import Dataset, Example
from deepspec.features import FeatureSource
from deepspec.inputs import fingerprint
from deepspec.predictions import predict_dataset
from deepspec.semantic_evaluation import MATCHINGS, LabelScore, SemanticEvaluation, evaluate_labels
from deepspec.semantics import segment_dataset
from deepspec.stages import digest
from deepspec.training import origin, pick_dtype, train

SEEDS = (0, 1, 2, 3)


def evaluate_semantic(
    dataset: Dataset,
    output: Path,
    features: FeatureSource = "dino_vits16",
    *,
    fit_on: Dataset | None = None,
    seeds: Sequence[int] = SEEDS,
    training: Mapping[str, Any] | None = None,
    how: str = "auto",
    facts: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    scoring: Callable[[Sequence[Example]], Any] = iter,
    **settings: Any,
) -> SemanticEvaluation:
    """Find classes in a dataset's images without its labels, and compare them with these.

    Parameters
    ----------
    dataset : Dataset
        What is scored.
    output : Path
        Folder of the runs, see `segment_dataset`: what does not depend on the seed is done once. It is left with
        the label maps of the last seed.
    features
        See `segment_dataset`.
    fit_on : Dataset, optional
        The images that the clusters are fitted to and that a network is trained on. None: those scored.
    seeds : sequence of int
        Of clustering, one run each, and of training.
    training : mapping, optional
        What `training.train` takes besides: a network trained on the label maps of each run is scored in their place.
    how : str
        See `evaluate_labels`.
    facts : mapping, optional
        To be reported.
    progress : callable, optional
        See `segment_dataset`.
    scoring : callable, optional
        Wraps the examples as they are scored, such as tqdm.
    **settings
        As `segment_dataset` takes them.

    Raises
    ------
    ImportError, OSError, ValueError
        As `segment_dataset`, `train` and `evaluate_labels` do; there are no seeds, or one is there twice; there are
        no images, or `until` is given.
    """
    check_choice("how", how, MATCHINGS)
    seeds = _check_seeds(seeds)
    _check_images(dataset, fit_on)
    if settings.get("until") is not None:
        raise ValueError(f"until={settings['until']!r} leaves no label maps to score")
    of_training = {} if training is None else _plain(training)
    scored = [example.image for example in dataset]
    fitted = scored if fit_on is None else [example.image for example in fit_on]
    runs: dict[str, LabelScore] = {}
    seconds: Counter[str] = Counter()
    failed: dict[str, str] = {}
    for seed in seeds:
        found = answer = segment_dataset(
            dict.fromkeys([*fitted, *scored]),
            output,
            features,
            fit_on=fitted,
            seed=seed,
            progress=progress,
            **settings,
        )
        if training is not None:
            options = {"seed": seed, **training}
            depends_on = [found.settings, settings.get("refine", "none"), {"seed": seed, **of_training}]
            answer = _self_trained(found, fitted, scored, options, depends_on, progress)
        seconds.update(found.seconds)
        failed.update(found.failed | answer.failed)
        runs[f"seed {seed}"] = evaluate_labels(
            dataset, answer.folder / "labels", n_clusters=found.n_clusters, how=how, progress=scoring
        )
    of_clusters = {**found.settings["clusters"], "seed": seeds}
    used = {"settings": {**found.settings, "clusters": of_clusters}, "seconds": dict(seconds)}
    return SemanticEvaluation(dataset.name, runs, {**(facts or {}), **used}, failed)


def _check_seeds(seeds: Sequence[int]) -> list[int]:
    found = [check_whole("seeds", seed, 0, 2**32 - 1) for seed in seeds]
    if not found or len(set(found)) < len(found):
        raise ValueError(f"seeds must be different whole numbers, at least one, got {found}")
    return found


def _check_images(dataset: Dataset, fit_on: Dataset | None) -> None:
    for part in (dataset, dataset if fit_on is None else fit_on):
        if not part:
            raise ValueError(f"{part.name}: there is no image")
    dataset[0].labels()


def _plain(training: Mapping[str, Any]) -> dict[str, Any]:
    """What determines a network, of what `training.train` takes, as plain JSON values."""
    options: dict[str, Any] = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in training.items()
        if name not in _FOLLOWING
    }
    device = pick_device(training.get("device")).type
    return {
        **options,
        "weights": origin(options.get("weights")),
        "dtype": pick_dtype(options.get("dtype"), device),
    }


# What `training.train` takes that leaves the weights as they are.
_FOLLOWING = (
    *("device", "workers", "checkpoint_every", "log_every", "overwrite", "follow"),
    *("truth", "truth_list", "evaluate_every", "evaluate_images"),
)


def _self_trained(
    found: Segmentation,
    fitted: Sequence[Path],
    scored: Sequence[Path],
    options: Mapping[str, Any],
    depends_on: list[Any],
    progress: Progress | None,
) -> Segmentation:
    """What a network says that was trained on label maps, in a folder of its own, where it goes on from what is there."""
    taught = [path for path in fitted if str(path) not in found.failed]
    of_images = [[path.name, fingerprint(path)] for path in taught]
    network = found.folder / "self-training" / digest([depends_on, of_images])
    train(found.folder / "labels", taught, network, **options)
    return predict_dataset(
        scored, network / "predictions", network, device=options.get("device"), progress=progress
    )
