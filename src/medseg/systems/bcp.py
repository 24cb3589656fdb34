"""Card of BCP."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="bcp",
    title="Bidirectional Copy-Paste for Semi-Supervised Medical Image Segmentation",
    authors="Bai, Chen, Li, Shen, Wang",
    year=2023,
    reference="https://arxiv.org/abs/2305.00673",
    summary="A mean teacher on images mixed across the border of labelled and unlabelled ones; "
    "any network learns so with method=bcp.",
    family="mean-teacher",
    kind="method",
    network="medseg.networks.images.dropout_unet:DropoutUNet",
    recipe={
        "method": "bcp",
        "method_options.sgd": True,
        "optimizer.learning_rate": 0.01,
        "optimizer.weight_decay": 1e-4,
        "train.batch_size": 24,
        "train.ema_decay": 0.0,
        "augment.rotate": 20.0,
        "augment.scale_prob": 0.0,
        "augment.shift_prob": 0.0,
        "augment.brightness_prob": 0.0,
        "augment.contrast_prob": 0.0,
        "augment.saturation_prob": 0.0,
        "augment.gamma_prob": 0.0,
        "augment.blur_prob": 0.0,
        "augment.noise_prob": 0.0,
    },
    measured={"acdc_slices": "results/bcp-acdc.json"},
    fidelity=Fidelity(
        parameters=1_813_617,
        official_parameters="1,826,828 for 1 channel and 4 classes, of which 13,064 in projection "
        "heads are never used; ours 1,813,764, without them",
        parity="logits of the network and the loss of a mix, in 2D and 3D, equal those of the "
        "official code (github.com/DeepMed-Lab-ECNU/BCP)",
        level="parity",
        from_authors=(
            "the box of 2/3, the weights 1 and 0.5, the teacher's constant decay of 0.99 and its "
            "training mode, the largest component of each class, pre-training on labelled mixes, "
            "both forms of the Dice loss, SGD with momentum 0.9 at 0.01, batches of 12 + 12",
        ),
        reconstructed=(
            "ignored pixels, which their data do not have, count neither as labelled nor as pasted",
        ),
        deviations=(
            "one run: self-training begins from the last weights of the pre-training, not from "
            "those with the best validation Dice",
            "pre-training is a quarter of the steps (ACDC: 10,000 of 40,000), the left atrium's "
            "2,000 of 17,000 are method_options.pretraining=0.12",
            "the pseudo-label of volumes is the most probable class too, instead of a foreground "
            "of at least 0.5; they differ in ties alone",
            "rotation and flips are drawn together, without quarter turns; images are resampled "
            "linearly, theirs to the nearest pixel",
            "the learning rate stays, theirs falls tenfold every 2,500 steps on the left atrium",
            "the network of volumes is not built; method=bcp trains any",
        ),
        reproduced="not yet: with 7 labelled patients at 64 px, a U-Net of 121 k parameters and "
        "1,000 steps, test Dice is 0.10 below that of the labelled images alone (2 seeds); the "
        "paper trains 40,000 steps at 256 px",
    ),
)
