"""Figures of a benchmark, for print and for its page; each module draws one."""

from medseg.benchmark.figures import curves, encoders, matrix, pareto, ranks, spider
from medseg.benchmark.figures.frame import Drawing, shown_tasks
from medseg.benchmark.reading import Results


def all_figures(results: Results) -> list[Drawing]:
    """Every figure of numbers; those with nothing to show have the reason why."""
    return [
        pareto.draw(results, "parameters"),
        pareto.draw(results, "latency"),
        spider.draw(results),
        encoders.draw(results),
        matrix.draw(results),
        curves.draw(results),
        *(ranks.draw(results, task) for task in shown_tasks(results)),
    ]
