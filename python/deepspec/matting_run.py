"""Folders of photographs → their soft layers, foregrounds and composites: resumable, every file whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from deepspec import images
from deepspec.checks import check_max_memory
from deepspec.compositing import require_pymatting
from deepspec.decompositions import IMAGE_ERRORS, Result, failed, timed
from deepspec.features import FeatureSource, named, settings_of
from deepspec.graph import check_threads
from deepspec.inputs import Input, find_images
from deepspec.matte_layers import Layers, check_bits
from deepspec.matting import Matting
from deepspec.matting_inputs import Background, Guides, PathLike
from deepspec.matting_outputs import Mattes, check_folders
from deepspec.matting_plan import MattingPlan
from deepspec.outputs import FOLDERS, OutputError
from deepspec.pipeline import Run, require
from deepspec.trimaps import Known

#: Told of an image, before it is taken apart, what that needs.
Announce = Callable[[Input, MattingPlan], None]
#: Told of an image, a stage by name, and the share of it that is done; what it raises ends the run.
Progress = Callable[[Input, str, float], None]


def matte_images(
    inputs: PathLike | Iterable[PathLike],
    output: PathLike,
    features: FeatureSource = "dino_vits16",
    *,
    backbone: Mapping[str, Any] | None = None,
    foreground: str | int | Sequence[int] = "border",
    background: PathLike | tuple[int, int, int] | None = None,
    trimap: PathLike | None = None,
    scribbles: PathLike | None = None,
    bits: int = 8,
    page: bool = False,
    overwrite: bool = False,
    max_memory: float | None = None,
    threads: int | None = None,
    announce: Announce = lambda item, plan: None,
    progress: Progress = lambda item, stage, share: None,
    **options: Any,
) -> Run:
    """Take many photographs apart, and write layers, foregrounds and composites down.

    Only what is missing is done, as by `pipeline.run`. Another foreground or background is made from the layers that
    are there, without taking a photograph apart again.

    Parameters
    ----------
    inputs : path or several
        Image files, and folders that are searched for them.
    output : path
        Folder: `mattes/<the input's path>/layer_1.png`, …, `foreground.png`, `alpha.png`, and `composite.png` with a
        background; `run.json` records settings, versions and failures.
    features : str or callable
    backbone : mapping, optional
        Where `features` is a name: what `load_backbone` takes besides, such as `weights`.
    foreground : "border", int or several
        As `matte` takes it: layers count from 0, though their files count from 1.
    background : path or color, optional
        What to put behind the foregrounds, see `Layers.composite`.
    trimap, scribbles : path, optional
        For one image a file; otherwise a folder whose files have the images' relative paths, whatever their extension.
    bits : {8, 16}
        Of the files, a channel.
    page : bool
        Also write `matte.html`, a page of pictures.
    overwrite : bool
        Begin by deleting this command's earlier results in `output`.
    max_memory, threads
        See `matte`.
    announce : callable
        Told of each image, before it is taken apart, what that needs.
    progress : callable
        Told of an image, a stage by name, and the share of it that is done; what it raises ends the run.
    **options
        `n_layers`, `n_eigenvectors`, `color_weight`, `affinity`, `layering`, `max_size`, `tol` and `seed`, see `matte`.

    Returns
    -------
    Run
        An iterator of `Result`; the work is done as it is consumed.

    Raises
    ------
    ImportError
        Something that is asked for needs an extra of the package.
    OSError
        The network's weights or the background cannot be had, or, while iterating, `OutputError`.
    ValueError
        A parameter is out of range, there is no image, two images would write the same file, there is no trimap for any,
        or `output` holds results of other settings or, where these would go, what is not ours. Nothing is written then.
    """
    guides = Guides.of(trimap=trimap, scribbles=scribbles)
    matting = Matting(**options, guide=guides.name if guides else None)
    front = matting.check_foreground(foreground)
    check_bits(bits)
    check_max_memory(max_memory)
    require_pymatting()
    if guides is None:
        require("sklearn", "cluster")
    behind = None if background is None else Background.of(background)
    output = Path(output)
    found = find_images(inputs, without=[output / name for name in FOLDERS])
    check_folders(found)
    if guides is not None:
        guides.check(found)
    source, of_features = None, {"features": "none"}
    if matting.needs_features:
        # Only now: a network takes seconds to load.
        source = named(features, **(backbone or {})) if isinstance(features, str) else features
        if not callable(source):
            raise ValueError(
                f"features must be a name or a callable for many images, got {type(source).__name__}"
            )
        of_features = settings_of(source)
    settings = {**of_features, **matting.settings}
    outputs = Mattes(output, settings, bits=bits, guides=guides, front=front, background=behind, page=page)
    outputs.check(overwrite=overwrite)
    running = {"max_memory": max_memory, "threads": check_threads(threads)}
    work = _Work(matting, source, outputs, guides, front, running, announce, progress)
    return Run(found, work, outputs, overwrite)


@dataclass(frozen=True)
class _Work:
    """Photographs, one after another, since one takes all cores and much memory."""

    matting: Matting
    source: Any
    outputs: Mattes
    guides: Guides | None
    front: tuple[int, ...] | None
    running: dict[str, Any]
    announce: Announce
    progress: Progress

    def __call__(self, items: Sequence[Input]) -> Iterator[Result]:
        for item in items:
            seconds: dict[str, float] = {}
            try:
                yield self._finish(item, seconds)
            except OutputError:
                raise
            except IMAGE_ERRORS as error:
                yield failed(item, error, seconds)

    def _finish(self, item: Input, seconds: dict[str, float]) -> Result:
        """Layers, found or read, → foreground and composite."""
        layers = self.outputs.layers(item) or self._take_apart(item, seconds)
        self.progress(item, "foreground", 0.0)
        with timed(seconds, "write"):
            line = self.outputs.write_foreground(item, self.matting.with_front(layers, self.front))
        return Result(item.path, item.name, "done", line, None, self.outputs.files(item), seconds)

    def _take_apart(self, item: Input, seconds: dict[str, float]) -> Layers:
        progress = partial(self.progress, item)
        with timed(seconds, "decode"):
            before = self.outputs.source(item)
            pixels = images.load(item.path)
            known = self._known(item, (pixels.shape[0], pixels.shape[1]))
        self.matting.check_size(pixels)
        with timed(seconds, "features"):
            features = self.matting.features(pixels, self.source, progress)
        plan = self.matting.plan(pixels, features, colors=True, **self.running)
        self.announce(item, plan)
        threads = self.running["threads"]
        with timed(seconds, "eigenpairs"):
            pairs = self.matting.eigenpairs(pixels, features, plan, threads=threads, progress=progress)
        with timed(seconds, "answer"):
            layers = self.matting.layers(pixels, features, pairs, known, plan, progress)
        del pairs  # large
        self.progress(item, "writing", 0.0)
        with timed(seconds, "write"):
            return self.outputs.write_layers(item, before, layers)

    def _known(self, item: Input, size: tuple[int, int]) -> Known | None:
        if self.guides is None:
            return None
        path = self.guides.find(item)
        if path is None:
            raise ValueError(f"no {self.guides.name} of this name in {self.guides.path}")
        return self.matting.known(path, size)
