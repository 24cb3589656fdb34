"""COVID-19-CT-Seg."""

from medseg.data.case import Label
from medseg.data.catalogue.entry import Citation, Entry

ENTRY = Entry(
    name="covid19-ct",
    title="COVID-19-CT-Seg",
    modality="CT",
    organ="lung",
    summary="left lung, right lung and infection in 20 CT volumes",
    labels=(
        Label("background", 0),
        Label("left lung", 1),
        Label("right lung", 2),
        Label("infection", 3),
    ),
    images=20,
    unit="volumes",
    patients=20,
    licence="CC BY-NC-SA 4.0",
    licence_url="https://doi.org/10.5281/zenodo.3757476",
    citation=Citation(
        authors="Ma, Wang, An, Ge, Yu et al.",
        year=2021,
        title=(
            "Toward data-efficient learning: A benchmark for COVID-19 CT lung and "
            "infection segmentation"
        ),
        venue="Medical Physics 48(3), 1197-1210",
        link="https://doi.org/10.1002/mp.14676",
    ),
    url="https://doi.org/10.5281/zenodo.3757476",
    steps=(
        (
            "download COVID-19-CT-Seg_20cases.zip as images/ and "
            "Lung_and_Infection_Mask.zip as masks/"
        ),
    ),
    layout="folders",
    notes=(
        (
            "half of the volumes (radiopaedia) were scaled to 0..255, the others are in "
            "HU: two sites that look different"
        ),
    ),
    sources=(
        "https://ar5iv.labs.arxiv.org/html/2004.12537",
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/medical/covid19_seg.py"
        ),
    ),
    unverified=(
        "labels",
        "patients",
        "licence",
        "notes",
    ),
)
