from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.benchmark import efficiency
from medseg.benchmark.efficiency import Efficiency, Job, count_macs, measure
from medseg.errors import MedsegError, RecipeError
from medseg.inference.runtime import open_session
from medseg.models import create_model

LINUX = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc")

# At 256 px one of its maps of 64 channels takes 16.8 MB, and it needs two at once.
WIDE = """
from torch import nn

class Wide(nn.Module):
    def __init__(self, in_channels=3, num_classes=1):
        super().__init__()
        self.widen = nn.Conv2d(in_channels, 64, 1)
        self.narrow = nn.Conv2d(64, num_classes, 1)

    def forward(self, x):
        return self.narrow(self.widen(x).sigmoid())
"""
BROKEN = WIDE.replace("return", "raise RuntimeError('no size pleases me')\n        return")


class Attend(nn.Module):
    """Scaled dot-product attention of 4 heads of 8 channels, pixels being tokens.

    How they lie in memory decides which of PyTorch's kernels computes it.
    """

    def __init__(self, *, contiguous: bool) -> None:
        super().__init__()
        self.contiguous = contiguous

    def forward(self, image: Tensor) -> Tensor:
        tokens = image.flatten(2).view(1, 4, 8, -1).transpose(2, 3)
        tokens = tokens.contiguous() if self.contiguous else tokens
        return F.scaled_dot_product_attention(tokens, tokens, tokens)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Efficiency:
    file = tmp_path_factory.mktemp("networks") / "wide.py"
    file.write_text(WIDE)
    return measure(str(file), image_size=256, channels=1, classes=2, runs=4)


@pytest.mark.parametrize(
    ("layer", "channels", "macs"),
    [
        (nn.Conv2d(3, 16, 3, padding=1), 3, 3 * 16 * 9 * 64),
        (nn.Conv2d(3, 16, 3, stride=2, padding=1), 3, 3 * 16 * 9 * 16),
        (nn.Conv2d(16, 16, 7, padding=3, groups=16), 16, 16 * 49 * 64),
        (nn.Conv2d(16, 32, 3, padding=2, dilation=2, groups=4), 16, 16 * 32 // 4 * 9 * 64),
        (nn.ConvTranspose2d(16, 8, 2, 2), 16, 16 * 8 * 4 * 64),
        (nn.Linear(8, 5), 3, 8 * 5 * 3 * 8),
        (Attend(contiguous=True), 32, 2 * 4 * 64 * 64 * 8),
        (Attend(contiguous=False), 32, 2 * 4 * 64 * 64 * 8),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2)), 3, 0),
    ],
)
def test_macs_of_a_layer_have_their_closed_form(layer: nn.Module, channels: int, macs: int) -> None:
    assert count_macs(layer.eval(), torch.randn(1, channels, 8, 8)) == macs


@pytest.mark.parametrize("batch", [1, 3])
def test_macs_grow_with_the_batch_and_the_pixels(batch: int) -> None:
    layer = nn.Conv2d(2, 4, 3, padding=1)
    once = count_macs(layer, torch.randn(1, 2, 8, 8))
    assert count_macs(layer, torch.randn(batch, 2, 16, 24)) == 6 * batch * once


def unet_macs(size: int, widths: tuple[int, ...]) -> int:
    """Two 3x3 convolutions a level down and up, a 2x2 up-convolution, a 1x1 head."""
    pixels = [(size >> level) ** 2 for level in range(len(widths))]
    down = zip(pixels, (3, *widths), widths, strict=False)
    total = sum(9 * area * (before * width + width**2) for area, before, width in down)
    for area, shallow, deep in zip(pixels, widths, widths[1:], strict=False):
        total += (area // 4) * 4 * deep * shallow + 9 * area * (2 * shallow + shallow) * shallow
    return total + pixels[0] * widths[0]


def test_macs_of_u_net_have_their_closed_form() -> None:
    with torch.device("meta"):
        macs = count_macs(create_model("unet").eval(), torch.empty(1, 3, 256, 256))
    assert macs == unet_macs(256, (64, 128, 256, 512, 1024)) == 48_167_387_136


def test_macs_of_med2d_segnet_are_the_sum_of_its_layers() -> None:
    widths, depths, size = (24, 32, 64, 128, 256), (1, 1, 2, 2), 256
    total = 27 * widths[0] * size**2
    for level, (i, o, depth) in enumerate(zip(widths, widths[1:], depths, strict=False)):
        full, half = (size >> level) ** 2, (size >> (level + 1)) ** 2
        total += 6 * i * i * full + 6 * i * 49 * half + 6 * i * o * half + i * o * half
        total += (depth - 1) * (2 * 6 * o * o + 6 * o * 49) * half
        total += i * o * half + 2 * 9 * i * i * full
    with torch.device("meta"):
        macs = count_macs(create_model("med2d-segnet").eval(), torch.empty(1, 3, size, size))
    assert macs == total + widths[0] * size**2 == 3_103_457_280


def test_what_was_measured_survives_json(wide: Efficiency) -> None:
    assert Efficiency(**json.loads(json.dumps(wide.to_dict()))) == wide


def test_a_network_in_a_file_is_counted(wide: Efficiency) -> None:
    assert wide.parameters == 2 * 64 + 65 * 2
    assert wide.macs == (64 + 64 * 2) * 256**2
    assert (wide.image_size, wide.channels, wide.classes, wide.runs) == (256, 1, 2, 4)


@LINUX
def test_the_peak_of_a_prediction_is_that_of_two_wide_maps(wide: Efficiency) -> None:
    one_map = 64 * 256**2 * 4 / 1e6
    assert wide.inference_peak_mb is not None
    assert 1.9 * one_map < wide.inference_peak_mb < 3.5 * one_map


@LINUX
def test_the_peak_of_a_training_step_holds_its_whole_batch(wide: Efficiency) -> None:
    one_map = 64 * 256**2 * 4 / 1e6
    assert wide.batch_size == 3
    assert wide.training_peak_mb is not None
    assert wide.training_forecast_mb is not None
    assert 2.9 * 2 * one_map < wide.training_peak_mb < 2 * wide.training_forecast_mb


def test_latency_is_the_median_of_the_runs_after_the_warm_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = [9.0, 9.0, 9.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    ticks = [
        tick
        for number, took in enumerate(seconds)
        for tick in (100.0 * number, 100.0 * number + took)
    ]
    monkeypatch.setattr(efficiency.time, "perf_counter", iter(ticks).__next__)
    job = Job(system="unet-narrow", image_size=16, channels=3, classes=1, batch_size=1, runs=5)
    found = efficiency.latency(job)
    assert found["latency_ms_median"] == pytest.approx(300)
    assert found["latency_ms_iqr"] == pytest.approx(200)
    assert found["threads"] == torch.get_num_threads()


SMALL = Job(system="unet-narrow", image_size=16, channels=3, classes=1, batch_size=1, runs=2,
            options={"widths": [4, 8]})  # fmt: skip


def test_onnx_runtime_is_timed_on_the_network_at_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sessions = []

    class Session:
        def run(self, _: None, pixels: dict[str, Any]) -> None:
            (image,) = pixels.values()
            assert image.shape == (1, 3, 16, 16)

    def opened(graph: bytes, *, threads: int) -> Session:
        logits = open_session(graph).run(None, {"image": torch.zeros(1, 3, 16, 16).numpy()})[0]
        sessions.append((logits.shape, threads))
        return Session()

    monkeypatch.setattr("medseg.inference.runtime.open_session", opened)
    found = efficiency.onnx(SMALL)
    assert sessions == [((1, 1, 16, 16), torch.get_num_threads())]
    assert found.keys() == {"onnx_latency_ms_median", "onnx_latency_ms_iqr"}


def test_a_network_that_onnx_cannot_say_has_a_note_instead(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text(BROKEN)
    job = replace(SMALL, system=str(file), options={})
    note = efficiency.onnx(job)["onnx_note"]
    assert note.startswith("it cannot be exported to ONNX (")
    assert "\n" not in note


def test_without_the_extra_the_note_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficiency, "find_spec", lambda name: None if name == "onnx" else object())
    assert efficiency._onnx(SMALL) == {"onnx_note": "needs medseg[export]"}


def test_options_change_the_network_that_is_measured() -> None:
    job = Job(system="unet-narrow", image_size=16, channels=3, classes=1, batch_size=1, runs=2,
              options={"widths": [4, 8]})  # fmt: skip
    assert efficiency.latency(job)["macs"] == unet_macs(16, (4, 8))


@pytest.mark.parametrize("measured", [efficiency.inference, efficiency.training])
def test_where_the_system_tells_no_peak_there_is_none(
    measured: Callable[[Job], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(efficiency, "_high_water", lambda: None)
    job = Job(system="unet-narrow", image_size=16, channels=3, classes=1, batch_size=2, runs=2)
    assert measured(job) == {"megabytes": None}


def test_a_network_that_fails_at_the_size_is_named_with_its_reason(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text(BROKEN)
    with pytest.raises(MedsegError, match=r"broken\.py at 32 px.*no size pleases me"):
        measure(str(file), image_size=32)


def test_a_probe_that_was_killed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, -9, "", "")

    monkeypatch.setattr(subprocess, "run", kill)
    with pytest.raises(MedsegError, match=r"inference failed \(status -9\)"):
        measure("unet-narrow", image_size=16)


def test_what_would_not_fit_into_memory_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficiency, "free_memory", lambda _: 10_000_000)
    with pytest.raises(MedsegError, match=r"0\.0 GB are free"):
        measure("unet-narrow", image_size=16)


@pytest.mark.parametrize(
    ("system", "options", "match"),
    [
        ("unett", {}, "Did you mean 'unet'"),
        ("unet", {"image_size": 0}, "0 pixels"),
        ("unet", {"runs": 1}, "no median"),
        ("unet", {"options": {"width": [4]}}, "network.width"),
    ],
)
def test_a_bad_request_is_refused_before_anything_is_measured(
    system: str, options: dict[str, Any], match: str
) -> None:
    with pytest.raises((MedsegError, RecipeError), match=match):
        measure(system, **options)
