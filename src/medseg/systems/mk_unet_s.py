"""Card of MK-UNet-S."""

from dataclasses import replace

from medseg.systems.mk_unet import CARD as MK_UNET

CARD = replace(
    MK_UNET,
    name="mk-unet-s",
    summary="MK-UNet at half of the widths (8 to 80).",
    options={"widths": (8, 16, 32, 48, 80)},
    fidelity=replace(
        MK_UNET.fidelity,
        parameters=93_050,
        official_parameters=(
            "93,050 (MK_UNet_S of github.com/SLDGroup/MK-UNet at 126eb4a, BSD-3-Clause)"
        ),
    ),
)
