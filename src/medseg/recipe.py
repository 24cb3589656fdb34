"""The recipe: the one validated, fully resolved configuration of a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from medseg.data.augment import AugmentSettings
from medseg.data.augment3d import Augment3dSettings
from medseg.errors import RecipeError, nearest
from medseg.files import write_text
from medseg.methods import METHODS

Auto = Literal["auto"]
Millimetres = Annotated[float, Field(ge=1e-3, le=1e3)]
Voxels = Annotated[int, Field(ge=4, le=4096)]


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"a regular expression; this one is none: {error}") from error
    return text


Expression = Annotated[str, AfterValidator(_expression)]

FREE = ("network.", "method_options.")
"""Beginnings of keys that are checked against a constructor, not listed here."""


class Section(BaseModel):
    """A part of the recipe; unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )


class DataSettings(Section):
    """How cases become the arrays a network sees."""

    image_size: Auto | Annotated[int, Field(ge=16, le=4096)] = "auto"
    """Height and width, in pixels, to which images are resized for the network; auto takes 256,
    less when all images are smaller, up to 512 when small objects would vanish."""
    dims: Literal["auto", 2, 3] = "auto"
    """2: images, and volumes slice by slice; 3: volumes as a whole. auto takes 3 for networks that
    take nothing else."""
    slices: str | None = None
    """Regular expression by which pictures are slices of volumes: in a case id, its first group
    finds the volume and its second the number of the slice, e.g. `(.+)_slice_(\\d+)`. Slices of a
    volume then stay on one side of the split."""
    spacing: Auto | tuple[Millimetres, Millimetres, Millimetres] = "auto"
    """Distances between slices, rows and columns in mm to which volumes are resampled; auto takes
    the medians of the training volumes. Volumes that do not say theirs are taken to have it."""
    patch: Auto | tuple[Voxels, Voxels, Voxels] = "auto"
    """Slices, rows and columns of the parts of volumes that the network sees; auto goes by the
    volumes' size and the device."""
    patches_per_volume: Auto | Annotated[int, Field(ge=1)] = "auto"
    """Patches of each training volume in an epoch; auto: as many as cover it, at most 8."""
    foreground_patches: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the patches that are centred on a structure; the others lie anywhere."""
    intensity: Literal["auto", "ct", "zscore"] = "auto"
    """How volumes are normalised: ct clips to the percentiles 0.5 to 99.5 of the structures and
    scales by their mean and deviation; zscore scales each volume by its own; auto takes ct where
    `dataset.json` or DICOM files say so."""
    layout: str = "auto"
    """How the dataset lies on disk (`medseg info DATA`); auto recognises it."""
    channels: Auto | Annotated[int, Field(ge=1, le=64)] = "auto"
    """Image channels; auto takes 1 when every image is grey, else as many as the images have."""
    snap_masks: Literal["auto", "always", "never"] = "auto"
    """Move unexpected mask values to the nearest label; auto does so for lossy files only."""
    max_megapixels: Annotated[float, Field(gt=0)] = 100.0
    """Larger images are refused before they are decoded."""
    group_pattern: str | None = None
    """Regular expression that finds the patient in a case id."""
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of train, val and test, when the data has no published split."""
    labelled: Literal["all"] | Annotated[int, Field(ge=1)] = "all"
    """Training patients (images, where patients are unknown) whose masks are used, drawn by the
    seed; the others' images are left out, or used without masks by methods that learn from such."""
    fold: Annotated[int, Field(ge=0)] | None = None
    """Which fold of the cases outside test validates; None makes a plain split."""
    folds: Auto | Annotated[int, Field(ge=1)] = "auto"
    """Number of folds; auto takes the published ones, else 5."""
    allow_leak: bool = False
    """Train although a patient or alike images stand in several parts; every report says so."""
    attribute: str | None = None
    """What divides the cases into groups that are compared in training: `NAME` of a column
    `group:NAME` of the manifest, or any other column; None takes the only such column."""

    @property
    def pixels(self) -> int:
        """``image_size`` of a recipe in which nothing is ``auto`` any more."""
        assert isinstance(self.image_size, int)
        return self.image_size

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """``patch`` of a recipe in which nothing is ``auto`` any more."""
        assert self.patch != "auto"
        return self.patch

    @property
    def max_pixels(self) -> int:
        """``max_megapixels`` in pixels."""
        return round(self.max_megapixels * 1e6)

    @model_validator(mode="after")
    def _parts_make_sense(self) -> Self:
        if self.fold is not None and self.folds != "auto" and self.fold >= self.folds:
            raise ValueError(f"there are folds 0..{self.folds - 1}, not {self.fold}")
        train, val, test = self.ratios
        if min(train, val) <= 0 or test < 0 or abs(train + val + test - 1) > 1e-6:
            raise ValueError(
                f"ratios {self.ratios} must sum to 1, train and val be above 0 and test at least 0"
            )
        return self


class LossSettings(Section):
    """Weights of the loss terms."""

    cross_entropy: Annotated[float, Field(ge=0)] = 1.0
    """Binary (one logit) or categorical cross-entropy."""
    dice: Annotated[float, Field(ge=0)] = 1.0
    """1 - soft Dice, per image."""
    tversky: Annotated[float, Field(ge=0)] = 0.0
    """1 - Tversky index, per image: Dice with weights for false alarms and misses."""
    tversky_alpha: Annotated[float, Field(ge=0)] = 0.3
    """Weight of false positives in the Tversky index."""
    tversky_beta: Annotated[float, Field(ge=0)] = 0.7
    """Weight of false negatives in the Tversky index."""
    tversky_gamma: Annotated[float, Field(gt=0)] = 1.0
    """Exponent of the Tversky loss; 0.75 is the focal Tversky loss of its paper."""
    lovasz: Annotated[float, Field(ge=0)] = 0.0
    """Lovász hinge (one logit) or Lovász-Softmax, per image."""
    boundary: Annotated[float, Field(ge=0)] = 0.0
    """Probability times signed distance to the outline, in pixels; to be added to others, at
    about 0.01."""
    deep_supervision: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Weights of the losses of the network's side outputs, from shallow to deep, one for each that
    it has; empty leaves them out."""

    @model_validator(mode="after")
    def _something_is_minimised(self) -> Self:
        terms = (self.cross_entropy, self.dice, self.tversky, self.lovasz, self.boundary)
        if not any(terms):
            raise ValueError("at least one weight of the loss must be positive")
        return self


class OptimizerSettings(Section):
    """AdamW (arXiv 1711.05101) with linear warm-up and cosine decay."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """At the end of the warm-up."""
    final_learning_rate: Annotated[float, Field(ge=0)] = 1e-5
    """At the last step."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of all steps."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """Decoupled; not applied to biases and norms."""
    first_layer_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the learning rate at which the first layer learns; from layer to layer it grows
    geometrically to all of it at the last. Below 1, e.g. 0.1, it spares pre-trained weights."""


class TrainSettings(Section):
    """How long and how."""

    epochs: Auto | Annotated[int, Field(ge=1)] = "auto"
    """auto chooses from the number of training images: 30,000 presentations, 30 to 300 epochs."""
    batch_size: Auto | Annotated[int, Field(ge=1)] = "auto"
    """Images per step over all processes; auto chooses from image size, device and data size."""
    patience: Auto | Annotated[int, Field(ge=1)] = "auto"
    """Epochs without a better validation Dice before stopping; auto: a third, at least 10."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 on GPUs that have it, else fp32."""
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Decay of the averaged weights that validate and ship; 0 ships the plain ones."""
    tensorboard: bool = False
    """Also write TensorBoard events (needs `pip install medseg[track]`)."""


class LoraSettings(Section):
    """Low-rank updates (`medseg.nn.lora`)."""

    rank: Annotated[int, Field(ge=0)] = 0
    """Of the update that is learnt beside each weight, which stays; 0: none."""
    kind: Literal["plain", "convlora", "cp"] = "plain"
    """How the update of a kernel is made of factors: plain (LoRA-C), convlora, or cp, which takes
    the fewest weights."""
    dora: bool = False
    """Learn lengths of the updated weights apart from their directions (DoRA)."""
    alpha: Auto | Annotated[float, Field(gt=0)] = "auto"
    """Updates are multiplied by alpha / rank; auto takes the rank."""
    layers: Expression = ""
    """Regular expression: convolutions and linear layers that get an update are those in whose name
    it is found, e.g. `^encoder`; empty takes all."""


class AdaptSettings(Section):
    """Refining the model of `init` by few weights: all that is not named here stays as it is, but
    layers that are new, for other classes say, are trained as a whole."""

    lora: LoraSettings = LoraSettings()
    whole: Expression = ""
    """Regular expression: layers in whose name it is found are trained as a whole, e.g. `^head`."""
    norms: bool = True
    """Train norms; false keeps also the statistics of batch norms as they are."""
    biases: bool = True
    """Train the biases of layers with an update."""
    new: tuple[str, ...] = ()
    """Tensors that the model of `init` does not have; filled in."""

    @model_validator(mode="after")
    def _something_is_trained(self) -> Self:
        if not self.enabled and self != type(self).model_construct():
            raise ValueError("adapt.lora.rank or adapt.whole must say what is trained")
        return self

    @property
    def enabled(self) -> bool:
        """Whether only some weights are trained."""
        return self.lora.rank > 0 or bool(self.whole)


class PredictSettings(Section):
    """From logits to a mask."""

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Foreground probability, binary tasks only; other tasks take the most probable class."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of a patch that the next one covers, too, where a network goes over a volume."""
    keep_largest: bool = False
    """Of each class only the largest component stays; pixels that touch at a corner are one."""
    min_pixels: Annotated[int, Field(ge=0)] = 0
    """Smaller components become background."""
    golden: Annotated[int, Field(ge=0, le=100)] = 3
    """Validation images stored in the model, with their masks, so that an export can be proved;
    they are real images: 0 stores none."""
    licence: str = ""
    """Under which the model may be passed on, e.g. CC-BY-4.0; the model and its card state it."""


class Recipe(Section):
    """Everything that determines a run besides the data and the code."""

    system: str = "med2d-segnet"
    """A system (`medseg systems list`) or the path of a Python file with one network."""
    network: dict[str, Any] = Field(default_factory=dict)
    """Options of the network."""
    method: str = "supervised"
    """The way of training: `supervised`, or another of `medseg.methods`, or the path of a Python
    file with one."""
    method_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the method."""
    init: str = ""
    """The model whose weights training starts from: a run, a .medseg file or a name of
    `medseg models list`; empty: random weights."""
    init_sha256: str = ""
    """Of those weights, filled in: a run that goes on before its first checkpoint starts from the
    same."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the split, the initial weights, the order of cases and the augmentation."""
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    augment3d: Augment3dSettings = Augment3dSettings()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    train: TrainSettings = TrainSettings()
    adapt: AdaptSettings = AdaptSettings()
    predict: PredictSettings = PredictSettings()

    @field_validator("method")
    @classmethod
    def _method_is_known(cls, method: str) -> str:
        if method not in METHODS and not method.endswith(".py"):
            raise ValueError(nearest(method, METHODS))
        return method

    def save(self, path: Path) -> None:
        """Write as YAML, atomically."""
        write_text(path, yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))


def parse_recipe(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Validate nested ``values``.

    Raises:
        RecipeError: naming the key's path, the value found and what is allowed.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first, *others = error.errors()
        path = _key_path(first["loc"])
        if first["type"] == "extra_forbidden":
            known = known_keys() if "." in path else Recipe.model_fields
            raise RecipeError(
                f"{where}: {path}", "there is no such key", nearest(path, known)
            ) from error
        raise RecipeError(
            f"{where}: {path or 'value'}",
            f"{first['input']!r} is not allowed",
            " or ".join(
                each["msg"].removeprefix("Value error, ")
                for each in (first, *others)
                if _key_path(each["loc"]) == path
            ),
        ) from error


def load_recipe(path: Path) -> Recipe:
    """Read a recipe written by :meth:`Recipe.save` or by hand.

    Raises:
        RecipeError: unreadable, not YAML, or not a valid recipe.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise RecipeError(
            path, f"it cannot be read as YAML ({error})", "Restore it, or train again"
        ) from error
    if not isinstance(values, dict):
        raise RecipeError(path, "it holds no keys", "Restore it, or train again")
    return parse_recipe(values, str(path))


def apply_settings(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """``values`` with each ``a.b=c`` of ``settings`` set; ``c`` is read as YAML.

    Raises:
        RecipeError: a setting without ``=``, or a key that does not exist.
    """
    result = dict(values)
    known = known_keys()
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise RecipeError(f"--set {setting}", "it has no '='", "Write --set key=value")
        if key not in known and not key.startswith(FREE):
            raise RecipeError(f"--set {key}", "there is no such key", nearest(key, known))
        try:
            value = yaml.safe_load(text)
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            raise RecipeError(f"--set {key}", f"{text!r} is not YAML", "Quote it") from error
        # YAML 1.1 reads 1e-3 as text; people mean the number, unless they put it in quotes.
        if value == text.strip():
            value = _number_or_text(value)
        put(result, key, value)
    return result


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set the dotted ``key`` in nested ``values``, whose sections are replaced, not changed."""
    free = key.startswith(FREE)
    *sections, name = key.split(".", 1 if free else -1)
    for section in sections:
        values[section] = dict(values.get(section, {}))
        values = values[section]
    values[name] = value


def known_keys() -> tuple[str, ...]:
    """Dotted paths of all keys but the options of the network and of the method."""
    return tuple(key for key in _keys(Recipe) if f"{key}." not in FREE)


def _keys(section: type[BaseModel]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from (f"{name}.{inner}" for inner in _keys(kind))
        else:
            yield name


def _key_path(location: Iterable[int | str]) -> str:
    """pydantic's location as a dotted path, without the names it gives to union branches."""
    branches = ("int", "float", "str", "none")
    names = (str(part) for part in location)
    return ".".join(
        name for name in names if "[" not in name and name.split("-")[-1] not in branches
    )


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
