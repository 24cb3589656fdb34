"""KiTS19."""

from medseg.data.case import Label
from medseg.data.catalogue.entry import Citation, Entry

ENTRY = Entry(
    name="kits19",
    title="KiTS19",
    modality="CT",
    organ="kidney",
    summary="kidney and tumour",
    labels=(
        Label("background", 0),
        Label("kidney", 1),
        Label("tumour", 2),
    ),
    images=210,
    unit="volumes",
    patients=210,
    licence="CC BY-NC-SA 4.0",
    licence_url="https://github.com/neheller/kits19",
    citation=Citation(
        authors="Heller, Isensee, Maier-Hein, Hou, Xie et al.",
        year=2021,
        title=(
            "The state of the art in kidney and kidney tumor segmentation in "
            "contrast-enhanced CT imaging: Results of the KiTS19 challenge"
        ),
        venue="Medical Image Analysis 67, 101821",
        link="https://doi.org/10.1016/j.media.2020.101821",
    ),
    url="https://github.com/neheller/kits19",
    steps=(
        ("download it as its README says: data/case_00000/imaging.nii.gz and segmentation.nii.gz"),
        (
            "mkdir images masks; for c in data/case_*; do mv $c/imaging.nii.gz "
            "images/${c##*/}.nii.gz; mv $c/segmentation.nii.gz masks/${c##*/}.nii.gz; "
            "done (cases 00210 to 00299 have no mask)"
        ),
    ),
    layout="folders",
    notes=(
        (
            "210 training cases have masks; the 90 test cases became training cases of "
            "KiTS21 and KiTS23"
        ),
        "large: up to 1059 slices a case",
        "never test on KiTS21 or 23 what was trained on KiTS19",
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/KiTS19.md"),
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/medical/kits.py"
        ),
    ),
    unverified=(
        "licence",
        "patients",
        "citation",
    ),
)
