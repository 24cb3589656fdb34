"""Card of Med-2D SegNet with two plain convolutions in place of each Med Block."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="encoder-plain",
    title="U-Net: Convolutional Networks for Biomedical Image Segmentation",
    authors="Ronneberger, Fischer, Brox",
    year=2015,
    reference="https://arxiv.org/abs/1505.04597",
    summary="Med-2D SegNet with pairs of 3x3 convolutions in its encoder, at equal size.",
    family="med2d-segnet",
    network="medseg.networks.images.encoders:EncoderSegNet",
    options={"block": "plain", "widths": (16, 32, 56, 104, 208)},
    fidelity=Fidelity(
        parameters=2_073_953,
        official_parameters="none: the comparison is ours; Med-2D SegNet has 2,069,041",
        parity="not checked",
        from_authors=("the block: two 3x3 convolutions, each with ReLU",),
        reconstructed=(
            "which encoders Med-2D SegNet was compared with, and how, is not known to us",
            "Med-2D SegNet's stem, resolutions, blocks a stage, decoder; all widths scaled alike",
        ),
        deviations=("batch norm after each convolution", "a stride of 2 instead of max pooling"),
    ),
)
