"""VLSM-Adapter (Dhakal et al. 2024, MICCAI, arXiv 2405.06196): CLIPSeg, refined by few weights.

CLIPSeg stays as it is. Small bottlenecks beside it are trained, in one of two places: *dense*, in
the first layers of the towers, after the attention and after the MLP, before what went in is added;
or *shallow*, only on what the decoder takes of the image tower, and on what the text tower holds
after layers of the same numbers, which is added to the sentence's vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from medseg.networks.language.clipseg import CLIPSeg
from medseg.networks.language.clipseg_size import Size
from medseg.nn.adapter import Adapter, adapt_output

Places = Literal["dense", "shallow", "none"]
Parts = Literal["v", "vl", "vlc"]
WIDTHS = {"dense": 64, "shallow": 512}


class VLSMAdapter(CLIPSeg):
    """CLIPSeg with adapters.

    Args:
        in_channels: as of :class:`CLIPSeg`.
        num_classes: likewise.
        weights: likewise.
        size: likewise.
        frozen: likewise.
        adapters: ``dense``, ``shallow``, or ``none``: CLIPSeg itself.
        parts: that have adapters: ``v`` the image tower, ``vl`` also the text tower, ``vlc`` also
            the sentence's vector.
        width: of the adapters; None takes the authors', 64 where they are dense and 512 where they
            are shallow.
        condition_width: of that on the sentence's vector.

    Raises:
        ValueError: as of :class:`CLIPSeg`; nothing would be trained; a width is below 1; or
            shallow adapters of a text tower that is not as wide as the sentence's vector, or has
            fewer layers than are tapped.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        weights: str = "",
        size: Literal["rd64-refined", "tiny"] | Size = "rd64-refined",
        frozen: bool | Literal["auto"] = "auto",
        adapters: Places = "dense",
        parts: Parts = "vl",
        width: int | None = None,
        condition_width: int = 256,
    ) -> None:
        super().__init__(in_channels, num_classes, weights=weights, size=size, frozen=frozen)
        self.image_adapters = nn.ModuleList()
        self.text_adapters = nn.ModuleList()
        self.condition_adapter: nn.Module = nn.Identity()
        self.shallow = adapters == "shallow"
        if adapters == "none":
            if self.frozen:
                raise ValueError("adapters=none and frozen=true leave nothing to be trained")
            return
        image, text = self.size["image"]["width"], self.size["text"]["width"]
        width = WIDTHS[adapters] if width is None else width
        last = self.size["taps"][-1]
        count = len(self.size["taps"]) if self.shallow else 2 * last
        self.image_adapters.extend(Adapter(image, width) for _ in range(count))
        if parts != "v":
            if self.shallow and text != self.size["common"]:
                raise ValueError(
                    f"shallow adapters: the text tower's width {text} is not that of the "
                    f"sentence's vector, {self.size['common']}"
                )
            if last >= self.size["text"]["layers"] + (not self.shallow):
                raise ValueError(f"the text tower has too few layers for taps={self.size['taps']}")
            self.text_adapters.extend(Adapter(text, width) for _ in range(count))
        if parts == "vlc":
            self.condition_adapter = Adapter(self.size["common"], condition_width)
        if not self.shallow:
            clip = self.clipseg.clip
            _adapt(clip.vision_model.encoder.layers, self.image_adapters)
            _adapt(clip.text_model.encoder.layers, self.text_adapters)

    def encode_image(self, image: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        taps, grid = super().encode_image(image)
        if self.shallow:
            taps = [adapt(tap) for adapt, tap in zip(self.image_adapters, taps, strict=True)]
        return taps, grid

    def encode_text(self, sentences: Sequence[str]) -> Tensor:
        states, layers = self.read(sentences)
        condition: Tensor = self.condition_adapter(self.clipseg.clip.text_projection(states))
        if self.shallow and self.text_adapters:
            for tap, adapt in zip(self.size["taps"], self.text_adapters, strict=True):
                condition = condition + adapt(layers[tap])
        return condition


def _adapt(layers: nn.ModuleList, adapters: nn.ModuleList) -> None:
    """Two adapters a layer, in its first layers: after the attention and after the MLP."""
    for place in range(len(adapters) // 2):
        layer = layers[place]
        attention, mlp = layer.self_attn, layer.mlp
        assert isinstance(attention, nn.Module)
        assert isinstance(mlp, nn.Module)
        adapt_output(attention, adapters[2 * place])
        adapt_output(mlp, adapters[2 * place + 1])
