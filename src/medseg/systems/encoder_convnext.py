"""Card of Med-2D SegNet with ConvNeXt blocks in place of Med Blocks."""

from dataclasses import replace

from medseg.systems.encoder_plain import CARD as PLAIN

CARD = replace(
    PLAIN,
    name="encoder-convnext",
    title="A ConvNet for the 2020s",
    authors="Liu, Mao, Wu, Feichtenhofer, Darrell, Xie",
    year=2022,
    reference="https://arxiv.org/abs/2201.03545",
    summary="Med-2D SegNet with ConvNeXt blocks in its encoder, at equal size.",
    options={"block": "convnext", "widths": (24, 32, 64, 128, 264)},
    fidelity=replace(
        PLAIN.fidelity,
        parameters=2_093_913,
        parity="ConvNeXt-T made of the block has torchvision's count (28,589,128) and MACs",
        from_authors=(
            "block: depthwise 7x7, layer norm, 4 times the channels, GELU, layer scale from 1e-6",
            "layer norm and a 2x2 convolution of stride 2 between stages",
        ),
        deviations=(
            "He initialisation, as the rest of the network",
            "no stochastic depth",
        ),
    ),
)
