from pathlib import Path

from vae_lab import report, tables
from vae_lab.comparison import load_study
from vae_lab.figures import load_picture
from vae_lab.report import conclusion
from vae_lab.tracking import Store


def open_store(folder: Path) -> Store:
    return Store.open(f"sqlite:///{folder / 'mlflow.db'}")


def test_the_tables_of_a_study_hold_the_runs_own_numbers(ablations: Path) -> None:
    store = open_store(ablations)
    study = load_study(store, "ablations")
    depth, latent = tables.study_tables(study)
    assert (depth.title, latent.title) == ("Depth (model.layers)", "Latent size (model.latent_size)")
    headings = [column.heading for column in depth.columns]
    by_row = {(row[0].value, row[1].value): row for row in depth.rows}
    for run in study.runs:
        if run.params["model.latent_size"] == "15":
            row = by_row[run.params["model"], run.params["model.layers"]]
            assert row[headings.index("held-out loss")].value == run.metrics["test/loss"]
            assert row[headings.index("parameters")].value == float(run.params["model.parameters"])


def test_the_stored_tables_are_those_that_compare_prints(ablations: Path) -> None:
    store = open_store(ablations)
    study = load_study(store, "ablations")
    stored = store.download(study.parent.run_id, "tables/ablations.md").read_text()
    assert all(tables.markdown(table) in stored for table in tables.study_tables(study))


def test_the_contact_sheet_is_a_picture_with_a_row_a_run(ablations: Path) -> None:
    store = open_store(ablations)
    study = load_study(store, "ablations")
    sheet = load_picture(store.download(study.parent.run_id, "figures/contact_sheet.png"))
    assert sheet.shape[0] > 10 * 40
    assert [run.name for run in conclusion._in_table_order(study)] == [
        f"{model} {rest} s0"
        for model in ("vae", "cvae")
        for rest in ("L2 Z15", "L3 Z15", "L4 Z15", "L3 Z10", "L3 Z30")
    ]


def test_the_description_begins_with_the_answer(ablations: Path) -> None:
    study = load_study(open_store(ablations), "ablations")
    lines = report.description(study, tables.study_tables(study)).splitlines()
    assert lines[0] == "ablations: 10 of 10 runs finished."
    assert lines[2].startswith("- vae: held-out loss ")
    assert lines[2].endswith("for layers 2, 3, 4")
