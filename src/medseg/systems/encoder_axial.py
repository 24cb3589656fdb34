"""Card of Med-2D SegNet with axial attention in place of Med Blocks."""

from dataclasses import replace

from medseg.systems.encoder_plain import CARD as PLAIN

CARD = replace(
    PLAIN,
    name="encoder-axial",
    title="Axial-DeepLab: Stand-Alone Axial-Attention for Panoptic Segmentation",
    authors="Wang, Zhu, Green, Adam, Yuille, Chen",
    year=2020,
    reference="https://arxiv.org/abs/2003.07853",
    summary="Med-2D SegNet with axial attention in its encoder, at equal size.",
    options={"block": "axial", "widths": (40, 48, 96, 208, 408)},
    fidelity=replace(
        PLAIN.fidelity,
        parameters=2_068_381,
        parity="attention equal to the released code within 1e-13, once signs of distances agree",
        from_authors=(
            "position-sensitive attention along columns, then rows, between two 1x1 convolutions",
            "query, key and value encodings shared by the heads; a batch norm for each term",
        ),
        deviations=(
            "heads of 8 channels, as many as the width gives, instead of always 8 heads",
            "a stride of 2 averages before the attention, not after it, to bound the memory",
            "attention over the whole axis; distances of 56 pixels and more share one encoding",
        ),
    ),
)
