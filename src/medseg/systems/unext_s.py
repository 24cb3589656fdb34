"""Card of UNeXt-S."""

from dataclasses import replace

from medseg.systems.unext import CARD as UNEXT

CARD = replace(
    UNEXT,
    name="unext-s",
    summary="UNeXt at half of the widths or less (8 to 128).",
    options={"widths": (8, 16, 32, 64, 128)},
    fidelity=replace(
        UNEXT.fidelity,
        parameters=253_561,
        official_parameters=(
            "253,561 (UNext_S of github.com/jeya-maria-jose/UNeXt-pytorch at 6ad0855, MIT)"
        ),
        parity=(
            "network.as_released=true, the official module's weights, eval mode, noise of "
            "128 x 192: at most 5.8e-06 apart in fp32 (logits up to 9.6), 1.2e-14 in fp64"
        ),
        from_authors=(
            "the whole network, its widths and its initialisation, read in the official code",
            UNEXT.fidelity.from_authors[2],
        ),
    ),
)
