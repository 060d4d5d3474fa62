"""What a search found for how many epochs, and how long each trial was followed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from matplotlib.figure import Figure

from vae_lab.report.drawing import MUTED, TALLEST, Drawing, colour, name_axes
from vae_lab.report.searches import headings
from vae_lab.studies.searched import Searched

BESIDE = 2  # pairs of objectives in a row


def search_charts(searched: Searched) -> list[tuple[Drawing, str]]:
    """Returns the charts of a search that has any step, and what each shows in words."""
    named = headings(searched)
    before = "were stopped" if searched.states else "ended before"  # of searches of earlier versions
    said = f"The best trial of full length by the epochs of all; crosses are trials that {before}"
    if searched.early(stopped=False):
        said += ", triangles those that failed or were left, where they paused last"
    charts = [(best_so_far("search_best_so_far", searched, named[0]), f"{said}.")]
    if len(named) > 1:
        said = "Trials of full length; the line joins those that no other is better than in both objectives."
        if len(named) > 2:
            said = (
                "Trials of full length by every pair of objectives; in colour are those that no other is "
                f"better than in all {len(named)} objectives."
            )
        charts.append((front("search_front", searched, named), said))
    return charts


def best_so_far(name: str, searched: Searched, heading: str) -> Drawing:
    """The best value of full length over the epochs of all trials, and where these ended or paused."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        stopped, broken = searched.early(stopped=True), searched.early(stopped=False)
        whole = searched.whole()
        marks = ((stopped, "x", MUTED), (broken, "v", MUTED), (whole, "o", colour(1)))
        for steps, marker, shade in marks:
            if steps:
                places, values = [step.spent for step in steps], [step.values[0] for step in steps]
                axes.plot(places, values, marker, color=shade, markersize=4, linestyle="")
        if best := searched.best_so_far():
            end = max([searched.spent, *(step.spent for step in searched.steps)])
            best.append((end, best[-1][1]))
            axes.step(*zip(*best, strict=True), where="post", color=colour(0))
            low, high = min(step.values[0] for step in whole), max(step.values[0] for step in whole)
            room = max(high - low, 0.02 * abs(low), 1e-9)
            # What was stopped early lies far on the worse side.
            below, above = (0.3, 2) if searched.directions[0] == "minimize" else (2, 0.3)
            axes.set_ylim(low - below * room, high + above * room)
        name_axes(axes, "epochs of all trials", heading)

    return Drawing(name, draw, 6.4, 3.4)


def front(name: str, searched: Searched, named: Sequence[str]) -> Drawing:
    """All trials of full length by each pair of objectives, and the best of them.

    Of two objectives a line joins the best, which are a front. Of more it would join points that others beat
    in both that are drawn.
    """
    pairs = [*combinations(range(len(named)), 2)]
    columns = min(BESIDE, len(pairs))
    rows = -(-len(pairs) // columns)

    def draw(figure: Figure) -> None:
        best = searched.best_ends()
        whole = searched.whole()
        for place, (across, up) in enumerate(pairs, start=1):
            axes = figure.add_subplot(rows, columns, place)
            others = [(step.values[across], step.values[up]) for step in whole if step not in best]
            if others:
                axes.plot(*zip(*others, strict=True), "o", color=MUTED, markersize=4)
            edge = sorted((step.values[across], step.values[up]) for step in best)
            if edge:
                style = "o-" if len(pairs) == 1 else "o"
                axes.plot(*zip(*edge, strict=True), style, color=colour(0), markersize=5, linewidth=1)
            name_axes(axes, named[across], named[up])

    if len(pairs) == 1:
        return Drawing(name, draw, 5.4, 4.1)
    return Drawing(name, draw, 4.0 * columns, min(3.2 * rows, TALLEST))
