"""Card of EGE-UNet."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="ege-unet",
    title="EGE-UNet: an Efficient Group Enhanced UNet for skin lesion segmentation",
    authors="Ruan, Xie, Gao, Liu, Fu",
    year=2023,
    reference="https://arxiv.org/abs/2307.08473",
    summary="Products with learnt maps and lines; bridges that see the coarser mask; 53 K.",
    network="medseg.networks.images.ege_unet:EGEUNet",
    fidelity=Fidelity(
        parameters=53_374,
        official_parameters=(
            "53,374 with its five side heads (github.com/JCruan519/EGE-UNet at f52ba30, "
            'Apache-2.0); "just 50KB" (abstract)'
        ),
        parity=(
            "the official module's weights, eval mode, noise of 128 x 192 and 256 x 256: "
            "probabilities of head and side heads at most 3.6e-06 apart in fp32, 1.0e-14 in fp64"
        ),
        level="parity",
        from_authors=("the whole network and its initialisation, read in the official code",),
        deviations=(
            "logits, not probabilities; side heads by forward_all(), not with every call",
            "with several classes the side heads, and the masks the bridges see, have all of them",
            "trained without deep supervision: the side heads learn through the bridges only; the "
            "authors add the sides' losses, weighted 0.1 (deepest) to 0.5",
            "sizes that 32 does not divide are padded with their last row and column",
            "trained by this project's recipe, not by the authors' (AdamW, 1e-3, 256 pixels)",
        ),
    ),
)
