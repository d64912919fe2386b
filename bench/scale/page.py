"""What docs/scale.md says beside its tables, and its plots: SVG with text as text, alike each time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.part import Part, Plot

DOCS = Path(__file__).parents[2] / "docs"
TARGET = DOCS / "scale.md"
IMAGES = DOCS / "images"
TITLE = "Scale"
HOW = (
    "What a million states, half a million that end together, thousands of writers, and hundreds of "
    "processes, tenants and kinds do to each store. Clients and servers share the cores. What is compared "
    "takes turns, round by round; a figure is the median of the rounds, and a ratio is taken within a round "
    "before its median is. Beside what people also write by hand, in a dict or with sqlite3, redis-py or "
    "asyncpg, stands what that takes. PostgreSQL's commits wait for the disk, those of SQLite do where it "
    "says FULL; memory and Redis keep nothing on it."
)
COLOURS = {
    "memory": "#0072b2",
    "SQLite": "#009e73",
    "Redis": "#d55e00",
    "PostgreSQL": "#aa4499",
}
"""To be told apart by everybody."""
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "statehold",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "legend.frameon": False,
}


def drawn(parts: Iterable[Part]) -> dict[str, str]:
    """Where each plot lies, as the page sees it; none where matplotlib is missing."""
    plots = [plot for part in parts for plot in part.plots]
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        return {}
    for old in IMAGES.glob("scale-*.svg"):
        old.unlink()
    with mpl.rc_context(STYLE):
        for plot in plots:
            figure = Figure(figsize=(7.2, 3.6), layout="constrained")
            _draw(figure.subplots(), plot)
            figure.savefig(_path(plot), metadata={"Date": None, "Creator": None})
    return {plot.name: str(_path(plot).relative_to(DOCS)) for plot in plots}


def _path(plot: Plot) -> Path:
    return IMAGES / f"scale-{plot.name}.svg"


def _draw(axes: Any, plot: Plot) -> None:
    axes.set(title=plot.title, xlabel=plot.x, ylabel=plot.y)
    width = 0.8 / max(1, len(plot.lines))
    for at, (name, points) in enumerate(plot.lines.items()):
        place, _, what = name.partition(", ")
        xs, ys = zip(*points, strict=True)
        colour = COLOURS[place]
        if plot.labels:
            shift = (at + 0.5) * width - 0.4
            axes.bar([x + shift for x in xs], ys, width, label=name, color=colour)
        else:
            dashes = "--" if what == "get" else "-"
            axes.plot(xs, ys, dashes, marker="o", label=name, color=colour)
    if plot.logarithmic:
        axes.set_yscale("log")
    if plot.labels:
        axes.set_xticks(range(len(plot.labels)), plot.labels)
        axes.grid(visible=False, axis="x")
    elif plot.logarithmic:
        axes.set_xscale("log")
    if plot.limit is not None:
        axes.axhline(
            plot.limit, color="#444444", linewidth=1, linestyle=":", label="target, at most"
        )
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
