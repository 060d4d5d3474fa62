import csv as csv_reader
import io

from rich.console import Console

from tests.test_comparison import ONE_AT_A_TIME, record, run, study
from vae_lab import tables
from vae_lab.comparison import Plan, comparisons
from vae_lab.tables import Cell, Column, Table

TABLE = Table(
    "Depth",
    [Column("model", numeric=False), Column("loss", "nats/image", 2), Column("parameters", "", 0)],
    [
        [Cell("vae"), Cell(103.456, best=True), Cell(711694.0)],
        [Cell("a|b <i> 50% {x}"), Cell(104.1, spread=0.25), Cell(None)],
    ],
    "Best: lowest.",
)


def printed(table: Table, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    tables.show(table, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_the_terminal_shows_units_groups_of_digits_and_a_star_at_the_best() -> None:
    text = printed(TABLE, 100)
    assert "103.46*" in text
    assert "711,694" in text
    assert "nats/image" in text
    assert "104.10 ± 0.25" in text


def test_a_narrow_terminal_names_the_columns_that_it_leaves_out() -> None:
    text = printed(TABLE, 44)
    assert "711,694" not in text
    assert "Not shown for want of width: parameters" in text
    assert max(map(len, text.splitlines()[:8])) <= 44


def test_markdown_aligns_and_escapes() -> None:
    text = tables.markdown(TABLE)
    assert "### Depth" in text
    assert "**103.46**" in text
    assert "a\\|b" in text
    assert "loss (nats/image) |" in text


def test_csv_keeps_every_digit_and_the_spread() -> None:
    rows = list(csv_reader.DictReader(io.StringIO(tables.csv(TABLE))))
    assert rows[0]["loss (nats/image)"] == "103.456"
    assert rows[1]["loss (nats/image) sd"] == "0.25"


def test_latex_escapes_its_signs_and_sets_the_best_in_bold() -> None:
    text = tables.latex(TABLE)
    assert r"\textbf{103.46}" in text
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
    assert '104.10<span class="spread">±&#8239;0.25</span>' in text
    assert '<span class="unit">nats/image</span>' in text
    assert '<p class="legend"><strong>*</strong> Best: lowest.</p>' in text
    assert text == tables.html(TABLE)


def test_html_gives_each_group_of_rows_a_body() -> None:
    table = Table("x", [Column("k")], [[Cell(str(i))] for i in range(3)], breaks=frozenset({0}))
    assert tables.fragment(table).count("<tbody>") == 2
    assert tables.fragment(Table("x", [Column("k")], [])).count("<tbody>") == 0


def test_the_lowest_loss_of_each_model_is_marked_and_nothing_alone() -> None:
    runs = [run("vae", 2, 15), run("vae", 3, 15), run("cvae", 3, 15)]
    runs[1].metrics["test/loss"] = 90.0  # type: ignore[index]
    depth, _ = comparisons(study(ONE_AT_A_TIME, *runs))
    table = tables.ablation_table(depth, ONE_AT_A_TIME)
    column = [column.heading for column in table.columns].index("held-out loss")
    assert [(row[0].value, row[1].value, row[column].best) for row in table.rows] == [
        ("vae", "2", False),
        ("vae", "3", True),
        ("cvae", "3", False),
    ]


def test_replicates_show_mean_spread_and_number() -> None:
    plan = Plan(name="seeds", cross={"model": ["vae"]})
    (comparison,) = comparisons(study(plan, *[record(loss=loss, model="vae") for loss in (100.0, 102.0)]))
    table = tables.ablation_table(comparison, plan)
    text = tables.markdown(table)
    assert "101.00 ± 1.41" in text
    assert table.columns[-1].heading == "n"
    assert table.rows[0][-1].value == 2


def test_a_configuration_without_a_finished_run_keeps_its_row() -> None:
    plan = Plan(name="x", cross={"model": ["vae"]})
    (comparison,) = comparisons(study(plan, record("FAILED", model="vae")))
    table = tables.ablation_table(comparison, plan)
    assert table.rows[0][1].text(2) == "–"
    assert (table.columns[-1].heading, table.rows[0][-1].value) == ("failed", 1)
