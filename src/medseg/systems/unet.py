"""Card of U-Net."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="unet",
    title="U-Net: Convolutional Networks for Biomedical Image Segmentation",
    authors="Ronneberger, Fischer, Brox",
    year=2015,
    reference="https://arxiv.org/abs/1505.04597",
    summary="Double convolutions and concatenated skips at five scales, 31 M parameters.",
    network="medseg.networks.images.unet:UNet",
    fidelity=Fidelity(
        parameters=31_043_521,
        official_parameters="about 31 M without batch norm (paper's widths 64 to 1024)",
        parity="not checked: the authors' code is a Caffe network with unpadded convolutions",
        level="properties",
        from_authors=("widths 64 to 1024, two 3x3 convolutions a level, 2x2 up-convolutions",),
        deviations=(
            "padded convolutions, so that logits have the image's size",
            "batch norm after each convolution (network.norm=none gives the paper's)",
            "no dropout, no weighted border loss",
        ),
    ),
)
