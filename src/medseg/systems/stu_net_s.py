"""Card of STU-Net-S."""

from dataclasses import replace

from medseg.systems.stu_net import CARD as STU_NET

CARD = replace(
    STU_NET,
    name="stu-net-s",
    summary="STU-Net at half of the widths (16 to 256).",
    options={"widths": (16, 32, 64, 128, 256, 256)},
    fidelity=replace(
        STU_NET.fidelity,
        parameters=14_545_733,
        official_parameters=(
            "14,596,941 for 1 channel and 105 classes (github.com/uni-medical/STU-Net at "
            "0652eaf, Apache-2.0); ours has as many"
        ),
    ),
)
