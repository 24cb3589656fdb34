"""DRIVE."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="drive",
    title="DRIVE",
    modality="fundus photography",
    organ="retina",
    summary="vessels; first observer; scored inside the field of view",
    labels=binary("vessel"),
    images=40,
    widths=(565, 565),
    heights=(584, 584),
    licence="research, on registration",
    licence_url="https://drive.grand-challenge.org/",
    citation=Citation(
        authors="Staal, Abràmoff, Niemeijer, Viergever, van Ginneken",
        year=2004,
        title="Ridge-Based Vessel Segmentation in Color Images of the Retina",
        venue="IEEE Transactions on Medical Imaging 23(4), 501-509",
        link="https://doi.org/10.1109/TMI.2004.825627",
    ),
    url="https://drive.grand-challenge.org/",
    steps=(
        (
            "register, download training.zip and test.zip and unpack both into one "
            "folder: training/ and test/, each with images/, 1st_manual/ and mask/ (the "
            "field of view)"
        ),
        (
            "the present release leaves out test/1st_manual; older copies have it (and "
            "2nd_manual, which is not used)"
        ),
    ),
    layout="folders",
    split=PublishedSplit(
        rule="by number: 21 to 40 train, 01 to 20 test",
        parts={"train": 20, "test": 20},
        patterns={"train": r"(^|/)(2[1-9]|3\d|40)(_|$)", "test": r"(^|/)(0[1-9]|1\d|20)(_|$)"},
    ),
    notes=(
        "no validation part: draw it from the 20 training images",
        ("pixels outside the field of view must not be scored: they are easy and flatter accuracy"),
        "the test masks have a second observer, the human baseline",
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/DRIVE.md"),
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/medical/drive.py"
        ),
    ),
    unverified=("licence",),
)
