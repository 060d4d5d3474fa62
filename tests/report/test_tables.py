import csv as csv_reader
import dataclasses
import io
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from msgspec.structs import replace
from rich.console import Console

from tests.studies.test_comparison import ONE_AT_A_TIME, record, run, study
from vae_lab.errors import UserError
from vae_lab.metrics import metric_named
from vae_lab.report import tables
from vae_lab.report.tables import Cell, Column, Table
from vae_lab.studies.comparison import comparisons
from vae_lab.studies.plan import Plan
from vae_lab.studies.statistics import (
    LOOKED,
    UNPAIRED,
    Pair,
    mean_interval,
    sign_flip_interval,
    swap_interval,
)
from vae_lab.tracking import ERROR, EVALUATION, StoredRun

TABLE = Table(
    "Depth",
    [Column("model", numeric=False), Column("loss", "nats/image", 2), Column("parameters", "", 0)],
    [
        [Cell("vae"), Cell(103.456, best=True), Cell(711694.0)],
        [Cell("a|b <i> 50% {x}"), Cell(104.1, half=0.25), Cell(None)],
    ],
    "A note.",
    best="Best.",
)


def printed(table: Table, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    tables.show(table, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def grid(losses: Mapping[tuple[str, str], Sequence[float]], metric: str = "test/loss") -> list[StoredRun]:
    """Finished runs, one a seed, of (model, layers)."""
    return [
        StoredRun(
            f"{model}{layers}{seed}",
            "1",
            f"{model} L{layers} s{seed}",
            "FINISHED",
            {
                "model": model,
                "model.conditional": str(model == "cvae"),
                "model.layers": layers,
                "seed": str(seed),
            },
            {metric: loss},
            {},
            0,
        )
        for (model, layers), values in losses.items()
        for seed, loss in enumerate(values)
    ]


GRID = Plan(
    name="grid",
    cross={"model": ["vae", "cvae"], "model.layers": ["1", "2", "3"]},
    replicate={"seed": [str(i) for i in range(8)]},
)
NOISE = (0.3, -0.2, 0.1, 0.0, -0.1, 0.2, -0.3, 0.05)


def near(centre: float, order: int = 1) -> list[float]:
    return [centre + noise for noise in NOISE[::order]]


def column(table: Table, heading: str) -> list[Cell]:
    place = [entry.heading for entry in table.columns].index(heading)
    return [row[place] for row in table.rows]


def test_the_terminal_shows_units_groups_of_digits_and_a_star_at_the_best() -> None:
    text = printed(TABLE, 100)
    assert "103.46*" in text
    assert "711,694" in text
    assert "nats/image" in text
    assert "104.10 ± 0.25" in text


def test_a_narrow_terminal_gets_the_table_in_parts_that_repeat_the_first_columns() -> None:
    text = printed(TABLE, 34)
    assert max(map(len, text.splitlines())) <= 34
    upper, lower = re.split(r"\n\s*\n", text)[:2]
    assert "103.46*" in upper
    assert "711,694" in lower
    for part in (upper, lower):
        assert re.findall(r"^(?:vae|a\|b)", part, re.MULTILINE) == ["vae", "a|b"]
    assert text.count("Depth") == text.count("A note.") == 1


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_column_is_lost_or_cut_at_any_width(width: int) -> None:
    names = [f"column {i}" for i in range(12)]
    wide = Table(
        "Wide",
        [Column("key", numeric=False), *(Column(name, "nats/image") for name in names)],
        [[Cell("a"), *(Cell(1000.0 + i, half=0.5) for i in range(12))]],
    )
    text = printed(wide, width)
    assert max(map(len, text.splitlines())) <= width
    assert [f"{1000 + i:,}.00 ± 0.50" in text for i in range(12)] == [True] * 12
    assert "…" not in text


def test_parts_are_of_like_width() -> None:
    table = Table("x", [Column("k")] + [Column("c" * 8)] * 9, [[Cell("1")] * 10])
    rows = [line.split() for line in printed(table, 90).splitlines() if line.strip().startswith("1")]
    assert [len(row) for row in rows] == [6, 5]


def test_values_and_intervals_of_a_column_stand_under_each_other() -> None:
    table = Table(
        "x",
        [Column("k"), Column("v")],
        [[Cell("1"), Cell(9.5, half=0.25)], [Cell("2"), Cell(110.0, half=12.0)]],
    )
    one, two = (line for line in printed(table, 80).splitlines() if "±" in line)
    assert one.index("±") == two.index("±")
    assert one.index("9.50") == two.index("110.00") + 2


def test_markdown_aligns_and_escapes() -> None:
    text = tables.markdown(TABLE)
    assert "### Depth" in text
    assert "**103.46** \\*" in text
    assert "\\* Best." in text
    assert "a\\|b" in text
    assert "loss (nats/image) |" in text


def test_csv_keeps_every_digit_the_interval_and_the_mark() -> None:
    rows = list(csv_reader.DictReader(io.StringIO(tables.csv(TABLE))))
    assert rows[0]["loss (nats/image)"] == "103.456"
    assert rows[1]["loss (nats/image) ±"] == "0.25"
    assert [row["loss (nats/image) best"] for row in rows] == ["*", ""]


def test_latex_escapes_its_signs_and_sets_the_best_in_bold() -> None:
    text = tables.latex(TABLE)
    assert r"\textbf{103.46}*" in text
    assert "Depth. * Best. A note." in text
    assert r"50\% \{x\}" in text
    assert r"$\pm$" in text
    assert r"\begin{tabular}{lrr}" in text


def test_html_escapes_what_comes_from_a_run() -> None:
    hostile = Table(
        "<script>x</script>", [Column('"><b>', "<u>", numeric=False)], [[Cell("<i>")]], "<img src=x>"
    )
    text = tables.html(hostile)
    for tag in ("<script", "<b>", "<u>", "<i>", "<img"):
        assert tag not in text
    assert "&lt;i&gt;" in text
    assert 'aria-label="&lt;script&gt;x&lt;/script&gt;"' in text


def test_html_shows_units_and_marks_the_best_beyond_the_digits() -> None:
    text = tables.html(TABLE)
    assert '<strong>103.46</strong><span class="mark">*</span>' in text
    assert '104.10<span class="spread">±\u202f0.25</span>' in text
    assert '<span class="unit">nats/image</span>' in text
    assert '<p class="legend">* Best.</p>\n<p class="legend">A note.</p>' in text
    assert text == tables.html(TABLE)


def test_html_gives_each_group_of_rows_a_body() -> None:
    table = Table("x", [Column("k")], [[Cell(str(i))] for i in range(3)], breaks=frozenset({0}))
    assert tables.fragment(table).count("<tbody>") == 2
    assert tables.fragment(Table("x", [Column("k")], [])).count("<tbody>") == 0


def test_one_run_each_marks_nothing_and_shows_no_interval() -> None:
    runs = [run("vae", 2, 15), run("vae", 3, 15), run("cvae", 3, 15)]
    runs[1].metrics["test/loss"] = 90.0  # type: ignore[index]
    depth, _ = comparisons(study(ONE_AT_A_TIME, *runs))
    (table,) = tables.ablation_tables(depth, ONE_AT_A_TIME)
    assert not table.marked
    assert all(cell.half is None for row in table.rows for cell in row)
    assert "One run a row: no intervals, and no row is marked as best." in table.note
    assert "n" not in [entry.heading for entry in table.columns]
    assert [(row[0].value, row[1].value) for row in table.rows] == [("vae", "2"), ("vae", "3"), ("cvae", "3")]


@pytest.mark.parametrize(("by", "one"), [("model", "seed"), ("seed", "replicate")])
def test_a_row_that_averages_over_several_runs_is_not_called_one_run(by: str, one: str) -> None:
    runs = grid({(model, layers): [100.0] for model in ("vae", "big") for layers in "12"})
    runs += [dataclasses.replace(run, params={**run.params, "seed": "1"}) for run in runs] * (by == "seed")
    loss = [metric_named("test/loss")]
    (table,) = tables.study_tables(study(GRID, *runs), by=[by], metrics=loss)
    assert f"One {one} a row: no intervals, and no row is marked as best. Rows are means over" in table.note


def test_a_study_of_seeds_alone_has_a_row_a_seed_and_one_over_them() -> None:
    plan = Plan(name="x", replicate={"seed": ["0", "1", "2"]})
    values = (100.0, 101.0, 102.0)
    one_a_seed, over = tables.study_tables(study(plan, *grid({("vae", "2"): values})))
    assert (one_a_seed.title, over.title) == ("seed", "Over seeds")
    assert [cell.value for cell in column(one_a_seed, "held-out loss")] == list(values)
    mean = mean_interval(values)
    (cell,) = column(over, "held-out loss")
    assert cell.value == pytest.approx(mean.estimate)
    assert cell.half == pytest.approx(mean.high - mean.estimate)
    assert column(over, "n") == [Cell(3.0)]
    crossed = tables.study_tables(study(GRID, *grid({("vae", "2"): values, ("cvae", "2"): values})))
    assert [table.title for table in crossed] == ["model, layers"]


def test_replicates_show_the_mean_its_interval_and_their_number() -> None:
    values = near(100.0)
    (table,) = tables.study_tables(study(GRID, *grid({("vae", "1"): values})))
    (cell,) = column(table, "held-out loss")
    expected = mean_interval(values)
    assert cell.value == pytest.approx(expected.estimate)
    assert cell.half == pytest.approx(expected.high - expected.estimate)
    assert column(table, "n") == [Cell(8.0)]
    assert "95 % interval of the mean over seeds" in table.note


def test_ties_are_marked_together_and_what_is_beaten_is_not() -> None:
    losses = {("vae", "1"): near(100.0), ("vae", "2"): near(100.0, -1), ("vae", "3"): near(110.0)}
    (table,) = tables.study_tables(study(GRID, *grid(losses)))
    assert [cell.best for cell in column(table, "held-out loss")] == [True, True, False]
    assert "no other row of one model is shown to be better" in table.best


def test_rows_whose_seeds_were_added_while_looking_are_told_apart_by_tests_that_allow_for_it() -> None:
    losses = {("vae", "1"): near(100.0), ("vae", "2"): near(100.28, -1)}
    runs = grid(losses)
    contrast = [tables.parse_contrast("model.layers=1,2")]
    pair = Pair(*(np.array(losses["vae", layers]) for layers in ("2", "1")))
    for sequential, test in ((False, UNPAIRED), (True, LOOKED)):
        one = study(replace(GRID, sequential=sequential), *runs)
        (table,) = tables.study_tables(one)
        assert table.marked == (not sequential), "a p that passes once is not enough where one looks again"
        assert ("at looks, which allows for seeds added while looking" in table.best) == sequential
        (p,) = column(tables.contrast_tables(one, contrast)[0], "p")
        assert p.value == pytest.approx(float(test.directions(pair).up))


def test_a_column_in_which_nothing_is_shown_to_be_worse_bears_no_mark() -> None:
    losses = {("vae", "1"): near(100.0), ("vae", "2"): near(100.0, -1)}
    (table,) = tables.study_tables(study(GRID, *grid(losses)))
    assert not table.marked


def test_too_few_seeds_to_tell_rows_apart_are_named() -> None:
    losses = {("vae", str(layers)): [100.0 + 50 * layers + i for i in range(3)] for layers in (1, 2)}
    (table,) = tables.study_tables(study(GRID, *grid(losses)))
    assert not table.marked
    assert "With 3 seeds no row can be shown to be worse than another; it takes 4." in table.note


def test_more_of_what_is_better_is_best() -> None:
    shares = {("vae", "1"): near(0.5), ("vae", "2"): near(5.5)}
    study_tables = tables.study_tables(study(GRID, *grid(shares, "eval/recognizable_share")))
    (quality,) = (table for table in study_tables if "quality" in table.title)
    assert [cell.best for cell in column(quality, "recognizable share")] == [False, True]
    assert [entry.heading for entry in quality.columns] == ["model", "layers", "n", "recognizable share"]


def test_the_losses_of_vae_and_cvae_are_never_ranked_but_their_marginals_are() -> None:
    values = {("vae", "1"): near(100.0), ("cvae", "1"): near(90.0)}
    plan = Plan(name="x", cross={"model.layers": ["1"], "model": ["vae", "cvae"]}, replicate=GRID.replicate)

    def best(metric: str) -> list[bool]:
        (table,) = tables.study_tables(study(plan, *grid(values, metric)), ["model"], [metric_named(metric)])
        return [row[-1].best for row in table.rows]

    assert best("test/loss") == [False, False]
    assert best("test/negative_log_marginal") == [False, True]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("objective.likelihood", ("bernoulli", "continuous_bernoulli")),
        ("data.binarize", ("none", "fixed", "dynamic")),
    ],
)
def test_kinds_of_likelihood_never_share_a_column(key: str, values: tuple[str, ...]) -> None:
    runs = [
        record(loss=100.0 * i, **{key.replace(".", "__"): value, "seed": str(seed), "data": "mnist"})
        for i, value in enumerate(values)
        for seed in range(8)
    ]
    for trained in runs:
        trained.metrics["eval/recall"] = 0.5  # type: ignore[index]
    plan = Plan(name="x", cross={key: list(values)}, replicate=GRID.replicate)
    *losses, quality = tables.study_tables(study(plan, *runs))
    assert [len(table.rows) for table in losses] == [1] * len(values)
    assert [table.rows[0][0].value for table in losses] == list(values)
    assert [value in table.title for table, value in zip(losses, values, strict=True)] == [True] * len(values)
    assert len(quality.rows) == len(values)
    with pytest.raises(UserError, match=rf"{key} cannot be subtracted.*Valid: eval/recall"):
        tables.contrast_tables(
            study(plan, *runs), [tables.Contrast(key, *values[:2])], [metric_named("test/loss")]
        )


def test_losses_under_different_weights_of_the_kl_are_not_ranked_but_their_elbos_are() -> None:
    runs = [
        record(loss=100.0 + 10 * beta + noise, objective__beta=str(float(beta)), seed=str(seed))
        for beta in (1, 4)
        for seed, noise in enumerate(NOISE)
    ]
    for trained in runs:
        trained.metrics["test/negative_elbo"] = trained.metrics["test/loss"]  # type: ignore[index]
    plan = Plan(name="x", cross={"objective.beta": ["1.0", "4.0"]}, replicate=GRID.replicate)
    (table,) = tables.study_tables(study(plan, *runs))
    assert [cell.best for cell in column(table, "held-out loss")] == [False, False]
    assert [cell.best for cell in column(table, "negative ELBO")] == [True, False]


def test_the_elbo_stands_beside_the_loss_only_where_they_may_differ() -> None:
    def headings(**params: str) -> list[str]:
        runs = [record(loss=100.0, seed=str(seed), **params) for seed in range(2)]
        for trained in runs:
            trained.metrics["test/negative_elbo"] = 100.0  # type: ignore[index]
        table, *_ = tables.study_tables(study(Plan(name="x", cross={"model": ["vae"]}), *runs))
        return [column.heading for column in table.columns]

    assert "negative ELBO" not in headings(model="vae"), "an older run says nothing of its objective"
    assert "negative ELBO" not in headings(model="vae", objective__beta="1.0", objective__penalty="none")
    assert "negative ELBO" in headings(model="vae", objective__beta="4.0")


def test_failures_are_counted_and_named_with_their_reason() -> None:
    runs = grid({("vae", "1"): near(100.0)})
    lost = StoredRun(
        "x", "1", "vae L1 s9", "FAILED", {**runs[0].params, "seed": "9"}, {}, {ERROR: "loss is nan"}, 0
    )
    (table,) = tables.study_tables(study(GRID, *runs, lost))
    assert column(table, "failed") == [Cell(1.0)]
    assert "Failed: vae L1 s9 (loss is nan)." in table.note


def test_a_value_of_fewer_seeds_than_the_row_says_so() -> None:
    runs = grid({("vae", "1"): near(100.0)})
    for trained in runs[:3]:
        trained.metrics["train/loss"] = 5.0 + len(trained.name)  # type: ignore[index]
    runs[0].metrics["train/loss"] = math.nan  # type: ignore[index]
    (table,) = tables.study_tables(study(GRID, *runs))
    assert column(table, "train loss")[0].count == 2
    assert "(n 2)" in printed(table, 200)


@pytest.mark.parametrize("state", ["diverged", "failed", "not run", "measured otherwise"])
def test_a_row_without_a_configuration_that_others_average_over_is_named_and_not_ranked(state: str) -> None:
    """The deepest is the worst: without it the worse model would seem the better one."""
    depths = (("1", 90.0), ("2", 100.0), ("3", 120.0))
    losses = {("vae", layers): near(loss + 3.0) for layers, loss in depths}
    losses |= {("big", layers): near(loss) for layers, loss in depths} | {("wide", "1"): near(150.0)}
    losses |= {("wide", layers): near(150.0) for layers in "23"}
    runs = grid(losses)
    deepest = [run for run in runs if run.name.startswith("vae L3")]
    for trained in deepest:
        trained.metrics["test/loss"] = math.nan  # type: ignore[index]
        if state == "measured otherwise":
            del trained.metrics["test/loss"]  # type: ignore[attr-defined]
    if state in ("failed", "not run"):
        runs = [run for run in runs if run not in deepest]
        failed = [dataclasses.replace(trained, status="FAILED", metrics={}) for trained in deepest]
        runs += failed if state == "failed" else []
    plan = replace(GRID, cross={"model": ["vae", "big", "wide"], "model.layers": ["1", "2", "3"]})
    loss = [metric_named("test/loss")]
    (table,) = tables.study_tables(study(plan, *runs), by=["model"], metrics=loss)
    best = dict(zip([row[0].value for row in table.rows], column(table, "held-out loss"), strict=True))
    assert [name for name, cell in best.items() if cell.best] == ["big"]
    sentence = "Not ranked by held-out loss, since without what others average over: vae (no layers 3)."
    assert sentence in table.note
    (whole,) = tables.study_tables(study(plan, *grid(losses)), by=["model"], metrics=loss)
    assert "Not ranked" not in whole.note


def test_rows_of_which_none_has_what_the_others_have_are_not_ranked() -> None:
    runs = grid({("vae", "1"): near(90.0), ("big", "3"): near(120.0)})
    plan = replace(GRID, cross={"model": ["vae", "big"], "model.layers": ["1", "3"]})
    (table,) = tables.study_tables(study(plan, *runs), by=["model"], metrics=[metric_named("test/loss")])
    assert not any(cell.best for cell in column(table, "held-out loss"))
    assert "vae (no layers 3), big (no layers 1)" in table.note


def test_rows_that_pool_configurations_average_within_each_seed() -> None:
    runs = grid({("vae", "1"): [1.0, 2.0], ("vae", "2"): [11.0, 12.0], ("vae", "3"): [21.0]})
    (table,) = tables.study_tables(study(GRID, *runs), ["model"], [metric_named("test/loss")])
    (cell,) = column(table, "held-out loss")
    assert (cell.value, cell.count) == (11.0, 1)  # seed 1 lacks one of the three
    assert "Rows are means over layers." in table.note


def test_real_images_have_a_row_and_what_exceeds_them_is_not_marked() -> None:
    values = {("vae", "1"): near(0.4), ("vae", "2"): near(-0.8), ("vae", "3"): near(0.9)}
    runs = grid(
        {key: [1 + (loss - 1) / 100 for loss in losses] for key, losses in values.items()}, "eval/recall"
    )
    for trained in runs:
        trained.metrics["real/recall"] = 0.9985  # type: ignore[index]
        trained.metrics["eval/nearest_training_distance"] = 0.8  # type: ignore[index]
    *_, quality = tables.study_tables(study(GRID, *runs))
    recall, nearest = column(quality, "recall"), column(quality, "nearest training")
    assert [cell.best for cell in recall] == [False] * 4, "the third row is best, but above real images"
    assert (quality.rows[-1][0].value, recall[-1], nearest[-1]) == ("real images", Cell(0.9985), Cell(None))
    assert "training images in place of samples" in quality.note
    for trained in runs:
        trained.metrics["real/recall"] = 1.5  # type: ignore[index]
    *_, below = tables.study_tables(study(GRID, *runs))
    assert [cell.best for cell in column(below, "recall")] == [False, False, True, False]
    for format in tables.FORMATS.values():
        assert "real images" in format(quality)


def test_measures_taken_at_different_settings_are_named() -> None:
    runs = grid({("vae", "1"): near(0.5)}, "eval/precision")
    for i, trained in enumerate(runs):
        trained.tags[EVALUATION] = f"samples={100 * (i % 2 + 1)}"  # type: ignore[index]
    losses, quality = tables.study_tables(study(GRID, *runs))
    assert "Not all were measured alike: samples=100; or samples=200." in quality.note
    assert "alike" not in losses.note


def test_a_configuration_without_a_finished_run_keeps_its_row() -> None:
    plan = Plan(name="x", cross={"model": ["vae"]})
    (table,) = tables.study_tables(study(plan, record("FAILED", model="vae")))
    assert {cell.text(entry) for cell, entry in zip(table.rows[0][2:], table.columns[2:], strict=True)} == {
        "–"
    }
    assert column(table, "failed") == [Cell(1.0)]


def test_a_contrast_is_of_runs_of_the_same_seed_at_the_same_place() -> None:
    before, after = near(100.0), near(103.0, -1)
    runs = grid({("vae", "1"): before, ("vae", "2"): after, ("cvae", "1"): before, ("cvae", "2"): before})
    (table,) = tables.contrast_tables(study(GRID, *runs), [tables.parse_contrast("model.layers=1,2")])
    expected = swap_interval(Pair(np.array(after), np.array(before)))
    names = [entry.heading for entry in table.columns]
    vae, cvae = ({name: cell.value for name, cell in zip(names, row, strict=True)} for row in table.rows)
    assert vae["model"] == "vae"
    assert [vae[name] for name in ("change", "from", "to")] == pytest.approx(list(expected[:3]))
    assert (vae["n"], vae["p"], vae["Holm p"], vae["P(better)"]) == (
        8.0,
        2 / math.comb(16, 8),
        4 / math.comb(16, 8),
        0.0,
    )
    assert (cvae["change"], cvae["p"], cvae["P(better)"]) == (0.0, 1.0, 0.5)
    assert "adjusted over 2 contrasts" in table.note
    assert "permutation test of two samples of seeds" in table.note
    assert "+3.00" in tables.markdown(table)


def test_a_contrast_within_one_architecture_is_paired_by_seed() -> None:
    seeds, losses = range(8), {"0.1": near(100.0), "0.2": near(103.0, -1)}
    runs = [
        record(model="vae", optimizer__lr=rate, seed=str(seed), loss=values[seed])
        for rate, values in losses.items()
        for seed in seeds
    ]
    plan = Plan(name="x", cross={"optimizer.lr": ["0.1", "0.2"]}, replicate={"seed": [*map(str, seeds)]})
    (table,) = tables.contrast_tables(study(plan, *runs), [tables.parse_contrast("optimizer.lr=0.1,0.2")])
    expected = sign_flip_interval(np.array(losses["0.2"]) - losses["0.1"])
    (row,) = (
        {c.heading: cell.value for c, cell in zip(table.columns, row, strict=True)} for row in table.rows
    )
    assert [row[name] for name in ("change", "from", "to")] == pytest.approx(list(expected[:3]))
    assert row["p"] == 2 / 2**8
    assert "sign-flip test within seeds" in table.note


@pytest.mark.parametrize(("key", "author"), [("model.layers", "Welch"), ("optimizer.lr", "Student")])
def test_the_interval_of_too_few_seeds_bears_its_authors_name(key: str, author: str) -> None:
    runs = [
        record(model="vae", seed=seed, loss=100.0 + int(value) * int(seed), **{key: value})
        for value in "12"
        for seed in "12"
    ]
    plan = Plan(name="x", cross={key: ["1", "2"]}, replicate={"seed": ["1", "2"]})
    (table,) = tables.contrast_tables(study(plan, *runs), [tables.parse_contrast(f"{key}=1,2")])
    assert f"interval ({author}'s t for fewer than" in table.note


def test_holms_adjustment_is_over_all_contrasts_and_measures_asked_for() -> None:
    runs = grid({("vae", str(i)): near(100.0 + i, (-1) ** i) for i in (1, 2, 3)})
    for trained in runs:
        trained.metrics["train/loss"] = trained.metrics["test/loss"]  # type: ignore[index]
    asked = [tables.parse_contrast(f"model.layers={pair}") for pair in ("1,2", "2,3")]
    made = tables.contrast_tables(
        study(GRID, *runs), asked, [metric_named("test/loss"), metric_named("train/loss")]
    )
    assert [cell.value for table in made for cell in column(table, "Holm p")] == [
        pytest.approx(4 * 2 / math.comb(16, 8))
    ] * 4


def test_one_seed_gives_a_difference_without_an_interval() -> None:
    runs = grid({("vae", "1"): [100.0], ("vae", "2"): [103.0]})
    (table,) = tables.contrast_tables(study(GRID, *runs), [tables.parse_contrast("model.layers=1,2")])
    assert [column(table, name)[0].value for name in ("change", "from", "to", "p")] == [3.0, None, None, 1.0]


def test_vae_and_cvae_are_contrasted_only_in_what_they_share() -> None:
    runs = grid({("vae", "1"): near(100.0), ("cvae", "1"): near(90.0)})
    asked = [tables.parse_contrast("model=vae,cvae")]
    with pytest.raises(UserError, match=r"test/loss of runs that differ in model\.conditional"):
        tables.contrast_tables(study(GRID, *runs), asked)
    for trained in runs:
        trained.metrics["test/negative_log_marginal"] = trained.metrics["test/loss"]  # type: ignore[index]
    (table,) = tables.contrast_tables(study(GRID, *runs), asked)
    assert "test/negative_log_marginal" in table.title


@pytest.mark.parametrize(
    "text",
    ["model.layers=[400,200],[400,100]", "model.layers=[400, 200.0], [400, 100]", "model.layers=[400,200],3"],
)
def test_a_contrast_names_lists_as_they_are_typed(text: str) -> None:
    runs = grid({("vae", "[400, 200]"): [100.0, 101.0], ("vae", "[400, 100]"): [103.0, 104.0]})
    runs += grid({("vae", "3"): [103.0, 104.0]})
    (table,) = tables.contrast_tables(study(GRID, *runs), [tables.parse_contrast(text)])
    assert [cell.value for cell in column(table, "change")] == [3.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.layers", "must be KEY=BEFORE,AFTER"),
        ("model.layers=1", "must be KEY=BEFORE,AFTER"),
        ("model.layers=1,2,3", "must be KEY=BEFORE,AFTER"),
        ("model.layers=1,1", "must be KEY=BEFORE,AFTER"),
        ("model.layers=[1,2],[1, 2.0]", "must be KEY=BEFORE,AFTER"),
        ("model.layers=[1,2", "must be KEY=BEFORE,AFTER"),
        ("model.layers=[1,2],2", r"model\.layers=\[1, 2\]: no run has that value"),
        ("model.layer=1,2", r"model\.layer: the runs have no such parameter; did you mean model\.layers"),
        ("model.layers=1,7", r"model\.layers=7: no run has that value.*Valid: 1, 2"),
        ("seed=0,1", "no two finished runs differ in it alone"),
    ],
)
def test_a_contrast_that_cannot_be_made_is_named(text: str, message: str) -> None:
    runs = grid({("vae", "1"): [100.0, 101.0], ("vae", "2"): [103.0]})
    with pytest.raises(UserError, match=message):
        tables.contrast_tables(study(GRID, *runs), [tables.parse_contrast(text)])


def test_importance_shares_out_the_variance_of_a_full_grid_with_its_interactions() -> None:
    plan = Plan(
        name="x",
        cross={"model.layers": ["1", "2"], "model.latent_size": ["5", "9"]},
        replicate={"seed": [*"01"]},
    )
    runs = [
        record(
            loss=10 * a + b + 5 * a * b + noise,
            model__layers=str(a + 1),
            model__latent_size=str(4 * b + 5),
            seed=seed,
        )
        for a in (0, 1)
        for b in (0, 1)
        for seed, noise in (("0", 0.1), ("1", -0.1))
    ]
    (table,) = tables.importance_tables(study(plan, *runs))
    shares = {str(row[0].value): float(row[1].value or 0) for row in table.rows}
    # Sums of squares by hand: effects 12.5 and 3.5, interaction 5, residual 8 * 0.1^2.
    squares = [2 * 12.5**2, 2 * 3.5**2, 5**2 / 2, 0.08]
    assert list(shares) == ["layers", "latent size", "layers × latent size", "the rest: seeds"]
    assert list(shares.values()) == pytest.approx([100 * square / sum(squares) for square in squares])
    assert tables.importance_tables(study(plan, *runs[2:])) == []
    with pytest.raises(UserError, match="grid is not full"):
        tables.importance_tables(study(plan, *runs[2:]), needed=True)


def test_the_rest_is_named_by_the_runs_that_have_the_metric() -> None:
    plan = Plan(
        name="x",
        cross={"model.layers": ["1", "2"], "model.latent_size": ["5", "9"]},
        replicate={"seed": [*"012"]},
    )
    runs = [
        record(
            loss=layers * size + 0.1 * seed,
            model__layers=f"{layers}",
            model__latent_size=f"{size}",
            seed=f"{seed}",
        )
        for layers in (1, 2)
        for size in (5, 9)
        for seed in range(3)
    ]
    for first in runs[::3]:
        first.metrics["eval/recognizable_share"] = first.metrics["test/loss"] / 100  # type: ignore[index]
    (table,) = tables.importance_tables(study(plan, *runs))
    rest = {str(row[0].value): [cell.value for cell in row[1:]] for row in table.rows[2:]}
    together, alone = "layers × latent size", "the rest and the interaction of all keys"
    assert list(rest) == [together, "the rest: seeds", alone]
    assert [[value is None for value in values] for values in rest.values()] == [
        [False, True],
        [False, True],
        [True, False],
    ]
    assert table.breaks == {2}
    (once,) = tables.importance_tables(study(plan, *runs[::3]))
    assert [str(row[0].value) for row in once.rows[2:]] == [alone]


def test_importance_takes_vae_and_cvae_apart() -> None:
    losses = {(m, str(i)): near(100.0 + i) for m in ("vae", "cvae") for i in (1, 2)}
    assert tables.importance_tables(study(GRID, *grid(losses))) == []
    (table,) = tables.importance_tables(study(GRID, *grid(losses)), needed=True)
    assert [entry.heading for entry in table.columns] == ["key", "held-out loss, VAE", "held-out loss, CVAE"]


def test_importance_leaves_out_what_is_the_same_in_every_run() -> None:
    runs = grid({("vae", str(i)): near(100.0 + i) for i in (1, 2)})
    for same in runs:
        same.metrics["eval/recognizable_share"] = 0.5  # type: ignore[index]
    (table,) = tables.importance_tables(study(GRID, *runs), needed=True)
    assert [entry.heading for entry in table.columns] == ["key", "held-out loss"]
    with pytest.raises(UserError, match="every run has the same value"):
        tables.importance_tables(study(GRID, *runs), [metric_named("eval/recognizable_share")], needed=True)
