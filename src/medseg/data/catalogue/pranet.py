"""PraNet's polyp benchmark."""

from medseg.data.catalogue.entry import Citation, Entry, PublishedSplit, binary

ENTRY = Entry(
    name="pranet",
    title="PraNet's polyp benchmark",
    modality="endoscopy",
    organ="colon",
    summary="polyps: the training and test images that papers since PraNet share",
    labels=binary("polyp"),
    images=2248,
    licence="that of each set inside: kvasir-seg, cvc-clinicdb, cvc-colondb, etis-larib, cvc-300",
    licence_url="https://github.com/DengPingFan/PraNet",
    citation=Citation(
        authors="Fan, Ji, Zhou, Chen, Fu, Shen, Shao",
        year=2020,
        title="PraNet: Parallel Reverse Attention Network for Polyp Segmentation",
        venue="MICCAI 2020",
        link="https://arxiv.org/abs/2006.11392",
    ),
    url="https://github.com/DengPingFan/PraNet",
    steps=(
        (
            "download TrainDataset and TestDataset from the links in the README and put "
            "both folders into one"
        ),
    ),
    layout="folders",
    split=PublishedSplit(
        rule=(
            "folders: TrainDataset has 900 images of Kvasir-SEG and 550 of CVC-ClinicDB; "
            "TestDataset has CVC-300 (60), CVC-ClinicDB (62), CVC-ColonDB (380), "
            "ETIS-LaribPolypDB (196) and Kvasir (100)"
        ),
        parts={"train": 1450, "test": 798},
    ),
    notes=(
        (
            "CVC-ClinicDB was split frame by frame: train and test show the same videos, "
            "which makes its 62 test scores too good; medseg refuses that unless "
            "--allow-leak is given"
        ),
        "no validation part: many papers chose their checkpoint on the test sets",
    ),
    sources=("https://github.com/DengPingFan/PraNet",),
    unverified=("citation",),
)
