"""Folders of images through the house: batched, parallel, resumable, every file whole."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

from deepspec.checks import check_choice, check_whole
from deepspec.decomposition import Decomposition, check_settings, plain_weight
from deepspec.decompositions import STAGES, Decomposer, Result, timed
from deepspec.features import FeatureSource, named, settings_of
from deepspec.graph import check_threads
from deepspec.inputs import Input, find_images
from deepspec.outputs import FOLDERS, Outputs, ResultFolder
from deepspec.tasks import TASKS, check_options

__all__ = ["STAGES", "Result", "Run", "run"]


def run(
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    task: str = "localize",
    features: FeatureSource = "dino_vits16",
    *,
    backbone: Mapping[str, Any] | None = None,
    max_size: int | None = 1024,
    k: int | None = None,
    color_weight: float = 10.0,
    grid: str | int = "auto",
    vectors: str = "laplacian",
    affinity: str = "relu",
    threshold: float = 0.2,
    epsilon: float = 1e-5,
    page: bool = False,
    plots: bool = False,
    overwrite: bool = False,
    jobs: int = 1,
    batch_size: int | None = None,
    threads: int | None = None,
    **options: Any,
) -> Run:
    """Ask one question of many images and write the answers down.

    Only what is missing is done: an image whose answer is in `output` already, and whose file has the size and the
    time of modification it had then, is kept. However a run ends, the same call goes on from there, and what it
    leaves is what one run would have left (to the bit with networks on the CPU; on other devices the batch an image
    falls into shows in the last digits).

    While the caller's thread extracts features, the next images are decoded and, where the network is on another
    device or there are several jobs, the previous ones solved and written beside it. Classical features are measured
    where an image is solved. In one process several images are solved at a time, as by `eigenpairs_batch`; a few
    at most wait in between.

    Parameters
    ----------
    inputs : path or several
        Image files, and folders that are searched for them.
    output : path
        Folder. Its files mirror the inputs' paths; `run.json` records settings, versions and failures by task.
    task : {"eigenvectors", "localize", "segment", "regions"}
    features : str or callable
        A name or a loaded backbone, see `features.extract`.
    backbone : mapping, optional
        Where `features` is a name: what `load_backbone` takes besides, such as `weights`.
    k : int or None
        Eigenpairs; None: 2 to localize and segment, which look at the second alone, else 5.
    max_size, color_weight, grid, vectors, affinity, threshold, epsilon
        See `decompose`.
    page : bool
        Also write `<task>.html`, a page of pictures.
    plots : bool
        Also draw each result as `plots/<task>/….png`, which needs matplotlib.
    overwrite : bool
        Begin by deleting this task's earlier results in `output`.
    jobs : int
        Processes that solve and write, spawned (a script needs the guard `if __name__ == "__main__":`). 1: this
        process. 0: the same, with everything in turn, decoding too.
    batch_size : int or None
        Images of equal grid that a backbone takes at a time; None: what its device likes.
    threads : int or None
        Of each job, for its images in all; None: the cores available, divided among the jobs.
    **options
        The task's own: `foreground`, `partition` and `min_score`, below which an image has no object (localize, segment); `n_segments`, `background`, `seed` (regions); `refine`
        (segment, regions), "none" or as in `segment_object`.

    Returns
    -------
    Run
        An iterator of `Result`; the work is done as it is consumed.

    Raises
    ------
    ImportError
        Something that is asked for needs an extra of the package.
    OSError
        The network's weights cannot be had, or, while iterating, `OutputError`.
    ValueError
        A parameter is out of range, there is no image, two images would write the same file, or `output` holds
        results of other settings or, where these would go, what is not ours. Nothing is written then.
    """
    check_choice("task", task, TASKS)
    k = TASKS[task].k if k is None else k
    graph: dict[str, Any] = {
        "max_size": max_size,
        "k": k,
        "color_weight": color_weight,
        "grid": grid,
        "vectors": vectors,
        "affinity": affinity,
        "threshold": threshold,
        "epsilon": epsilon,
    }
    check_settings(**graph)
    options = check_options(task, k, options)
    jobs = check_whole("jobs", jobs, 0)
    n_threads = check_threads(threads)
    if batch_size is not None:
        batch_size = check_whole("batch_size", batch_size, 1)
    require(TASKS[task].module, TASKS[task].extra)
    require("matplotlib" if plots else None, "plots")
    output = Path(output)
    found = find_images(inputs, without=[output / name for name in FOLDERS])
    # Only now: a network takes seconds to load.
    source = named(features, **(backbone or {})) if isinstance(features, str) else features
    if not callable(source):
        raise ValueError(  # noqa: TRY004  the project's one error for bad input
            f"features must be a name or a callable for many images, got {type(source).__name__}"
        )
    settings = {**settings_of(source), **graph, **options}
    if affinity != "threshold":
        del settings["threshold"], settings["epsilon"]
    settings["color_weight"] = plain_weight(color_weight)
    outputs = Outputs(output, task, settings, page=page, plots=plots)
    outputs.check(overwrite=overwrite)
    if threads is None and jobs > 1:
        n_threads = max(1, n_threads // jobs)
    decomposer = Decomposer(source, graph, _Asked(task, options, outputs), jobs, n_threads, batch_size)
    return Run(found, decomposer.take_apart, outputs, overwrite)


class Run(Iterator[Result]):
    """The results of a command's images, as they come: first what was kept, then the others in the order of the inputs.

    Attributes
    ----------
    counts : Counter
        Of results by status.
    failed : dict
        Reasons by path.
    seconds : Counter
        By stage, added up over the images. Stages that ran beside each other slowed each other down; with
        `jobs=0` they do not.
    answers : Path
        The folder or file of the answers.
    settings : dict
        What determines the results, as plain JSON values.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        work: Callable[[Sequence[Input]], Iterator[Result]],
        outputs: ResultFolder,
        overwrite: bool,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.failed: dict[str, str] = {}
        self.seconds: Counter[str] = Counter()
        self.answers = outputs.answers
        self.settings = outputs.settings
        self._inputs = inputs
        self._do = work
        self._outputs = outputs
        self._results = self._work(overwrite)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._inputs)

    def __next__(self) -> Result:
        result = next(self._results)
        self.counts[result.status] += 1
        self.seconds.update(result.seconds)
        if result.status == "failed":
            self.failed[str(result.path)] = result.line
        return result

    def close(self) -> None:
        """Stop here; the same call goes on later."""
        self._results.close()

    def _work(self, overwrite: bool) -> Generator[Result, None, None]:
        with self._outputs.opened(self._inputs, overwrite=overwrite):
            missing = []
            for item in self._inputs:
                record = self._outputs.record(item)
                if record is None:
                    missing.append(item)
                    continue
                files = self._outputs.files(item)
                yield Result(item.path, item.name, "kept", record["line"], record["score"], files)
            for item in missing:
                self._outputs.remove(item)
            if missing:
                yield from self._do(missing)
            self._outputs.finish(self._inputs, self.failed)


@dataclass(frozen=True)
class _Asked:
    """What is asked of each image, and where the answer goes."""

    task: str
    options: dict[str, Any]
    outputs: Outputs

    def __call__(
        self,
        item: Input,
        source: Mapping[str, int],
        d: Decomposition,
        *,
        threads: int,
        seconds: dict[str, float],
    ) -> Result:
        with timed(seconds, "answer"):
            answer = TASKS[self.task].answer(d, threads, **self.options)
        with timed(seconds, "write"):
            self.outputs.write(item, source, d, answer)
        return Result(
            item.path, item.name, "done", answer.line, answer.score, self.outputs.files(item), seconds
        )


def require(module: str | None, extra: str | None) -> None:
    """ImportError that names the extra where a module is not installed."""
    if module is not None and util.find_spec(module) is None:
        raise ImportError(f"{module} is not installed: pip install 'deepspec[{extra}]'")
