"""Two convolutions over volumes."""

from __future__ import annotations

from torch import Tensor, nn


class TinyNetwork(nn.Module):
    def __init__(self, in_channels: int = 1, num_classes: int = 1, *, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(in_channels, width, 3, padding=1),
            nn.LeakyReLU(),
            nn.Conv3d(width, num_classes, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layers(image)
        return logits
