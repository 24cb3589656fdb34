"""Card of R2U-Net."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="r2unet",
    title=(
        "Recurrent Residual Convolutional Neural Network based on U-Net (R2U-Net) for Medical "
        "Image Segmentation"
    ),
    authors="Alom, Hasan, Yakopcic, Taha, Asari",
    year=2018,
    reference="https://arxiv.org/abs/1802.06955",
    summary="Convolutions that run several times with the same weights, in residual units.",
    network="medseg.networks.images.r2unet:R2UNet",
    fidelity=Fidelity(
        parameters=39_091_393,
        official_parameters=(
            "39,091,393 (the form that others compare with, "
            "github.com/LeeJunHyun/Image_Segmentation at 7a6e5f9); the paper's own networks for "
            "vessels have about 1 M (narrower network.widths)"
        ),
        parity=(
            "the weights of that form's module, eval mode, noise of 64 x 96, two and three steps: "
            "the same bits in fp32 and fp64"
        ),
        level="parity",
        from_authors=(
            "recurrent residual units, five scales, widths 64 to 1024, two recurrent steps",
            "network.residual=false gives the paper's RU-Net",
        ),
        deviations=(
            "one kernel for input and state, as in the form that others compare with; the paper's "
            "equation has two (network.shared=false)",
            "He initialisation, where that form draws normal weights of deviation 0.02",
            "sizes that 16 does not divide are padded with their last row and column",
            "trained by this project's recipe, not on patches of 48 px as the paper's vessels",
        ),
    ),
)
