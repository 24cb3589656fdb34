"""What ``auto`` means: numbers chosen from the data and the device."""

from __future__ import annotations

from medseg.recipe import Recipe

PRESENTATIONS = 30_000


def plan_epochs(cases: int) -> int:
    """Epochs for ``cases`` training images: 30,000 presentations, within 30 and 300 epochs."""
    return max(30, min(300, round(PRESENTATIONS / cases)))


def plan_batch_size(cases: int, image_size: int, device: str) -> int:
    """Images per step: 16 on a GPU; 8 on a CPU, where larger steps are no faster, but 3 at 256 px
    and fewer above, to bound memory; fewer when an epoch would have less than four steps."""
    affordable = 16 if device != "cpu" else max(1, min(8, round(3 * 256**2 / image_size**2)))
    return max(1, min(affordable, cases // 4 or 1))


def resolve(
    recipe: Recipe,
    *,
    cases: int,
    layout: str,
    channels: int,
    device: str,
    precision: str,
    processes: int,
) -> Recipe:
    """The recipe with every ``auto`` replaced by the value chosen for this data and device."""
    settings = recipe.train
    epochs = plan_epochs(cases) if settings.epochs == "auto" else settings.epochs
    batch = settings.batch_size
    if batch == "auto":
        planned = plan_batch_size(cases, recipe.data.image_size, device)
        batch = max(processes, planned // processes * processes)
    patience = max(10, epochs // 3) if settings.patience == "auto" else settings.patience
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"layout": layout, "channels": channels}),
            "train": settings.model_copy(
                update={
                    "epochs": epochs,
                    "batch_size": batch,
                    "patience": patience,
                    "precision": precision,
                }
            ),
        }
    )
