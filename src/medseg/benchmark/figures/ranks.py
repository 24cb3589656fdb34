"""Critical-difference plots."""

from __future__ import annotations

from medseg.benchmark.figures.frame import Drawing, own_ids
from medseg.benchmark.reading import Results, Task
from medseg.report import critical_difference


def draw(results: Results, task: Task) -> Drawing:
    """The critical-difference plot of one task."""
    name = f"ranks-{task.file}"
    title = f"Ranks on {task.title}"
    comparison = results.comparison(task)
    if comparison is None or comparison.critical_difference is None:
        return Drawing(
            name, title, "", skipped="Ranks are compared from three systems and two cases on."
        )
    return Drawing(
        name,
        title,
        "Bars join systems whose mean ranks are closer than the critical difference (CD) of "
        "Nemenyi's test at alpha 0.05.",
        inline=own_ids(critical_difference.inline(comparison), name),
        write=lambda path: critical_difference.save(comparison, path),
    )
