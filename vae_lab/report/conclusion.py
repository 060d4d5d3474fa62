"""What a multirun's parent run is given when it ends: tables, pictures, a description, the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.figure import Figure

from vae_lab.report import pictures, tables, views
from vae_lab.report.analyses import analyses
from vae_lab.report.page import rendering
from vae_lab.report.page.contents import gather, picture
from vae_lab.report.page.panels import configuration
from vae_lab.report.tables import Table
from vae_lab.report.verdicts import record_verdicts
from vae_lab.studies.claims import Verdict, explanations, judge_study, surviving
from vae_lab.studies.comparison import Study, comparisons, load_study
from vae_lab.tracking import NOTE, STRIP_FILE, StoredRun

if TYPE_CHECKING:  # only named: whoever reads an SQLite file goes without MLflow
    from vae_lab.tracking import Recorder, Store

LONGEST_NOTE = 8000  # characters of a tag; MLflow cuts what is longer


class Conclusion(NamedTuple):
    """What a multirun came to: its ablation tables, and the verdicts on its study's claims."""

    tables: list[Table]
    verdicts: list[Verdict]


def conclude(store: Store, recorder: Recorder) -> Conclusion:
    """Writes tables, verdicts, pictures, description and page to the parent run; gives what they say."""
    study = load_study(store, recorder.run_id)
    made = [*tables.study_tables(study), *tables.importance_tables(study)]
    asked = analyses(store, study, pictures=True)
    verdicts = judge_study(study) if study.plan.claims else []
    with recorder.artifacts() as folder:
        (folder / "tables").mkdir()
        for name, suffix in tables.SUFFIXES.items():
            texts = [tables.FORMATS[name](table) for table in made]
            (folder / "tables" / f"ablations.{suffix}").write_text("\n".join(texts))
            for each in asked:
                texts = [tables.FORMATS[name](table) for table in each.tables]
                (folder / "tables" / f"{each.key}.{suffix}").write_text("\n".join(texts))
        drawn = {name: figure for each in asked for name, figure in each.figures.items()}
        pictures.save_figures(folder, _figures(store, study) | drawn)
    if verdicts:
        record_verdicts(recorder, verdicts)
    made += [table for each in asked for table in each.tables]
    recorder.tag({NOTE: description(study, made, verdicts)})
    views.write_views(store, recorder, study)
    with recorder.artifacts() as folder:
        rendering.write(gather(store, study, verdicts), folder / rendering.ARTIFACT)
    return Conclusion(made, verdicts)


def _figures(store: Store, study: Study) -> dict[str, Figure]:
    found = _configurations(study)
    if not found:
        return {}
    chosen = [next((run for run in runs if run.status == "FINISHED"), runs[0]) for runs in found.values()]
    rows = [(run.name, picture(store, run, STRIP_FILE)) for run in chosen]
    repeated = ", the first run of each configuration" if len(rows) < len(study.runs) else ""
    drawn = {"contact_sheet": pictures.contact_sheet(rows, f"{study.plan.name}: prior samples{repeated}")}
    curves = {
        name: histories
        for name, runs in found.items()
        if (histories := [history for run in runs if (history := _held_out(store, run))])
    }
    if curves:
        by_id = views.colours(comparisons(study))
        shades = {name: by_id[runs[0].run_id] for name, runs in found.items() if runs[0].run_id in by_id}
        drawn["held_out_loss"] = pictures.sweep_curves(curves, shades, f"{study.plan.name}: held-out loss")
    return drawn


def _held_out(store: Store, run: StoredRun) -> list[float]:
    return store.history(run.run_id, "test/loss") if run.status == "FINISHED" else []


def _configurations(study: Study) -> dict[str, list[StoredRun]]:
    """Every run once, under the name of its configuration, which is a run's without its seed.

    They stand family by family in the order of the tables, then comes what no table holds.
    """
    families: dict[tuple[str, ...], dict[str, StoredRun]] = {}
    for comparison in comparisons(study):
        for group in comparison.groups:
            family = tuple(group.keys.get(key, "") for key in comparison.within)
            families.setdefault(family, {}).update({run.run_id: run for run in group.finished})
    ordered = {run_id: run for family in families.values() for run_id, run in family.items()}
    ordered |= {run.run_id: run for run in study.runs if run.run_id not in ordered}
    found: dict[str, list[StoredRun]] = {}
    for run in ordered.values():
        found.setdefault(configuration(run), []).append(run)
    return found


def description(study: Study, made: Sequence[Table], verdicts: Sequence[Verdict] = ()) -> str:
    """The parent run's Markdown page."""
    plan = study.plan
    finished = sum(run.status == "FINISHED" for run in study.runs)
    answers = [f"- {tables.markdown_text(views.answer(each))}" for each in comparisons(study)]
    asked = tables.markdown_text(plan.question or f"{plan.name}:")
    parts = [  # the UI folds what follows the first lines
        f"{asked} {finished} of {len(study.runs)} runs finished.",
        "\n".join(answers),
        views.links(study),
        "![Samples of every configuration](get-artifact?path=figures/contact_sheet.png&run_uuid="
        + study.parent.run_id
        + ")",
    ]
    place = len(parts)
    if verdicts:
        lines = [
            f"- **{each.claim.id}, {each.verdict}.** *{tables.markdown_text(each.claim.text)}* "
            f"{tables.markdown_text(each.sentence)}"
            for each in verdicts
        ]
        parts += ["### Claims of the study", "\n".join(lines)]
        if told := surviving(explanations(verdicts)):
            parts.append(f"**What explains it.** {tables.markdown_text(told)}")
    parts.append(
        "Pictures: *Artifacts*, `figures/contact_sheet.png` (samples of every configuration), "
        "`figures/held_out_loss.png`, and the study's page, `report.html`. The same tables as CSV, LaTeX "
        "and HTML: `tables/`."
    )
    shown = [tables.markdown(table) for table in made]
    while shown and sum(len(part) + 2 for part in (*parts, *shown)) > LONGEST_NOTE:
        shown.pop()  # it is among the artifacts all the same
    return "\n\n".join(part for part in [*parts[:place], *shown, *parts[place:]] if part)
