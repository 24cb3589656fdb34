"""CAMUS."""

from medseg.data.case import Label
from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit

ENTRY = Entry(
    name="camus",
    title="CAMUS",
    modality="ultrasound",
    organ="heart",
    summary="left ventricle, its wall and left atrium in two- and four-chamber views",
    labels=(
        Label("background", 0),
        Label("left ventricle", 1),
        Label("myocardium", 2),
        Label("left atrium", 3),
    ),
    images=2000,
    patients=500,
    licence="CC BY-NC-SA 4.0",
    licence_url=(
        "https://humanheart-project.creatis.insa-lyon.fr/database/#collection/6373703d73e9f0047faa1bc8"
    ),
    citation=Citation(
        authors="Leclerc, Smistad, Pedrosa, Østvik, Cervenansky et al.",
        year=2019,
        title=(
            "Deep Learning for Segmentation using an Open Large-Scale Dataset in 2D "
            "Echocardiography"
        ),
        venue="IEEE Transactions on Medical Imaging 38(9), 2198-2210",
        link="https://doi.org/10.1109/TMI.2019.2900516",
    ),
    url=(
        "https://humanheart-project.creatis.insa-lyon.fr/database/#collection/6373703d73e9f0047faa1bc8"
    ),
    steps=(
        (
            "register, download database_nifti and unpack it: a folder for each patient, "
            "images and their _gt"
        ),
        "delete the films: find . -name '*half_sequence*' -delete",
    ),
    layout="folders",
    group_pattern=r"patient\d+",
    split=PublishedSplit(
        rule=("lists database_split/subgroup_*.txt name the patients: 400 train, 50 val, 50 test"),
        parts={"train": 1600, "val": 200, "test": 200},
    ),
    notes=(
        ("four images of each patient (two views, end of diastole and systole) must stay together"),
        "cross-validation over ten folds in the publication",
    ),
    sources=(
        "https://tomesphere.com/paper/1908.06948",
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/medical/camus.py"
        ),
    ),
    unverified=(
        "labels",
        "images",
        "licence",
        "split",
        "notes",
    ),
)
