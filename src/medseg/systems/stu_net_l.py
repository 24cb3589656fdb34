"""Card of STU-Net-L."""

from dataclasses import replace

from medseg.systems.stu_net import CARD as STU_NET

CARD = replace(
    STU_NET,
    name="stu-net-l",
    summary="STU-Net of widths 64 to 1024 and 2 blocks a stage.",
    options={"widths": (64, 128, 256, 512, 1024, 1024), "depth": 2},
    fidelity=replace(
        STU_NET.fidelity,
        parameters=440_099_333,
        official_parameters=(
            "440,302,605 for 1 channel and 105 classes (github.com/uni-medical/STU-Net at "
            "0652eaf, Apache-2.0); ours has as many"
        ),
    ),
)
