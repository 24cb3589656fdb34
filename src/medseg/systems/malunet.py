"""Card of MALUNet."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="malunet",
    title="MALUNet: A Multi-Attention and Light-weight UNet for Skin Lesion Segmentation",
    authors="Ruan, Xiang, Xie, Liu, Fu",
    year=2022,
    reference="https://arxiv.org/abs/2211.01784",
    summary="Dilated gated and external attention, bridges across all skips; 178 K.",
    network="medseg.networks.images.malunet:MALUNet",
    fidelity=Fidelity(
        parameters=177_943,
        official_parameters=(
            "177,943 (github.com/JCruan519/MALUNet at e184b47, no licence: read for facts, "
            "nothing copied)"
        ),
        parity=(
            "the official module's weights, eval mode, noise of 128 x 192 and 256 x 256: the same "
            "bits in fp32 and fp64"
        ),
        level="parity",
        from_authors=(
            "the whole network, read in the official code",
            "its initialisation; in external attention the keys start as the values' transpose",
        ),
        deviations=(
            "in the official code keys and values share their memory until the network is moved "
            "to a GPU; here they are two matrices on every device",
            "logits, not probabilities",
            "sizes that 32 does not divide are padded with their last row and column",
            "trained by this project's recipe, not by the authors' (AdamW, 1e-3, 256 pixels)",
        ),
    ),
)
