import io

import pytest
from rich.console import Console
from rich.progress import Task, TaskID

from vae_lab.jobs import progress


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a console that is no terminal is given."""
    text = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=text, width=120))
    return text


def test_a_pipe_gets_a_line_an_epoch_and_one_a_run(printed: io.StringIO) -> None:
    with progress.open_display(2, 4) as display:
        for name in ("vae L2", "vae L3"):
            with progress.join_display(2) as shared, shared.run(name, 2) as run:
                assert shared is display
                run.epoch(1, 120.0, 121.0)
                run.epoch(2, 110.0, 111.5)
    lines = printed.getvalue().splitlines()
    assert lines[0].startswith("  [1/2] vae L2  epoch 1/2  loss 120.00  held-out 121.00  left 0:00:0")
    assert lines[2].startswith("✓ [1/2] vae L2  loss 110.00  held-out 111.50")
    assert lines[5].startswith("✓ [2/2] vae L3")
    assert lines[4].endswith("left 0:00:00")


def test_a_run_that_ends_badly_says_why(printed: io.StringIO) -> None:
    with pytest.raises(ValueError, match="broke"), progress.join_display(1) as display, display.run("vae", 1):
        raise ValueError("it broke [at] last\nsecond line")
    assert printed.getvalue().strip() == "✗ vae  it broke [at] last"


def test_a_terminal_shows_bars_of_the_run_and_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=text, width=120, force_terminal=True))
    with progress.open_display(10, 100) as display, display.run("vae L2 Z15 s0", 10) as run:
        run.epoch(1, 120.0, 121.0)
        display.bars.refresh()
    shown = text.getvalue()
    assert "all 10 runs" in shown
    assert "[1/10] vae L2 Z15 s0" in shown
    assert "held-out 121.00" in shown
    assert "left" in shown


def test_the_time_left_follows_the_pace_since_the_start() -> None:
    task = Task(TaskID(0), "all 6 runs", total=12, completed=2, _get_time=lambda: 130.0)
    task.start_time = 10.0
    assert progress.TimeLeft().render(task).plain == "0:10:00"  # two of twelve epochs in two minutes
    task.completed = 0
    assert progress.TimeLeft().render(task).plain == "-:--:--"
