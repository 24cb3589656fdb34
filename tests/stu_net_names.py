"""The layout in which STU-Net's weights are published."""

from __future__ import annotations

from torch import Tensor


def official_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the authors' module calls them."""
    parts = {
        "encoder": "conv_blocks_context",
        "up": "upsample_layers",
        "decoder": "conv_blocks_localization",
        "heads": "seg_outputs",
    }
    found = {}
    for name, value in weights.items():
        part, _, rest = name.partition(".")
        if part == "up":
            rest = rest.replace(".", ".conv.")
        found[f"{parts[part]}.{rest.replace('.shortcut.', '.conv3.')}"] = value
    return found
