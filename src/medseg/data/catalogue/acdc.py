"""ACDC."""

from medseg.data.case import Label
from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit

ENTRY = Entry(
    name="acdc",
    title="ACDC",
    modality="MRI",
    organ="heart",
    summary=(
        "right ventricle, myocardium and left ventricle in cine MRI at end of diastole and systole"
    ),
    labels=(
        Label("background", 0),
        Label("right ventricle", 1),
        Label("myocardium", 2),
        Label("left ventricle", 3),
    ),
    images=300,
    unit="volumes",
    patients=150,
    licence="CC BY-NC-SA 4.0",
    licence_url="https://www.creatis.insa-lyon.fr/Challenge/acdc/",
    citation=Citation(
        authors="Bernard, Lalande, Zotti, Cervenansky, Yang et al.",
        year=2018,
        title=(
            "Deep Learning Techniques for Automatic MRI Cardiac Multi-Structures "
            "Segmentation and Diagnosis: Is the Problem Solved?"
        ),
        venue="IEEE Transactions on Medical Imaging 37(11), 2514-2525",
        link="https://doi.org/10.1109/TMI.2018.2837502",
    ),
    url=(
        "https://humanheart-project.creatis.insa-lyon.fr/database/#collection/637218c173e9f0047faa00fb"
    ),
    steps=(
        (
            "register, download and unpack it: training/ (patient001 to 100) and testing/"
            " (101 to 150), a folder for each patient"
        ),
        "delete the 4D films, which have no masks: find . -name '*_4d.nii.gz' -delete",
    ),
    layout="folders",
    group_pattern=r"patient\d+",
    split=PublishedSplit(
        rule=(
            "by patient: 001 to 100 train, 101 to 150 test; no validation part. Papers "
            "with 70/10/20 patients divide the first 100"
        ),
        parts={"train": 200, "test": 100},
        patterns={"train": r"patient(0\d\d|100)", "test": r"patient1(0[1-9]|[1-4]\d|50)"},
    ),
    notes=(
        "slices of one patient must stay together",
        "patients 074 and 076 are the same images with different masks in some copies",
        "outermost slices have empty masks",
        "slices are 5 to 10 mm apart",
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/ACDC.md"),
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/medical/acdc.py"
        ),
    ),
    unverified=("licence",),
)
