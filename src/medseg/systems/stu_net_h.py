"""Card of STU-Net-H."""

from dataclasses import replace

from medseg.systems.stu_net import CARD as STU_NET

CARD = replace(
    STU_NET,
    name="stu-net-h",
    summary="STU-Net of widths 96 to 1536 and 3 blocks a stage.",
    options={"widths": (96, 192, 384, 768, 1536, 1536), "depth": 3},
    fidelity=replace(
        STU_NET.fidelity,
        parameters=1_457_021_573,
        official_parameters=(
            "1,457,326,221 for 1 channel and 105 classes (github.com/uni-medical/STU-Net at "
            "0652eaf, Apache-2.0); ours has as many"
        ),
    ),
)
