"""The steps of a training, from its start or its last checkpoint to its end."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepspec._ranks import Ranks, joined, share
from deepspec.checks import check_whole
from deepspec.datasets import VOID
from deepspec.networks import torch_module
from deepspec.outputs import OutputError
from deepspec.segmenters import Segmenter
from deepspec.training_data import Batch, LabelledImage, Sampling, batches
from deepspec.training_evaluation import TruthScore
from deepspec.training_folder import Record, TrainingFolder

if TYPE_CHECKING:
    import torch

    from deepspec._deeplab import SegmentationNetwork

OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW"}  # names of torch's
SCHEDULES = ("constant", "linear")
DTYPES = ("float32", "float16", "bfloat16")


class TrainingError(RuntimeError):
    """A training cannot go on. What it saved last is whole, and the same call goes on from there."""


class DivergedError(TrainingError):
    """The loss, or a weight, is no longer finite.

    Attributes
    ----------
    step : int
        In which this was seen, counted from 1.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


@dataclass(frozen=True)
class Rhythm:
    """Steps from one checkpoint, line of the log and evaluation to the next, and the threads that read images.

    Raises
    ------
    ValueError
        One of them is below 1.
    """

    checkpoint_every: int = 200
    log_every: int = 1
    evaluate_every: int | None = None
    workers: int = 4

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None:
                check_whole(name, value, 1)


def passes(places: range, micro_batch: int | None) -> list[range]:
    """The places of a batch in as few parts of at most `micro_batch` as there can be, all nearly equal."""
    count = math.ceil(len(places) / (micro_batch or max(1, len(places))))
    return [share(len(places), part, count) for part in range(count)]


def add_gradients(
    network: torch.nn.Module,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    n_valid: float,
    *,
    micro_batch: int | None = None,
    dtype: str = "float32",
    scale: Callable[[Any], Any] = lambda loss: loss,
    apart: Callable[[], Any] = nullcontext,
) -> float:
    """Add a batch's gradients to those of the network's parameters, in passes of a few images.

    Parameters
    ----------
    network : module
        (n, H, W, 3) uint8 → logits (n, n_classes, H, W).
    images : (n, H, W, 3) uint8
    labels : (n, H, W) uint8
        `VOID` where there is none.
    n_valid : float
        What the sum of the cross entropy over the pixels is divided by: how many pixels of the WHOLE batch have a
        label, so that parts of it add up, whatever is ignored in each.
    micro_batch : int, optional
        Images in a pass, at most.
    dtype : {"float32", "float16", "bfloat16"}
        Of autocast, where it is not float32.
    scale : callable
        Of the loss, before gradients are computed.
    apart : callable
        A context in which all passes but the last are computed.

    Returns
    -------
    float
        The loss, not scaled.
    """
    torch = torch_module()
    device = next(network.parameters()).device
    parts = passes(range(len(images)), micro_batch)
    total = torch.zeros((), device=device)
    for part in parts:
        inputs, targets = (
            torch.from_numpy(array[part.start : part.stop]).to(device) for array in (images, labels)
        )
        with apart() if part is not parts[-1] else nullcontext():
            with autocast(device.type, dtype):
                logits = network(inputs)
            loss: Any = torch.nn.functional.cross_entropy(
                logits.float(), targets.long(), ignore_index=VOID, reduction="sum"
            ) / max(1.0, n_valid)
            scale(loss).backward()
        total += loss.detach()
    return float(total)


def autocast(device: str, dtype: str) -> Any:
    torch = torch_module()
    return nullcontext() if dtype == "float32" else torch.autocast(device, getattr(torch, dtype))


class Loop:
    """A training, ready to run once.

    Parameters
    ----------
    folder : TrainingFolder
        With the settings.
    network : SegmentationNetwork
        On the device; its weights are those to begin with where there is no checkpoint.
    examples : sequence of LabelledImage
    evaluation : TruthScore or None
    device : torch.device
    rhythm : Rhythm
    """

    def __init__(
        self,
        folder: TrainingFolder,
        network: SegmentationNetwork,
        examples: Sequence[LabelledImage],
        evaluation: TruthScore | None,
        device: torch.device,
        rhythm: Rhythm,
    ) -> None:
        self._folder = folder
        self._settings = settings = folder.settings
        self._network = network
        self._examples = examples
        self._evaluation = evaluation
        self._device = device
        self._rhythm = rhythm
        self._fill = tuple(round(255 * value) for value in network.mean.flatten().tolist())
        torch = torch_module()
        self._optimizer = getattr(torch.optim, OPTIMIZERS[settings["optimizer"]])(
            [parameter for parameter in network.parameters() if parameter.requires_grad],
            lr=settings["lr"],
            weight_decay=settings["weight_decay"],
        )
        self._scaler = torch.amp.GradScaler(device.type, enabled=settings["dtype"] == "float16")
        self._ema = None
        if settings["ema"] is not None:
            swa = torch.optim.swa_utils
            averaging = swa.get_ema_multi_avg_fn(settings["ema"])
            self._ema = swa.AveragedModel(network, multi_avg_fn=averaging, use_buffers=True)
        self._step = 0  # done so far
        self._saved = 0
        self._last: Record = {}

    def run(self, overwrite: bool, follow: Callable[[Record], None] | None) -> Record:
        """Train to the end, and return the last line of the log. Errors as `deepspec.training.train` says."""
        torch = torch_module()
        cuda = [self._device] if self._device.type == "cuda" else []
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(cuda))
            interrupted = stack.enter_context(_interruptions())
            ranks = stack.enter_context(joined(self._device))
            if ranks.rank == 0:
                stack.enter_context(self._folder.opened(overwrite=overwrite))
            ranks.wait()
            self._resume()
            if ranks.rank == 0:
                self._folder.go_on_from(self._step)
            try:
                self._train(ranks, interrupted, follow)
            except torch.OutOfMemoryError as error:
                reason = str(error).partition(". ")[0]
                raise MemoryError(f"{self._device}: {reason}: try a smaller micro_batch") from error
            except OutputError:
                raise
            except OSError as error:
                raise TrainingError(str(error)) from error
            ranks.wait()
        return self._last

    def _resume(self) -> None:
        content = self._folder.read()
        if content is None:
            return
        self._network.load_state_dict(content["network"])
        self._optimizer.load_state_dict(content["optimizer"])
        self._scaler.load_state_dict(content["scaler"])
        if self._ema is not None:
            self._ema.load_state_dict(content["ema"])
        self._step = self._saved = content["step"]
        self._last = content["last"]

    def _train(
        self, ranks: Ranks, interrupted: Callable[[], bool], follow: Callable[[Record], None] | None
    ) -> None:
        settings, rhythm = self._settings, self._rhythm
        size, steps = settings["batch_size"], settings["steps"]
        if self._step == steps:
            if ranks.rank == 0:
                self._last |= self._evaluated(is_last=True)
            return
        sampling = Sampling(size, settings["crop"], tuple(settings["scales"]), settings["seed"], self._fill)
        places = share(size, ranks.rank, ranks.count)
        network = ranks.wrap(self._network.train())
        todo = range(self._step, steps)
        with closing(batches(self._examples, sampling, todo, places, workers=rhythm.workers)) as stream:
            started = time.perf_counter()
            for batch in stream:
                loss, stop = self._take_step(network, batch, ranks, interrupted)
                is_last = self._step == steps
                self._last = {
                    "step": self._step,
                    "loss": loss,
                    "lr": self._rate(self._step - 1),
                    "images_per_second": round(size / (time.perf_counter() - started), 2),
                }
                if ranks.rank == 0:
                    self._last |= self._evaluated(is_last)
                    if is_last or "miou" in self._last or self._step % rhythm.log_every == 0:
                        self._folder.add(self._last)
                if is_last or stop or self._step % rhythm.checkpoint_every == 0:
                    self._save(ranks)
                if follow is not None and ranks.rank == 0:
                    follow({**self._last, "steps": steps})
                if stop and not is_last:
                    raise KeyboardInterrupt
                started = time.perf_counter()

    def _take_step(
        self, network: torch.nn.Module, batch: Batch, ranks: Ranks, interrupted: Callable[[], bool]
    ) -> tuple[float, bool]:
        """The loss, and whether a process was interrupted."""
        settings, step = self._settings, self._step
        pixels, labels = batch
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate(step)
        # Of dropout: every step has a seed of its own, so that one can begin anywhere.
        seeds = np.random.SeedSequence([settings["seed"], step, ranks.rank])
        torch_module().manual_seed(int(seeds.generate_state(1)[0]))
        (n_valid,) = ranks.total(float(np.count_nonzero(labels != VOID)))
        loss = add_gradients(
            network,
            pixels,
            labels,
            n_valid,
            micro_batch=settings["micro_batch"],
            dtype=settings["dtype"],
            # What is averaged over the processes is to be a sum.
            scale=lambda loss: self._scaler.scale(loss * ranks.count),
            apart=lambda: ranks.apart(network),
        )
        loss, n_interrupted = ranks.total(loss, interrupted())
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss}", step + 1)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        if self._ema is not None:
            self._ema.update_parameters(self._network)
        self._step += 1
        return loss, n_interrupted > 0

    def _rate(self, step: int) -> float:
        lr: float = self._settings["lr"]
        return lr * (1 - step / self._settings["steps"]) if self._settings["schedule"] == "linear" else lr

    def _evaluated(self, is_last: bool) -> Record:
        """What a line of the log says of the ground truth, where it is time for that."""
        every = self._rhythm.evaluate_every
        if self._evaluation is None or not (is_last or (every and self._step % every == 0)):
            return {}
        network: Any = self._network if self._ema is None else self._ema.module
        found: Record = {"miou": self._evaluation(Segmenter(network, self._settings))}
        if self._evaluation.pseudo_labels_miou is not None:
            found["pseudo_labels_miou"] = self._evaluation.pseudo_labels_miou
        return found

    def _save(self, ranks: Ranks) -> None:
        torch = torch_module()
        state = self._network.state_dict()
        is_finite = all(bool(torch.isfinite(value).all()) for value in state.values())
        if ranks.total(not is_finite) != (0,):
            raise self._diverged("a weight is not finite", self._step)
        if ranks.rank == 0:
            self._folder.save(
                {
                    "step": self._step,
                    "network": state,
                    "optimizer": self._optimizer.state_dict(),
                    "scaler": self._scaler.state_dict(),
                    "ema": None if self._ema is None else self._ema.state_dict(),
                    "last": self._last,
                }
            )
        self._saved = self._step

    def _diverged(self, reason: str, step: int) -> DivergedError:
        kept = (
            f"the checkpoint of step {self._saved} is kept" if self._saved else "there is no checkpoint yet"
        )
        return DivergedError(
            f"{reason} in step {step} of {self._settings['steps']}, {kept} in {self._folder.folder}: "
            "a lower learning rate may help",
            step,
        )


@contextmanager
def _interruptions() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, or SIGTERM came, which is what torchrun makes of it: a step is ended first.

    Pressed again, Ctrl-C interrupts at once.
    """
    asked = threading.Event()

    def ask(number: int, _: Any) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    # Signals are the main thread's.
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    earlier = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
