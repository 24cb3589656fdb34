"""Card of LightM-UNet."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="lightm-unet",
    title="LightM-UNet: Mamba Assists in Lightweight UNet for Medical Image Segmentation",
    authors="Liao, Zhu, Wang, Pan, Wang, Ma",
    year=2024,
    reference="https://arxiv.org/abs/2403.05246",
    summary="A U-Net whose encoder is made of Mamba layers over the pixels in raster order.",
    dims=(2, 3),
    network="medseg.networks.lightm_unet:LightMUNet",
    fidelity=Fidelity(
        parameters=5_011_732,
        official_parameters=(
            "5,011,683 for 1 channel and 2 logits, 5,015,766 for volumes of 1 channel and 3 "
            "logits (official code); the paper says 1.09 M and 1.87 M, which its code does not "
            "have: profilers skip what Mamba's fused kernel holds. network.width=16 has 1.34 M"
        ),
        parity=(
            "the official module's weights, its Mamba computed by mambapy 1.2.0 (MIT), noise of "
            "32 x 48 and of 16 x 8 x 24: at most 1.4e-06 apart in fp32 (logits up to 1.6), "
            "3.9e-10 in fp64"
        ),
        level="parity",
        from_authors=(
            "the whole network as the authors' nnU-Net trainer builds it: 32 channels, 1, 2, 2, 4 "
            "blocks in the encoder, one block a size in the decoder",
            "Mamba with 16 states, a convolution over 4 pixels, an expansion of 2, one direction; "
            "its initialisation",
        ),
        reconstructed=("nothing; where paper and code may differ, this is the code",),
        deviations=(
            "sides that 8 does not divide are padded with their last row, column and slice",
            "the scan is plain PyTorch, always in single precision",
            "trained by this project's recipe, not by the authors' (nnU-Net, Adam, 1e-4)",
        ),
    ),
)
