"""The `deepspec` command."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib import metadata
from typing import Any

from deepspec import __version__, _core, backbones, pipeline, semantics
from deepspec.arguments import parse
from deepspec.datasets import Dataset, Example, load_dataset
from deepspec.evaluation import MEASURES, Evaluation, evaluate
from deepspec.outputs import OutputError, versions
from deepspec.pipeline import STAGES, Result, Run
from deepspec.reproduce import reproduce, to_markdown
from deepspec.semantic_evaluation import SemanticEvaluation, evaluate_labels
from deepspec.semantic_protocol import evaluate_semantic
from deepspec.tasks import TASKS
from deepspec.training import DivergedError, Training, TrainingError, train


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0: all went well; 1: some inputs failed, or the results cannot be written; 2: the call cannot work, and
    nothing was done; 130: interrupted.
    """
    options = parse(arguments)
    # OpenMP threads, torch's here, wait for more work by spinning for milliseconds: on the cores that solve meanwhile.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        if options.command == "info":
            return _info()
        if options.command == "reproduce":
            return _reproduce(options)
        if options.command == "evaluate" and options.measure == "semantic":
            return _evaluate_semantic(options)
        if options.command == "semantic":
            return _semantic(options)
        if options.command == "train":
            return _train(options)
        if options.command == "evaluate":
            dataset = _dataset(options)
            if options.predictions is not None:
                return _evaluate(options, dataset, {})
            options.inputs = [example.image for example in dataset]
            options.command = MEASURES[options.measure]
        run = _start(options)
    except (ImportError, OSError, ValueError) as error:
        print(f"deepspec: error: {_printable(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"deepspec: interrupted; {_GO_ON}", file=sys.stderr)
        return 130
    try:
        _follow(run, options.verbose)
    except (OutputError, MemoryError) as error:
        print(f"deepspec: error: {_printable(error)}; {_GO_ON}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"deepspec: interrupted after {_count(run)}; {_GO_ON}", file=sys.stderr)
        return 130
    finally:
        run.close()
    _report(run, options)
    if "measure" in options:
        try:
            _evaluate(
                options,
                dataset,
                {"method": options.method, "settings": run.settings, "seconds": _seconds_an_image(run)},
            )
        except (OSError, ValueError) as error:
            print(f"deepspec: error: {_printable(error)}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"deepspec: interrupted while scoring; {_GO_ON}", file=sys.stderr)
            return 130
    return 1 if run.failed else 0


def _dataset(options: argparse.Namespace) -> Dataset:
    return load_dataset(options.dataset, options.root, split=options.split, image_list=options.image_list)[
        : options.limit
    ]


def _evaluate(options: argparse.Namespace, dataset: Dataset, facts: dict[str, Any]) -> int:
    """Score what was found."""
    found = evaluate(
        options.measure,
        dataset,
        options.predictions or options.output,
        facts=facts,
        progress=_scoring,
    )
    return _report_scores(found, options)


def _evaluate_semantic(options: argparse.Namespace) -> int:
    """Find classes once with each seed, or take label maps, and score them."""
    dataset = _dataset(options)
    if options.predictions is not None:
        score = evaluate_labels(dataset, options.predictions, how=options.matching, progress=_scoring)
        return _report_scores(SemanticEvaluation(dataset.name, {"label maps": score}), options)
    given = vars(options)
    fit_on = None
    if options.fit_split is not None:
        fit_on = load_dataset(options.dataset, options.root, split=options.fit_split)[: options.limit]
    try:
        found = evaluate_semantic(
            dataset,
            options.output,
            options.features,
            fit_on=fit_on,
            seeds=options.seeds,
            how=options.matching,
            facts={"split": options.split, "classes found in": options.fit_split or "the images scored"},
            progress=stage_progress,
            scoring=_scoring,
            **semantic_options(options),
            **{name: given[name] for name in ("engine", "address", "jobs", "threads")},
        )
    except (OutputError, MemoryError) as error:
        print(f"deepspec: error: {_printable(error)}; {_GO_ON}", file=sys.stderr)
        return 1
    _report_failures(found.failed, len({example.image for example in (*dataset, *(fit_on or ()))}))
    return _report_scores(found, options) or int(bool(found.failed))


def _scoring(examples: Sequence[Example]) -> Iterable[Example]:
    from tqdm import tqdm

    bar: Iterable[Example] = tqdm(
        examples, "scores", unit="image", disable=None, dynamic_ncols=True, leave=False
    )
    return bar


def _report_scores(found: Evaluation | SemanticEvaluation, options: argparse.Namespace) -> int:
    """Print the table and write it down."""
    options.output.mkdir(parents=True, exist_ok=True)
    found.save(options.output)
    print(_printable(found.to_markdown()))
    if found.missing:
        print(
            f"deepspec: {len(found.missing)} of {found.n_images} images have no prediction, "
            f"such as {_printable(found.missing[0])}",
            file=sys.stderr,
        )
    return 1 if found.missing else 0


def _reproduce(options: argparse.Namespace) -> int:
    """Run a table's rows, as far as they go."""

    def follow(run: Run) -> None:
        try:
            _follow(run, options.verbose)
        finally:
            run.close()

    outcomes = reproduce(
        options.table,
        options.data,
        options.output,
        limit=options.limit,
        features=options.features,
        backbone={
            name: value for name in ("weights", "device") if (value := getattr(options, name)) is not None
        },
        follow=follow,
        progress=stage_progress,
        training={
            name: value
            for name, value in (
                ("steps", options.steps),
                ("weights", options.training_weights),
                ("device", options.device),
            )
            if value is not None
        },
        foreground=options.foreground,
        jobs=options.jobs,
        threads=options.threads,
    )
    print(_printable(to_markdown(outcomes)))
    return 0 if all(outcome.score is not None for outcome in outcomes) else 1


def _semantic(options: argparse.Namespace) -> int:
    """Find classes, or label images by a network, and say what was done."""
    given = vars(options)
    running = {name: given[name] for name in ("engine", "address", "jobs", "threads", "names", "panoptic")}
    try:
        if options.checkpoint is not None:
            found = semantics.predict_dataset(
                options.inputs,
                options.output,
                options.checkpoint,
                device=options.device,
                progress=stage_progress,
                **running,
            )
        else:
            found = semantics.segment_dataset(
                options.inputs,
                options.output,
                options.features,
                **semantic_options(options),
                seed=options.seed,
                until=options.until,
                progress=stage_progress,
                **running,
            )
    except OutputError as error:
        print(f"deepspec: error: {_printable(error)}; {_GO_ON}", file=sys.stderr)
        return 1
    print(_printable(found.to_text()))
    _report_failures(found.failed, found.n_images)
    return 1 if found.failed else 0


def semantic_options(options: argparse.Namespace) -> dict[str, Any]:
    """What `segment_dataset` takes, of what determines the classes."""
    given = vars(options)
    return {
        "backbone": {name: given[name] for name in _BACKBONE if given[name] is not None},
        "max_size": None if options.max_size == "none" else options.max_size,
        **{name: given[name] for name in _SEMANTIC},
    }


_SEMANTIC = (
    *("k", "color_weight", "grid", "n_segments", "background", "segment_seed", "erode", "dilate", "pool"),
    *("method", "n_classes", "clustering", "n_components", "n_restarts", "refine"),
)


def stage_progress(results: Iterable[Result], stage: str, total: int) -> Iterable[Result]:
    """A bar for each stage that has something to do."""
    from tqdm import tqdm

    bar: Iterable[Result] = tqdm(
        results, stage, total, unit="image", disable=None if total else True, dynamic_ncols=True
    )
    return bar


def _train(options: argparse.Namespace) -> int:
    """Train, or go on with it, and tell what came of it."""
    from tqdm import tqdm

    given = {name: value for name, value in vars(options).items() if name != "command"}
    try:
        # disable=None: no bar where nobody watches.
        with tqdm(unit="step", disable=None, dynamic_ncols=True) as bar:
            done = train(**given, follow=partial(_show, bar, {}))
    except DivergedError as error:
        print(f"deepspec: error: {_printable(error)}", file=sys.stderr)
        return 1
    except (TrainingError, OutputError, MemoryError) as error:
        print(f"deepspec: error: {_printable(error)}; {_GO_ON}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"deepspec: interrupted; {_GO_ON}", file=sys.stderr)
        return 130
    if os.environ.get("RANK", "0") == "0":
        _report_training(done)
    return 0


def _show(bar: Any, shown: dict[str, float], record: dict[str, Any]) -> None:
    """Bring the bar to a step of a training; what was measured stays on it until it is measured again."""
    if bar.total is None:
        bar.reset(record["steps"])
        bar.initial = bar.n = record["step"] - 1  # of an earlier run
    shown.update({name: record[name] for name in ("loss", "miou") if name in record})
    if "pseudo_labels_miou" in record:
        shown["of the pseudo-labels"] = record["pseudo_labels_miou"]
    bar.set_postfix(shown, refresh=False)
    bar.update()


def _report_training(done: Training) -> None:
    print(
        f"{done.steps} steps on {done.n_images} images with {done.n_classes} labels, loss {done.loss:.4g}; "
        f"checkpoint and log in {_printable(done.folder)}"
    )
    if done.miou is not None:
        of_labels = done.pseudo_labels_miou
        beside = "" if of_labels is None else f", of the pseudo-labels {of_labels:.1%}"
        on = f", on {done.n_truths} images" if done.n_truths else ""
        print(f"mIoU {done.miou:.1%}{beside}{on}")
    if done.unlabelled:
        print(
            f"deepspec: {len(done.unlabelled)} of {done.n_images + len(done.unlabelled)} images have no label map "
            f"and were left out, such as {_printable(done.unlabelled[0])}",
            file=sys.stderr,
        )


def _seconds_an_image(run: Run) -> dict[str, float]:
    done = max(1, run.counts["done"])
    return {stage: run.seconds[stage] / done for stage in STAGES if run.seconds[stage] > 0}


_GO_ON = "what is done is kept, and the same command goes on from there"


def _start(options: argparse.Namespace) -> Run:
    given = vars(options)
    return pipeline.run(
        options.inputs,
        options.output,
        options.command,
        options.features,
        backbone={name: given[name] for name in _BACKBONE if given[name] is not None},
        max_size=None if options.max_size == "none" else options.max_size,
        **{name: given[name] for name in _SETTINGS},
        **{name: given[name] for name in TASKS[options.command].options},
    )


_BACKBONE = ("weights", "facet", "layers", "pos_embed", "center", "device", "dtype", "center_prior")
_GRAPH = ("k", "color_weight", "grid", "vectors", "affinity", "threshold", "epsilon")
_SETTINGS = (*_GRAPH, "page", "plots", "overwrite", "jobs", "batch_size", "threads")


def _follow(run: Run, verbose: bool) -> None:
    """Look at the results as they come."""
    from tqdm import tqdm

    # disable=None: no bar where nobody watches.
    with tqdm(total=len(run), unit="image", disable=None, dynamic_ncols=True) as bar:
        for result in run:
            if result.status == "kept" and not bar.disable:
                # Not counted into the rate.
                bar.initial += 1
            bar.update()
            if run.failed:
                bar.set_postfix(failed=len(run.failed), refresh=False)
            if verbose:
                tqdm.write(_line(result), file=sys.stderr if result.status == "failed" else sys.stdout)


def _line(result: Result) -> str:
    state = {"done": "", "kept": "kept, ", "failed": "failed: "}[result.status]
    score = "" if result.score is None else f", score {result.score:.2f}"
    return f"{_printable(result.path)}: {state}{_printable(result.line)}{score}"


def _report(run: Run, options: argparse.Namespace) -> None:
    print(f"{_count(run)} with {options.features} features; results in {_printable(run.answers)}")
    if options.page:
        print(f"page of pictures: {_printable(options.output / (options.command + '.html'))}")
    if options.verbose and run.seconds:
        print(_profile(run))
    _report_failures(run.failed, len(run))


def _report_failures(failed: Mapping[str, str], n_images: int) -> None:
    if not failed:
        return
    print(f"deepspec: {len(failed)} of {n_images} images failed:", file=sys.stderr)
    for path, reason in list(failed.items())[:_MOST_FAILURES]:
        print(f"  {_printable(path)}: {_printable(reason)}", file=sys.stderr)
    if len(failed) > _MOST_FAILURES:
        print(f"  and {len(failed) - _MOST_FAILURES} more, all in run.json", file=sys.stderr)


_MOST_FAILURES = 20


def _count(run: Run) -> str:
    kept = f" ({run.counts['kept']} of them before)" if run.counts["kept"] else ""
    return f"{run.counts['done'] + run.counts['kept']} of {len(run)} images done{kept}"


def _profile(run: Run) -> str:
    """Time by stage, an image and in all."""
    total = sum(run.seconds.values())
    images = run.counts["done"] + run.counts["failed"]
    lines = [f"{'stage':<12} {'seconds':>9} {'ms/image':>9} {'share':>6}"]
    for stage in STAGES:
        seconds = run.seconds[stage]
        lines.append(f"{stage:<12} {seconds:9.2f} {1000 * seconds / images:9.1f} {seconds / total:6.1%}")
    return "\n".join(lines)


def _printable(value: Any) -> str:
    """Text for any terminal: a file name need not be valid in its encoding."""
    encoding = sys.stdout.encoding or "utf-8"
    return str(value).encode(encoding, "backslashreplace").decode(encoding)


# What each extra of the package brings, by distribution.
_EXTRAS = {
    "models": "torch",
    "cluster": "scikit-learn",
    "faiss": "faiss-cpu",
    "ray": "ray",
    "plots": "matplotlib",
    "crf": "pydensecrf2",
    "guided": "opencv-contrib-python-headless",
}


def _info() -> int:
    build = _core.build_info()
    asked = os.environ.get("DEEPSPEC_NUM_THREADS")
    lines = {
        "deepspec": __version__,
        "python": f"{platform.python_version()}, {platform.platform()}",
        "uses": ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "scipy", "pillow")),
        "native core": f"{build['compiler']}, {build['build']} build",
        "instruction set": f"{build['instruction_set']}, {'with' if build['bfloat16'] else 'no'} bfloat16 products",
        "threads": f"{_core.default_threads()}" + (" (DEEPSPEC_NUM_THREADS)" if asked else ""),
        "features": ", ".join(("classical", *backbones.names())),
    }
    installed = versions()
    for extra, distribution in _EXTRAS.items():
        lines[f"extra {extra}"] = (
            f"{distribution} {installed[distribution]}"
            if distribution in installed
            else f"no {distribution}: pip install 'deepspec[{extra}]'"
        )
    for name, value in lines.items():
        print(f"{name:<16} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
