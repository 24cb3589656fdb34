"""Card of U-Lite."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="u-lite",
    title="1M parameters are enough? A lightweight CNN-based model for medical image segmentation",
    authors="Dinh, Nguyen, Tran, Pham",
    year=2023,
    reference="https://arxiv.org/abs/2306.16103",
    summary="U-Net of crosses: 7x1 and 1x7 depthwise convolutions, 1x1 for the channels.",
    network="medseg.networks.images.u_lite:ULite",
    fidelity=Fidelity(
        parameters=878_417,
        official_parameters=(
            "878,417 (github.com/duong-db/U-Lite at 5e2d53e, no licence: read for facts, "
            "nothing copied); 878 K (abstract)"
        ),
        parity=(
            "the official module's weights, eval mode, noise of 128 x 192: the same bits in fp32 "
            "and fp64"
        ),
        level="parity",
        from_authors=(
            "the whole network, read in the official code; initialisation is PyTorch's, as there",
            "7x7 crosses in encoder and decoder, 3x3 dilated ones in the bottleneck (abstract)",
        ),
        deviations=(
            "sizes that 32 does not divide are padded with their last row and column",
            "trained by this project's recipe, not by the authors'",
        ),
    ),
)
