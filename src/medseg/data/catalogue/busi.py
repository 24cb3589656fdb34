"""BUSI."""

from medseg.data.catalogue.entry import Citation, Entry, binary

ENTRY = Entry(
    name="busi",
    title="BUSI",
    modality="ultrasound",
    organ="breast",
    summary="benign and malignant lesions, and normal tissue with empty masks",
    labels=binary("lesion"),
    images=780,
    licence="CC BY 4.0 (article) / CC0 (mirrors)",
    licence_url="https://doi.org/10.1016/j.dib.2019.104863",
    citation=Citation(
        authors="Al-Dhabyani, Gomaa, Khaled, Fahmy",
        year=2020,
        title="Dataset of breast ultrasound images",
        venue="Data in Brief 28, 104863",
        link="https://doi.org/10.1016/j.dib.2019.104863",
    ),
    url="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
    steps=(
        (
            "download Dataset_BUSI.zip and unpack it: benign/, malignant/ and normal/, "
            "each with images and their _mask files"
        ),
    ),
    layout="folders",
    notes=(
        (
            "no published split: papers draw their own, mostly of the 647 images with a "
            "lesion, which is why their scores do not compare"
        ),
        (
            "no key says which images are of one patient: they are held together only "
            "when they look alike"
        ),
        "some images have several masks, which are united",
        (
            "133 normal images have empty masks by design: leave normal/ out to follow "
            "papers with 647 images"
        ),
        ("some images carry callipers, text and colour overlays, others occur in two classes"),
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/BUSI.md"),
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/medical/busi.py"
        ),
    ),
    unverified=("licence",),
)
