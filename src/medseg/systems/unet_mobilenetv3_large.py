"""Card of U-Net on MobileNetV3-Large."""

from dataclasses import replace

from medseg.systems.unet_mobilenetv2 import CARD as MOBILENETV2

CARD = replace(
    MOBILENETV2,
    name="unet-mobilenetv3-large",
    title="Searching for MobileNetV3",
    authors="Howard, Sandler, Chu, Chen, Chen, Tan, Wang, Zhu, Pang, Vasudevan, Le, Adam",
    year=2019,
    reference="https://arxiv.org/abs/1905.02244",
    summary="U-Net whose encoder is MobileNetV3-Large.",
    options={"encoder": "mobilenetv3_large_100"},
    fidelity=replace(
        MOBILENETV2.fidelity,
        parameters=6_685_825,
        official_parameters=(
            "6,685,825 (Unet of segmentation_models.pytorch 0.6.0, MIT, on "
            "tu-mobilenetv3_large_100 of timm 1.0.19, Apache-2.0)"
        ),
    ),
)
