"""Card of the narrow U-Net, the equal-size baseline of Med-2D SegNet."""

from dataclasses import replace

from medseg.systems.unet import CARD as UNET

CARD = replace(
    UNET,
    name="unet-narrow",
    summary="U-Net at a quarter of the widths (16 to 256): the baseline of equal size.",
    options={"widths": (16, 32, 64, 128, 256)},
    measured=dict.fromkeys(("dsb2018", "glas", "kvasir_seg", "wbc"), "results/grid-64px"),
    fidelity=replace(
        UNET.fidelity,
        parameters=1_944_049,
        official_parameters="none: the narrow form is ours",
        from_authors=("the architecture",),
        deviations=(*UNET.fidelity.deviations, "a quarter of the widths"),
    ),
)
