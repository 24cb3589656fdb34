"""Card of UNet++ as in its authors' second release, built on nnU-Net."""

from dataclasses import replace

from medseg.systems.unetpp import CARD as UNETPP

CARD = replace(
    UNETPP,
    name="unetpp-nnunet",
    summary="UNet++ as in its authors' second code: five columns, strides, instance norm.",
    options={"widths": (30, 60, 120, 240, 480, 480), "as_released": "nnunet"},
    recipe={"loss.deep_supervision": (1.0, 1.0, 1.0, 1.0)},
    measured={},
    fidelity=replace(
        UNETPP.fidelity,
        parameters=22_836_480,
        official_parameters=(
            "22,836,630 for 3 channels and 2 classes; 42,716,300 of volumes, for 1 channel, 3 "
            "classes and widths 30 to 320 (the module of github.com/MrGiovanni/UNetPlusPlus at "
            "2659ddc, whose licence is non-commercial: facts only were taken)"
        ),
        parity=(
            "that module's weights (widths 6 to 24), eval mode, noise of 64 x 96 and of "
            "32 x 64 x 32: all five heads the same bits in fp32 and fp64"
        ),
        from_authors=("the whole network, read in the official code",),
        reconstructed=(),
        reproduced="none yet",
        deviations=(
            "sizes that 32 does not divide are padded with their last row and column",
            "trained by this project's recipe, not by nnU-Net's",
        ),
    ),
)
