"""Card of MK-UNet-L."""

from dataclasses import replace

from medseg.systems.mk_unet import CARD as MK_UNET

CARD = replace(
    MK_UNET,
    name="mk-unet-l",
    summary="MK-UNet at three to four times the widths (64 to 512).",
    options={"widths": (64, 128, 256, 384, 512)},
    fidelity=replace(
        MK_UNET.fidelity,
        parameters=3_758_118,
        official_parameters=(
            "3,758,118 (the module of github.com/SLDGroup/MK-UNet at 126eb4a with these "
            "widths, BSD-3-Clause)"
        ),
    ),
)
