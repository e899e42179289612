"""The processes of a training: one, or those that `torchrun` started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from deepspec.networks import torch_module

if TYPE_CHECKING:
    import torch


def rank_and_count() -> tuple[int, int]:
    """This process's number and how many there are, as torchrun's environment says."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def local_device(device: torch.device) -> torch.device:
    """Of several processes on a machine each takes its own card."""
    if device.type == "cuda" and rank_and_count()[1] > 1:
        return torch_module().device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Meet the other processes, where there are any: over gloo on the CPU, over NCCL on CUDA.

    Raises
    ------
    RuntimeError
        They do not come.
    """
    rank, count = rank_and_count()
    distributed = torch_module().distributed
    ours = count > 1 and not distributed.is_initialized()
    if ours:
        if device.type == "cuda":
            torch_module().cuda.set_device(device)
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            rank=rank,
            world_size=count,
            # While process 0 evaluates the others wait. Of one that died torchrun tells the others.
            timeout=timedelta(days=1),
        )
    try:
        yield Ranks(rank, count, device)
    finally:
        if ours:
            distributed.destroy_process_group()


class Ranks:
    """What the processes do together; made by `joined`.

    Attributes
    ----------
    rank, count : int
        Process `rank` of `count`; number 0 writes.
    """

    def __init__(self, rank: int, count: int, device: torch.device) -> None:
        self.rank = rank
        self.count = count
        self._device = device

    def total(self, *values: float) -> tuple[float, ...]:
        """Each value, summed over the processes."""
        if self.count == 1:
            return values
        torch = torch_module()
        sums = torch.tensor(values, dtype=torch.float64, device=self._device)
        torch.distributed.all_reduce(sums)
        return tuple(sums.tolist())

    def wait(self) -> None:
        """Until all processes have come here."""
        self.total(0.0)

    def wrap(self, network: torch.nn.Module) -> torch.nn.Module:
        """The network, so that its gradients are averaged over the processes."""
        if self.count == 1:
            return network
        parallel = torch_module().nn.parallel.DistributedDataParallel
        wrapped: torch.nn.Module = parallel(
            network, device_ids=[self._device] if self._device.type == "cuda" else None
        )
        return wrapped

    def apart(self, network: Any) -> Any:
        """While this is open, gradients are added up in each process by itself."""
        return nullcontext() if self.count == 1 else network.no_sync()


def share(batch_size: int, rank: int, count: int) -> range:
    """The places of a batch that a process takes: nearly as many as every other."""
    return range(batch_size * rank // count, batch_size * (rank + 1) // count)
