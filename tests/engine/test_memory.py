from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from data.builders import squares
from medseg.engine import memory
from medseg.engine.memory import OVERHEAD, PROGRAM, Forecast, forecast_memory, free_memory
from medseg.methods.supervised import Supervised
from medseg.models import create_model
from medseg.recipe import Recipe

LINUX = pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="reads /proc")


class Squares(nn.Module):
    """A convolution and squares, each of which keeps its input for the backward pass."""

    def __init__(self, width: int = 16, depth: int = 1) -> None:
        super().__init__()
        self.widen = nn.Conv2d(3, width, 1, bias=False)
        self.narrow = nn.Conv2d(width, 1, 1, bias=False)
        self.depth = depth

    def forward(self, image: Tensor) -> Tensor:
        x = self.widen(image)
        for _ in range(self.depth):
            x = x.square()
        out: Tensor = self.narrow(x)
        return out


def forecast(
    network: nn.Module, size: int, batch: int, *, precision: str = "fp32", device: str = "cpu"
) -> Forecast:
    return forecast_memory(
        Supervised(network, Recipe()), image_size=size, channels=3, batch_size=batch,
        precision=precision, device=device,
    )  # fmt: skip


def test_weights_are_counted_with_their_average_and_two_moments() -> None:
    found = forecast(nn.Conv2d(3, 1, 1, bias=False), 32, 1)
    bytes_of_weights = 3 * 4
    counters = 4
    assert found.weights == 4 * bytes_of_weights + counters


def test_an_operation_costs_what_it_keeps_for_the_backward_pass() -> None:
    size, batch, width = 64, 4, 16
    less, more = (
        forecast(Squares(width, depth), size, batch, device="cuda").step for depth in (2, 5)
    )
    assert more - less == 3 * batch * width * size**2 * 4


@settings(deadline=None, max_examples=15)
@given(size=st.integers(8, 64), batch=st.integers(1, 6), more=st.integers(1, 16))
def test_a_larger_batch_or_image_never_takes_less(size: int, batch: int, more: int) -> None:
    base = forecast(Squares(), size, batch).total
    assert forecast(Squares(), size + more, batch).total >= base
    assert forecast(Squares(), size, batch + more).total >= base


def test_a_cpu_adds_the_program_and_what_its_allocator_wastes() -> None:
    on_gpu, on_cpu = (forecast(Squares(64), 128, 4, device=name) for name in ("cuda", "cpu"))
    assert on_gpu.program == 0
    assert on_cpu.program == PROGRAM
    assert on_cpu.step == round(OVERHEAD * on_gpu.step)


def test_a_large_network_on_small_images_needs_most_for_its_checkpoint() -> None:
    found = forecast(nn.Conv2d(3, 1, 301, padding=150), 32, 1)
    assert found.step == found.weights


def test_half_precision_halves_the_activations() -> None:
    full, half = (
        forecast(create_model("unet-narrow"), 64, 4, precision=name, device="cuda").step
        for name in ("fp32", "bf16")
    )
    assert 0.45 * full < half < 0.65 * full


def test_nothing_is_computed_for_a_forecast_that_no_machine_could_hold() -> None:
    assert forecast(create_model("med2d-segnet"), 4096, 64).total > 1e12


@LINUX
@pytest.mark.slow
def test_a_forecast_is_within_a_quarter_of_the_peak_of_a_training(tmp_path: Path) -> None:
    data, run = squares(tmp_path / "data", 16), tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "medseg", "train", str(data), "-o", str(run), "--epochs", "1",
         "--image-size", "128", "--batch-size", "3", "--device", "cpu"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    found = json.loads((run / "plan.json").read_text())["memory"]["forecast_gb"]
    assert found == pytest.approx(usage.ru_maxrss * 1024 / 1e9, rel=0.25)


def linux(folder: Path, *, available: int, pages: int = 0, **files: str) -> int | None:
    """What is read from a made-up /proc and /sys/fs/cgroup."""
    (folder / "self").mkdir(parents=True)
    (folder / "meminfo").write_text(f"MemTotal: 9999 kB\nMemAvailable: {available} kB\n")
    (folder / "self" / "statm").write_text(f"999 {pages} 1")
    (folder / "memory").mkdir()
    for name, text in files.items():
        (folder / name.replace("__", "/").replace("_", ".", 1)).write_text(text)
    return memory._available_on_linux(folder, folder)


@LINUX
def test_what_the_process_has_already_counts_as_free(tmp_path: Path) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    assert linux(tmp_path, available=1000, pages=3) == 1000 * 1024 + 3 * page


@LINUX
def test_a_container_grants_no_more_than_its_limit(tmp_path: Path) -> None:
    found = linux(
        tmp_path, available=10_000, memory_max="5000000\n", memory_current="4000000\n",
        memory_stat="anon 1\ninactive_file 500000\n",
    )  # fmt: skip
    assert found == 1_500_000


@LINUX
def test_a_container_without_a_limit_grants_what_the_machine_has(tmp_path: Path) -> None:
    found = linux(tmp_path, available=10_000, memory_max="max\n", memory_current="4000000\n")
    assert found == 10_000 * 1024


@LINUX
def test_a_system_that_tells_nothing_is_not_guessed(tmp_path: Path) -> None:
    assert memory._available_on_linux(tmp_path, tmp_path) is None


@LINUX
def test_processes_of_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_available_on_linux", lambda proc, cgroup: 1000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_memory(torch.device("cpu")) == 250
