"""Card of U-Net on MobileNetV2."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="unet-mobilenetv2",
    title="MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    authors="Sandler, Howard, Zhu, Zhmoginov, Chen",
    year=2018,
    reference="https://arxiv.org/abs/1801.04381",
    summary="U-Net whose encoder is MobileNetV2, with the decoder of segmentation_models.pytorch.",
    family="unet",
    network="medseg.networks.images.mobile_unet:MobileUNet",
    options={"encoder": "mobilenetv2_100"},
    fidelity=Fidelity(
        parameters=4_004_945,
        official_parameters=(
            "4,004,945 (Unet of segmentation_models.pytorch 0.6.0, MIT, on tu-mobilenetv2_100 of "
            "timm 1.0.19, Apache-2.0)"
        ),
        parity=(
            "the weights and batch statistics of that Unet, eval mode, noise of 128 x 192: the "
            "same bits in fp32 and fp64"
        ),
        level="parity",
        from_authors=(
            "the encoder's table, without its last convolution and classifier",
            "the decoder of segmentation_models.pytorch, widths 256, 128, 64, 32, 16",
            "names and shapes of the encoder's weights in the files timm publishes, compared with "
            "timm's own (medseg.networks.images.mobile_unet.load_encoder_weights reads such files)",
        ),
        deviations=(
            "no weights of ImageNet unless they are loaded: trained from random weights",
            "sizes that 32 does not divide are padded with their last row and column",
            "trained by this project's recipe",
        ),
    ),
)
