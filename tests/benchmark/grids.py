"""A benchmark that takes seconds."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.builders import squares
from medseg.benchmark.runner import Grid

GOOD = """
from torch import nn

class Small(nn.Module):
    def __init__(self, *, in_channels=3, num_classes=1, width=4):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, num_classes, 1)
        )

    def forward(self, image):
        return self.layers(image)
"""

BAD = """
from torch import nn

class Bad(nn.Module):
    def __init__(self, *, in_channels=3, num_classes=1):
        super().__init__()
        self.layer = nn.Conv2d(in_channels, num_classes, 1)

    def forward(self, image):
        raise ZeroDivisionError("on purpose")
"""


def before_forward(statement: str) -> str:
    """The good network, which runs ``statement`` before it predicts."""
    call = "        return self.layers(image)"
    assert call in GOOD
    return GOOD.replace(call, f"        {statement}\n{call}")


def tiny(folder: Path, **values: Any) -> dict[str, Any]:
    """Values of a spec: one small network, 16 px, an epoch; ``values`` come on top."""
    (folder / "good.py").write_text(GOOD)
    (folder / "bad.py").write_text(BAD)
    return {
        "systems": [str(folder / "good.py")],
        "seeds": 1,
        "set": {"train.epochs": 1, "train.batch_size": 4, "data.image_size": 16},
        "metrics": ["dice", "hd95"],
        **values,
    }


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cell(grid: Grid, system: str, seed: int) -> Path:
    return grid.folder / "cells" / system / "photos" / f"seed-{seed}"


def texts(folder: Path) -> dict[str, str]:
    """Every file of a folder as text; what is packed has no compression."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text(errors="replace") for path in files}


def named_in(folder: Path, places: Iterable[Path]) -> list[tuple[str, str]]:
    return [(file, str(place)) for file, text in texts(folder).items()
            for place in places if str(place) in text]  # fmt: skip


def classes(folder: Path, count: int) -> Path:
    """Squares of more than one class."""
    squares(folder, 8)
    for place, mask in enumerate(sorted((folder / "masks").iterdir())):
        pixels = np.array(Image.open(mask)) > 0
        Image.fromarray((pixels * (place % count + 1)).astype(np.uint8)).save(mask)
    names = {"background": 0} | {f"kind-{value}": value for value in range(1, count + 1)}
    (folder / "labels.json").write_text(json.dumps(names))
    return folder
