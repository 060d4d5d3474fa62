"""The objects that a config names: model, likelihood, loss, optimizer and schedule, built from its keys.

Each is built by the config with the run's fault, which is the config itself for a run without one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from vae_lab import objectives, seeding
from vae_lab.data import Dataset
from vae_lab.errors import UserError
from vae_lab.faults import config_with
from vae_lab.files import imported
from vae_lab.jobs.parts.arguments import blaming_keys, reason_of, taken
from vae_lab.models import VAE
from vae_lab.objectives import Likelihood, Objective, outputs_of

T = TypeVar("T")


def class_named(target: str, kind: type, key: str) -> Any:
    """Returns the class of a dotted name, a subclass of `kind`; of `object`, any class.

    Raises:
        UserError: There is none, or it is of another kind; `key` is the config's that names it.
    """
    try:
        named = imported(target)
    except Exception as error:  # a module of the user's own may raise anything
        raise UserError(
            f"{key}={target}: no class of that name can be imported: {reason_of(error)}"
        ) from error
    if not isinstance(named, type) or not issubclass(named, kind):
        wanted = "class" if kind is object else f"{kind.__module__}.{kind.__name__}"
        raise UserError(f"{key}={target}: is no {wanted}.")
    return named


def model_arguments(settings: DictConfig, data: Dataset, likelihood: Likelihood) -> dict[str, Any]:
    """Returns what a model is built with; `image_shape` and `outputs` if its class takes them.

    Raises:
        UserError: The likelihood wants several outputs a pixel, and the class does not take `outputs`.
    """
    model = config_with(settings).model
    widths = model.hidden_size
    options = OmegaConf.to_container(model.options)
    assert isinstance(options, dict)
    outputs = outputs_of(likelihood)
    target = class_named(model._target_, nn.Module, "model._target_")
    offered = taken(target, {"image_shape": data.shape, "outputs": outputs})
    if outputs > 1 and "outputs" not in offered:
        raise UserError(
            f"model._target_={model._target_}: does not take `outputs`, and objective.likelihood="
            f"{settings.objective.likelihood} wants {outputs} outputs a pixel."
        )
    return {
        "data_size": data.size,
        "condition_size": data.classes if model.conditional else 0,
        "latent_size": model.latent_size,
        "layers": model.layers,
        "encoder_layers": model.encoder_layers,
        "decoder_layers": model.decoder_layers,
        "hidden_size": OmegaConf.to_object(widths) if OmegaConf.is_config(widths) else widths,
        "activation": model.activation,
        "init": model.init,
        **offered,
        **{str(key): value for key, value in options.items()},
    }


def build_model(settings: DictConfig, arguments: Mapping[str, Any]) -> VAE:
    """Returns the untrained model; its first weights follow from the run's seed alone, on every device."""
    with seeding.global_generator(settings.seed, "weights"):
        return model_of(settings, arguments)


def model_of(settings: DictConfig, arguments: Mapping[str, Any]) -> VAE:
    """Returns a model of the configured class, with weights of whatever generator and device are in force."""
    model = config_with(settings).model
    target = class_named(model._target_, nn.Module, "model._target_")
    options = model.options
    keys = {"_target_": model._target_}
    keys |= {key: arguments[key] for key in model if key in arguments}
    keys |= {f"options.{key}": value for key, value in options.items()}
    fixed = {key: value for key, value in arguments.items() if key not in keys and key not in options}

    def build(chosen: Collection[str]) -> VAE:
        names = [key.removeprefix("options.") for key in chosen]
        return target(**fixed, **{name: arguments[name] for name in names})  # type: ignore[no-any-return]

    return blaming_keys("model", keys, target, build, fixed=[*fixed])


def build_objective(settings: DictConfig) -> Objective:
    """Returns the configured loss with its likelihood; what they draw when built follows from the seed.

    Raises:
        UserError: A class does not exist, is none of a loss or a likelihood, or does not take its arguments.
    """
    loss = config_with(settings).objective
    target = class_named(loss._target_, Objective, "objective._target_")
    fixed = {"likelihood": _likelihood(settings)}
    keys: dict[str, Any] = {key: loss[key] for key in ("beta", "warmup_epochs", "penalty", "penalty_weight")}
    keys |= {f"options.{key}": value for key, value in loss.options.items()} | {"_target_": loss._target_}

    def build(chosen: Collection[str]) -> Objective:
        return target(**fixed, **{key.removeprefix("options."): keys[key] for key in chosen})  # type: ignore[no-any-return]

    with seeding.global_generator(settings.seed, "objective"):  # which may draw what it is built with
        return blaming_keys("objective", keys, target, build, fixed=[*fixed])


def _likelihood(settings: DictConfig) -> Likelihood:
    loss = settings.objective
    if "." not in loss.likelihood:
        return objectives.likelihood(loss.likelihood, loss.std)
    target = class_named(loss.likelihood, object, "objective.likelihood")
    keys: dict[str, Any] = {
        f"likelihood_options.{key}": value for key, value in loss.likelihood_options.items()
    }
    keys |= taken(target, {"std": loss.std}) | {"likelihood": loss.likelihood}

    def build(chosen: Collection[str]) -> Likelihood:
        arguments = {key.removeprefix("likelihood_options."): keys[key] for key in chosen}
        return target(**arguments)  # type: ignore[no-any-return]

    with seeding.global_generator(settings.seed, "likelihood"):
        likelihood = blaming_keys("objective", keys, target, build, named_by="likelihood")
    for method in ("negative_log(logits, x)", "mean(logits)"):
        if not callable(getattr(likelihood, method.partition("(")[0], None)):
            raise UserError(f"objective.likelihood={loss.likelihood}: has no method {method}.")
    outputs = getattr(likelihood, "outputs", 1)
    if not isinstance(outputs, int) or not 1 <= outputs <= 1000:
        raise UserError(f"objective.likelihood={loss.likelihood}: outputs={outputs}: must be 1 to 1000.")
    return likelihood


def build_optimizer(
    settings: DictConfig, weights: Any, *, trial: Callable[[Optimizer], object] | None = None
) -> Optimizer:
    """Returns the configured optimizer over `weights`; what fails when `trial` uses it is the config's."""
    return _instantiate(config_with(settings), "optimizer", Optimizer, weights, trial)


def build_schedule(
    settings: DictConfig, optimizer: Optimizer, *, trial: Callable[[LRScheduler], object] | None = None
) -> LRScheduler | None:
    """Returns the configured learning-rate schedule, if there is one; `trial` as for an optimizer."""
    if settings.scheduler is None:
        return None
    return _instantiate(settings, "scheduler", LRScheduler, optimizer, trial)


def _instantiate(
    settings: DictConfig, group: str, kind: type[T], argument: Any, trial: Callable[[T], object] | None
) -> T:
    """Returns an object of one of PyTorch's kinds, as a group of the config describes it."""
    node = settings[group]
    target = class_named(node._target_, kind, f"{group}._target_")
    keys: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]

    def build(chosen: Collection[str]) -> T:
        wanted = {key: keys[key] for key in keys if key in chosen or key.startswith("_")}
        built = instantiate(wanted, argument)
        if not isinstance(built, kind):  # _partial_
            raise TypeError(f"gives a {type(built).__name__}, which is no {kind.__name__}")
        if trial is not None:
            trial(built)
        return built

    return blaming_keys(group, keys, target, build, fixed=["params", "optimizer"])
