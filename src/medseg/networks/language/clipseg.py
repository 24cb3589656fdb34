"""CLIPSeg (Lüddecke, Ecker 2022, arXiv 2112.10003), through transformers.

CLIP's two towers as they are. What the image tower holds after three of its layers goes through a
small decoder, and the sentence's vector scales and shifts its features once, at the deepest of the
three (FiLM). Only the layers come from transformers. How they follow each other stands here, so
that images need not be square, layers that nothing depends on are not computed, and other networks
can change what lies between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from medseg.extras import needed_by
from medseg.networks.language.clipseg_size import SIZES, Size, configuration
from medseg.networks.language.clipseg_weights import PublishedCLIPSeg
from medseg.networks.language.text_network import TextNetwork
from medseg.networks.language.words import Words
from medseg.nn.blocks import crop, pad_to_multiple

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, by which published weights want images normalised."""


class CLIPSeg(TextNetwork):
    """Segments what a sentence says.

    Args:
        in_channels: of the image: 3, or 1, which is seen as grey.
        num_classes: 1, what the sentence says.
        weights: the folder of published weights, or one of its files: ``config.json``,
            ``model.safetensors`` or ``pytorch_model.bin``, ``vocab.json`` and ``merges.txt``. They
            say the size.
        size: ``rd64-refined``, which has those published as CLIPSeg rd64-refined; ``tiny``, which
            has none and is trained as a whole, on sentences cut into bytes; or all its numbers.
        frozen: whether the weights stay as they are; ``auto``: those of all sizes but ``tiny``.

    Raises:
        ValueError: other channels or classes, or a size that is none.
        ModelError: the published weights cannot be read.
        MedsegError: transformers is not installed.
    """

    in_unit_range = True

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        weights: str = "",
        size: Literal["rd64-refined", "tiny"] | Size = "rd64-refined",
        frozen: bool | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        if in_channels not in (1, 3):
            raise ValueError(f"in_channels={in_channels}: images are grey or have three colours")
        if num_classes != 1:
            raise ValueError(f"num_classes={num_classes}: structures are segmented one by one")
        if weights and size != "rd64-refined":
            raise ValueError("weights say their size themselves: leave size out")
        with needed_by("CLIPSeg"):
            from transformers import CLIPSegForImageSegmentation
        found = PublishedCLIPSeg(Path(weights)) if weights else None
        self.size = found.size if found else SIZES[size] if isinstance(size, str) else size
        self.frozen = size != "tiny" if frozen == "auto" else frozen
        self.clipseg: Any = CLIPSegForImageSegmentation(configuration(self.size))
        self.words = Words(
            self.size["pieces"], self.size["length"], found.vocabulary if found else None
        )
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        if found:
            found.fill(self.clipseg)
        self.clipseg.requires_grad_(not self.frozen)
        for part in self._unused():
            part.requires_grad_(False)

    mean: Tensor
    std: Tensor

    def ask(self, image: Tensor, sentences: Sequence[str]) -> Tensor:
        taps, grid = self.encode_image(image)
        conditions = self.encode_text(sentences)
        logits = [self.decode(taps, each.expand(len(image), -1), grid) for each in conditions]
        return crop(torch.cat(logits, 1), image.shape[2:])

    def forward(self, image: Tensor, texts: Sequence[str] | None = None) -> Tensor:
        texts = [""] * len(image) if texts is None else texts
        if len(texts) != len(image):
            raise ValueError(f"{len(texts)} texts for {len(image)} images")
        taps, grid = self.encode_image(image)
        # Most images of a batch are asked for one of few things.
        different = list(dict.fromkeys(texts))
        which = torch.tensor([different.index(text) for text in texts], device=image.device)
        conditions = self.encode_text(different).index_select(0, which)
        return crop(self.decode(taps, conditions, grid), image.shape[2:])

    def encode_image(self, image: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """What the decoder takes of an image.

        Args:
            image: ``(B, 1 or 3, H, W)`` in 0..1.

        Returns:
            After each layer of ``taps`` ``(B, 1 + h * w, width)``, and ``(h, w)``, the patches.
        """
        x = pad_to_multiple(image, self.size["patch"]).expand(-1, 3, -1, -1)
        tower = self.clipseg.clip.vision_model
        states = tower.pre_layrnorm(tower.embeddings((x - self.mean) / self.std))
        taps = []
        for place, layer in enumerate(tower.encoder.layers[: max(self.size["taps"]) + 1]):
            states = _first(layer(states, None))
            if place in self.size["taps"]:
                taps.append(states)
        height, width = x.shape[2:]
        return taps, (height // self.size["patch"], width // self.size["patch"])

    def encode_text(self, sentences: Sequence[str]) -> Tensor:
        """N sentences -> ``(N, common)``."""
        states, _ = self.read(sentences)
        condition: Tensor = self.clipseg.clip.text_projection(states)
        return condition

    def read(self, sentences: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """What the text tower holds at the end of each of N sentences.

        Returns:
            ``(N, width)`` after all of it, normalised, and ``(N, width)`` after each layer.
        """
        device = self.mean.device
        numbers, ends = (each.to(device) for each in self.words(sentences))
        each = torch.arange(len(numbers), device=device)
        tower = self.clipseg.clip.text_model
        states = tower.embeddings(numbers)
        # Nothing that comes later is seen, so what fills short sentences up is not either.
        later = torch.full((numbers.shape[1],) * 2, -torch.inf, device=device).triu(1)
        mask = later.to(states.dtype)[None, None]
        at_end = []
        for layer in tower.encoder.layers:
            states = _first(layer(states, mask))
            at_end.append(states[each, ends])
        return tower.final_layer_norm(at_end[-1]), at_end

    def decode(self, taps: Sequence[Tensor], condition: Tensor, grid: tuple[int, int]) -> Tensor:
        """Logits ``(B, 1, h * patch, w * patch)``.

        Args:
            taps: of :meth:`encode_image`.
            condition: ``(B, common)``.
            grid: h, w.
        """
        decoder = self.clipseg.decoder
        x: Tensor | None = None
        for place, (layer, reduce) in enumerate(zip(decoder.layers, decoder.reduces, strict=True)):
            reduced = reduce(taps[-1 - place])
            x = reduced if x is None else x + reduced
            if place == 0:
                scale, shift = decoder.film_mul(condition), decoder.film_add(condition)
                x = scale[:, None] * x + shift[:, None]
            x = _first(layer(x, None))
        assert x is not None
        features = x[:, 1:].transpose(1, 2).reshape(len(x), -1, *grid)  # (B, width, h, w)
        logits: Tensor = decoder.transposed_convolution(features)
        return logits

    def portable(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {**options, "weights": "", "size": self.size, "frozen": self.frozen}

    def _unused(self) -> list[Any]:
        """What no logit depends on."""
        clip = self.clipseg.clip
        layers = clip.vision_model.encoder.layers[max(self.size["taps"]) + 1 :]
        return [layers, clip.vision_model.post_layernorm, clip.visual_projection, clip.logit_scale]


def _first(output: Any) -> Tensor:
    """Of a layer, whichever version of transformers it is of."""
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found
