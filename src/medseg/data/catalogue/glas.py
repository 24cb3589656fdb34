"""GlaS (Warwick-QU)."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="glas",
    title="GlaS (Warwick-QU)",
    modality="histology",
    organ="colon",
    summary="glands, H&E, benign and malignant; masks number the glands",
    labels=binary("gland"),
    objects=True,
    images=165,
    widths=(567, 775),
    heights=(430, 522),
    licence="research",
    licence_url="https://warwick.ac.uk/fac/cross_fac/tia/data/glascontest",
    citation=Citation(
        authors="Sirinukunwattana, Pluim, Chen, Qi, Heng et al.",
        year=2017,
        title="Gland Segmentation in Colon Histology Images: The GlaS Challenge Contest",
        venue="Medical Image Analysis 35, 489-502",
        link="https://arxiv.org/abs/1603.00275",
    ),
    url="https://warwick.ac.uk/fac/cross_fac/tia/data/glascontest",
    steps=(
        (
            "download the archive and unpack it: train_1.bmp with train_1_anno.bmp, and "
            "likewise testA_ and testB_"
        ),
    ),
    layout="folders",
    split=PublishedSplit(
        rule="by name: train_ is training (85), testA_ and testB_ (60 + 20) are test",
        parts={"train": 85, "test": 80},
        patterns={"train": r"(^|/)train_", "test": r"(^|/)test[AB]?_"},
    ),
    notes=(
        (
            "16 slides: Grade.csv names the patient of each image, and they are not "
            "separated between train and testA"
        ),
        "no validation part",
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/GlaS.md"),
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/histopathology/glas.py"
        ),
    ),
    unverified=(
        "widths",
        "heights",
        "licence",
        "licence_url",
        "notes",
    ),
)
