"""Training throughput of `medseg train` against the bare network on tensors in memory.

    python benchmarks/training.py DATA

One epoch of `medseg train` at 256 px (its own figure, files to optimizer steps) stands between
two measurements of the same network's forward, backward and optimizer step on random tensors, in
the same batch size, memory format and allocator setting; their mean is the reference. The bare
step in bf16 says whether that precision is worth asking for on this processor.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from common import RESULTS, save
from medseg.engine.device import keep_freed_memory
from medseg.losses.region import cross_entropy, dice_loss
from medseg.models import create_model

SIZE, BATCH, STEPS = 256, 3, 30


def bare_images_per_second(precision: str) -> float:
    keep_freed_memory()
    network = create_model("med2d-segnet").train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters())
    image = torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    mask = (torch.rand(BATCH, SIZE, SIZE) > 0.5).to(torch.uint8)
    started = 0.0
    for step in range(-3, STEPS):
        if step == 0:
            started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = network(image).float()
        torch.autograd.backward(cross_entropy(logits, mask) + dice_loss(logits, mask))
        optimizer.step()
        optimizer.zero_grad()
    return STEPS * BATCH / (time.perf_counter() - started)


def in_fresh_process(precision: str = "fp32") -> float:
    found = subprocess.run(
        [sys.executable, __file__, "--bare", precision], check=True, capture_output=True, text=True
    )
    return float(found.stdout)


def train_one_epoch(data: Path) -> tuple[float, float]:
    """Images per second of the epoch, and the peak resident memory in GB."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        process = subprocess.Popen(
            [sys.executable, "-m", "medseg", "train", str(data), "-o", str(run), "--epochs", "1",
             "--image-size", str(SIZE), "--batch-size", str(BATCH), "--device", "cpu"]
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"medseg train ended with status {status}")
        row = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    return row["images_per_second"], usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    if sys.argv[1] == "--bare":
        print(bare_images_per_second(sys.argv[2]))
        return
    before = in_fresh_process()
    trained, peak = train_one_epoch(Path(sys.argv[1]))
    after = in_fresh_process()
    bf16 = in_fresh_process("bf16")
    save(
        RESULTS / "training.json",
        {
            "setting": {"image_size": SIZE, "batch_size": BATCH, "bare_steps": STEPS},
            "bare_images_per_second": [round(before, 3), round(after, 3)],
            "bare_bf16_images_per_second": round(bf16, 3),
            "medseg_train_images_per_second": round(trained, 3),
            "ratio": round(trained / ((before + after) / 2), 3),
            "peak_rss_gb": round(peak, 2),
        },
    )


if __name__ == "__main__":
    main()
