"""What a study asks of its runs beyond tables and claims: searches, recipes, published numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vae_lab.errors import LabError
from vae_lab.report.latent_size import recipe_sentence, recipe_table
from vae_lab.report.published import published_tables
from vae_lab.report.searches import importance_table, sentence, trials_table
from vae_lab.report.tables import Table
from vae_lab.studies.latent_size import SPECTRUM_FILE, Spectrum, compare_recipes
from vae_lab.studies.searched import SEARCH_FILE, Searched
from vae_lab.studies.study import Study
from vae_lab.tracking import Reader

if TYPE_CHECKING:  # only named: tables go without Matplotlib
    from vae_lab.report.drawing import Drawing

RECIPES = (
    "One axis of dimensions for three recipes: a sweep of latent sizes; the spectrum of the training images, "
    "which takes no training; and what stays active in a latent space that is too large. Every prediction "
    "stands where it would be on the sweep's curve, hollow beyond its last size."
)


class Analysis(NamedTuple):
    """One section of a study's page."""

    key: str  # of its files, and where the page's contents lead
    title: str
    paragraphs: list[str]
    tables: list[Table]
    charts: list[tuple[Drawing, str]]  # and what each shows in words


def analyses(store: Reader, study: Study) -> list[Analysis]:
    """The analyses that a study declares, as far as it has the runs for them."""
    declared = [_search(store, study), _latent_recipes(store, study), _published(store, study)]
    return [analysis for analysis in declared if analysis is not None]


def analysis_tables(store: Reader, study: Study) -> list[Table]:
    """The tables of all analyses."""
    return [table for analysis in analyses(store, study) for table in analysis.tables]


def _search(store: Reader, study: Study) -> Analysis | None:
    if not study.plan.search:
        return None
    from vae_lab.report.charts.searches import search_charts  # late: Matplotlib takes a second

    try:
        text = store.download(study.parent.run_id, SEARCH_FILE).read_text(encoding="utf-8")
    except LabError:
        return None
    try:
        searched = Searched.from_json(text)
    except ValueError as error:
        raise LabError(f"{study.parent.run_id}: its {SEARCH_FILE} cannot be read: {error}") from error
    if not searched.steps and not searched.states:
        return None
    charts = search_charts(searched) if searched.steps else []
    mattered = importance_table(searched)
    tables = [*([mattered] if mattered else []), *([trials_table(searched)] if searched.steps else [])]
    return Analysis("search", "The search", [sentence(searched)], tables, charts)


def _latent_recipes(store: Reader, study: Study) -> Analysis | None:
    if study.plan.oracle is None:
        return None
    from vae_lab.report.charts.latent_recipes import latent_recipes  # late: Matplotlib takes a second

    try:
        text = store.download(study.parent.run_id, SPECTRUM_FILE).read_text(encoding="utf-8")
    except LabError:
        return None
    try:
        spectrum = Spectrum.from_json(text)
    except ValueError as error:
        raise LabError(f"{study.parent.run_id}: its {SPECTRUM_FILE} cannot be read: {error}") from error
    comparisons = compare_recipes(study, spectrum)
    if not comparisons:
        return None
    title = "Three recipes for the latent size"
    charts = []
    for recipes in comparisons:
        family = list(recipes.family.values())
        heading = " ".join([f"{study.plan.name}: {title.lower()}", *family])
        drawing = latent_recipes("_".join(["latent_oracle", *family]), recipes, spectrum, heading)
        charts.append((drawing, recipe_sentence(recipes)))
    return Analysis("latent_oracle", title, [RECIPES], [recipe_table(comparisons)], charts)


def _published(store: Reader, study: Study) -> Analysis | None:
    tables = published_tables(store, study)
    if not tables:
        return None
    note = study.plan.reference.note if study.plan.reference else None
    return Analysis("published", "Against published numbers", [note] if note else [], tables, [])
