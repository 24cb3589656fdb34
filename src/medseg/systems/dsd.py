"""Card of dual self-distillation."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="dsd",
    title="Volumetric Medical Image Segmentation through Dual Self-Distillation in U-shaped "
    "Networks",
    authors="Banerjee, Summerfield, Dong, Glide-Hurst",
    year=2023,
    reference="https://arxiv.org/abs/2306.03271",
    summary="The levels of a U-shaped network teach each other in training; any such network "
    "learns so with method=dsd.",
    kind="method",
    network="medseg.networks.images.unet:UNet",
    options={"widths": (16, 32, 64, 128, 256)},
    recipe={"method": "dsd"},
    measured={"wbc": "results/dsd-wbc.json"},
    fidelity=Fidelity(
        parameters=1_944_049,
        official_parameters="8,592 more in training for the nnU-Net of 8 classes (5 heads for 8 "
        "levels, method_options.shared_heads=true), as ours; none when it predicts",
        parity="the divergence and its gradient have their closed form and equal PyTorch's "
        "kl_div; the official code needs packages that are gone and was not run",
        level="properties",
        from_authors=(
            "the heads, which level teaches which, the temperature of 3 and its square, the "
            "weight 1 of each term, gradients that also reach the teachers, no truth for the "
            "encoder's heads",
        ),
        deviations=(
            "levels are found by a probe, so that any U-shaped network can be trained; the "
            "paper's are nnU-Net, UNETR, Swin UNETR and V-Net",
            "against the truth stand the losses of the recipe: cross-entropy and Dice as in the "
            "paper, but Dice without the background",
            "a binary task has one logit; its divergence is of both classes",
            "the card's network is a narrow U-Net of images; the paper trains on volumes alone",
            "AdamW with the recipe's schedule; theirs halves 0.001 six times",
            "the distance between features, off in the released code, is not built",
        ),
        reproduced="not yet: on wbc at 64 px, 300 steps, one seed, test Dice is as without it "
        "(-0.002, interval -0.007 to 0.006)",
    ),
)
