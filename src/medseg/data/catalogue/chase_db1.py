"""CHASE_DB1."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="chase-db1",
    title="CHASE_DB1",
    modality="fundus photography",
    organ="retina",
    summary="vessels in both eyes of 14 children; two observers",
    labels=binary("vessel"),
    images=28,
    patients=14,
    widths=(999, 999),
    heights=(960, 960),
    licence="CC BY 4.0",
    licence_url=(
        "https://researchinnovation.kingston.ac.uk/en/datasets/chasedb1-retinal-vessel-reference-dataset-4/"
    ),
    citation=Citation(
        authors="Fraz, Remagnino, Hoppe, Uyyanonvara, Rudnicka, Owen, Barman",
        year=2012,
        title=(
            "An Ensemble Classification-Based Approach Applied to Retinal Blood Vessel Segmentation"
        ),
        venue="IEEE Transactions on Biomedical Engineering 59(9), 2538-2548",
        link="https://doi.org/10.1109/TBME.2012.2205687",
    ),
    url=(
        "https://researchinnovation.kingston.ac.uk/en/datasets/chasedb1-retinal-vessel-reference-dataset-4/"
    ),
    steps=(
        (
            "download CHASEDB1.zip and unpack it: Image_01L.jpg with Image_01L_1stHO.png;"
            " the second observer (_2ndHO) is left out"
        ),
    ),
    layout="folders",
    group_pattern=r"Image_(\d+)[LR]",
    split=PublishedSplit(
        rule=(
            "none published; the convention applied here takes the first 20 images "
            "(children 01 to 10) to train and the last 8 (11 to 14) to test, which keeps "
            "both eyes of a child together"
        ),
        parts={"train": 20, "test": 8},
        patterns={"train": r"Image_(0\d|10)[LR]", "test": r"Image_1[1-4][LR]"},
    ),
    notes=(
        "other papers train on 14 left eyes and test on 14 right ones: that leaks",
        "no field of view comes with the set",
    ),
    sources=(
        (
            "https://researchinnovation.kingston.ac.uk/en/datasets/chasedb1-retinal-vessel-reference-dataset-4/"
        ),
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/CHASE.md"),
    ),
    unverified=(
        "licence",
        "split",
        "citation",
    ),
)
