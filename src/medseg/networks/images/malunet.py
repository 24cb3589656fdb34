"""MALUNet: dilated gated attention, external attention and bridges across all skips.

Ruan, Xiang, Xie, Liu, Fu (2022), "MALUNet: A Multi-Attention and Light-weight UNet for Skin Lesion
Segmentation", BIBM, arXiv 2211.01784. Official code: github.com/JCruan519/MALUNet (no licence: read
for facts only).

Below 1/8 each stage attends to two small matrices, learnt of the whole dataset and larger than the
channels ("inverted"), in place of keys and values of its own, and gates what depthwise convolutions
of four dilations found. All five skips pass one bridge, where each is weighed per pixel by one
shared convolution, and per channel by what all of them hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.nn.blocks import pad_to_multiple, spatial_mean
from medseg.nn.fan_out import initialise_by_fan_out
from medseg.nn.stretch import stretch

_DILATIONS = (7, 5, 2, 1)


class SeparableConv(nn.Sequential):
    """Depthwise convolution, group norm, 1x1 convolution; size is kept."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, in_channels, kernel, padding=kernel // 2, groups=in_channels),
            nn.GroupNorm(4, in_channels),
            nn.Conv2d(in_channels, out_channels, 1),
        )


class GatedAttention(nn.Module):
    """A 5x5 separable convolution gated by a 3x3 one, beside a 1x1 shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.gate = SeparableConv(in_channels, in_channels, 3)
        self.value = SeparableConv(in_channels, in_channels, 5)
        self.output = SeparableConv(in_channels, out_channels, 3)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gated = torch.sigmoid(self.gate(x)) * F.gelu(self.value(x))
        out: Tensor = F.gelu(self.output(gated)) + self.shortcut(x)
        return out


class DilatedGatedAttention(nn.Module):
    """DGA: each quarter of the channels at a dilation of its own, mixed, then gated.

    ``(B, I, H, W) -> (B, O, H, W)``; 4 divides I.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        quarter = in_channels // 4
        self.dilated = nn.ModuleList(
            nn.Conv2d(quarter, quarter, 3, padding=d, dilation=d, groups=quarter)
            for d in _DILATIONS
        )
        self.norm = nn.GroupNorm(4, in_channels)
        self.mix = nn.Conv2d(in_channels, in_channels, 1)
        self.attention = GatedAttention(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        quarters = zip(self.dilated, x.chunk(4, dim=1), strict=True)
        seen = torch.cat([convolution(part) for convolution, part in quarters], dim=1)
        out: Tensor = self.attention(F.gelu(self.mix(self.norm(seen))))
        return out


class ExternalAttention(nn.Module):
    """IEA: attention between the pixels and learnt memories, four times as many as channels.

    ``(B, C, H, W) -> (B, C, H, W)``, around an identity. The similarities are a softmax over the
    pixels and then divided by their sum over the memories (Guo et al. 2021, arXiv 2105.02358).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        memories = 4 * channels
        self.project = nn.Conv2d(channels, channels, 1)
        self.keys = nn.Conv1d(channels, memories, 1, bias=False)
        self.values = nn.Conv1d(memories, channels, 1, bias=False)
        self.output = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.GroupNorm(4, channels)

    def forward(self, x: Tensor) -> Tensor:
        # (B, C, H, W) -> (B, 4C, H W) -> (B, C, H W)
        similarity = self.keys(self.project(x).flatten(2)).softmax(dim=-1)
        similarity = similarity / (1e-9 + similarity.sum(dim=1, keepdim=True))
        attended = self.values(similarity).unflatten(2, x.shape[-2:])
        return F.gelu(x + self.norm(self.output(attended)))


class AttentionBridge(nn.Module):
    """SCAB: weigh the skips per pixel (SAB), then per channel (CAB), each around an identity.

    Args:
        widths: channels of the skips.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.pixels = nn.Conv2d(2, 1, 7, padding=9, dilation=3)
        self.together = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.channels = nn.ModuleList(nn.Linear(sum(widths), width) for width in widths)

    def forward(self, skips: Sequence[Tensor]) -> list[Tensor]:
        weighed = [skip * self._of_pixels(skip) for skip in skips]
        joined = [a + b for a, b in zip(weighed, skips, strict=True)]
        # One number for each channel of every skip: (B, 1, sum(widths))
        means = torch.cat([spatial_mean(each) for each in joined], dim=1)
        summary = self.together(means.flatten(1)[:, None])[:, 0]
        out: list[Tensor] = []
        for linear, each, before in zip(self.channels, joined, weighed, strict=True):
            gate = torch.sigmoid(linear(summary))[..., None, None]
            out.append(gate * each + before)
        return out

    def _of_pixels(self, skip: Tensor) -> Tensor:
        """``(B, 1, H, W)`` in 0..1, by mean and maximum over the channels."""
        summary = torch.cat([skip.mean(1, keepdim=True), skip.amax(1, keepdim=True)], dim=1)
        return torch.sigmoid(self.pixels(summary))


class MALUNet(nn.Module):
    """MALUNet; the default has 177,943 parameters (3 input channels, 1 class).

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        widths: channels at 1/2, 1/4, 1/8 (convolutions), 1/16 and twice 1/32 (attention);
            multiples of 4, the last three at least 8.

    Raises:
        ValueError: widths that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        widths: Sequence[int] = (8, 16, 24, 32, 48, 64),
    ) -> None:
        super().__init__()
        # A group of one channel has no norm where one pixel is left of the image.
        if len(widths) != 6 or min(widths) < 4 or min(widths[3:]) < 8 or any(w % 4 for w in widths):
            raise ValueError(
                f"widths {list(widths)} must hold six multiples of 4, the last three at least 8"
            )
        pairs = list(zip((in_channels, *widths), widths, strict=False))
        self.encoder = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs[:3])
        self.encoder.extend(
            nn.Sequential(ExternalAttention(a), DilatedGatedAttention(a, b)) for a, b in pairs[3:]
        )
        self.encoder_norms = nn.ModuleList(nn.GroupNorm(4, width) for width in widths[:5])
        self.bridge = AttentionBridge(widths[:5])
        upward = pairs[:0:-1]
        self.decoder = nn.ModuleList(
            nn.Sequential(DilatedGatedAttention(b, a), ExternalAttention(a)) for a, b in upward[:3]
        )
        self.decoder.extend(nn.Conv2d(b, a, 3, padding=1) for a, b in upward[3:])
        self.decoder_norms = nn.ModuleList(nn.GroupNorm(4, a) for a, _ in upward)
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        self.apply(initialise_by_fan_out)
        self.apply(copy_values_to_keys)

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Encoder maps at 1/2 ... 1/32 and again 1/32; 32 must divide H and W."""
        features: list[Tensor] = []
        x = image
        for stage, norm in zip(self.encoder, self.encoder_norms, strict=False):
            x = F.gelu(F.max_pool2d(norm(stage(x)), 2))
            features.append(x)
        return [*features, F.gelu(self.encoder[-1](x))]

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` images of any size to ``(B, K, H, W)`` logits."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, 32)
        *skips, x = self.forward_features(padded)
        bridged = reversed(self.bridge(skips))
        for stage, norm, skip in zip(self.decoder, self.decoder_norms, bridged, strict=True):
            # The deepest skip has the size already.
            x = F.gelu(stretch(norm(stage(x)), skip.shape[-2:])) + skip
        return stretch(self.head(x), padded.shape[-2:])[..., :height, :width]


def copy_values_to_keys(layer: nn.Module) -> None:
    """Start external attention with keys that are the values' transpose."""
    if isinstance(layer, ExternalAttention):
        with torch.no_grad():
            layer.keys.weight.copy_(layer.values.weight.transpose(0, 1))
