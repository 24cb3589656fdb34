"""Card of U-Net on EfficientNet-B0."""

from dataclasses import replace

from medseg.systems.unet_mobilenetv2 import CARD as MOBILENETV2

CARD = replace(
    MOBILENETV2,
    name="unet-efficientnet-b0",
    title="EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
    authors="Tan, Le",
    year=2019,
    reference="https://arxiv.org/abs/1905.11946",
    summary="U-Net whose encoder is EfficientNet-B0.",
    options={"encoder": "efficientnet_b0"},
    fidelity=replace(
        MOBILENETV2.fidelity,
        parameters=5_834_701,
        official_parameters=(
            "5,834,701 (Unet of segmentation_models.pytorch 0.6.0, MIT, on tu-efficientnet_b0 of "
            "timm 1.0.19, Apache-2.0)"
        ),
    ),
)
