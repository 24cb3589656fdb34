"""Card of Med-2D SegNet with inverted residuals in place of Med Blocks."""

from dataclasses import replace

from medseg.systems.encoder_plain import CARD as PLAIN

CARD = replace(
    PLAIN,
    name="encoder-mobilenetv2",
    title="MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    authors="Sandler, Howard, Zhu, Zhmoginov, Chen",
    year=2018,
    reference="https://arxiv.org/abs/1801.04381",
    summary="Med-2D SegNet with inverted residuals in its encoder, at equal size.",
    options={"block": "mobilenetv2", "widths": (32, 32, 72, 136, 264)},
    measured=dict.fromkeys(("dsb2018", "glas", "kvasir_seg", "wbc"), "results/grid-64px"),
    fidelity=replace(
        PLAIN.fidelity,
        parameters=2_075_761,
        parity="MobileNetV2 made of the block has torchvision's count (3,504,872) and MACs",
        from_authors=("the block: expansion 6, depthwise 3x3, linear bottleneck, ReLU6",),
        deviations=(),
    ),
)
