"""Time medseg's augmentation against kornia's: same parts, same batch, same process.

kornia is no dependency of medseg. Put it beside the environment, not into it:

    .venv/bin/pip install --no-deps --target SCRATCH kornia kornia_rs
    PYTHONPATH=SCRATCH .venv/bin/python benchmarks/augment.py
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from common import RESULTS, save
from medseg.data.augment import Augment, AugmentSettings

BATCH, SIZE, THREADS, ROUNDS = 8, 256, 2, 60


def kornia_pipeline(s: AugmentSettings, image: Tensor, mask: Tensor) -> Callable[[int], object]:
    """The parts that ``s`` switches on, in medseg's order."""
    from kornia import augmentation as ka

    # One affine step, as a user of kornia would write it, as often as medseg takes any of its
    # four; a step for each would interpolate up to four times, and be slower.
    moving = 1 - (1 - s.rotate_prob) * (1 - s.scale_prob) * (1 - s.shift_prob) ** 2
    chain = ka.AugmentationSequential(
        ka.RandomHorizontalFlip(p=s.flip_horizontal),
        ka.RandomVerticalFlip(p=s.flip_vertical),
        ka.RandomAffine(s.rotate, (s.shift, s.shift), s.scale, p=moving),
        ka.RandomGaussianBlur((9, 9), s.blur, p=s.blur_prob),
        ka.RandomBrightness((1 - s.brightness, 1 + s.brightness), p=s.brightness_prob),
        ka.RandomContrast((1 - s.contrast, 1 + s.contrast), p=s.contrast_prob),
        ka.RandomSaturation((1 - s.saturation, 1 + s.saturation), p=s.saturation_prob),
        ka.RandomGamma(s.gamma, p=s.gamma_prob),
        ka.RandomGaussianNoise(std=s.noise / 2, p=s.noise_prob),
        data_keys=["input", "mask"],
    )
    return lambda _: chain(image, mask.unsqueeze(1).float())


def main() -> None:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    image = torch.rand(BATCH, 3, SIZE, SIZE)
    mask = (torch.rand(BATCH, SIZE, SIZE) > 0.5).to(torch.uint8)
    augment = Augment(AugmentSettings())
    pipelines: dict[str, Callable[[int], object]] = {
        "medseg": lambda epoch: augment(image, mask, [(0, epoch, i) for i in range(BATCH)])
    }
    if importlib.util.find_spec("kornia"):
        pipelines["kornia"] = kornia_pipeline(augment.settings, image, mask)

    times: dict[str, list[float]] = {name: [] for name in pipelines}
    for epoch in range(-5, ROUNDS):  # the first five warm up; taking turns shares any disturbance
        for name, step in pipelines.items():
            start = time.perf_counter()
            step(epoch + 5)
            if epoch >= 0:
                times[name].append(1000 * (time.perf_counter() - start))
    medians = {name: round(statistics.median(values), 2) for name, values in times.items()}
    print(*(f"{name}: {median} ms a batch" for name, median in medians.items()), sep="\n")
    if "kornia" in medians:
        save(
            RESULTS / "augment.json",
            {
                "setting": {"batch": [BATCH, 3, SIZE, SIZE], "threads": THREADS, "rounds": ROUNDS},
                "kornia": importlib.metadata.version("kornia"),
                "median_ms": medians,
                "kornia_over_medseg": round(medians["kornia"] / medians["medseg"], 2),
            },
        )


if __name__ == "__main__":
    main()
