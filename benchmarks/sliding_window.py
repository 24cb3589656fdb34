"""Time and memory of predicting a volume of 30 classes window by window: medseg against MONAI.

    python benchmarks/sliding_window.py

Both get the same network, windows, Gaussian weights and volume, and give a mask. Every run is a
process of its own, and the programs take turns. CPU seconds are compared, which other programs on
the machine disturb little. Memory is the most that a process held while it predicted, beyond what
it held before, with network, volume and one predicted window.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from common import RESULTS, save
from medseg.inference.volumes.sliding import Windows, slide
from medseg.models import create_model

CLASSES, SHAPE, WINDOW, OVERLAP = 30, (192, 128, 128), (48, 64, 64), 0.5
PROGRAMS = ("monai", "medseg")
NETWORKS = ("two layers", "stu-net-s of half its width")


class TwoLayers(nn.Module):
    """Next to no work, so that what is around the network shows: the more a network computes, the
    closer the two programs are."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, CLASSES, 1))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layers(image)
        return logits


def network_named(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == NETWORKS[0]:
        network: nn.Module = TwoLayers()
    else:
        widths = (8, 16, 32, 64, 64, 64)
        network = create_model("stu-net-s", in_channels=1, num_classes=CLASSES, widths=widths)
    return network.eval().requires_grad_(False)


def with_medseg(network: nn.Module, image: Tensor) -> tuple[NDArray[np.uint8], Tensor | None]:
    mask = np.zeros(SHAPE, np.uint8)
    for index, logits in enumerate(slide(network, image, Windows(SHAPE, WINDOW, OVERLAP))):
        mask[index] = logits.argmax(dim=0).numpy()
    return mask, None


def with_monai(network: nn.Module, image: Tensor) -> tuple[NDArray[np.uint8], Tensor | None]:
    from monai.inferers import sliding_window_inference

    across, rows, columns = (
        torch.from_numpy(weight).float() for weight in Windows(SHAPE, WINDOW, OVERLAP).weights
    )
    # MONAI's own weights are cut off at the corners of a window; these are the same for both.
    weights = across[:, None, None] * (rows[:, None] * columns)
    logits = sliding_window_inference(
        image[None], WINDOW, 1, network, overlap=OVERLAP, roi_weight_map=weights
    )[0]
    return logits.argmax(dim=0).numpy().astype(np.uint8), logits


RUNS: dict[str, Callable[[nn.Module, Tensor], tuple[NDArray[np.uint8], Tensor | None]]] = {
    "monai": with_monai,
    "medseg": with_medseg,
}


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def volume() -> Tensor:
    noise = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    smooth = F.avg_pool3d(torch.from_numpy(noise)[None, None], 5, 1, 2)[0]
    return smooth / smooth.std()


@torch.inference_mode()
def measure(program: str, name: str) -> None:
    """In a process of its own: one prediction, with its cost on standard output."""
    torch.set_num_threads(1)
    network, image = network_named(name), volume()
    if program == "monai":
        import monai.inferers  # noqa: F401
    network(image[None, :, : WINDOW[0], : WINDOW[1], : WINDOW[2]])
    before, started = status("VmRSS"), time.process_time()
    mask, logits = RUNS[program](network, image)
    seconds = time.process_time() - started
    cost = {"seconds": seconds, "bytes": status("VmHWM") - before, "process": status("VmHWM")}
    if logits is not None:
        ours = slide(network, image, Windows(SHAPE, WINDOW, OVERLAP))
        differences = [
            (float((plane - logits[:, index]).abs().max()),
             int((plane.argmax(dim=0).numpy() != mask[index]).sum()))
            for index, plane in enumerate(ours)
        ]  # fmt: skip
        cost["largest_difference"] = max(most for most, _ in differences)
        cost["voxels_that_differ"] = sum(count for _, count in differences)
        cost["largest_logit"] = float(logits.abs().max())
    print(json.dumps(cost))


def compare(name: str, rounds: int) -> dict[str, object]:
    costs: dict[str, list[dict[str, float]]] = {program: [] for program in PROGRAMS}
    for _ in range(rounds):
        for program in PROGRAMS:
            command = [sys.executable, __file__, "--measure", program, "--network", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            costs[program].append(json.loads(done.stdout.splitlines()[-1]))
    seconds, memory = (
        {program: statistics.median(cost[key] for cost in costs[program]) for program in PROGRAMS}
        for key in ("seconds", "bytes")
    )
    first = costs["monai"][0]
    return {
        "cpu_seconds": {program: round(value, 2) for program, value in seconds.items()},
        "cpu_seconds_ratio": round(seconds["medseg"] / seconds["monai"], 3),
        "peak_mb": {program: round(value / 1e6) for program, value in memory.items()},
        "peak_ratio": round(memory["medseg"] / memory["monai"], 3),
        "largest_difference_of_logits": first["largest_difference"],
        "largest_logit": first["largest_logit"],
        "voxels_of_another_class": first["voxels_that_differ"],
        "runs": costs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", choices=PROGRAMS)
    parser.add_argument("--network", choices=NETWORKS, default=NETWORKS[0])
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.network)
        return
    save(
        RESULTS / "sliding_window.json",
        {
            "setting": {
                "classes": CLASSES, "volume": SHAPE, "window": WINDOW, "overlap": OVERLAP,
                "windows": Windows(SHAPE, WINDOW, OVERLAP).count(
                    Windows(SHAPE, WINDOW, OVERLAP).whole
                ),
                "threads": 1, "rounds": options.rounds, "seed": 0,
            },
            "monai": importlib.metadata.version("monai"),
            "network": options.network,
            **compare(options.network, options.rounds),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
