import csv
import io
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor

from vae_lab.data import Dataset, Images
from vae_lab.evaluation import spectrum as pca
from vae_lab.report import drawing as drawings
from vae_lab.report import tables
from vae_lab.report.charts.latent_recipes import latent_recipes
from vae_lab.report.drawing import save, svg
from vae_lab.report.latent_size import recipe_sentence, recipe_table
from vae_lab.report.pictures import load_picture
from vae_lab.studies.latent_size import SPECTRUM_FILE, Spectrum, compare_recipes, recipes
from vae_lab.studies.plan import Oracle, Plan
from vae_lab.studies.study import POINT, Study
from vae_lab.tracking import SWEEP, Store, StoredRun

Lab = Callable[..., tuple[int, str, str]]
RANK, SIDE = 6, 8


def planted(std: float = 0.04) -> Dataset:
    """Gaussian images of D = 64 pixels that vary in 6 directions, far above the rounding to bytes."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(SIDE * SIDE, RANK, generator=generator)).Q
    scores = torch.randn(3000, RANK, generator=generator) * std * SIDE
    pixels = ((scores @ directions.T + 0.5) * 255).clamp(0, 255).round().to(torch.uint8)
    images = Images(pixels, torch.zeros(len(pixels), dtype=torch.int64), 255)
    return Dataset("planted", images, images, (1, SIDE, SIDE), 1, "0" * 12, "nowhere")


def run(number: int, size: int, seed: int, loss: float, active: float = 1, **params: str) -> StoredRun:
    settings = {"model.latent_size": str(size), "seed": str(seed), "objective.penalty": "none"} | params
    metrics = {"test/negative_elbo": loss, "test/active_units": active}
    return StoredRun(str(number), "1", f"run {number}", "FINISHED", settings, metrics, {}, number)


def study(
    runs: list[StoredRun], shares: tuple[float, ...] = (0.9, 0.99), metric: str = "test/negative_elbo"
) -> Study:
    plan = Plan(
        "planted",
        one_at_a_time={"model.latent_size": ["2", "4", "8", "16"]},
        replicate={"seed": ["0", "1"]},
        also={"ard": {"model.latent_size": "16", "objective.penalty": "ard"}},
        base={"model.latent_size": "8", "objective.penalty": "none"},
        oracle=Oracle(metric, list(shares), ["ard"]),
    )
    return Study(runs[0], plan, runs)


def measured(data: Dataset) -> Spectrum:
    """The spectrum of the training images, beside the noise of a Gaussian likelihood with sigma = 0.1."""
    noise = pca.assumed_variance(data.train, "gaussian", 0.1)
    return Spectrum(data.name, data.checksum, len(data.train), pca.eigenvalues(data.train).tolist(), noise)


LOSSES = {2: (20.0, 22.0), 4: (14.0, 15.0), 8: (10.0, 11.0), 16: (12.0, 14.0)}


@pytest.fixture
def swept() -> list[StoredRun]:
    """Two seeds of four sizes, best at 8, and a large run under a penalty that keeps 6 dimensions."""
    sweep = [
        run(10 * size + seed, size, seed, loss, active=min(size, 7))
        for size, losses in LOSSES.items()
        for seed, loss in enumerate(losses)
    ]
    penalized = {POINT: "ard", "objective.penalty": "ard"}
    return [*sweep, run(900, 16, 0, 30.0, 6, **penalized), run(901, 16, 1, 30.0, 5.4, **penalized)]


def test_the_spectrum_finds_the_planted_rank() -> None:
    spectrum = measured(planted())
    assert recipes.rank_at(spectrum, 0.99) == RANK
    assert recipes.rank_at(spectrum, 0.5) == RANK // 2
    above = pca.active_dimensions(torch.tensor(spectrum.eigenvalues), spectrum.noise_variance)
    assert above == RANK
    assert (spectrum.data, spectrum.images, len(spectrum.eigenvalues)) == ("planted", 3000, SIDE * SIDE)


def test_every_recipe_predicts_the_planted_rank(swept: list[StoredRun]) -> None:
    (comparison,) = compare_recipes(study(swept, (0.99,)), measured(planted()))
    by_label = {prediction.label: prediction.size for prediction in comparison.predictions}
    assert by_label == {"sweep": 8, "SVD 99 %": RANK, "probabilistic PCA": RANK, "Z=16": 7, "ard, Z=16": RANK}


def test_a_noise_above_every_eigenvalue_leaves_no_dimension_and_one_is_the_least() -> None:
    flat = Spectrum("flat", "0", 10, [0.5, 0.25, 0.25], noise_variance=1.0)
    (comparison,) = compare_recipes(study([run(i, z, 0, 1.0) for i, z in enumerate((2, 4))]), flat)
    assert {prediction.label: prediction.size for prediction in comparison.predictions}[
        "probabilistic PCA"
    ] == 1


def test_regrets_are_paired_differences_to_the_best_size_interpolated_in_the_log(
    swept: list[StoredRun],
) -> None:
    spectrum = Spectrum("known", "0", 10, [1.0] * 32, noise_variance=2.0)
    (comparison,) = compare_recipes(study(swept, (0.12, 0.9)), spectrum)
    at = {prediction.label: prediction for prediction in comparison.predictions}
    assert at["sweep"].regret == 0
    assert at["SVD 12 %"].size == 4
    assert at["SVD 12 %"].value == pytest.approx(14.5)
    assert at["SVD 12 %"].regret == pytest.approx(4)  # 14 - 10 and 15 - 11: no spread, though values differ
    assert (at["SVD 12 %"].low, at["SVD 12 %"].high) == pytest.approx((4, 4))
    beyond = at["SVD 90 %"]
    assert (beyond.size, beyond.outside) == (29, True)
    assert beyond.regret == pytest.approx(2.5)
    six, five = (np.log(size / 4) / np.log(2) for size in (6, 5))  # each seed at its own prediction
    assert at["ard, Z=16"].value == pytest.approx((14 - 4 * six + 15 - 4 * five) / 2)
    assert at["ard, Z=16"].regret == pytest.approx((4 - 4 * six + 4 - 4 * five) / 2)
    assert at["ard, Z=16"].how == "active units: 6, 5"


def test_a_seed_counts_only_where_it_has_every_size(swept: list[StoredRun]) -> None:
    spectrum = Spectrum("known", "0", 10, [1.0] * 32, noise_variance=2.0)
    (comparison,) = compare_recipes(study(swept[1:]), spectrum)  # size 2 of seed 0 is missing
    assert comparison.values.tolist() == [[22.0, 15.0, 11.0, 14.0]]
    assert compare_recipes(study(swept[-2:]), spectrum) == []


def test_a_seed_is_the_mean_over_what_else_repeats_its_runs_and_counts_where_it_has_it_all(
    swept: list[StoredRun],
) -> None:
    key, runs = "data.seed", []
    for number, drawing in enumerate(("0", "1")):
        for one in swept:
            metrics = {name: value + 4.0 * number for name, value in one.metrics.items()}
            runs.append(replace(one, params={**one.params, key: drawing}, metrics=metrics))
    whole = study(runs)
    plan = msgspec.structs.replace(whole.plan, replicate={key: ["0", "1"], **whole.plan.replicate})
    spectrum = Spectrum("known", "0", 10, [1.0] * 32, noise_variance=2.0)
    (comparison,) = compare_recipes(whole._replace(plan=plan), spectrum)
    assert comparison.values.tolist() == [[22.0, 16.0, 12.0, 14.0], [24.0, 17.0, 13.0, 16.0]]
    assert comparison.predictions[-1].how == "active units: 8, 7"
    (comparison,) = compare_recipes(whole._replace(plan=plan, runs=runs[1:]), spectrum)
    assert comparison.values.tolist() == [[24.0, 17.0, 13.0, 16.0]], "seed 0 lacks a size of one drawing"


def test_a_metric_of_which_more_is_better_is_sought_upwards(swept: list[StoredRun]) -> None:
    share = "eval/recognizable_share"
    shares = [replace(run, metrics={share: 1 / run.metrics["test/negative_elbo"]}) for run in swept]
    (comparison,) = compare_recipes(study(shares, metric=share), Spectrum("x", "0", 9, [1.0] * 32, 2.0))
    assert comparison.best.size == 8
    assert min(prediction.regret for prediction in comparison.predictions) == 0


def test_the_table_and_the_sentence_say_the_same(swept: list[StoredRun]) -> None:
    comparisons = compare_recipes(study(swept), measured(planted()))
    rows = list(csv.DictReader(io.StringIO(tables.csv(recipe_table(comparisons)))))
    assert [row["recipe"][0] for row in rows] == ["1", "2", "2", "2", "3", "3"]
    assert float(rows[0]["latent size"]) == 8
    sentence = recipe_sentence(comparisons[0])
    assert sentence.startswith("Of the sizes swept, 8 has the best held-out negative ELBO (10.50).")
    assert "The large latent space comes closest with 7 (Z=16)" in sentence


def test_a_prediction_of_fewer_seeds_than_the_sweep_says_so(swept: list[StoredRun]) -> None:
    table = recipe_table(compare_recipes(study(swept[:-1]), measured(planted())))  # seed 1 of ard is missing
    names = [column.heading for column in table.columns]
    rows = [dict(zip(names, [cell.value for cell in row], strict=True)) for row in table.rows]
    assert {str(row["prediction of"]): row["n"] for row in rows} == {
        **dict.fromkeys(("sweep", "SVD 90 %", "SVD 99 %", "probabilistic PCA", "Z=16"), 2.0),
        "ard, Z=16": 1.0,
    }


def test_the_chart_shows_every_prediction_and_labels_do_not_touch(
    swept: list[StoredRun], tmp_path: Path
) -> None:
    spectrum = measured(planted())
    (comparison,) = compare_recipes(study(swept), spectrum)
    drawing = latent_recipes("oracle", comparison, spectrum, "planted")
    save(drawing, tmp_path / "oracle.png")
    assert load_picture(tmp_path / "oracle.png").shape[1] == round(6.2 * drawings.DOTS)
    figure = Figure(figsize=(drawing.width, drawing.height), layout=drawing.layout)
    drawing.draw(figure)
    figure.draw_without_rendering()
    labels = figure.axes[0].texts
    assert len(labels) == len(comparison.predictions)
    boxes = sorted((Text.get_window_extent(text) for text in labels), key=lambda box: float(box.x0))
    assert all(left.x1 <= right.x0 + 1 for left, right in itertools.pairwise(boxes))
    text = svg(drawing)
    assert text == svg(drawing)
    assert "var(--c1)" in text
    assert all(f"{prediction.label}: {prediction.size}" in text for prediction in comparison.predictions)


@pytest.mark.parametrize(
    ("likelihood", "expected"), [("gaussian", 0.04), ("bernoulli", 3 / 16), ("continuous_bernoulli", 3 / 16)]
)
def test_the_noise_is_the_one_that_the_likelihood_holds_fixed(likelihood: str, expected: float) -> None:
    pixels: Tensor = torch.tensor([[0, 255, 0], [255, 255, 0], [0, 255, 255], [0, 255, 0]], dtype=torch.uint8)
    images = Images(pixels[:, [0, 2]], torch.zeros(4, dtype=torch.int64), 255)  # a quarter of each is white
    assert pca.assumed_variance(images, likelihood, 0.2, batch_size=3) == pytest.approx(expected)


def test_a_study_with_an_oracle_shows_it_on_its_parent_run(lab: Lab, folder: Path) -> None:
    code, out, err = lab(
        *("experiments=latent_oracle", "data=digits", "train.epochs=1", "train.device=cpu", "seed=0"),
        *("model.latent_size=2,20", "model.hidden_size=16", "evaluation.pictures=false"),
    )
    assert code == 0, err
    assert "What each recipe predicts" in out
    store = Store.open()
    parent = next(record for record in store.records() if record.kind == SWEEP)
    spectrum = Spectrum.from_json(store.download(parent.run_id, SPECTRUM_FILE).read_text())
    rows = list(
        csv.DictReader(io.StringIO(store.download(parent.run_id, "tables/latent_oracle.csv").read_text()))
    )
    assert {
        row["prediction of"]: int(float(row["latent size"])) for row in rows if row["recipe"][0] == "2"
    } == {
        "SVD 90 %": 21,
        "SVD 95 %": 28,
        "SVD 99 %": 41,
        "probabilistic PCA": sum(value > spectrum.noise_variance for value in spectrum.eigenvalues),
    }
    assert [row["prediction of"] for row in rows if row["recipe"][0] == "3"] == [
        *["Z=100", "ard, Z=100", "l1, Z=100", "beta 2, Z=100"]
    ]
    assert store.download(parent.run_id, "figures/latent_oracle.png").stat().st_size > 2_000
    page = store.download(parent.run_id, "report.html").read_text()
    assert '<section id="latent_oracle">' in page
    assert "SVD 95 %: 28" in page
    runs = store.members(parent.run_id)
    assert len(runs) == 3 + 4  # two sizes and the base, and four named points
    assert {run.name for run in runs} >= {"ard vae L3 Z100 s0", "beta 2 vae L3 Z100 s0", "vae L3 Z20 s0"}
