"""Card of CMUNeXt-S."""

from dataclasses import replace

from medseg.systems.cmunext import CARD as CMUNEXT

CARD = replace(
    CMUNEXT,
    name="cmunext-s",
    summary="CMUNeXt of half the widths (8 to 128), one block a stage, kernels of up to 9x9.",
    options={
        "widths": (8, 16, 32, 64, 128),
        "depths": (1, 1, 1, 1, 1),
        "kernels": (3, 3, 7, 7, 9),
    },
    fidelity=replace(
        CMUNEXT.fidelity,
        parameters=417_505,
        official_parameters="417,505 (cmunext_s of github.com/FengheTan9/CMUNeXt at affbf03, MIT)",
    ),
)
