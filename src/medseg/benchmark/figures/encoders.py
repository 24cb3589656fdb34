"""Networks that differ in their encoder only."""

from __future__ import annotations

from medseg.benchmark.figures.frame import (
    INK,
    Drawing,
    error_bar,
    finished,
    heading,
    make_panels,
    plain,
    shown_tasks,
    styles,
    write_title,
)
from medseg.benchmark.reading import Results


def draw(results: Results) -> Drawing:
    """Bars of Dice for networks that differ in their encoder only."""
    title = "Comparison of encoders"
    chosen, tasks = encoder_systems(results), shown_tasks(results)
    if len(chosen) < 2 or not tasks:
        return Drawing(
            "encoders", title, "", skipped="No two encoders were compared (--encoders does that)."
        )
    look = styles(results.systems)
    figure, panels = make_panels(len(tasks), height=0.9 + 0.36 * len(chosen))
    for axes, task in zip(panels, tasks, strict=False):
        found = {system: results.score(system, task) for system in chosen}
        for place, (system, score) in enumerate(reversed(found.items())):
            if score is None or score.mean.mean is None:
                axes.text(0.01, place, "no score", va="center", color=INK, fontsize=8)
                continue
            axes.barh(
                place,
                score.mean.mean,
                xerr=error_bar(score),
                height=0.7,
                color=look[system].colour,
                hatch=look[system].hatch,
                edgecolor=INK,
                linewidth=0.8,
                error_kw={"ecolor": INK, "capsize": 2.5, "elinewidth": 1},
            )
            high = score.mean.high or score.mean.mean
            axes.annotate(
                f"{score.mean.mean:.3f}",
                (high, place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                color=INK,
                fontsize=8,
            )
        names = [_with_size(results, system) for system in reversed(chosen)]
        axes.set_yticks(range(len(names)), [plain(name) for name in names])
        axes.set(xlim=(0, 1.12), xlabel="mean Dice, 95 % interval")
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        axes.grid(visible=False)
        write_title(axes, heading(task, [score for score in found.values() if score is not None]))
    counts = [count for system in chosen if (count := results.parameters(system))]
    spread = f" ({min(counts) / 1e6:.2f} to {max(counts) / 1e6:.2f} M parameters)" if counts else ""
    caption = (
        "Networks that differ in the block of their encoder, widths chosen for an equal number of "
        f"parameters{spread}. Mean Dice with its 95 % BCa interval over cases; intervals of "
        "systems on the same cases may overlap although the difference is sure: see the pairs."
    )
    return finished("encoders", title, caption, figure)


def encoder_systems(results: Results) -> list[str]:
    """The systems that are encoders to compare: ``encoder-...``, and the network they vary."""
    if not any(system.startswith("encoder-") for system in results.systems):
        return []
    return [
        system
        for system in results.systems
        if system.startswith("encoder-") or system == "med2d-segnet"
    ]


def _with_size(results: Results, system: str) -> str:
    count = results.parameters(system)
    name = {"med2d-segnet": "Med Block"}.get(system, system.removeprefix("encoder-"))
    return name if count is None else f"{name} ({count / 1e6:.2f} M)"
