"""Card of ScribblePrompt."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="scribbleprompt",
    title="ScribblePrompt: Fast and Flexible Interactive Segmentation for Any Biomedical Image",
    authors="Wong, Rakic, Guttag, Dalca",
    year=2023,
    reference="https://arxiv.org/abs/2312.07381",
    summary="A small U-Net that segments what clicks, boxes and scribbles point at, and corrects "
    "itself with more of them.",
    kind="promptable",
    prompts=("point", "box", "scribble", "mask"),
    network="medseg.networks.promptable.scribbleprompt:ScribblePromptUNet",
    recipe={
        "method": "interactive",
        "data.channels": 1,
        "data.image_size": 128,
        "augment.rotate": 180.0,
        "augment.scale": (0.8, 1.1),
        "augment.shift": 0.2,
        "augment.elastic": 2.0,
        "augment.elastic_prob": 0.25,
        "augment.brightness": 0.1,
        "augment.brightness_prob": 0.5,
        "augment.contrast": 0.2,
        "augment.gamma_prob": 0.0,
        "augment.blur": (0.1, 1.1),
        "augment.blur_prob": 0.5,
        "augment.noise": 0.05,
        "augment.noise_prob": 0.5,
        "optimizer.learning_rate": 1e-4,
        "optimizer.final_learning_rate": 1e-4,
        "optimizer.warmup": 0.0,
        "optimizer.weight_decay": 0.0,
        "train.batch_size": 8,
    },
    fidelity=Fidelity(
        parameters=3_995_338,
        official_parameters="3,991,882 for grey images (official code), and so has ours; colour "
        "images have 3,456 more",
        parity="logits equal to the last bit to those of the official code, for its encoding of "
        "clicks, boxes, scribbles and earlier mask, with random weights",
        level="parity",
    ),
)
