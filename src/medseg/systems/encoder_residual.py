"""Card of Med-2D SegNet with basic residual blocks in place of Med Blocks."""

from dataclasses import replace

from medseg.systems.encoder_plain import CARD as PLAIN

CARD = replace(
    PLAIN,
    name="encoder-residual",
    title="Deep Residual Learning for Image Recognition",
    authors="He, Zhang, Ren, Sun",
    year=2016,
    reference="https://arxiv.org/abs/1512.03385",
    summary="Med-2D SegNet with basic residual blocks in its encoder, at equal size.",
    options={"block": "residual", "widths": (16, 32, 48, 104, 208)},
    fidelity=replace(
        PLAIN.fidelity,
        parameters=2_069_985,
        parity="ResNet-18 made of the block has torchvision's count (11,689,512) and MACs",
        from_authors=(
            "block: two 3x3 convolutions around a shortcut, projected by a strided 1x1 convolution",
        ),
        deviations=(),
    ),
)
