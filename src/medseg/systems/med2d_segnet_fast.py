"""Card of Med-2D SegNet, the fast preset."""

from medseg.systems.card import Card, Fidelity

CARD = Card(
    name="med2d-segnet-fast",
    title="Med-2D SegNet: A Light Weight Deep Neural Network for Medical 2D Image Segmentation",
    authors="Sabrin, Chowdhury, Tapu, Sarkar, Bin Ali",
    year=2025,
    reference="https://arxiv.org/abs/2504.14715",
    summary="Med-2D SegNet with a stem at 1/2 and small kernels where maps are large.",
    family="med2d-segnet",
    network="medseg.networks.images.med2d_segnet:Med2DSegNet",
    options={"stem_stride": 2, "expansion": (3, 4, 6, 6), "kernel": (3, 3, 5, 7)},
    fidelity=Fidelity(
        parameters=2_004_836,
        official_parameters="2.07 M (paper); this preset is ours",
        parity="not possible: the authors have published no code",
        from_authors=("the Med Block, the stages at 1/2 to 1/16 and the residual decoder",),
        reconstructed=("all that med2d-segnet reconstructs; widths and depths are the same",),
        deviations=(
            "the stem halves the size, the decoder ends at 1/2 and a pixel shuffle gives the "
            "logits: convolutions at full resolution take most of the time",
            "depthwise kernels 3, 3, 5, 7 and expansions 3, 4, 6, 6 for 7 and 6 in every stage: "
            "wide kernels on large maps are slow",
        ),
        reproduced="none: the paper's numbers come without splits or code",
    ),
)
