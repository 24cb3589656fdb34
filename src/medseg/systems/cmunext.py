"""Card of CMUNeXt."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="cmunext",
    title=(
        "CMUNeXt: An Efficient Medical Image Segmentation Network based on Large Kernel and Skip "
        "Fusion"
    ),
    authors="Tang, Ding, Wang, Ning, Zhou",
    year=2023,
    reference="https://arxiv.org/abs/2308.01239",
    summary="Residual depthwise kernels of up to 7x7, inverted bottlenecks, fused skips.",
    network="medseg.networks.images.cmunext:CMUNeXt",
    fidelity=Fidelity(
        parameters=3_149_185,
        official_parameters="3,149,185 (github.com/FengheTan9/CMUNeXt at affbf03, MIT)",
        parity=(
            "the official module's weights, eval mode, noise of 128 x 192: the same bits in fp32 "
            "and fp64"
        ),
        level="parity",
        from_authors=(
            "the whole network, read in the official code; initialisation is PyTorch's, as there",
        ),
        deviations=(
            "sizes that 16 does not divide are padded with their last row and column",
            "trained by this project's recipe, not by the authors'",
        ),
    ),
)
