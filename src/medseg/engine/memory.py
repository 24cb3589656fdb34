"""How much memory a training will take, and how much there is."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medseg.engine.average import WeightAverage

if TYPE_CHECKING:
    from medseg.methods.method import Method

PROGRAM = 430_000_000
"""Bytes of Python, PyTorch and medseg itself on a CPU, once a training step has run; measured on
Linux with PyTorch 2.13 (benchmarks/plan_memory.py)."""

OVERHEAD = 1.5
"""Resident memory over bytes of live tensors in a training step on a CPU: scratch space of
convolutions, and the gaps between blocks that the C library keeps. Measured where activations
dominate (benchmarks/plan_memory.py): 1.2 to 1.5 for plain convolutions, 1.4 to 1.7 for depthwise
ones."""

MARGIN = 1.25
"""Forecasts are within a quarter of what was measured, so a plan keeps this much room."""

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Forecast:
    """Bytes that a process needs at the peak of a training.

    Attributes:
        program: Python and its libraries; 0 on a GPU, where they do not count.
        weights: the weights, their average, and what the optimizer keeps.
        step: activations, gradients and scratch space of a step, or copies of the weights while
            a checkpoint is written, whichever is larger.
    """

    program: int
    weights: int
    step: int

    @property
    def total(self) -> int:
        return self.program + self.weights + self.step


def forecast_memory(
    method: Method,
    *,
    image_size: int | tuple[int, ...],
    channels: int,
    batch_size: int,
    precision: str,
    device: str,
) -> Forecast:
    """Forecast the peak memory of one training process.

    One step of the method is carried out on tensors without content (PyTorch's ``meta`` device),
    while the bytes of all tensors alive are counted. On a CPU, what the program itself takes and
    what is lost between blocks is added, as measured; on a GPU nothing is, and nothing was
    measured.

    Args:
        method: freshly built; it is moved to the ``meta`` device and cannot be used afterwards.
        image_size: pixels a side, or pixels or voxels by axis.
        channels: of the images.
        batch_size: images a step in this process.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: ``cpu``, ``cuda`` or ``mps``.

    Raises:
        Exception: whatever a network raises that asks for the content of tensors.
    """
    sizes = (image_size, image_size) if isinstance(image_size, int) else image_size
    layout = torch.channels_last if len(sizes) == 2 else torch.contiguous_format
    method.to("meta", memory_format=layout)  # type: ignore[call-overload]
    average = WeightAverage(method.network, 0.0)
    weights = _bytes([method, average.network])
    # Autocast does not know the meta device; weights of the lower precision give activations of
    # it, and stand for the copies of the weights that autocast makes.
    method.to(_DTYPES[precision]).train()
    counter = LiveBytes([*method.parameters(), *method.buffers()])
    with counter:
        image = torch.empty(batch_size, channels, *sizes, device="meta")
        image = image.contiguous(memory_format=layout)
        mask = torch.empty(batch_size, *sizes, dtype=torch.uint8, device="meta")
        names = tuple(map(str, range(batch_size)))
        group = torch.empty(batch_size, dtype=torch.int64, device="meta")
        image = image.to(_DTYPES[precision])
        losses = method({"image": image, "mask": mask, "case_id": names, "group": group})
        total = torch.stack(list(losses.values())).sum()
        torch.autograd.backward(total)
    step = counter.peak - counter.at_start
    del losses, total
    weights += _optimizer_bytes(method)
    if device != "cpu":
        return Forecast(0, weights, step)
    # A checkpoint copies all of it; by then the activations are gone.
    return Forecast(PROGRAM, weights, max(round(OVERHEAD * step), weights))


def _optimizer_bytes(method: Method) -> int:
    """What the optimizers keep between steps, in fp32."""
    optimizers = method.float().make_optimizers().values()
    for parameter in method.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    states = [optimizer.state_dict()["state"] for optimizer in optimizers]
    return sum(leaf.nbytes for leaf in tree_leaves(states) if isinstance(leaf, Tensor))


def _bytes(modules: Sequence[torch.nn.Module]) -> int:
    return sum(t.nbytes for module in modules for t in [*module.parameters(), *module.buffers()])


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operations make, until they are freed."""

    def __init__(self, present: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self.sizes: dict[int, int] = {}
        for tensor in present:
            self._see(tensor)
        self.at_start = self.now

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return made

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.now += self.sizes[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key).atexit = False

    def _forget(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)


def free_memory(device: torch.device) -> int | None:
    """Bytes that a training on ``device`` may take, or None where the system does not say.

    On a CPU this is what the system calls available, or what the process's container still
    grants, and what this process has already; processes of one machine share it evenly. On
    systems other than Linux it is half of the machine's memory.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    if sys.platform.startswith("linux"):
        whole = _available_on_linux(Path("/proc"), Path("/sys/fs/cgroup"))
    else:
        whole = _half_of_machine()
    return None if whole is None else whole // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _available_on_linux(proc: Path, cgroup: Path) -> int | None:
    """Available memory and this process's own, bounded by the container's limit (v2, then v1)."""
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        available = next(int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:"))
        own = int((proc / "self" / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    bounds = [available + own]
    for limit, used, statistics in (
        ("memory.max", "memory.current", "memory.stat"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
        ),
    ):
        try:
            granted = int((cgroup / limit).read_text()) - int((cgroup / used).read_text())
            words = (cgroup / statistics).read_text().split()
        except (OSError, ValueError):
            continue
        # Pages of files count as used, but are given up when memory is short.
        cached = dict(zip(words[::2], words[1::2], strict=False)).get("inactive_file", "0")
        bounds.append(granted + int(cached) + own)
    return max(0, min(bounds))


def _half_of_machine() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None
