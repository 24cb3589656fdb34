"""Card of U-Net on MobileNetV3-Small."""

from dataclasses import replace

from medseg.systems.unet_mobilenetv2 import CARD as MOBILENETV2

CARD = replace(
    MOBILENETV2,
    name="unet-mobilenetv3-small",
    title="Searching for MobileNetV3",
    authors="Howard, Sandler, Chu, Chen, Chen, Tan, Wang, Zhu, Pang, Vasudevan, Le, Adam",
    year=2019,
    reference="https://arxiv.org/abs/1905.02244",
    summary="U-Net whose encoder is MobileNetV3-Small.",
    options={"encoder": "mobilenetv3_small_100"},
    fidelity=replace(
        MOBILENETV2.fidelity,
        parameters=3_585_649,
        official_parameters=(
            "3,585,649 (Unet of segmentation_models.pytorch 0.6.0, MIT, on "
            "tu-mobilenetv3_small_100 of timm 1.0.19, Apache-2.0)"
        ),
    ),
)
