"""TN3K."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="tn3k",
    title="TN3K",
    modality="ultrasound",
    organ="thyroid",
    summary="thyroid nodules",
    labels=binary("nodule"),
    images=3493,
    widths=(216, 1463),
    heights=(217, 771),
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
        (
            "mkdir train test; mv trainval-image train/images; mv trainval-mask "
            "train/masks; mv test-image test/images; mv test-mask test/masks"
        ),
    ),
    layout="folders",
    split=PublishedSplit(
        rule=(
            "folders: 2879 train and validation, 614 test; tn3k-trainval-fold0.json ... "
            "divide the former into five folds"
        ),
        parts={"train": 2879, "test": 614},
    ),
    notes=(
        (
            "3493 images of 2421 patients without a key: images of one patient may stand "
            "on both sides"
        ),
        "masks are JPEG",
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/TN3K.md"),
    ),
    unverified=(
        "widths",
        "heights",
        "licence",
        "licence_url",
        "url",
        "citation",
    ),
)
