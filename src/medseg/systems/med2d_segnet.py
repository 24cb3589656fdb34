"""Card of Med-2D SegNet."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="med2d-segnet",
    title="Med-2D SegNet: A Light Weight Deep Neural Network for Medical 2D Image Segmentation",
    authors="Sabrin, Chowdhury, Tapu, Sarkar, Bin Ali",
    year=2025,
    reference="https://arxiv.org/abs/2504.14715",
    summary="Encoder of Med Blocks at 1/2 to 1/16, residual decoder, 2.07 M parameters.",
    network="medseg.networks.images.med2d_segnet:Med2DSegNet",
    measured=dict.fromkeys(("dsb2018", "glas", "kvasir_seg", "wbc"), "results/grid-64px"),
    fidelity=Fidelity(
        parameters=2_069_041,
        official_parameters="2.07 M (paper)",
        parity="not possible: the authors have published no code",
        from_authors=(
            "Med Block: channel expansion, depthwise aggregation, channel reduction, residual path",
            "encoder stages at 1/2, 1/4, 1/8, 1/16; decoder with residual connections",
            "2.07 M parameters; binary and multi-class",
            "expansion 6, depthwise 7x7 and a global average pooling (second-hand, from a review)",
        ),
        reconstructed=(
            "widths 24; 32, 64, 128, 256 and depths 1, 1, 2, 2, chosen to meet the count",
            "global average pooling read as a sigmoid gate without parameters",
            "full-resolution 3x3 stem, batch norm, ReLU6, linear reduction",
            "decoder: 1x1 reduction, bilinear upsampling, additive skip, residual unit",
            "the whole training recipe: loss, optimizer, schedule, augmentation, image size",
        ),
        reproduced=(
            "none: the paper's 95.78 % Dice on Kvasir-SEG and 89.77 % over 20 sets come without "
            "splits or code; see docs/results.md for what this implementation reaches"
        ),
    ),
)
