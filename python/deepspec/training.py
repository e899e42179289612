"""Self-training: a segmentation network learns pseudo-labels, and labels images better than these (section 3.4)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepspec import checkpoints, plots
from deepspec._ranks import local_device, rank_and_count, share
from deepspec.backbones import pick_device
from deepspec.checks import check_choice, check_whole
from deepspec.networks import torch_module
from deepspec.segmenters import Segmenter, build
from deepspec.training_data import load_training_data
from deepspec.training_evaluation import TruthScore
from deepspec.training_folder import Record, TrainingFolder
from deepspec.training_loop import (
    DTYPES,
    OPTIMIZERS,
    SCHEDULES,
    DivergedError,
    Loop,
    Rhythm,
    TrainingError,
    passes,
)

if TYPE_CHECKING:
    import torch

    from deepspec._deeplab import SegmentationNetwork

__all__ = ["PRESETS", "DivergedError", "Preset", "Training", "TrainingError", "load", "train"]


@dataclass(frozen=True)
class Preset:
    """How a network is trained.

    Attributes
    ----------
    optimizer : "adam" or "adamw"
    lr : learning rate, to begin with
    steps : int
    schedule : "constant", or "linear": the learning rate falls evenly, to 0 after the last step
    frozen_layers : layers of the backbone that are not trained, see `deepspec.segmenters.build`
    batch_size : int
    crop : side of the squares that are cut from the images, in pixels
    weight_decay : float
    """

    optimizer: str
    lr: float
    steps: int
    schedule: str
    frozen_layers: int
    batch_size: int = 144
    crop: int = 224
    weight_decay: float = 1e-8


#: What the paper says and what its supplement says, which differ. It names no weight decay: that of its published code.
PRESETS = {
    "paper": Preset("adamw", 0.005, 3000, "constant", frozen_layers=2),
    "supplement": Preset("adam", 1e-4, 2000, "linear", frozen_layers=0),
}


@dataclass(frozen=True)
class Training:
    """What a training came to.

    Attributes
    ----------
    folder : Path
        What `load` takes.
    steps : int
    loss : float
        The cross entropy of the last step.
    miou : float or None
        Of the network at the end, in [0, 1]; None without a ground truth.
    pseudo_labels_miou : float or None
        Of the label maps on the same images, as far as these have one.
    n_images, n_classes : int
    n_truths : int
        Images with a ground truth that counts.
    unlabelled : tuple of str
        Names of the images without a label map, which were left out.
    """

    folder: Path
    steps: int
    loss: float
    miou: float | None
    pseudo_labels_miou: float | None
    n_images: int
    n_classes: int
    n_truths: int
    unlabelled: tuple[str, ...]


def train(
    label_maps: str | os.PathLike[str],
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    preset: str = "paper",
    architecture: str = "deeplabv3plus",
    backbone: str = "dino_resnet50",
    weights: str | os.PathLike[str] | None = None,
    output_stride: int | None = None,
    optimizer: str | None = None,
    lr: float | None = None,
    weight_decay: float | None = None,
    schedule: str | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    micro_batch: int | None = None,
    crop: int | None = None,
    scales: tuple[float, float] = (0.5, 2.0),
    frozen_layers: int | str | None = None,
    ema: float | None = None,
    dtype: str | None = None,
    device: str | None = None,
    seed: int = 0,
    image_list: str | os.PathLike[str] | None = None,
    workers: int = 4,
    checkpoint_every: int = 200,
    log_every: int = 1,
    truth: str | os.PathLike[str] | None = None,
    truth_list: str | os.PathLike[str] | None = None,
    evaluate_every: int | None = None,
    evaluate_images: int | None = None,
    overwrite: bool = False,
    follow: Callable[[Record], None] | None = None,
) -> Training:
    """Train a segmentation network on pseudo-labels, or go on where an earlier call was stopped.

    Writes `settings.json`, `checkpoint.pt`, `log.jsonl` and `curve.png` into `output`. Which images a step takes and how
    they are cut depends on the seed and the step alone, so that a training that was stopped ends with the same weights
    as one that was not, on the CPU to the last bit. Batch norm takes the images of a pass through the network together;
    apart from it and from dropout the gradient does not depend on `micro_batch` or the number of processes: it is that of
    the mean over the whole batch's pixels that have a label.

    Started by `torchrun`, each process takes its share of every batch, on a CUDA device of its own or on the CPU, and
    process 0 writes.

    Parameters
    ----------
    label_maps : path
        A folder of PNGs at the images' sizes, see `deepspec.training_data.load_training_data`.
    images : path or several
        Image files, or folders of them; those without a label map are left out.
    output : path
        Folder for the results.
    preset : {"paper", "supplement"}
        What the arguments that are None among `optimizer` … `frozen_layers` are; see `PRESETS`.
    architecture, backbone, weights, output_stride, frozen_layers
        See `deepspec.segmenters.build`.
    optimizer, lr, weight_decay, schedule, steps, batch_size, crop
        See `Preset`.
    micro_batch : int, optional
        Images that go through the network at a time, in each process, at least 2. None: all of its share.
    scales : (least, most)
        Images are scaled by a factor from this range before they are cut.
    ema : float, optional
        Also keep an exponential moving average of the weights, with this decay, which is then what `load` takes.
    dtype : {"float32", "float16", "bfloat16"}, optional
        Mixed precision where it is not float32. None: float16 on CUDA, which float16 needs, else float32.
    device : str, optional
        "cuda", "mps", "cpu". None: the first of these that is there.
    seed : int
    image_list : path, optional
        A file of names, one a line: the images that are trained on, such as VOC's `trainaug.txt`. None: all.
    workers : int
        Threads that read images.
    checkpoint_every, log_every : int
        Steps from one checkpoint, or line of the log, to the next.
    truth : path, optional
        A folder of ground truth for `deepspec.training_evaluation.TruthScore`, at the end and every `evaluate_every` steps.
    truth_list : path, optional
        Names of the images that count there.
    evaluate_images : int, optional
        The first of these alone.
    overwrite : bool
        Begin by deleting what is in `output` of another training.
    follow : callable, optional
        Called after each step with its line of the log, and `steps`.

    Returns
    -------
    Training

    Raises
    ------
    ImportError
        torch, torchvision, timm or matplotlib is missing; the message names the extra.
    OSError
        Something cannot be read.
    ValueError
        An argument is wrong, the images have no label maps or ones of other sizes, or `output` holds a training of
        other settings. All of these come before training starts.
    DivergedError
        The loss or a weight is no longer finite; the last checkpoint is kept.
    TrainingError
        An image cannot be read on the way.
    OutputError, MemoryError
        The results cannot be written; the device has too little memory.
    KeyboardInterrupt
        Ctrl-C or SIGTERM, after a checkpoint is written.
    """
    replaced = {
        "optimizer": optimizer,
        "lr": lr,
        "weight_decay": weight_decay,
        "schedule": schedule,
        "steps": steps,
        "batch_size": batch_size,
        "crop": crop,
        "frozen_layers": frozen_layers,
    }
    others = {"micro_batch": micro_batch, "scales": list(scales), "ema": ema, "seed": seed}
    chosen = _chosen(preset, replaced) | others
    _check(chosen)
    rhythm = Rhythm(checkpoint_every, log_every, evaluate_every, workers)
    if truth is None and any(value is not None for value in (truth_list, evaluate_every, evaluate_images)):
        raise ValueError("truth_list, evaluate_every and evaluate_images need truth")
    plots.check_installed()
    on = local_device(pick_device(device))
    chosen["dtype"] = pick_dtype(dtype, on.type)
    results = Path(output)
    apart = (results, *([] if truth is None else [Path(truth)]))
    sources = [images] if isinstance(images, (str, os.PathLike)) else list(images)
    data = load_training_data(label_maps, sources, names=image_list, without=apart, workers=workers)
    settings = {
        "architecture": architecture,
        "backbone": backbone,
        "weights": origin(weights),
        "output_stride": output_stride,
        **chosen,
        "n_classes": data.n_classes,
        "n_images": len(data.examples),
        "data": data.digest,
        "processes": rank_and_count()[1],
    }
    folder = TrainingFolder(results, settings)
    if not overwrite:
        folder.check_settings()
    going_on = folder.checkpoint.exists() and not overwrite
    network = _network(settings, "none" if going_on else weights, on)
    evaluation = None
    if truth is not None:
        among = partial(TruthScore, names=truth_list, limit=evaluate_images, without=apart)
        evaluation = among(sources, label_maps, truth, n_clusters=data.n_classes)
    n_truths = 0 if evaluation is None else evaluation.n_images
    last = Loop(folder, network, data.examples, evaluation, on, rhythm).run(overwrite, follow)
    scores = last.get("miou"), last.get("pseudo_labels_miou")
    counts = len(data.examples), data.n_classes, n_truths
    return Training(results, last["step"], last["loss"], *scores, *counts, data.unlabelled)


def load(folder: str | os.PathLike[str], *, device: str | None = None) -> Segmenter:
    """The network of a training, from its last checkpoint: the averaged weights where there are some.

    Parameters
    ----------
    folder : path
        What `train` wrote.
    device : str, optional
        As `train` takes it.

    Raises
    ------
    OSError
        There is no checkpoint, or it cannot be read.
    ValueError
        It is none of a training, or the device is not there.
    """
    on = pick_device(device)
    path = Path(folder) / "checkpoint.pt"
    content = checkpoints.read(path)
    if not (isinstance(content, dict) and {"settings", "network", "ema"} <= content.keys()):
        raise ValueError(f"{path}: not written by deepspec's training")
    network = _network(content["settings"], "none", on)
    averaged = content["ema"] or {}
    prefix = "module."
    state = {key.removeprefix(prefix): value for key, value in averaged.items() if key.startswith(prefix)}
    network.load_state_dict(state or content["network"])
    return Segmenter(network.eval(), content["settings"])


def _chosen(preset: str, replaced: dict[str, Any]) -> dict[str, Any]:
    """A preset's values, or those that replace them."""
    check_choice("preset", preset, PRESETS)
    return asdict(PRESETS[preset]) | {name: value for name, value in replaced.items() if value is not None}


def _check(chosen: dict[str, Any]) -> None:
    """ValueError where something is out of range; whole numbers become ints."""
    check_choice("optimizer", chosen["optimizer"], OPTIMIZERS)
    check_choice("schedule", chosen["schedule"], SCHEDULES)
    for name, least in {"steps": 1, "batch_size": 2, "crop": 1}.items():
        chosen[name] = check_whole(name, chosen[name], least)
    chosen["seed"] = check_whole("seed", chosen["seed"], 0, 2**32 - 1)
    _check_number("lr", chosen["lr"], 0 < chosen["lr"] <= 1e30, "above 0, at most 1e30")
    _check_number("weight_decay", chosen["weight_decay"], chosen["weight_decay"] >= 0, "at least 0")
    if chosen["ema"] is not None:
        _check_number("ema", chosen["ema"], 0 <= chosen["ema"] < 1, "at least 0 and below 1")
    least_scale, most_scale = chosen["scales"]
    if not 0 < least_scale <= most_scale < math.inf:
        raise ValueError(f"scales must be above 0 and in order, got {least_scale} and {most_scale}")
    if chosen["micro_batch"] is not None:
        chosen["micro_batch"] = check_whole("micro_batch", chosen["micro_batch"], 2)
    count = rank_and_count()[1]
    for rank in range(count):
        places = share(chosen["batch_size"], rank, count)
        if min(map(len, passes(places, chosen["micro_batch"])), default=0) < 2:
            raise ValueError(
                "batch norm needs at least 2 images in each pass, which "
                f"batch_size = {chosen['batch_size']} with micro_batch = {chosen['micro_batch']} "
                f"and {count} process{'es' * (count > 1)} does not leave"
            )


def _check_number(name: str, value: float, fits: bool, expected: str) -> None:
    if not (fits and math.isfinite(value)):
        raise ValueError(f"{name} must be finite and {expected}, got {value}")


def pick_dtype(dtype: str | None, device: str) -> str:
    if dtype is None:
        return "float16" if device == "cuda" else "float32"
    check_choice("dtype", dtype, DTYPES)
    if dtype == "float16" and device != "cuda":
        raise ValueError(f"dtype must be float32 or bfloat16 on {device}, got 'float16', which needs cuda")
    return dtype


def origin(weights: str | os.PathLike[str] | None) -> Any:
    """What tells weights from others, as plain JSON values; OSError where the file cannot be read."""
    if weights is None or weights == "none":
        return weights or "published"
    return {"file": Path(weights).name, "sha256": checkpoints.digest(weights)}


def _network(
    settings: dict[str, Any], weights: str | os.PathLike[str] | None, device: torch.device
) -> SegmentationNetwork:
    """The network of a training; what is drawn at random is drawn by its seed, and the caller's generators stay."""
    torch = torch_module()
    with torch.random.fork_rng([]):
        torch.manual_seed(settings["seed"])
        network = build(
            settings["architecture"],
            settings["backbone"],
            settings["n_classes"],
            weights=weights,
            output_stride=settings["output_stride"],
            frozen_layers=settings["frozen_layers"],
        )
    multiple = network.encoder.multiple
    if settings["crop"] % multiple:
        raise ValueError(
            f"crop must be a multiple of {settings['backbone']}'s patch size {multiple}, got {settings['crop']}"
        )
    return network.to(device).to(memory_format=torch.channels_last)
