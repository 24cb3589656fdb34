"""A small CLIPSeg, as it is published and with weights that every machine makes alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from medseg.networks.language.clipseg_size import TINY, Size, configuration
from medseg.networks.language.vlsm_adapter import Parts, Places, VLSMAdapter
from medseg.networks.language.words import END, START

SMALL: Size = {
    **TINY,
    "image": {"width": 16, "layers": 4, "heads": 2, "hidden": 32},
    "text": {"width": 12, "layers": 4, "heads": 2, "hidden": 24},
    "common": 12,
    "grid": 3,
    "decoder": {"width": 8, "layers": 3, "heads": 2, "hidden": 16},
}
TEXTS = ("a small polyp", "nuclei")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def fill_with_waves(network: nn.Module) -> None:
    """Parameter k, by name, holds sines of k + 0.37 n; norms' weights are about 1."""
    with torch.no_grad():
        for k, (name, parameter) in enumerate(sorted(network.named_parameters())):
            n = torch.arange(parameter.numel(), dtype=torch.float64)
            values = torch.sin(k + 0.37 * n).view(parameter.shape)
            values = values * (0.4 if parameter.ndim > 1 else 0.2)
            parameter.copy_(values + 1 if "norm" in name and name.endswith("weight") else values)


def waves(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """An image in 0..1."""
    n = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (torch.sin(1.7 + 0.37 * n) / 2 + 0.5).view(shape).to(dtype)


def small(
    adapters: Places = "dense", parts: Parts = "vl", *, frozen: bool = False, channels: int = 3
) -> VLSMAdapter:
    """With waves for weights, in double precision."""
    widths = {"dense": 5, "shallow": 6, "none": None}
    network = VLSMAdapter(
        channels, size=SMALL, frozen=frozen, adapters=adapters, parts=parts,
        width=widths[adapters], condition_width=7,
    )  # fmt: skip
    fill_with_waves(network)
    return network.double().eval()


def published(folder: Path, size: Size = SMALL, words: Sequence[str] = ("polyp",)) -> Path:
    """A folder as CLIPSeg's weights are published in: written by transformers, with waves for
    weights and a vocabulary of letters and ``words``."""
    from transformers import CLIPSegForImageSegmentation

    network = CLIPSegForImageSegmentation(configuration(size))
    fill_with_waves(network)
    network.save_pretrained(folder)
    vocab = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    merges = []
    for word in words:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merges.append(f"{pieces[0]} {pieces[1]}")
            pieces = ["".join(pieces[:2]), *pieces[2:]]
            vocab.append(pieces[0])
    numbers = {piece: number for number, piece in enumerate(vocab)}
    numbers |= {START: size["pieces"] - 2, END: size["pieces"] - 1}
    (folder / "vocab.json").write_text(json.dumps(numbers), encoding="utf-8")
    lines = ["#version: 0.2", *merges, ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder
