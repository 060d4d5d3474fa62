"""Writes tables, verdicts, pictures, description and page to the parent run when a multirun ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vae_lab.report import pictures, tables, views
from vae_lab.report.charts.loss_curves import LossCurves, study_losses
from vae_lab.report.drawing import Drawing, save_figures
from vae_lab.report.lines import configuration
from vae_lab.report.page import rendering
from vae_lab.report.page.contents import Contents, gather, picture
from vae_lab.report.pictures import Picture
from vae_lab.report.tables import Table
from vae_lab.report.verdicts import verdict_table
from vae_lab.studies.claims import Verdict, explanation_summary, explanations, verdicts_of
from vae_lab.studies.comparison import comparisons, groups_by_family
from vae_lab.studies.status import states_in_words
from vae_lab.studies.study import Study, load_study
from vae_lab.tracking import NOTE, STRIP_FILE, Reader, StoredRun

if TYPE_CHECKING:  # only named: whoever reads an SQLite file goes without MLflow
    from vae_lab.tracking import Recorder, Store

VERDICT_TAG = "vae_lab.verdict."  # of a parent run, followed by the claim's id
LONGEST_NOTE = 8000  # characters of a tag; MLflow cuts what is longer
CURVES_SIZE = 8.0, 4.0  # inches
PICTURES = (
    "Pictures: *Artifacts*, `figures/contact_sheet.png` (samples of every configuration), "
    "`figures/held_out_loss.png`, and the study's page, `report.html`. The same tables as CSV, LaTeX and "
    "HTML: `tables/`."
)


class Conclusion(NamedTuple):
    """What a multirun came to: its tables, and the verdicts on its study's claims."""

    tables: list[Table]
    verdicts: list[Verdict]


def conclude(store: Store, recorder: Recorder) -> Conclusion:
    """Writes tables, verdicts, pictures, description and page to the parent run; returns what they say."""
    study = load_study(store, recorder.run_id)
    verdicts = verdicts_of(study)
    contents = gather(store, study, verdicts)
    with recorder.artifacts() as folder:
        (folder / "tables").mkdir()
        write_tables(folder, "ablations", contents.tables)
        for analysis in contents.analyses:
            write_tables(folder, analysis.key, analysis.tables)
        if verdicts:
            write_tables(folder, "verdicts", [verdict_table(verdicts)])
        charts = [chart for analysis in contents.analyses for chart, _ in analysis.charts]
        save_figures(folder, [*study_figures(store, study), *charts])
    recorder.tag({VERDICT_TAG + verdict.claim.id: _with_standing(verdict) for verdict in verdicts})
    return _tell(store, recorder, study, contents, verdicts)


def tell_again(store: Store, recorder: Recorder) -> None:
    """Writes description, views and page of a parent run again, with links to what it has got since."""
    study = load_study(store, recorder.run_id)
    verdicts = verdicts_of(study)
    _tell(store, recorder, study, gather(store, study, verdicts), verdicts)


def _tell(
    store: Store, recorder: Recorder, study: Study, contents: Contents, verdicts: list[Verdict]
) -> Conclusion:
    results = contents.tables + [table for analysis in contents.analyses for table in analysis.tables]
    recorder.tag({NOTE: description(study, results, verdicts)})
    views.write_views(store, recorder, study)
    with recorder.artifacts() as folder:
        rendering.write(contents, folder / rendering.ARTIFACT)
    return Conclusion(results, verdicts)


def _with_standing(verdict: Verdict) -> str:
    return ", ".join(filter(None, [verdict.verdict, verdict.standing]))


def write_tables(folder: Path, name: str, contents: Sequence[Table]) -> None:
    """Writes tables to `folder`/tables, as one file in each format."""
    for form, suffix in tables.SUFFIXES.items():
        (folder / "tables" / f"{name}.{suffix}").write_text(
            "\n".join(map(tables.FORMATS[form], contents)), encoding="utf-8"
        )


def study_figures(store: Reader, study: Study) -> list[Drawing]:
    """The contact sheet of a study, and the held-out loss of its configurations over the epochs."""
    runs_of = configurations(study)
    if not runs_of:
        return []
    chosen = [next((run for run in runs if run.status == "FINISHED"), runs[0]) for runs in runs_of.values()]
    strips = [(run.name, _strip(store, run)) for run in chosen]
    repeated = ", the first run of each configuration" if len(strips) < len(study.runs) else ""
    sheet = pictures.contact_sheet(strips, f"{study.plan.name}: prior samples{repeated}")
    shades = views.colours(comparisons(study))
    logged = store.points([run.run_id for run in study.runs if run.status == "FINISHED"], ["test/loss"])
    series = []
    for name, runs in runs_of.items():
        curves = [logged[run.run_id]["test/loss"] for run in runs if run.run_id in logged]
        held_out = [[curve[step] for step in sorted(curve)] for curve in curves]
        if held_out:
            series.append(LossCurves(name, held_out, [], shades.get(runs[0].run_id, "")))
    if not series:
        return [sheet]
    several = any(len(curves.held_out) > 1 for curves in series)
    title = f"{study.plan.name}: held-out loss" + ", means and ranges" * several
    return [sheet, study_losses("held_out_loss", "", series, title=title, size=CURVES_SIZE)]


def _strip(store: Reader, run: StoredRun) -> Picture | str:
    """The samples of a run, or why it has none."""
    strip = picture(store, run, STRIP_FILE)
    if isinstance(strip, str) and not strip:
        return "it has none" if run.status == "FINISHED" else "the run did not finish"
    return strip


def configurations(study: Study) -> dict[str, list[StoredRun]]:
    """Returns every run once, under the name of its configuration, which is a run's without its seed.

    They stand family by family in the order of the tables, then comes what no table holds.
    """
    rows = [group for family in groups_by_family(comparisons(study)).values() for group in family]
    ordered = {run.run_id: run for group in rows for run in group.finished}
    ordered |= {run.run_id: run for run in study.runs if run.run_id not in ordered}
    runs_of: dict[str, list[StoredRun]] = {}
    for run in ordered.values():
        runs_of.setdefault(configuration(run), []).append(run)
    return runs_of


def description(study: Study, results: Sequence[Table], verdicts: Sequence[Verdict] = ()) -> str:
    """The parent run's Markdown page: of its tables and verdicts as many as a tag holds."""
    plan, safe = study.plan, tables.markdown_text
    sheet = f"get-artifact?path=figures/contact_sheet.png&run_uuid={study.parent.run_id}"
    head = [  # the UI folds what follows the first lines
        f"{safe(plan.question or f'{plan.name}:')} {states_in_words(study)}.",
        "\n".join(f"- {safe(views.answer(comparison))}" for comparison in comparisons(study)),
        views.links(study),
        f"![Samples of every configuration]({sheet})",
    ]
    texts = [tables.markdown(table) for table in results]
    judged = verdict_lines(verdicts)
    tail = [*_verdict_parts(verdicts, judged), PICTURES]
    while (texts or judged) and sum(len(part) + 2 for part in (*head, *texts, *tail)) > LONGEST_NOTE:
        (texts or judged).pop()  # it is among the artifacts all the same
        tail = [*_verdict_parts(verdicts, judged), PICTURES]
    return "\n\n".join(part for part in (*head, *texts, *tail) if part)


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """Returns a line of a Markdown list for each verdict: its claim, what became of it, and why."""
    safe = tables.markdown_text
    return [
        f"- **{safe(verdict.claim.id)}, {_with_standing(verdict)}.** "
        f"*{safe(verdict.claim.text)}* {safe(verdict.sentence)}"
        for verdict in verdicts
    ]


def _verdict_parts(verdicts: Sequence[Verdict], judged: Sequence[str]) -> list[str]:
    """The first verdicts as Markdown, how many there are beyond, and which explanation survives them."""
    safe = tables.markdown_text
    if not verdicts:
        return []
    summary = explanation_summary(explanations(verdicts))
    explained = [f"**What explains it.** {safe(summary)}"] if summary else []
    beyond = len(verdicts) - len(judged)
    more = [f"- {beyond} more: *report.md* among the artifacts."] if beyond else []
    return ["### Claims of the study", "\n".join([*judged, *more]), *explained]
