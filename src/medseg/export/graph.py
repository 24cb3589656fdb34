"""The network with everything before and after it, from pixels to a mask."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.inference.bundle import Manifest
from medseg.inference.network import Model
from medseg.inference.runtime import IMAGE, MASK, METADATA, PROBABILITIES

OPSET = 18
"""The first with antialiased resizing."""


class FileToMask(nn.Module):
    """From images as files hold them to class indices: what is exported.

    Args:
        model: trained.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        settings = model.manifest.preprocessing
        self.network = model.network
        self.size = settings.image_size
        self.temperature = model.manifest.temperature
        self.limit = math.log(model.manifest.threshold / (1 - model.manifest.threshold))
        self.register_buffer("mean", torch.tensor(settings.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(settings.std).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, H, W, C)`` uint8 to ``(N, H, W)`` uint8 and ``(N, K, H, W)`` probabilities."""
        height, width = image.shape[1], image.shape[2]
        pixels = F.interpolate(
            image.permute(0, 3, 1, 2).float(),
            size=(self.size, self.size),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        logits = self.network((pixels / 255 - self.mean) / self.std) / self.temperature
        logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        if logits.shape[1] == 1:
            return (logits[:, 0] >= self.limit).to(torch.uint8), logits.sigmoid()
        return logits.argmax(dim=1).to(torch.uint8), logits.softmax(dim=1)


def to_onnx(model: Model, manifest: Manifest | None = None, *, opset: int = OPSET) -> bytes:
    """``model`` as an ONNX graph of any batch, height and width.

    Args:
        model: on the CPU.
        manifest: to be stored in the file; default: that of ``model``.
        opset: of ONNX, at least 18.
    """
    manifest = manifest or model.manifest
    wrapped = FileToMask(model).eval()
    example = torch.zeros(2, 24, 40, manifest.preprocessing.channels, dtype=torch.uint8)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            wrapped,
            (example,),
            dynamo=True,
            input_names=[IMAGE],
            output_names=[MASK, PROBABILITIES],
            dynamic_shapes=({0: "batch", 1: "height", 2: "width"},),
            opset_version=opset,
            verbose=False,
        )
    proto = program.model_proto
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA, manifest.model_dump_json()
    return bytes(proto.SerializeToString())
