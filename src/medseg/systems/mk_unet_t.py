"""Card of MK-UNet-T."""

from dataclasses import replace

from medseg.systems.mk_unet import CARD as MK_UNET

CARD = replace(
    MK_UNET,
    name="mk-unet-t",
    summary="MK-UNet at a quarter of the widths or less (4 to 32).",
    options={"widths": (4, 8, 16, 24, 32)},
    fidelity=replace(
        MK_UNET.fidelity,
        parameters=27_384,
        official_parameters=(
            "27,384 (MK_UNet_T of github.com/SLDGroup/MK-UNet at 126eb4a, BSD-3-Clause)"
        ),
    ),
)
