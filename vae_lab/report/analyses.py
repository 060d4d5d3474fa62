"""What a study asks of its runs beyond tables and claims: the latent-size oracle, and published numbers."""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.figure import Figure

from vae_lab.errors import LabError
from vae_lab.report import latent_size as latent_size_report
from vae_lab.report.published import published_tables
from vae_lab.report.tables import Table
from vae_lab.studies import latent_size
from vae_lab.studies.comparison import Study
from vae_lab.tracking import Reader


class Analysis(NamedTuple):
    """One section of a study's page."""

    key: str  # of its files, and where the page's contents lead
    title: str
    words: list[str]  # paragraphs
    tables: list[Table]
    charts: list[tuple[str, str]]  # SVG, and what it shows in words
    figures: dict[str, Figure]  # the same as pictures, by the name of their file


def analyses(store: Reader, study: Study, *, svg: bool = False, pictures: bool = False) -> list[Analysis]:
    """The analyses that a study declares and whose runs are there; charts and figures only if asked for."""
    found = [_oracle(store, study, svg, pictures), _published(store, study)]
    return [each for each in found if each is not None]


def analysis_tables(store: Reader, study: Study) -> list[Table]:
    """The tables of all analyses."""
    return [table for each in analyses(store, study) for table in each.tables]


def _oracle(store: Reader, study: Study, svg: bool, pictures: bool) -> Analysis | None:
    if study.plan.oracle is None:
        return None
    try:
        text = store.download(study.parent.run_id, latent_size.FILE).read_text()
    except LabError:
        return None
    try:
        spectrum = latent_size.Spectrum.from_json(text)
    except ValueError as error:
        raise LabError(f"{study.parent.run_id}: its {latent_size.FILE} cannot be read: {error}") from error
    found = latent_size.outcomes(study, spectrum)
    if not found:
        return None
    charts, figures = [], {}
    for each in found:
        family = " ".join(each.family.values())
        if svg:
            charts.append(
                (
                    latent_size_report.svg(each, spectrum, f"oracle {family}"),
                    latent_size_report.sentence(each),
                )
            )
        if pictures:
            name = "_".join(["latent_oracle", *each.family.values()])
            title = " ".join(filter(None, [f"{study.plan.name}: three recipes for the latent size", family]))
            figures[name] = latent_size_report.figure(each, spectrum, title)
    words = [
        "One axis of dimensions for three recipes: a sweep of latent sizes; the spectrum of the training "
        "images, which takes no training; and what stays active in a latent space that is too large. Every "
        "prediction stands where it would be on the sweep's curve, hollow beyond its last size."
    ]
    title = "Three recipes for the latent size"
    return Analysis("latent_oracle", title, words, [latent_size_report.table(found)], charts, figures)


def _published(store: Reader, study: Study) -> Analysis | None:
    made = published_tables(store, study)
    if not made:
        return None
    words = (
        [str(study.plan.reference["note"])] if study.plan.reference and "note" in study.plan.reference else []
    )
    return Analysis("published", "Against published numbers", words, made, [], {})
