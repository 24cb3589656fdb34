"""Validation Dice over the epochs."""

from __future__ import annotations

from medseg.benchmark.figures.frame import (
    Drawing,
    draw_legend,
    finished,
    make_panels,
    styles,
    write_title,
)
from medseg.benchmark.reading import Results
from medseg.errors import plural

_MOST_CURVES = 10


def draw(results: Results) -> Drawing:
    """Validation Dice over the epochs of every system, a panel for each dataset."""
    title = "Training curves"
    look = styles(results.systems)
    order = [system for system, _, _ in results.ranking()] or list(results.systems)
    shown = order[:_MOST_CURVES]
    of_data = {
        data: {
            system: bands
            for system in results.systems
            if system in shown and (bands := _bands(results, system, data))
        }
        for data in results.data
    }
    of_data = {data: found for data, found in of_data.items() if found}
    if not of_data:
        return Drawing("curves", title, "", skipped="No training recorded its validation Dice.")
    figure, panels = make_panels(len(of_data))
    for axes, (data, found) in zip(panels, of_data.items(), strict=False):
        for system, bands in found.items():
            epochs, lows, means, highs = (list(column) for column in zip(*bands, strict=True))
            style = look[system]
            axes.fill_between(epochs, lows, highs, color=style.colour, alpha=0.2, linewidth=0)
            axes.plot(
                epochs,
                means,
                color=style.colour,
                linestyle=style.line,
                marker=style.marker,
                markersize=4,
                markevery=max(1, len(epochs) // 8),
                linewidth=1.5,
            )
        axes.set(xlabel="epoch", ylabel="validation Dice")
        axes.xaxis.get_major_locator().set_params(integer=True)
        write_title(axes, data)
    draw_legend(
        figure,
        [s for s in results.systems if any(s in of for of in of_data.values())],
        look,
        lines=True,
    )
    caption = (
        "Validation Dice at the network's size: mean over seeds, and a band from the lowest to "
        "the highest seed. A curve ends where the first of its seeds stopped."
    )
    left = len(results.systems) - len(shown)
    if left > 0:
        caption += f" {plural(left, 'system')} of lower rank not shown."
    return finished("curves", title, caption, figure)


def _bands(results: Results, system: str, data: str) -> list[tuple[int, float, float, float]]:
    """(epoch, lowest, mean, highest over seeds) of the epochs that all seeds have."""
    histories = [dict(cell.curve) for cell in results.of(system, data) if cell.curve]
    if not histories:
        return []
    common = sorted(set.intersection(*(set(history) for history in histories)))
    bands = []
    for epoch in common:
        values = [history[epoch] for history in histories]
        bands.append((epoch, min(values), sum(values) / len(values), max(values)))
    return bands
