"""Ways of training: one file each."""

from collections.abc import Mapping

METHODS: Mapping[str, str] = {
    "distillation": "medseg.methods.distillation:Distillation",
    "supervised": "medseg.methods.supervised:Supervised",
}
"""By name, ``module:class`` of each way of training; imported only when it is used."""
