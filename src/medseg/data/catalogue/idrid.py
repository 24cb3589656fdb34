"""IDRiD, optic disc."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="idrid",
    title="IDRiD, optic disc",
    modality="fundus photography",
    organ="retina",
    summary=(
        "the optic disc; the set also has four kinds of diabetic lesions, each with masks"
        " of its own"
    ),
    labels=binary("disc"),
    images=81,
    widths=(4288, 4288),
    heights=(2848, 2848),
    licence="CC BY 4.0",
    licence_url=(
        "https://ieee-dataport.org/open-access/indian-diabetic-retinopathy-image-dataset-idrid"
    ),
    citation=Citation(
        authors="Porwal, Pachade, Kokare, Deshmukh, Son et al.",
        year=2020,
        title="IDRiD: Diabetic Retinopathy - Segmentation and Grading Challenge",
        venue="Medical Image Analysis 59, 101561",
        link="https://doi.org/10.1016/j.media.2019.101561",
    ),
    url=("https://ieee-dataport.org/open-access/indian-diabetic-retinopathy-image-dataset-idrid"),
    steps=(
        "download A. Segmentation.zip",
        (
            "copy the images into images/ and the masks of the optic disc (5. Optic Disc)"
            " into masks/, taking _OD out of their names"
        ),
        "the stored foreground may be 1 or a palette index: medseg data check says",
    ),
    layout="folders",
    split=PublishedSplit(
        rule="by number: 01 to 54 train, 55 to 81 test",
        parts={"train": 54, "test": 27},
        patterns={"train": r"IDRiD_(0\d|[1-4]\d|5[0-4])", "test": r"IDRiD_(5[5-9]|[67]\d|8[01])"},
    ),
    notes=("very large images",),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/IDRID.md"),
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/medical/idrid.py"
        ),
    ),
    unverified=(
        "labels",
        "licence",
    ),
)
