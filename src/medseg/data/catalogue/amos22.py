"""AMOS 2022, CT."""

from medseg.data.case import Label
from medseg.data.catalogue.entry import Citation, Entry

ENTRY = Entry(
    name="amos22",
    title="AMOS 2022, CT",
    modality="CT",
    organ="abdomen",
    summary="15 abdominal organs",
    labels=(
        Label("background", 0),
        Label("spleen", 1),
        Label("right kidney", 2),
        Label("left kidney", 3),
        Label("gallbladder", 4),
        Label("oesophagus", 5),
        Label("liver", 6),
        Label("stomach", 7),
        Label("aorta", 8),
        Label("inferior vena cava", 9),
        Label("pancreas", 10),
        Label("right adrenal gland", 11),
        Label("left adrenal gland", 12),
        Label("duodenum", 13),
        Label("bladder", 14),
        Label("prostate or uterus", 15),
    ),
    images=None,
    unit="volumes",
    licence="CC BY 4.0",
    licence_url="https://doi.org/10.5281/zenodo.7155725",
    citation=Citation(
        authors="Ji, Bai, Ge, Yang, Zhu et al.",
        year=2022,
        title=(
            "AMOS: A Large-Scale Abdominal Multi-Organ Benchmark for Versatile Medical "
            "Image Segmentation"
        ),
        venue="NeurIPS 2022",
        link="https://doi.org/10.48550/arXiv.2206.08023",
    ),
    url="https://doi.org/10.5281/zenodo.7155725",
    steps=(
        "download and unpack it; numbers up to 500 are CT, higher ones MRI",
        (
            "train/images, train/masks from imagesTr, labelsTr; val/images, val/masks "
            "from imagesVa, labelsVa"
        ),
    ),
    layout="folders",
    notes=(
        "published, of CT and MRI together: 240 train, 120 val, 240 test without masks",
        "500 CT and 100 MRI scans: do not mix them without meaning to",
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/AMOS.md"),
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/medical/amos.py"
        ),
    ),
    unverified=(
        "labels",
        "images",
        "licence",
        "notes",
    ),
)
