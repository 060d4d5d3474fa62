"""A mistake in a class or function of one's own is one line that names the key, and nothing is trained."""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from tests.misuse.conftest import TINY, Answer
from tests.misuse.conftest import answer as answer
from vae_lab import config, files
from vae_lab.metrics import metric
from vae_lab.objectives import Objective, Terms

NUMBERS = itertools.count()
Own = Callable[..., str]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Own:
    """Puts classes and functions into a module of one's own, and returns its name."""

    def make(**things: Any) -> str:
        module = types.ModuleType(f"my_things_{next(NUMBERS)}")
        for name, thing in things.items():
            setattr(module, name, thing)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return module.__name__

    return make


class Pixels:
    """Squares of the distance."""

    def negative_log(self, logits: Any, x: Any) -> Any:
        return (logits - x).square().sum(-1)

    def mean(self, logits: Any) -> Any:
        return logits.sigmoid()


class Overall(Pixels):
    """One number for all images."""

    def negative_log(self, logits: Any, x: Any) -> Any:
        return (logits - x).square().sum()


class Two(Pixels):
    """Two numbers a pixel."""

    outputs = 2

    def negative_log(self, logits: Any, x: Any) -> Any:
        return super().negative_log(logits.chunk(2, -1)[0], x)

    def mean(self, logits: Any) -> Any:
        return logits.chunk(2, -1)[0].sigmoid()


class Blurred(Pixels):
    """One pixel for an image."""

    def mean(self, logits: Any) -> Any:
        return logits.sigmoid()[..., :1]


class OnlyMean:
    """No likelihood."""

    def mean(self, logits: Any) -> Any:
        return logits


class NoTerms(Objective):
    """One tensor."""

    def __call__(self, *parts: Any, **more: Any) -> Any:
        return super().__call__(*parts, **more).loss


class MeanLoss(Objective):
    """Means over images."""

    def __call__(self, *parts: Any, **more: Any) -> Any:
        return Terms(*(term.mean() for term in super().__call__(*parts, **more)))


class Unguarded(Objective):
    """Takes a gradient also where there is none."""

    def __call__(self, logits: Any, x: Any, posterior: Any, *parts: Any, **more: Any) -> Any:
        terms = super().__call__(logits, x, posterior, *parts, **more)
        torch.autograd.grad(terms.loss.sum(), posterior.mean, retain_graph=True)
        return terms


class Freed(Objective):
    """Takes a gradient, and leaves nothing for the step's."""

    def __call__(self, logits: Any, x: Any, posterior: Any, *parts: Any, **more: Any) -> Any:
        terms = super().__call__(logits, x, posterior, *parts, **more)
        if logits.requires_grad:
            torch.autograd.grad(terms.loss.sum(), posterior.mean)
        return terms


class Needs(Objective):
    """One argument more."""

    def __init__(self, *, temperature: float, **arguments: Any) -> None:
        super().__init__(**arguments)


class Endless(Objective):
    """No finite loss."""

    def __call__(self, *parts: Any, **more: Any) -> Any:
        terms = super().__call__(*parts, **more)
        return terms._replace(loss=terms.loss / 0)


def plain(model: Any, images: Any, labels: Any) -> float:
    return 0.0


@metric("gap")
def gap(model: Any, images: Any, labels: Any) -> float:
    return 0.0


MISTAKES: list[tuple[dict[str, Any], list[str], str]] = [
    ({}, ["objective._target_=my_nothing.Loss"], "no class of that name can be imported: No module named"),
    ({"Loss": Pixels}, ["objective._target_={}.Loss"], "is no vae_lab.objectives.Objective"),
    ({"Loss": NoTerms}, ["objective._target_={}.Loss"], "gives a Tensor, not vae_lab.objectives.Terms"),
    (
        {"Loss": MeanLoss},
        ["objective._target_={}.Loss"],
        "loss must have shape (3,) for 3 images, and is of shape ()",
    ),
    ({"Loss": Unguarded}, ["objective._target_={}.Loss"], "does not require grad"),
    ({"Loss": Freed}, ["objective._target_={}.Loss"], "backward through the graph a second time"),
    ({"Loss": Endless}, ["objective._target_={}.Loss"], "loss is not finite"),
    (
        {"Loss": Needs},
        ["objective._target_={}.Loss"],
        "missing 1 required keyword-only argument: 'temperature'",
    ),
    ({"Loss": Needs}, ["objective._target_={}.Loss", "+objective.options.temprature=2"], "'temperature'"),
    ({}, ["objective.likelihood=bernouli"], "or the dotted name of a class"),
    (
        {},
        ["objective.likelihood=my_nothing.Pixels"],
        "objective.likelihood=my_nothing.Pixels: no class of that",
    ),
    ({"X": gap}, ["objective.likelihood={}.X"], ".X: is no class."),
    ({"X": OnlyMean}, ["objective.likelihood={}.X"], "has no method negative_log(logits, x)"),
    ({"X": Overall}, ["objective.likelihood={}.X"], "negative_log must have shape (3,) for 3 images"),
    ({"X": Blurred}, ["objective.likelihood={}.X"], "mean must have shape (3, 64) for 3 images"),
    (
        {"X": Pixels},
        ["objective.likelihood={}.X", "+objective.likelihood_options.levels=2"],
        "takes no arguments",
    ),
    ({}, ["+objective.options.draws=2"], "vae_lab.objectives.Objective takes none"),
    ({}, ["+objective.likelihood_options.levels=2"], "bernoulli takes none"),
    (
        {},
        ["evaluation.metrics=[my_nothing.gap]"],
        "evaluation.metrics=my_nothing.gap: no function of that name",
    ),
    (
        {"gap": plain},
        ["evaluation.metrics=[{}.gap]"],
        "does not say what it measures; write @vae_lab.metrics.metric",
    ),
    ({}, ["evaluation.metrics=[gap]"], "must be a list of different dotted names"),
    ({}, ["evaluation.metrics=my_metrics.gap"], "must be a list of different dotted names"),
    ({"gap": gap}, ["evaluation.metrics=[{}.gap,{}.gap]"], "must be a list of different dotted names"),
    ({"gap": gap, "other": gap}, ["evaluation.metrics=[{}.gap,{}.other]"], "would be logged as own/gap, as"),
]


@pytest.mark.parametrize(("things", "words", "rule"), MISTAKES, ids=[rule[:60] for *_, rule in MISTAKES])
def test_a_mistake_is_one_line(
    answer: Answer, own: Own, things: dict[str, Any], words: list[str], rule: str
) -> None:
    module = own(**things)
    message = answer(*TINY, *(word.replace("{}", module) for word in words))
    assert rule in message
    assert message.startswith(words[0].partition(".")[0].lstrip("+")), message


def test_a_model_that_cannot_give_several_numbers_a_pixel_is_told(answer: Answer, own: Own) -> None:
    from torch import nn

    class Plain(nn.Module):
        def __init__(self, data_size: int, condition_size: int, latent_size: int, layers: int) -> None:
            super().__init__()

    module = own(Two=Two, Plain=Plain)
    line = (f"objective.likelihood={module}.Two", f"model._target_={module}.Plain")
    assert "does not take `outputs`" in answer(*TINY, *line)
    assert answer(*TINY, line[0]) == "", "the lab's model does"


def test_a_claim_on_a_metric_that_is_not_asked_for_names_those_that_are(answer: Answer, own: Own) -> None:
    claim = "{id: C1, text: Yes., metric: own/gapp, expect: increasing, along: model.layers}"
    line = ("-m", "model.layers=2,3", f"study.claims=[{claim}]")
    assert "is none of what evaluation.metrics measures: it is empty" in answer(*TINY, *line)
    module = own(gap=gap)
    asked = f"evaluation.metrics=[{module}.gap]"
    assert "is none of what evaluation.metrics measures; did you mean own/gap?" in answer(*TINY, *line, asked)


def test_the_folder_of_the_command_is_searched_last_for_modules(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (folder / "my_colours.py").write_text("RED = 1\n")
    (folder / "json.py").write_text("raise SystemError\n")
    assert files.imported("my_colours.RED") == 1
    assert sys.path[-1] == str(folder)
    monkeypatch.delitem(sys.modules, "json")
    assert files.imported("json.loads")("1") == 1
    with pytest.raises(ImportError):
        files.imported("my_colours.BLUE")


def test_configs_without_anything_of_ones_own_have_the_fingerprint_that_they_had(
    composed: Callable[..., DictConfig],
) -> None:
    def now(*words: str) -> str:
        return config.config_fingerprint(config.checked(composed(*words)))

    assert now() == "89db323fec4e"
    assert now("model=cvae", "objective=gaussian") == "6bcc6101bf7c"
    assert now("objective._target_=my_losses.Loss") != now()
