"""TG3K."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="tg3k",
    title="TG3K",
    modality="ultrasound",
    organ="thyroid",
    summary="the thyroid gland in frames of 16 videos",
    labels=binary("thyroid"),
    images=3585,
    licence="none named",
    licence_url="https://github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation",
    citation=Citation(
        authors="Gong, Chen, Wang, Xie, Mao, Yu, Chen, Li",
        year=2021,
        title="Multi-Task Learning for Thyroid Nodule Segmentation with Thyroid Region Prior",
        venue="ISBI 2021, 257-261",
        link="https://doi.org/10.1109/ISBI48211.2021.9434087",
    ),
    url="https://github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation",
    steps=(
        "download and unpack it",
        "mv thyroid-image images; mv thyroid-mask masks",
    ),
    layout="folders",
    notes=(
        "3585 frames of 16 videos: neighbours are alike, and a random split leaks",
        "one source counts 3583 images",
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/TG3K.md"),
    ),
    unverified=(
        "licence",
        "licence_url",
        "url",
        "citation",
    ),
)
