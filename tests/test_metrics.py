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


def test_a_series_is_headed_by_its_number_and_a_strangers_metric_by_itself() -> None:
    assert metric_named("test/kl_dimension/03").heading == "KL of dimension 3"
    assert metric_named("eval/conditional_accuracy/7").better == "higher"
    assert metric_named("mine/own").heading == "mine/own"


def test_claims_know_every_direction() -> None:
    assert {
        key: metric.better for key, metric in CATALOGUE.items() if metric.better
    }.items() <= DIRECTIONS.items()
