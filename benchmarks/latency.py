"""One image through each network in ONNX Runtime, pixels to mask, in 32 and in 8 bits.

    python benchmarks/latency.py [SYSTEM ...]

Weights are random, the image has 256 px, two threads. The networks take turns, so that what else
the machine does meets all alike; of each the median of all rounds counts. Ratios are to the first
system and to the 31 M U-Net.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np

from common import RESULTS, random_model, save
from medseg.export.graph import to_onnx
from medseg.export.quantise import quantise
from medseg.inference.runtime import IMAGE, open_session

SIZE, THREADS, WARM_UP, ROUNDS = 256, 2, 3, 30
SYSTEMS = (
    "unet-narrow",
    "unet",
    "med2d-segnet",
    "med2d-segnet-fast",
    "unext",
    "cmunext-s",
    "mk-unet",
    "encoder-mobilenetv2",
)


def main() -> None:
    systems = tuple(sys.argv[1:]) or SYSTEMS
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (SIZE, SIZE, 3), np.uint8) for _ in range(4)]
    sessions, parameters = {}, {}
    for system in systems:
        model = random_model(system, SIZE)
        graph = to_onnx(model)
        parameters[system] = sum(each.numel() for each in model.network.parameters())
        sessions[system, "fp32"] = open_session(graph, threads=THREADS)
        sessions[system, "int8"] = open_session(
            quantise(graph, model.manifest, images), threads=THREADS
        )
    times: dict[tuple[str, str], list[float]] = {key: [] for key in sessions}
    for _ in range(WARM_UP + ROUNDS):
        for key, session in sessions.items():
            begun = time.perf_counter()
            session.run(None, {IMAGE: images[0][None]})
            times[key].append(1000 * (time.perf_counter() - begun))
    median = {key: statistics.median(each[WARM_UP:]) for key, each in times.items()}
    first = systems[0]
    rows = [
        {
            "system": system,
            "parameters": parameters[system],
            "fp32_ms": round(median[system, "fp32"], 2),
            "int8_ms": round(median[system, "int8"], 2),
            f"fp32_over_{first}": round(median[system, "fp32"] / median[first, "fp32"], 3),
            "unet_over_fp32": (
                round(median["unet", "fp32"] / median[system, "fp32"], 2)
                if "unet" in systems
                else None
            ),
        }
        for system in systems
    ]
    save(
        RESULTS / "latency.json",
        {"image_size": SIZE, "threads": THREADS, "rounds": ROUNDS, "systems": rows},
    )


if __name__ == "__main__":
    main()
