"""Card of CMUNeXt-L."""

from dataclasses import replace

from medseg.systems.cmunext import CARD as CMUNEXT

CARD = replace(
    CMUNEXT,
    name="cmunext-l",
    summary="CMUNeXt of larger widths (32 to 512) and depths.",
    options={"widths": (32, 64, 128, 256, 512), "depths": (1, 1, 1, 6, 3)},
    fidelity=replace(
        CMUNEXT.fidelity,
        parameters=8_286_721,
        official_parameters=(
            "8,286,721 (cmunext_l of github.com/FengheTan9/CMUNeXt at affbf03, MIT)"
        ),
    ),
)
