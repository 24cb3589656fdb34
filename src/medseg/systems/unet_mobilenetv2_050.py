"""Card of U-Net on MobileNetV2 of half the widths."""

from dataclasses import replace

from medseg.systems.unet_mobilenetv2 import CARD as MOBILENETV2

CARD = replace(
    MOBILENETV2,
    name="unet-mobilenetv2-050",
    summary="U-Net whose encoder is MobileNetV2 at half its widths.",
    options={"encoder": "mobilenetv2_050"},
    fidelity=replace(
        MOBILENETV2.fidelity,
        parameters=2_168_977,
        official_parameters=(
            "2,168,977 (Unet of segmentation_models.pytorch 0.6.0, MIT, on tu-mobilenetv2_050 of "
            "timm 1.0.19, Apache-2.0)"
        ),
    ),
)
