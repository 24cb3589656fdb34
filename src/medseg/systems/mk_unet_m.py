"""Card of MK-UNet-M."""

from dataclasses import replace

from medseg.systems.mk_unet import CARD as MK_UNET

CARD = replace(
    MK_UNET,
    name="mk-unet-m",
    summary="MK-UNet at twice the widths (32 to 320).",
    options={"widths": (32, 64, 128, 192, 320)},
    fidelity=replace(
        MK_UNET.fidelity,
        parameters=1_150_166,
        official_parameters=(
            "1,150,166 (the module of github.com/SLDGroup/MK-UNet at 126eb4a with these "
            "widths, BSD-3-Clause)"
        ),
    ),
)
