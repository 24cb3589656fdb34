"""Card of UNeXt."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="unext",
    title="UNeXt: MLP-based Rapid Medical Image Segmentation Network",
    authors="Valanarasu, Patel",
    year=2022,
    reference="https://arxiv.org/abs/2203.04967",
    summary="Convolutions above 1/8, MLPs over shifted channels below; skips are added.",
    network="medseg.networks.images.unext:UNeXt",
    fidelity=Fidelity(
        parameters=1_471_921,
        official_parameters=(
            "1,471,921 (github.com/jeya-maria-jose/UNeXt-pytorch at 6ad0855, MIT)"
        ),
        parity=(
            "network.as_released=true, the official module's weights, eval mode, noise of "
            "128 x 192: at most 5.1e-06 apart in fp32 (logits up to 4.9), 1.1e-14 in fp64"
        ),
        level="parity",
        from_authors=(
            "the whole network and its initialisation, read in the official code",
            "widths 16, 32, 128, 160, 256, of the code, which give the 1.47 M parameters everybody "
            "quotes; reviews quote 32, 64, 128, 160, 256 of the paper's text, which give 1.58 M",
            "five groups of channels moved by -2 ... 2 pixels, zeros where nothing is",
        ),
        deviations=(
            "channels are shifted along the width before the height, as reviews tell of the paper; "
            "the official code shifts along the height first (network.as_released=true)",
            "by the same reviews the paper has one norm, after the residual sum; the official "
            "code, and this one, have a second before the first shift",
            "linear layers on tokens are 1x1 convolutions on maps, which compute the same",
            "sizes that 32 does not divide are padded with their last row and column",
            "trained by this project's recipe, not by the authors' (Adam, 1e-4, 512 pixels)",
        ),
    ),
)
