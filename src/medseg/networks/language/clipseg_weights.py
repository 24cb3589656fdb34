"""CLIPSeg's weights as they are published, read from a folder; nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

from medseg.errors import ModelError
from medseg.inference.bundle import shown
from medseg.networks.language.clipseg_size import Size, size_of
from medseg.networks.language.words import read_vocabulary

CONFIGURATION = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class PublishedCLIPSeg:
    """Weights with configuration and vocabulary as they are published.

    Args:
        place: the folder, or a file in it.

    Raises:
        ModelError: there are none, or of another network.
    """

    def __init__(self, place: Path) -> None:
        self.folder = place if place.is_dir() else place.parent
        if not place.exists():
            raise ModelError(
                f"network.weights={place}", "there is no such folder",
                "Name the folder with CLIPSeg's config.json, weights, vocab.json and merges.txt; "
                "nothing is downloaded",
            )  # fmt: skip
        self.size = self._size()
        self.vocabulary = read_vocabulary(self.folder)

    def _size(self) -> Size:
        where = self.folder / CONFIGURATION
        try:
            found = json.loads(where.read_text(encoding="utf-8"))
            if found.get("model_type") != "clipseg":
                raise ValueError(f"it is of {found.get('model_type')!r}, not of 'clipseg'")
            return size_of(found)
        except Exception as error:  # transformers raises kinds of its own
            reason = (
                _first_error(error) if isinstance(error, ValidationError) else shown(error, 200)
            )
            raise ModelError(
                where, f"it is no configuration of CLIPSeg ({reason})",
                f"Put the {CONFIGURATION} there that is published with the weights",
            ) from error  # fmt: skip

    def fill(self, network: nn.Module) -> None:
        """Put the weights into ``network``, every one.

        Raises:
            ModelError: they cannot be read, or are not the network's.
        """
        files = [self.folder / name for name in WEIGHTS]
        where = next((file for file in files if file.is_file()), None)
        if where is None:
            raise ModelError(self.folder, f"it holds no {' or '.join(WEIGHTS)}", "Put one there")
        try:
            if where.suffix == ".bin":
                weights = torch.load(where, map_location="cpu", weights_only=True)
            else:
                weights = load_file(where)
            # Older files hold the numbers of the positions, which are no weights.
            weights = {k: v for k, v in weights.items() if not k.endswith(".position_ids")}
            network.load_state_dict(weights)
        except Exception as error:  # files are anybody's, and torch and safetensors raise their own
            raise ModelError(
                where, f"it does not hold the weights of its {CONFIGURATION} ({shown(error, 300)})",
                "Copy it again",
            ) from error  # fmt: skip


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
