"""TNBC nuclei."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="tnbc",
    title="TNBC nuclei",
    modality="histology",
    organ="cell nuclei",
    summary="nuclei in triple negative breast cancer, H&E",
    labels=binary("nucleus"),
    objects=True,
    images=50,
    patients=11,
    widths=(512, 512),
    heights=(512, 512),
    licence="CC BY 4.0",
    licence_url="https://doi.org/10.5281/zenodo.1175282",
    citation=Citation(
        authors="Naylor, Laé, Reyal, Walter",
        year=2019,
        title=(
            "Segmentation of Nuclei in Histopathology Images by Deep Regression of the Distance Map"
        ),
        venue="IEEE Transactions on Medical Imaging 38(2), 448-459",
        link="https://doi.org/10.1109/TMI.2018.2865709",
    ),
    url="https://doi.org/10.5281/zenodo.1175282",
    steps=(
        (
            "download the archive of 50 images and unpack it: Slide_01/ ... with images, "
            "GT_01/ ... with masks"
        ),
        (
            "mkdir images masks; cp Slide_*/*.png images/; cp GT_*/*.png masks/ (names "
            "like 01_1.png occur once)"
        ),
    ),
    layout="folders",
    group_pattern=r"(\d+)_\d+$",
    notes=("split by patient: the first number of the name",),
    sources=(
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/histopathology/tnbc.py"
        ),
    ),
    unverified=(
        "images",
        "patients",
        "widths",
        "heights",
        "licence",
        "citation",
    ),
)
