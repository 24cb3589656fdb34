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
    measured=dict.fromkeys(
        ("hc18", "brain_tumor", "kvasir_seg", "busi_partial"),
        "results/scribbleprompt-clicks.json",
    ),
    fidelity=Fidelity(
        parameters=3_995_338,
        official_parameters="3,991,882 for grey images (official code), and so has ours; colour "
        "images have 3,456 more",
        parity="logits equal to the last bit to those of the official code, for its encoding of "
        "clicks, boxes, scribbles and earlier mask, with random weights",
        level="parity",
        from_authors=(
            "a convolution and a PReLU a level, four levels of 192 channels, bilinear enlargement",
            "box, strokes and clicks beside and on the structure, and earlier logits as channels",
            "first prompts: any non-empty set of box, clicks and scribbles; 1 to 3 on the "
            "structure, 0 to 3 beside it",
            "5 rounds, corrections of 1 to 3 clicks or strokes on what is wrong, no gradient "
            "through the earlier logits, the mean of all losses",
            "clicks: anywhere, in the middle of pieces, along borders; scribbles: lines, "
            "centrelines and contours, broken by noise and bent",
            "focal loss with gamma 20 and soft Dice with squared sums",
            "a superpixel (Felzenszwalb) in the structure's place for half of the images",
            "Adam at 1e-4, 8 images a step, images of 128 pixels",
        ),
        reconstructed=(
            "smooth noise: white noise blurred in the frequency domain, of deviation 1",
            "contours are the inner border of the region, where the authors run Canny over it",
            "centrelines keep pieces and holes exactly, where the authors thin with Zhang and Suen",
            "the jitter of boxes is 20 pixels at 128, and in proportion at other sizes",
        ),
        deviations=(
            "boxes are drawn around the structure; in the authors' code each begins in the "
            "image's corner (method_options.as_released=true)",
            "of two clicks on a pixel both count, where the authors' later one wipes out the other",
            "where nothing is wrong nothing is corrected, where the authors click anywhere",
            "cases are drawn evenly, not by dataset, modality and label in turn",
            "images are normalised by the training data's mean and deviation, not each to 0..1",
            "no sharpening, and noise without a shift, among the augmentations; a slow decay of "
            "weights averages them; validation clicks in the middle of the largest error",
            "the form on top of SAM is not there",
        ),
        reproduced="none of the paper's tables; that Dice rises with clicks, on small data at 64 "
        "pixels with 32 channels: from 0.24 after one to 0.87 after ten on held-out images of "
        "three datasets, and from 0.29 to 0.81 on a fourth that it never saw",
    ),
)
