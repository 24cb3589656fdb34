"""FIVES."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="fives",
    title="FIVES",
    modality="fundus photography",
    organ="retina",
    summary="vessels in healthy, AMD, diabetic and glaucomatous eyes",
    labels=binary("vessel"),
    images=800,
    widths=(2048, 2048),
    heights=(2048, 2048),
    licence="CC BY 4.0",
    licence_url="https://doi.org/10.6084/m9.figshare.19688169",
    citation=Citation(
        authors="Jin, Huang, Zhou, Li, Yan et al.",
        year=2022,
        title=(
            "FIVES: A Fundus Image Dataset for Artificial Intelligence based Vessel Segmentation"
        ),
        venue="Scientific Data 9, 475",
        link="https://doi.org/10.1038/s41597-022-01564-3",
    ),
    url="https://doi.org/10.6084/m9.figshare.19688169",
    steps=(
        (
            "download and unpack it: train/ and test/, each with Original/ and 'Ground "
            "truth/' (if the folder is spelt 'Groud truth', correct it)"
        ),
    ),
    layout="folders",
    split=PublishedSplit(
        rule="folders: 600 train, 200 test",
        parts={"train": 600, "test": 200},
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/FIVES.md"),
    ),
    unverified=(
        "licence",
        "citation",
        "split",
    ),
)
