"""Card of Mobile U-ViT-L."""

from dataclasses import replace

from medseg.systems.mobileuvit import CARD as MOBILEUVIT

CARD = replace(
    MOBILEUVIT,
    name="mobileuvit-l",
    summary="Mobile U-ViT of twice the widths (32 to 256), 8 heads, one transformer block more.",
    options={"widths": (32, 64, 128, 256), "depths": (1, 1, 3, 3, 4), "heads": 8},
    fidelity=replace(
        MOBILEUVIT.fidelity,
        parameters=6_209_217,
        official_parameters=(
            "6,209,217 (mobileuvit_l of the authors' copy in github.com/FengheTan9/"
            "Medical-Image-Segmentation-Benchmarks at 2c75eee, MIT)"
        ),
        parity=(
            "the authors' module's weights, eval mode, noise of 128 x 192: at most 3.2e-08 apart "
            "in fp32 (logits up to 0.031), 6.8e-17 in fp64"
        ),
    ),
)
