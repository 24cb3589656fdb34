"""What a network costs: parameters, multiply-accumulates, memory and time on the CPU, as PyTorch
computes it and as ONNX Runtime does; of a network of volumes, for one window.

Each measurement runs in a process of its own (``python -m medseg.benchmark.efficiency PROBE JOB``),
so that none sees what another left behind.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from medseg.engine.average import WeightAverage
from medseg.engine.memory import Forecast, forecast_memory, free_memory
from medseg.engine.plan import plan_batch_size
from medseg.engine.volume_plan import BATCH
from medseg.errors import MedsegError, ModelError
from medseg.methods.supervised import Supervised
from medseg.models import create_model
from medseg.nn.blocks import count_parameters
from medseg.recipe import Recipe

WARM_UP = 3
"""Inferences before the timed ones."""

NEEDS_EXPORT = "needs medseg[export]"
"""Why nothing is known of ONNX Runtime where it, or what exports to it, is not installed."""

_ENOUGH_CASES = 10_000


def _attention(query: Any, key: Any, value: Any, *others: Any, **named: Any) -> int:
    del others, named
    count: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return count


# PyTorch's counter knows attention's kernels for GPUs only.
_CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """What a network costs at an image size, in fp32 on the CPU.

    Memory is what a process has at its peak beyond what it had before the network was built, with
    Python and PyTorch loaded and used once.

    Attributes:
        system: name, or path of a Python file.
        image_size: pixels a side; of a network of volumes, the longest of the window.
        channels: of the image.
        classes: logit channels.
        parameters: that are trained.
        macs: multiply-accumulates of one image: convolutions, matrix products and attention;
            norms, activations, pooling and resizing are not counted.
        inference_peak_mb: of one image, in 10^6 bytes; None where the system does not tell.
        training_peak_mb: of a step on ``batch_size`` images with optimizer and weight average.
        training_forecast_mb: of the same, as `medseg data plan` forecasts it without training;
            None when the network needs real images to be tried.
        batch_size: images of the training step: what `medseg train` takes for this size on a CPU.
        latency_ms_median: of one inference of one image.
        latency_ms_iqr: third less first quartile.
        runs: inferences timed.
        threads: of PyTorch, and of ONNX Runtime.
        onnx_latency_ms_median: of one inference of one image by ONNX Runtime, the network exported
            for this size; None where that could not be measured.
        onnx_latency_ms_iqr: likewise.
        onnx_note: why that could not be measured, or empty.
        patch: of a network of volumes: slices, rows and columns of the window that takes the place
            of the image; else None.
    """

    system: str
    image_size: int
    channels: int
    classes: int
    parameters: int
    macs: int
    inference_peak_mb: float | None
    training_peak_mb: float | None
    training_forecast_mb: float | None
    batch_size: int
    latency_ms_median: float
    latency_ms_iqr: float
    runs: int
    threads: int
    onnx_latency_ms_median: float | None = None
    onnx_latency_ms_iqr: float | None = None
    onnx_note: str = ""
    patch: tuple[int, int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers and text, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a probe is to measure; the attributes are those of :class:`Efficiency`."""

    system: str
    image_size: int
    channels: int
    classes: int
    batch_size: int
    runs: int
    options: Mapping[str, Any] = field(default_factory=dict)
    patch: tuple[int, int, int] | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """Of the image or window."""
        return self.patch or (self.image_size, self.image_size)

    def network(self) -> nn.Module:
        """A fresh network, laid out in memory as training and prediction have it."""
        network = create_model(
            self.system, in_channels=self.channels, num_classes=self.classes, **self.options
        )
        return network if self.patch else _channels_last(network)

    def images(self, count: int) -> Tensor:
        """``(count, channels, *size)`` of noise."""
        noise = torch.randn(count, self.channels, *self.size)
        return noise if self.patch else noise.contiguous(memory_format=torch.channels_last)


def measure(
    system: str,
    *,
    image_size: int = 256,
    channels: int = 3,
    classes: int = 1,
    options: Mapping[str, Any] | None = None,
    runs: int = 20,
    patch: Sequence[int] | None = None,
) -> Efficiency:
    """Measure what a network costs on this machine's CPU.

    Args:
        system: a system (``medseg systems list``) or the path of a Python file with one network.
        image_size: pixels a side.
        channels: of the image.
        classes: logit channels.
        options: of the network; JSON values.
        runs: inferences to time, at least 2; three are made before, untimed.
        patch: of a network of volumes: slices, rows and columns of its window.

    Raises:
        RecipeError: unknown system or option.
        MedsegError: too little memory, or the network fails at this size.
    """
    if image_size < 1:
        raise MedsegError("image size", f"{image_size} pixels", "Take 1 or more")
    if runs < 2:
        raise MedsegError("runs", f"{runs} give no median with a spread", "Take 2 or more")
    window = None
    if patch is not None:
        window = (patch[0], patch[1], patch[2])
    batch_size = BATCH if window else plan_batch_size(_ENOUGH_CASES, image_size, "cpu")
    job = Job(
        system=system,
        image_size=image_size,
        channels=channels,
        classes=classes,
        batch_size=batch_size,
        runs=runs,
        options=dict(options or {}),
        patch=window,
    )
    parameters = count_parameters(job.network())
    forecast = _forecast(job)
    _refuse_what_does_not_fit(job, forecast)
    inference, training = (_probe(name, job)["megabytes"] for name in ("inference", "training"))
    return Efficiency(
        system=system,
        image_size=image_size,
        channels=channels,
        classes=classes,
        parameters=parameters,
        inference_peak_mb=inference,
        training_peak_mb=training,
        training_forecast_mb=None if forecast is None else _megabytes(_beyond_program(forecast)),
        batch_size=batch_size,
        runs=runs,
        patch=window,
        **_probe("latency", job),
        **_onnx(job),
    )


def can_export() -> bool:
    """Whether all is installed that a network's latency in ONNX Runtime is measured with."""
    return all(find_spec(name) is not None for name in ("onnx", "onnxscript", "onnxruntime"))


def count_macs(network: nn.Module, image: Tensor) -> int:
    """Multiply-accumulates of ``network(image)``: convolutions, matrix products and attention.

    PyTorch's counter gives floating-point operations, two for each multiply-accumulate. Zeros of
    the padding are multiplied too; biases, norms, activations, pooling and resizing do not count.

    Args:
        network: in the mode that is to be counted.
        image: ``(B, C, H, W)``, or of volumes ``(B, C, D, H, W)``.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION)
    with torch.no_grad(), counter:
        network(image)
    return int(counter.get_total_flops()) // 2


def _onnx(job: Job) -> dict[str, Any]:
    if not can_export():
        return {"onnx_note": NEEDS_EXPORT}
    try:
        return _probe("onnx", job)
    except MedsegError as error:
        return {"onnx_note": error.found}


def _forecast(job: Job) -> Forecast | None:
    try:
        return forecast_memory(
            Supervised(job.network(), Recipe()),
            image_size=job.patch or job.image_size,
            channels=job.channels,
            batch_size=job.batch_size,
            precision="fp32",
            device="cpu",
        )
    except Exception:
        # A network may ask for the content of tensors, of which the forecast has none.
        return None


def _shown(job: Job) -> str:
    return f"{' x '.join(map(str, job.patch))} voxels" if job.patch else f"{job.image_size} px"


def _beyond_program(forecast: Forecast) -> int:
    return forecast.total - forecast.program


def _refuse_what_does_not_fit(job: Job, forecast: Forecast | None) -> None:
    free = free_memory(torch.device("cpu"))
    if forecast is not None and free is not None and forecast.total > free:
        raise MedsegError(
            "memory",
            f"a training step of {job.system} at {_shown(job)} takes "
            f"{forecast.total / 1e9:.1f} GB (forecast), and {free / 1e9:.1f} GB are free",
            "Take a smaller image size or system",
        )


def _probe(name: str, job: Job) -> dict[str, Any]:
    """What the probe ``name`` finds in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, name, json.dumps(asdict(job))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        reason = said[-1] if said and done.returncode > 0 else f"status {done.returncode}"
        raise MedsegError(
            f"{job.system} at {_shown(job)}",
            f"measuring its {name} failed ({reason})",
            "Take another image size; where memory is short, a smaller one",
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def latency(job: Job) -> dict[str, Any]:
    """Time inferences of one image; the first of the warm-up counts the multiply-accumulates."""
    network, image = job.network().eval(), job.images(1)
    macs = count_macs(network, image)
    with torch.inference_mode():
        median, spread = _timed(lambda: network(image), job.runs)
    return {
        "macs": macs,
        "latency_ms_median": median,
        "latency_ms_iqr": spread,
        "threads": torch.get_num_threads(),
    }


def onnx(job: Job) -> dict[str, Any]:
    """Time inferences of one image by ONNX Runtime, on as many threads as PyTorch has."""
    from medseg.export.graph import network_to_onnx
    from medseg.inference.runtime import IMAGE, open_session

    image = job.images(1).contiguous()
    network: nn.Module = job.network().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    try:
        graph = network_to_onnx(network, image)
    except ModelError as error:
        return {"onnx_note": error.found}
    session = open_session(graph, threads=torch.get_num_threads())
    pixels = {IMAGE: image.numpy()}
    median, spread = _timed(lambda: session.run(None, pixels), job.runs)
    return {"onnx_latency_ms_median": median, "onnx_latency_ms_iqr": spread}


def _timed(predict: Callable[[], object], runs: int) -> tuple[float, float]:
    """Median and interquartile range in ms, of ``runs`` after the warm-up."""
    times = []
    for _ in range(WARM_UP + runs):
        begun = time.perf_counter()
        predict()
        times.append(1000 * (time.perf_counter() - begun))
    first, median, third = statistics.quantiles(times[WARM_UP:], n=4, method="inclusive")
    return median, third - first


def inference(job: Job) -> dict[str, Any]:
    """Peak memory of a network that predicts one image."""

    def predict(network: nn.Module, images: Tensor) -> None:
        with torch.inference_mode():
            network.eval()(images)

    def work() -> None:
        predict(job.network(), job.images(1))

    small = torch.randn(1, 8, 8, 8)
    return {"megabytes": _peak(work, lambda: predict(_small_network(), small))}


def training(job: Job) -> dict[str, Any]:
    """Peak memory of steps of supervised training: losses, gradients, optimizer, average."""

    def train(network: nn.Module, images: Tensor, classes: int) -> None:
        method = Supervised(network, Recipe()).train()
        average, optimizer = WeightAverage(network, 0.0), method.make_optimizer()
        shape = (images.shape[0], *images.shape[2:])
        mask = torch.randint(max(2, classes), shape, dtype=torch.uint8)
        names = [str(number) for number in range(len(images))]
        # Only the second step finds the optimizer's moments in memory, as all later ones do.
        for _ in range(2):
            optimizer.zero_grad()
            losses = method({"image": images, "mask": mask, "case_id": names})
            torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            average.update(network)

    def work() -> None:
        train(job.network(), job.images(job.batch_size), job.classes)

    small = torch.randn(2, 8, 8, 8)
    return {"megabytes": _peak(work, lambda: train(_small_network(), small, 1))}


def _peak(work: Callable[[], None], rehearsal: Callable[[], None]) -> float | None:
    """Megabytes that ``work`` takes at its peak; what the rehearsal loads is there before."""
    rehearsal()
    # Linux lets a process forget its high-water mark; elsewhere imports may hide the first MB.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _high_water()
    work()
    after = _high_water()
    return None if before is None or after is None else _megabytes(after - before)


def _high_water() -> int | None:
    """Bytes of the largest resident set that this process has had, or None where nobody tells."""
    with suppress(OSError):
        # Not getrusage: after a fork it also remembers the parent's.
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        for line in lines:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _small_network() -> nn.Module:
    return _channels_last(nn.Sequential(nn.BatchNorm2d(8), nn.Conv2d(8, 1, 3, padding=1)))


def _channels_last(network: nn.Module) -> nn.Module:
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _megabytes(size: int) -> float:
    return round(size / 1e6, 1)


_PROBES = {"latency": latency, "onnx": onnx, "inference": inference, "training": training}

if __name__ == "__main__":
    print(json.dumps(_PROBES[sys.argv[1]](Job(**json.loads(sys.argv[2])))))
