"""The table of the recipes for the latent size, and the sentence that sums it up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from vae_lab.metrics import NATS, metric_named
from vae_lab.report.tables import Column, Columns, Table
from vae_lab.studies.claims import decimals, metric_name
from vae_lab.studies.comparison import key_name
from vae_lab.studies.latent_size.recipes import LARGE, SPECTRUM, SWEEP, Prediction, RecipeComparison

RECIPES = {SWEEP: "1 sweep", SPECTRUM: "2 spectrum of the data", LARGE: "3 large latent, active units"}
NOTE = (
    "Regret: how much worse the metric is at the predicted size than at the best size of the sweep, seed by "
    "seed; where each predicts a size of its own, their mean is the latent size shown. Between "
    "swept sizes it is linear in log(size). Beyond them (†) it is that of the last one: unknown further out. "
    "The sweep itself is the yardstick: its regret is 0 by construction."
)


def recipe_table(comparisons: Sequence[RecipeComparison]) -> Table:
    """One row a prediction: its size, the metric there, and its regret with interval."""
    rows = [(recipes, prediction) for recipes in comparisons for prediction in recipes.predictions]
    predictions = [prediction for _, prediction in rows]
    several = any(len(recipes.values) > 1 for recipes in comparisons)
    metric = comparisons[0].metric
    unit = metric_named(metric).unit or NATS
    keys = list(comparisons[0].family) if len(comparisons) > 1 else []
    bounds = [
        (p.low, p.high) if p.recipe != SWEEP and math.isfinite(p.low) else (None, None) for p in predictions
    ]
    intervals: Columns = [
        (Column("from"), [low for low, _ in bounds]),
        (Column("to"), [high for _, high in bounds]),
        (Column("n", "seeds", 0), [float(prediction.n) for prediction in predictions]),
    ]
    columns: Columns = [
        *(
            (Column(key_name(key), numeric=False), [recipes.family[key] for recipes, _ in rows])
            for key in keys
        ),
        (Column("recipe", numeric=False), [RECIPES[prediction.recipe] for prediction in predictions]),
        (Column("prediction of", numeric=False), [prediction.label for prediction in predictions]),
        (Column("latent size", digits=0), [float(prediction.size) for prediction in predictions]),
        (Column(metric_name(metric), unit), [prediction.value for prediction in predictions]),
        (Column("regret", unit), [f"{p.regret:.2f} †" if p.outside else p.regret for p in predictions]),
        *(intervals if several else []),
        (Column("runs", "a seed", 0), [float(prediction.runs) for prediction in predictions]),
        (Column("how", numeric=False), [prediction.how for prediction in predictions]),
    ]
    ends = accumulate(len(recipes.predictions) for recipes in comparisons)
    return Table.of("What each recipe predicts", columns, NOTE, breaks=frozenset(end - 1 for end in ends))


def recipe_sentence(recipes: RecipeComparison) -> str:
    """What came of it: the best size swept, and the best of each other recipe."""
    best = recipes.best
    family = " ".join(value.upper() if key == "model" else value for key, value in recipes.family.items())
    sentences = [
        f"{f'{family}: of' if family else 'Of'} the sizes swept, {best.size} has the best "
        f"{metric_name(recipes.metric)} ({best.value:.2f})"
    ]
    for recipe, name in ((SPECTRUM, "The spectrum"), (LARGE, "The large latent space")):
        predictions = [prediction for prediction in recipes.predictions if prediction.recipe == recipe]
        if predictions:
            closest = min(predictions, key=lambda prediction: (prediction.outside, prediction.regret))
            spread = f"; {_spread(predictions)}" if len(predictions) > 1 else ""
            sentences.append(
                f"{name} comes closest with {closest.size} ({closest.label}), {_nats(closest)}{spread}"
            )
    return ". ".join(sentences) + "."


def _nats(prediction: Prediction) -> str:
    regret, low = prediction.regret, prediction.low
    digits = min(3, max(2, decimals(regret, low, prediction.high))) if math.isfinite(low) else 2
    return f"{regret:.{digits}f} nats behind{' at the nearest size swept' * prediction.outside}"


def _spread(predictions: Sequence[Prediction]) -> str:
    sizes = sorted(prediction.size for prediction in predictions)
    worst = max(predictions, key=lambda prediction: prediction.regret)
    return f"its {len(predictions)} predictions go from {sizes[0]} to {sizes[-1]}, the worst {_nats(worst)}"
