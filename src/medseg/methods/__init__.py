"""Ways of training: one file each."""

from collections.abc import Mapping

METHODS: Mapping[str, str] = {
    "bcp": "medseg.methods.bcp:BCP",
    "fairseg": "medseg.methods.fairseg:FairSeg",
    "gms": "medseg.methods.gms:GenerativeSegmentation",
    "interactive": "medseg.methods.interactive:Interactive",
    "reconstruction": "medseg.methods.reconstruction:Reconstruction",
    "supervised": "medseg.methods.supervised:Supervised",
    "dsd": "medseg.methods.dsd:DSD",
    "text-driven": "medseg.methods.text_driven:TextDriven",
    "distillation": "medseg.methods.distillation:Distillation",
}
"""By name, ``module:class`` of each way of training; imported only when it is used."""
