"""A benchmark that takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
