"""What was measured of a model by name, and why the rest was not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vae_lab.evaluation.bounds import Estimate, mean_and_error
from vae_lab.evaluation.samples import UndefinedError
from vae_lab.metrics import ERROR


class Measures(NamedTuple):
    """What was measured of a trained model, and what its data do not define."""

    metrics: dict[str, float]  # finite values by name
    absent: dict[str, str]  # the reason of each other measure

    def take(self, names: Sequence[str], measure: Callable[[], Iterable[float]]) -> None:
        """Adds the values that `measure` returns for `names`, or why there are none."""
        try:
            values = [float(value) for value in measure()]
        except UndefinedError as error:
            self.absent.update(dict.fromkeys(names, str(error)))
        except (ArithmeticError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            self.absent.update(dict.fromkeys(names, f"it cannot be computed: {reason}"))
        else:
            for name, value in zip(names, values, strict=True):
                if math.isfinite(value):
                    self.metrics[name] = value
                else:
                    self.absent[name] = f"it is {value}"

    def take_mean(self, name: str, measure: Callable[[], Tensor]) -> None:
        """Adds the mean of the values (N,) that `measure` returns, and of several its standard error."""
        errors: list[float] = []

        def mean() -> list[float]:
            value, error = mean_and_error(measure())
            errors.append(error)
            return [value]

        self.take([name], mean)
        if name in self.metrics and not math.isnan(errors[0]):
            self.take_all({f"{name}{ERROR}": errors[0]})

    def add(self, others: Measures) -> None:
        """Adds what others hold."""
        self.metrics.update(others.metrics)
        self.absent.update(others.absent)

    def take_all(self, values: Mapping[str, float]) -> None:
        """Adds what is there by name; what is not finite is absent."""
        self.take([*values], values.values)

    def take_estimates(self, names: Sequence[str], estimates: Iterable[Estimate]) -> None:
        """Adds estimates by name, and their standard errors where they have one."""
        for name, estimate in zip(names, estimates, strict=True):
            self.take_all({name: estimate.value})
            if estimate.error is not None:
                self.take_all({f"{name}{ERROR}": estimate.error})

    def reasons(self) -> str:
        """Returns what is absent as one line, each reason once.

        Examples:
            >>> Measures({}, {"a": "no image", "b": "one class", "c": "no image"}).reasons()
            'a, c (no image); b (one class)'
        """
        names = {
            reason: [name for name in self.absent if self.absent[name] == reason]
            for reason in self.absent.values()
        }
        return "; ".join(f"{', '.join(named)} ({reason})" for reason, named in names.items())
