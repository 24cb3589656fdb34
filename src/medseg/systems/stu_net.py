"""Card of STU-Net-B."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="stu-net",
    title=(
        "STU-Net: Scalable and Transferable Medical Image Segmentation Models Empowered by "
        "Large-Scale Supervised Pre-training"
    ),
    authors="Huang, Wang, Deng, Ye, Su, Sun, He, Gu, Gu, Zhang, Qiao",
    year=2023,
    reference="https://arxiv.org/abs/2304.06716",
    summary="Residual U-Net of volumes whose weights fit any patch and spacing; the base size.",
    dims=(3,),
    network="medseg.networks.volumes.stu_net:STUNet",
    recipe={"loss.deep_supervision": (0.5, 0.25, 0.125, 0.0625)},
    fidelity=Fidelity(
        parameters=58_160_773,
        official_parameters=(
            "58,262,669 for 1 channel and 105 classes (github.com/uni-medical/STU-Net at 0652eaf, "
            "Apache-2.0); ours has as many"
        ),
        parity=(
            "the official module's weights (widths 4 to 10, two blocks a stage), eval mode, noise "
            "of 32 x 64 x 32, strides of 2 and a plan of mixed strides: all five heads the same "
            "bits in fp32 and fp64"
        ),
        level="parity",
        from_authors=(
            "the whole network, read in the official code; initialisation as in their first "
            "release (network.as_released=true: as in their second, PyTorch's own)",
            "names and shapes of the published checkpoints, which `medseg models import` makes "
            "bundles of; --init then carries them over: heads are dropped, and the first "
            "convolution serves any number of channels",
        ),
        deviations=(
            "sizes that the strides do not divide are padded with their last voxels",
            "side heads' logits are repeated to full size; the authors shrink the masks",
            "the deepest head's loss weighs 1/16, the authors' 0",
            "trained by this project's recipe, not by nnU-Net's; the authors' mirroring of "
            "lateralised labels is not copied",
            "of several channels each gets its share of the published first convolution, so that "
            "equal channels are answered as one; the authors repeat it undivided",
            "pre-trained weights lie outside the repository, at their authors'",
        ),
    ),
)
