"""BTCV abdomen (Synapse)."""

from medseg.data.case import Label
from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit

ENTRY = Entry(
    name="synapse",
    title="BTCV abdomen (Synapse)",
    modality="CT",
    organ="abdomen",
    summary="13 abdominal organs; papers on 'Synapse' score 8 of them",
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
        Label("portal and splenic vein", 10),
        Label("pancreas", 11),
        Label("right adrenal gland", 12),
        Label("left adrenal gland", 13),
    ),
    images=30,
    unit="volumes",
    patients=30,
    licence="on registration",
    licence_url="https://www.synapse.org/#!Synapse:syn3193805/wiki/",
    citation=Citation(
        authors="Landman, Xu, Igelsias, Styner, Langerak, Klein",
        year=2015,
        title="MICCAI Multi-Atlas Labeling Beyond the Cranial Vault: Workshop and Challenge",
        venue="MICCAI 2015 workshop",
        link="https://www.synapse.org/#!Synapse:syn3193805/wiki/",
    ),
    url="https://www.synapse.org/#!Synapse:syn3193805/files/",
    steps=(
        (
            "register, download RawData.zip and unpack it: Training/img/img0001.nii.gz "
            "... and Training/label/label0001.nii.gz ..."
        ),
        "rename the masks like the images (label0001.nii.gz to img0001.nii.gz)",
    ),
    layout="folders",
    split=PublishedSplit(
        rule=(
            "the challenge: 30 train and 20 unlabelled test volumes; TransUNet's lists "
            "divide the 30 into 18 and 12 and are what most papers use, without a "
            "validation part"
        ),
        parts={"train": 18, "test": 12},
    ),
    notes=(
        (
            "2D papers report the mean over volumes of 8 organs after clipping to "
            "-125..275 HU; the choice of the checkpoint on the 12 test volumes is common "
            "and flatters"
        ),
    ),
    sources=(
        ("https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/BTCV.md"),
        (
            "https://github.com/constantinpape/torch-em/blob/main/torch_em/data/datasets/medical/btcv.py"
        ),
        "https://www.emergentmind.com/topics/synapse-multi-organ-ct-segmentation",
    ),
    unverified=(
        "patients",
        "licence",
        "citation",
        "notes",
    ),
)
