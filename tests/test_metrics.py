import re
from collections.abc import Callable
from pathlib import Path

from vae_lab import files
from vae_lab.metrics import CATALOGUE, SERIES, TOPICS, metric_named
from vae_lab.studies.claims import DIRECTIONS
from vae_lab.tracking import KIND, RUN, reader

DOCS = Path(files.CONFIG_ROOT) / "docs" / "metrics.md"
ROW = re.compile(r"^\| (`[^|]+) \|.*\| (lower|higher|) ?\|$", re.MULTILINE)
CHEAP = ("evaluation=full", "evaluation.importance_samples=2", "evaluation.importance_images=20")


def documented() -> dict[str, str]:
    """Metric to direction, from the tables of docs/metrics.md; `...` stands for the rest of a series."""
    directions = {}
    for names, better in ROW.findall(DOCS.read_text()):
        for name in re.findall(r"`([\w/.]+)`", names):
            if not name.startswith("..."):
                directions[re.sub(r"/\d+$", "", name)] = better
    return directions


def test_every_measure_is_explained_with_the_direction_that_the_tables_use() -> None:
    catalogue = {**CATALOGUE, **{key: metric for key, metric in SERIES.items() if key not in CATALOGUE}}
    del catalogue["model.parameters"]  # a parameter
    assert {key: metric.better for key, metric in catalogue.items()} == documented()


def test_every_number_that_a_run_with_full_evaluation_logs_is_in_the_catalogue(
    folder: Path, lab: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = lab("data=digits", "train.epochs=1", "model.hidden_size=16", *CHEAP, "model=cvae")
    assert code == 0, err
    (run,) = reader().tagged(KIND, RUN)
    assert [key for key in run.metrics if key not in CATALOGUE and metric_named(key).heading == key] == []
    in_tables = {metric.key for topic in TOPICS.values() for metric in topic} - {"model.parameters"}
    assert in_tables <= run.metrics.keys()


def test_the_numbers_of_the_published_study_are_those_of_its_page() -> None:
    said, page = " ".join(DOCS.read_text().split()), (DOCS.parent / "published/reference.md").read_text()
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in page.splitlines() if row[:1] == "|"]
    column = next(row for row in rows if "Frechet distance" in row).index
    (real, *_) = [row for row in rows if row[0] == "real images"]
    precision, recall, distance, share = (
        real[column(name)] for name in ("precision", "recall", "Frechet distance", "recognizable share")
    )
    assert (
        f"have precision {precision}, recall {recall}, a Frechet distance of {distance} and {share}" in said
    )
    judged = [row for row in rows if len(row) == len(real) and row[0] in ("vae", "cvae")]
    distances = [float(row[column("Frechet distance")].strip("*\\ ").split(" ")[0]) for row in judged]
    runs = page[: page.index(" runs finished")].split(" ")[-1]
    assert f"of Frechet distances from {min(distances):.0f} to {max(distances):.0f}," in said
    assert f", {runs} runs of `experiments=reference seeds=auto" in said


def test_a_series_is_headed_by_its_number_and_a_strangers_metric_by_itself() -> None:
    assert metric_named("test/kl_dimension/03").heading == "KL of dimension 3"
    assert metric_named("eval/conditional_accuracy/7").better == "higher"
    assert metric_named("mine/own").heading == "mine/own"


def test_claims_know_every_direction() -> None:
    assert {
        key: metric.better for key, metric in CATALOGUE.items() if metric.better
    }.items() <= DIRECTIONS.items()
