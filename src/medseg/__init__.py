"""medseg: from a folder of medical images and masks to a small segmentation model.

The public API, imported on first use so that ``import medseg`` costs nothing::

    import medseg

    net = medseg.create_model("med2d-segnet", in_channels=3, num_classes=1)  # an nn.Module
    run = medseg.train("photos/", output="runs/first")
    model = medseg.load("runs/first")
    mask = model.predict("photo.png")
    medseg.evaluate("photos/", "runs/first").save("report.html")
    medseg.benchmark.run({"systems": ["unet"], "data": ["photos/"], "seeds": 3}, "bench")
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg import benchmark
    from medseg.engine.train import train
    from medseg.errors import MedsegError
    from medseg.inference.predictor import Predictor, load
    from medseg.models import create_model
    from medseg.scoring import evaluate

__version__ = "0.1.0"

# ONNX Runtime reports its use to its maker unless it is told not to before it is first imported;
# https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_HOMES = {
    "MedsegError": "medseg.errors",
    "create_model": "medseg.models",
    "evaluate": "medseg.scoring",
    "Predictor": "medseg.inference.predictor",
    "load": "medseg.inference.predictor",
    "train": "medseg.engine.train",
}

__all__ = ["MedsegError", "Predictor", "benchmark", "create_model", "evaluate", "load", "train"]


def __getattr__(name: str) -> Any:
    if name == "benchmark":
        return importlib.import_module("medseg.benchmark")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'medseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
