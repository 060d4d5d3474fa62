from pathlib import Path

import msgspec
import numpy as np

from vae_lab import tracking
from vae_lab.report import conclusion, drawing, tables
from vae_lab.report.conclusion import description
from vae_lab.report.drawing import standalone_figure
from vae_lab.report.pictures import load_picture
from vae_lab.studies.claims import judge_study
from vae_lab.studies.plan import PLAN_FILE, Plan
from vae_lab.studies.study import load_study
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


def test_the_contact_sheet_is_a_picture_with_a_row_a_configuration(ablations: Path) -> None:
    store = open_store(ablations)
    study = load_study(store, "ablations")
    sheet = load_picture(store.download(study.parent.run_id, "figures/contact_sheet.png"))
    assert sheet.shape[0] > 10 * drawing.DOTS / 4, "a quarter of an inch for each"
    runs_of = conclusion.configurations(study)
    assert list(runs_of) == [
        f"{model} {rest}"
        for model in ("vae", "cvae")
        for rest in ("L2 Z15", "L3 Z15", "L4 Z15", "L3 Z10", "L3 Z30")
    ]
    assert [[run.name for run in runs] for runs in runs_of.values()] == [[f"{name} s0"] for name in runs_of]


def test_runs_that_differ_by_seed_share_a_row_and_a_curve(folder: Path) -> None:
    store = Store.open(f"sqlite:///{folder / 'mlflow.db'}", create=True)
    parent = store.start("lab", "seeds", kind=tracking.SWEEP, tags={tracking.STUDY: "seeds"})
    with parent.artifacts() as scratch:
        plan = Plan("seeds", cross={"model": ["vae"]}, replicate={"seed": ["0", "1", "2"]})
        (scratch / PLAN_FILE).write_text(plan.to_json())
    member = {tracking.member_tag(parent.run_id): "1"}
    for seed, losses in enumerate(([], [20.0, 4.0], [10.0, 6.0])):
        params = {"model": "vae", "seed": str(seed)}
        run = store.start("lab", f"vae L2 Z2 s{seed}", kind="run", params=params, tags=member)
        for epoch, loss in enumerate(losses, start=1):
            run.log({"test/loss": loss}, step=epoch)
        run.finish("FINISHED" if losses else "FAILED")
    sheet, curves = conclusion.study_figures(store, load_study(store, "seeds"))
    with standalone_figure(sheet) as figure:
        labels = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert labels[-1] == "vae L2 Z2 s1", "the first that finished"
    with standalone_figure(curves) as figure:
        (axes,) = figure.axes
        (curve,) = axes.lines
        assert [text.get_text() for text in axes.texts if text.get_text()] == ["vae L2 Z2"]
        assert np.allclose(curve.get_ydata(), [15.0, 5.0]), "the mean of the two that finished"
        assert len(axes.collections) == 1, "their range"
        assert figure.get_suptitle() == "seeds: held-out loss, means and ranges"


def test_the_description_begins_with_the_answer(ablations: Path) -> None:
    study = load_study(open_store(ablations), "ablations")
    lines = description(study, tables.study_tables(study)).splitlines()
    assert lines[0] == "ablations: 10 of 10 runs finished."
    assert lines[2].startswith("- vae: held-out loss ")
    assert lines[2].endswith("for layers 2, 3, 4")


def test_a_description_holds_as_many_verdicts_as_a_tag_and_says_how_many_more_there_are(
    ablations: Path,
) -> None:
    study = load_study(open_store(ablations), "ablations")
    claim = {
        "text": "More layers. " * 30,
        "metric": "test/loss",
        "expect": "increasing",
        "along": "model.layers",
    }
    claims = [{"id": f"C{number}", **claim} for number in range(30)]
    verdicts = judge_study(study._replace(plan=msgspec.structs.replace(study.plan, claims=claims)))
    text = description(study, tables.study_tables(study), verdicts)
    told = text.count("\n- **C")
    assert 0 < told < 30
    assert len(text) <= conclusion.LONGEST_NOTE
    assert f"- {30 - told} more: *report.md* among the artifacts." in text
    assert text.endswith(conclusion.PICTURES)
