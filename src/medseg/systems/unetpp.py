"""Card of UNet++."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="unetpp",
    title=(
        "UNet++: Redesigning Skip Connections to Exploit Multiscale Features in Image Segmentation"
    ),
    authors="Zhou, Siddiquee, Tajbakhsh, Liang",
    year=2018,
    reference="https://arxiv.org/abs/1912.05074",
    summary="A grid of nested skips whose columns are networks; pruned at use with --depth.",
    dims=(2, 3),
    network="medseg.networks.unetpp:UNetPlusPlus",
    recipe={"loss.deep_supervision": (1.0, 1.0, 1.0)},
    measured={"dsb2018": "results/unetpp-depth.json"},
    fidelity=Fidelity(
        parameters=9_049_572,
        official_parameters=(
            "9,041,601 for 1 channel (authors' Keras code; 9.04 M in the paper): ours with "
            "network.as_released=keras and network.deep_supervision=false. 9,163,329 for 3 "
            "channels (github.com/4uiiurz1/pytorch-nested-unet at 557ea02, MIT): ours with "
            "network.upsampling=linear and network.deep_supervision=false"
        ),
        parity=(
            "that re-implementation's weights and batch statistics, eval mode, noise of 64 x 96, "
            "two classes: all four heads the same bits in fp32 and fp64; the Keras code was not "
            "run: its count is met"
        ),
        level="parity",
        from_authors=(
            "the grid of nodes, widths 32 to 512, two 3x3 convolutions a node, transposed 2x2 "
            "convolutions, a head a column, pruning to the first columns",
            "equal weights of the heads' losses (loss.deep_supervision, when training); "
            "the mean of all heads as accurate mode (network.accurate=true)",
        ),
        reconstructed=(
            "volumes: the same grid with 3x3x3 convolutions; the authors' is unetpp-nnunet",
        ),
        deviations=(
            "batch norm after each convolution; the paper's 9.04 M have none (network.norm=none), "
            "and the Keras code drops half of the values instead (network.as_released=keras)",
            "sizes that 16 does not divide are padded with their last row and column",
            "trained by this project's recipe, not by the authors' (Adam, 3e-4, patience 20)",
        ),
        reproduced=(
            "that pruning costs little: a quarter of the widths, 64 pixels, 6 epochs of dsb2018, "
            "test Dice at depths 1 to 4: 0.720, 0.712, 0.745, 0.737 (intervals of about 0.08 "
            "overlap) for 12.9, 27.7, 49.2 and 77.5 ms of one core at 256 pixels; no published "
            "score was reproduced"
        ),
    ),
)
