"""Card of Mobile U-ViT."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="mobileuvit",
    title=(
        "Mobile U-ViT: Revisiting large kernel and U-shaped ViT for efficient medical image "
        "segmentation"
    ),
    authors="Tang, Nian, Ding, Ma, Quan, Dong, Yang, Liu, Zhou",
    year=2025,
    reference="https://arxiv.org/abs/2508.01064",
    summary="Large depthwise kernels, then attention among few pixels at 1/8; pooled skips.",
    network="medseg.networks.images.mobileuvit:MobileUViT",
    fidelity=Fidelity(
        parameters=1_390_305,
        official_parameters=(
            "1,390,305 (the authors' copy in github.com/FengheTan9/"
            "Medical-Image-Segmentation-Benchmarks at 2c75eee, MIT)"
        ),
        parity=(
            "the authors' module's weights, eval mode, noise of 128 x 192: at most 1.2e-07 apart "
            "in fp32 (logits up to 0.40), 2.3e-16 in fp64"
        ),
        level="parity",
        from_authors=(
            "the whole network, read in the authors' code; initialisation is PyTorch's, as there",
            "stochastic depth of 0.1 in the large-kernel local-global-local blocks, as there",
        ),
        reconstructed=(
            "nothing; but of the paper only the abstract was at hand, so whether its text and the "
            "code agree is not known, and the repository named in it could not be fetched",
        ),
        deviations=(
            "an image of one channel has a stem of one channel; the authors' code repeats it three "
            "times, which can compute no more with three times the weights in the stem",
            "linear layers on tokens are 1x1 convolutions on maps, which compute the same",
            "sizes that 16 does not divide are padded with their last row and column",
            "trained by this project's recipe, not by the authors'",
        ),
    ),
)
