"""How long a move of a slider takes on a page of the explorer: `python -m benchmarks.explorer PAGE.html`.

A move is what happens between the input event and the next frame: every model decodes its image, and images,
sliders and maps are brought up to date. A frame of a screen at 60 Hz lasts 16.7 ms.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
MOVES = """async (count) => {
    const slider = document.getElementById('dimension-1');
    const times = [];
    for (let move = 0; move < count; move++) {
        const begin = performance.now();
        slider.value = 3 * Math.sin(move / 7);
        slider.dispatchEvent(new Event('input'));
        for (const render of session.watchers) render(session);
        document.body.getBoundingClientRect();
        times.push(performance.now() - begin);
        await new Promise(requestAnimationFrame);
    }
    return times;
}"""


def milliseconds(file: Path, count: int) -> list[float]:
    """Returns how long each of `count` moves took, in a Chromium without a window."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(file.absolute().as_uri())
        page.locator("html[data-state=ready]").wait_for()
        page.evaluate(MOVES, count // 4)  # the browser compiles what runs often
        times: list[float] = page.evaluate(MOVES, count)
        browser.close()
    return times


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explorer", description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--moves", type=int, default=200)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Prints median and 95th percentile of the moves on a page."""
    chosen = parse(arguments)
    times = sorted(milliseconds(chosen.page, chosen.moves))
    late = times[int(0.95 * (len(times) - 1))]
    print(f"a move: median {statistics.median(times):.1f} ms, 95 % within {late:.1f} ms, of {len(times)}")


if __name__ == "__main__":
    main(sys.argv[1:])
