"""LGG MRI segmentation."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="lgg-mri",
    title="LGG MRI segmentation",
    modality="MRI",
    organ="brain",
    summary=(
        "FLAIR abnormality of lower-grade gliomas, slices of 110 patients; channels are "
        "pre-contrast, FLAIR and post-contrast"
    ),
    labels=binary("tumour"),
    images=3929,
    patients=110,
    widths=(256, 256),
    heights=(256, 256),
    licence="CC BY-NC-SA 4.0",
    licence_url="https://www.kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation",
    citation=Citation(
        authors="Buda, Saha, Mazurowski",
        year=2019,
        title=(
            "Association of genomic subtypes of lower-grade gliomas with shape features "
            "automatically extracted by a deep learning algorithm"
        ),
        venue="Computers in Biology and Medicine 109, 218-225",
        link="https://doi.org/10.1016/j.compbiomed.2019.05.002",
    ),
    url="https://www.kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation",
    steps=(
        (
            "download it; the dataset is the folder kaggle_3m with a folder for each "
            "patient, images and their _mask.tif together"
        ),
    ),
    layout="folders",
    group_pattern=r"TCGA_[A-Z0-9]{2}_[A-Z0-9]{4}",
    notes=(
        "slices of one patient must stay together",
        "about two thirds of the masks are empty: say how they are scored",
        "where a sequence was missing, FLAIR stands in for it",
    ),
    sources=(
        "https://mateuszbuda.github.io/2017/12/01/brainseg.html",
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/medical/lgg_mri.py"
        ),
    ),
    unverified=(
        "images",
        "widths",
        "heights",
        "licence",
        "citation",
        "notes",
    ),
)
