"""Drishti-GS."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="drishti-gs",
    title="Drishti-GS",
    modality="fundus photography",
    organ="retina",
    summary="optic disc and cup; four observers",
    labels=binary("disc"),
    images=101,
    widths=(2045, 2896),
    heights=(1752, 1944),
    licence="on registration, research",
    licence_url="http://cvit.iiit.ac.in/projects/mip/drishti-gs/mip-dataset2/Home.php",
    citation=Citation(
        authors="Sivaswamy, Krishnadas, Joshi, Jain, Tabish",
        year=2014,
        title="Drishti-GS: Retinal image dataset for optic nerve head (ONH) segmentation",
        venue="ISBI 2014, 53-56",
        link="https://ieeexplore.ieee.org/document/6867807",
    ),
    url="http://cvit.iiit.ac.in/projects/mip/drishti-gs/mip-dataset2/Home.php",
    steps=(
        "download it; the soft maps of four observers are grey pictures",
        (
            "threshold a map at half of its range (two of four observers, say which) and "
            "store 0 and 255: train/images, train/masks, test/images, test/masks; disc "
            "and cup are two tasks"
        ),
    ),
    layout="folders",
    split=PublishedSplit(
        rule="folders: 50 train, 51 test",
        parts={"train": 50, "test": 51},
    ),
    notes=("all images are of one Indian hospital",),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/DRISHTI-GS.md"),
    ),
    unverified=(
        "labels",
        "widths",
        "heights",
        "licence",
    ),
)
