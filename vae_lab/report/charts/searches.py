"""What a search found for how many epochs, and how long each trial was followed."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from vae_lab.report.drawing import MUTED, Drawing, colour, name_axes
from vae_lab.studies.searched import Searched


def best_so_far(name: str, searched: Searched, heading: str) -> Drawing:
    """The best value of full length over the epochs of all trials, and where these ended or paused."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        stopped = [step for step in searched.newest() if step.epoch < searched.length]
        whole = searched.whole()
        for steps, marker, shade in ((stopped, "x", MUTED), (whole, "o", colour(1))):
            if steps:
                places, values = [step.spent for step in steps], [step.values[0] for step in steps]
                axes.plot(places, values, marker, color=shade, markersize=4, linestyle="")
        if best := searched.best_so_far():
            end = max(step.spent for step in searched.steps)
            best.append((end, best[-1][1]))
            axes.step(*zip(*best, strict=True), where="post", color=colour(0))
            low, high = min(step.values[0] for step in whole), max(step.values[0] for step in whole)
            room = max(high - low, 0.02 * abs(low), 1e-9)
            # What was stopped early lies far on the worse side.
            below, above = (0.3, 2) if searched.directions[0] == "minimize" else (2, 0.3)
            axes.set_ylim(low - below * room, high + above * room)
        name_axes(axes, "epochs of all trials", heading)

    return Drawing(name, draw, 6.4, 3.4)


def front(name: str, searched: Searched, headings: Sequence[str]) -> Drawing:
    """The first two objectives of all trials of full length, and the front of the best of them."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        best = {*searched.best()}
        whole = searched.whole()
        others = [step.values[:2] for step in whole if step.run not in best]
        if others:
            axes.plot(*zip(*others, strict=True), "o", color=MUTED, markersize=4)
        edge = sorted(step.values[:2] for step in whole if step.run in best)
        if edge:
            axes.plot(*zip(*edge, strict=True), "o-", color=colour(0), markersize=5, linewidth=1)
        name_axes(axes, *headings[:2])

    return Drawing(name, draw, 5.4, 4.1)
