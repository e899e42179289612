"""The protocol of Tables 4, 10 and 11: find a dataset's classes once with each seed, and score the label maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepspec.dataset_run import Progress, Segmentation
from deepspec.datasets import Dataset, Example
from deepspec.features import FeatureSource
from deepspec.predictions import predict_dataset
from deepspec.semantic_evaluation import LabelScore, SemanticEvaluation, evaluate_labels
from deepspec.semantics import segment_dataset
from deepspec.stages import digest

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
        As `segment_dataset`, `train` and `evaluate_labels` do; there are no seeds, or one is there twice.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different whole numbers, at least one, got {list(seeds)}")
    dataset[0].labels()  # before anything else is done
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
            taught = [path for path in fitted if str(path) not in found.failed]
            depends_on = [found.settings, settings.get("refine"), [path.name for path in taught], options]
            network = output / "self-training" / digest(depends_on)
            answer = _self_trained(found.folder / "labels", taught, scored, network, options, progress)
        seconds.update(found.seconds)
        failed.update(found.failed | answer.failed)
        runs[f"seed {seed}"] = evaluate_labels(
            dataset,
            answer.folder / "labels",
            n_clusters=found.n_clusters,
            how=how,
            failed=answer.failed,
            progress=scoring,
        )
    of_clusters = {**found.settings["clusters"], "seed": list(seeds)}
    used = {"settings": {**found.settings, "clusters": of_clusters}, "seconds": dict(seconds)}
    return SemanticEvaluation(dataset.name, runs, {**(facts or {}), **used}, failed)


def _self_trained(
    label_maps: Path,
    taught: Sequence[Path],
    scored: Sequence[Path],
    network: Path,
    options: Mapping[str, Any],
    progress: Progress | None,
) -> Segmentation:
    """What a network says that was trained on label maps, in the folder `network`, where it goes on from what is there."""
    from deepspec import training

    training.train(label_maps, taught, network, **options)
    return predict_dataset(
        scored, network / "predictions", network, device=options.get("device"), progress=progress
    )
