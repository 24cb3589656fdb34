"""Card of TinyU-Net."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="tinyu-net",
    title="TinyU-Net: Lighter Yet Better U-Net with Cascaded Multi-Receptive Fields",
    authors="Chen, Chen, Wang, Cheng, Zhang, Chen",
    year=2024,
    reference="https://doi.org/10.1007/978-3-031-72114-4_60",
    summary="U-Net of cascades of depthwise convolutions on an eighth of the channels.",
    network="medseg.networks.images.tinyu_net:TinyUNet",
    fidelity=Fidelity(
        parameters=481_105,
        official_parameters=(
            "481,105 with 1 class (github.com/ChenJunren-Lab/TinyU-Net at 7314772, MIT); "
            "0.48 M (paper)"
        ),
        parity=(
            "the official module's weights, eval mode, noise of 128 x 192: the same bits in fp32 "
            "and fp64"
        ),
        level="parity",
        from_authors=(
            "the whole network, read in the paper and in the official code, which agree",
            "batch norm with eps 1e-3 and momentum 0.03 (code); initialisation is PyTorch's",
        ),
        deviations=(
            "the official module adds a module's input where it has as many channels as the "
            "output; with images of 1 to 63 channels that is nowhere, and it is left out",
            "sizes that 16 does not divide are padded with their last row and column",
            "trained by this project's recipe, not by the authors' (Adam, 1e-4, cosine to 1e-6)",
        ),
    ),
)
