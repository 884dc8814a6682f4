"""Several processes that do one run together, as ``torchrun`` starts them (ADR 0014).

Every process runs the same program on the same data. What can be divided is divided (windows of a pass, items of a
batch), and brought together in the order of the processes, so that all of them know the same to the bit. A process that
is alone does all of it by itself: nothing here does anything then.

    RANK, WORLD_SIZE          which process, of how many
    LOCAL_RANK                which one on this host, and so which GPU is its own
    LOCAL_WORLD_SIZE          how many there are on this host
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mobilequant.errors import ResourceError, UsageError

if TYPE_CHECKING:
    import torch

Value = TypeVar("Value")
Items = TypeVar("Items", bound="Sequence[Any] | torch.Tensor")

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_PATIENCE = timedelta(days=1)  # one process solves or writes while the others wait; torchrun ends them if it dies
_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the other processes of the run where there are any; gives the device of this process, "cuda:1" of "cuda".

    Raises:
        UsageError: the host has fewer GPUs than processes, or a single GPU is named for all of them.
    """
    if any(name not in os.environ for name in _VARIABLES) or world_size() > 1:
        yield device
        return
    import torch.distributed as dist

    own = _own_device(device)
    dist.init_process_group(_BACKENDS[device], timeout=_PATIENCE)
    yield own  # after an error the process ends, and torchrun ends the others: nobody is left to say goodbye to
    dist.barrier()  # nobody leaves while another still talks to it: gloo's threads would take that for a crash
    dist.destroy_process_group()


def rank() -> int:
    """Which process this is; 0 is the one that writes and speaks."""
    return sys.modules["torch"].distributed.get_rank() if _together() else 0


def world_size() -> int:
    """How many processes do the run."""
    return sys.modules["torch"].distributed.get_world_size() if _together() else 1


def processes_here() -> int:
    """How many of them share this host."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if _together() else 1


@contextmanager
def first_ahead() -> Iterator[None]:
    """The body runs in the first process, then in the others: these find in the cache what it has left there."""
    if rank() > 0:
        same(None)
    yield
    if rank() == 0:
        same(None)


def require_divisible(batch: int, name: str) -> None:
    """Refuse a training called ``name`` whose batches cannot be cut into equal parts, one for each process.

    Raises:
        UsageError: with the numbers.
    """
    processes = world_size()
    if batch % processes:
        raise UsageError(
            f"{name}: {processes} processes cannot divide a batch of {batch} evenly",
            f"Set the batch of the method to a multiple of {processes}, or start as many processes as divide {batch}.",
        )


def share(items: Items) -> Items:
    """The part of this process: consecutive items; none, where there are fewer items than processes."""
    first, last = (len(items) * place // world_size() for place in (rank(), rank() + 1))
    return cast("Items", items[first:last])


def average(tensors: Sequence[torch.Tensor]) -> None:
    """Give float32 tensors, in place, the mean over all processes: one reduction for all of them."""
    if world_size() == 1:
        return
    import torch

    with torch.no_grad():
        flat = torch.cat([each.flatten() for each in tensors])
        with _explained():
            torch.distributed.all_reduce(flat)
        flat /= world_size()
        for each, mean in zip(tensors, flat.split([each.numel() for each in tensors]), strict=True):
            each.copy_(mean.view_as(each))


def same(value: Value) -> Value:
    """The value of the first process, whatever the others have. All wait for it."""
    return value if world_size() == 1 else _told(value, 0)


def from_each(value: Value) -> Iterator[Value]:
    """The values of all processes in their order; must be taken to the end by all of them."""
    if world_size() == 1:
        yield value
        return
    for source in range(world_size()):
        yield _told(value, source)


def _together() -> bool:
    """Whether a group was joined; who has not loaded torch has joined none."""
    dist = getattr(sys.modules.get("torch"), "distributed", None)
    return dist is not None and dist.is_available() and dist.is_initialized()


def _own_device(device: str) -> str:
    if device not in _BACKENDS:
        raise UsageError(
            f"the device {device!r} cannot be shared by several processes", "Use --device cuda, or --device cpu."
        )
    if device == "cpu":
        return device
    import torch

    place, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if place >= count:
        raise UsageError(
            f"process {place} of this host has no GPU: there are {count}", f"Use torchrun --nproc-per-node {count}."
        )
    torch.cuda.set_device(place)  # kernels and graphs go to the current device
    return f"{device}:{place}"


def _told(value: Value, source: int) -> Value:
    """The value of one process, its tensors on the device of this one where they are on a GPU there."""
    import torch
    from torch import distributed as dist

    own = rank() == source
    packed = _packed(value) if own else b""
    with _explained():
        length = torch.tensor([len(packed)])
        dist.broadcast(length, source)
        content = torch.empty(int(length), dtype=torch.uint8)
        if own:
            content.copy_(torch.frombuffer(bytearray(packed), dtype=torch.uint8))
        dist.broadcast(content, source)
    return value if own else _unpacked(content)


def _packed(value: Any) -> bytes:
    import torch

    buffer = BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _unpacked(content: torch.Tensor) -> Any:
    """What another process of this very run has packed: no stranger's file, so that any object may be in it."""
    import torch

    return torch.load(BytesIO(content.numpy().tobytes()), map_location=_here, weights_only=False)


def _here(storage: Any, location: str) -> Any:
    """What lay on any GPU goes to the own one."""
    return storage if location == "cpu" else storage.cuda()


@contextmanager
def _explained() -> Iterator[None]:
    """A partner that is gone is no riddle but the consequence of an error that it has told."""
    try:
        yield
    except RuntimeError as error:
        raise ResourceError(
            "another process of this run has ended, or cannot be reached",
            "Look at what that process says; then continue with --resume.",
        ) from error
