"""What the commands print: progress, failures, scores, and text for any terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepspec.datasets import Example
from deepspec.decompositions import STAGES, Result
from deepspec.evaluation import Evaluation
from deepspec.outputs import OutputError
from deepspec.pipeline import Run
from deepspec.semantic_evaluation import SemanticEvaluation

GO_ON = "what is done is kept, and the same command goes on from there"


def printable(value: Any) -> str:
    """Text for any terminal: a file name need not be valid in its encoding."""
    encoding = sys.stdout.encoding or "utf-8"
    return str(value).encode(encoding, "backslashreplace").decode(encoding)


def finish_run(run: Run, verbose: bool) -> int | None:
    """Look at the results as they come, to the end; the exit status where that is not reached."""
    from tqdm import tqdm

    try:
        follow_run(run, verbose)
    except (OutputError, MemoryError) as error:
        # Past the bars that are there.
        tqdm.write(f"deepspec: error: {printable(error)}; {GO_ON}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        tqdm.write(f"deepspec: interrupted after {count(run)}; {GO_ON}", file=sys.stderr)
        return 130
    finally:
        run.close()
    return None


def follow_run(run: Run, verbose: bool) -> None:
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
    return f"{printable(result.path)}: {state}{printable(result.line)}{score}"


def report_run(run: Run, features: str, *, page: Path | None, verbose: bool) -> None:
    """What was done, of which features, and what failed."""
    print(f"{count(run)} with {features}; results in {printable(run.answers)}")
    if page is not None:
        print(f"page of pictures: {printable(page)}")
    if verbose and run.seconds:
        print(profile(run))
    report_failures(run.failed, len(run))


def count(run: Run) -> str:
    kept = f" ({run.counts['kept']} of them before)" if run.counts["kept"] else ""
    return f"{run.counts['done'] + run.counts['kept']} of {len(run)} images done{kept}"


def profile(run: Run) -> str:
    """Time by stage, an image and in all."""
    total = sum(run.seconds.values())
    images = run.counts["done"] + run.counts["failed"]
    lines = [f"{'stage':<12} {'seconds':>9} {'ms/image':>9} {'share':>6}"]
    for stage in STAGES:
        seconds = run.seconds[stage]
        lines.append(f"{stage:<12} {seconds:9.2f} {1000 * seconds / images:9.1f} {seconds / total:6.1%}")
    return "\n".join(lines)


def report_failures(failed: Mapping[str, str], n_images: int) -> None:
    if not failed:
        return
    print(f"deepspec: {len(failed)} of {n_images} images failed:", file=sys.stderr)
    for path, reason in list(failed.items())[:_MOST_FAILURES]:
        print(f"  {printable(path)}: {printable(reason)}", file=sys.stderr)
    if len(failed) > _MOST_FAILURES:
        print(f"  and {len(failed) - _MOST_FAILURES} more, all in run.json", file=sys.stderr)


_MOST_FAILURES = 20


def report_scores(found: Evaluation | SemanticEvaluation, options: argparse.Namespace) -> int:
    """Print the table and write it down."""
    options.output.mkdir(parents=True, exist_ok=True)
    found.save(options.output)
    print(printable(found.to_markdown()))
    if found.missing:
        print(
            f"deepspec: {len(found.missing)} of {found.n_images} images have no prediction, "
            f"such as {printable(found.missing[0])}",
            file=sys.stderr,
        )
    return 1 if found.missing else 0


def scoring_progress(examples: Sequence[Example]) -> Iterable[Example]:
    from tqdm import tqdm

    bar: Iterable[Example] = tqdm(
        examples, "scores", unit="image", disable=None, dynamic_ncols=True, leave=False
    )
    return bar


def stage_progress(results: Iterable[Result], stage: str, total: int) -> Iterable[Result]:
    """A bar for each stage that has something to do."""
    from tqdm import tqdm

    bar: Iterable[Result] = tqdm(
        results, stage, total, unit="image", disable=None if total else True, dynamic_ncols=True
    )
    return bar
