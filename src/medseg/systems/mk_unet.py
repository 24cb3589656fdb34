"""Card of MK-UNet."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="mk-unet",
    title="MK-UNet: Multi-kernel Lightweight CNN for Medical Image Segmentation",
    authors="Rahman, Marculescu",
    year=2025,
    reference="https://arxiv.org/abs/2509.18493",
    summary="Depthwise kernels of 1, 3 and 5 side by side; attention to channels, pixels, skips.",
    network="medseg.networks.images.mk_unet:MKUNet",
    fidelity=Fidelity(
        parameters=315_566,
        official_parameters=(
            "315,566 with its three side heads (github.com/SLDGroup/MK-UNet at 126eb4a, "
            'BSD-3-Clause); "0.316M" (abstract)'
        ),
        parity=(
            "the official module's weights, eval mode, noise of 128 x 192: the same bits in fp32 "
            "and fp64"
        ),
        level="parity",
        from_authors=(
            "the whole network and its initialisation, read in the official code; of the paper "
            "only the abstract and summaries by others were at hand",
        ),
        deviations=(
            "the first convolution takes the image's channels; the official code repeats a "
            "single channel three times",
            "side heads by forward_all(); the official code computes and drops them",
            "trained without deep supervision: the side heads learn nothing, which changes no mask",
            "sizes that 32 does not divide are padded with their last row and column",
            "trained by this project's recipe; the authors' is not in their repository",
        ),
    ),
)
