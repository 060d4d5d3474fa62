"""Points composed in a copy are those that Hydra composes, and what cannot be is told as by Hydra."""

from collections.abc import Callable, Iterator

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.vae_lab.composing import Composer, without_hydra
from tests.house import ROOT
from vae_lab import config

Ways = tuple[Composer, Callable[[list[str]], DictConfig]]


@pytest.fixture(scope="module")
def ways() -> Iterator[Ways]:
    """The lab's way of composing a point, and Hydra's."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", [], RunMode.MULTIRUN)
        parser = OverridesParser.create(config_loader=loader)
        yield (
            Composer(loader, master, parser),
            lambda line: without_hydra(loader.load_sweep_config(master, line)),
        )


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["seed=3", "model.latent_size=7"],
        ["model=cvae", "data=digits", "model.hidden_size=[400,200,100]"],
        ["model.hidden_size=64", "data.root=null", "data.root=/tmp/x"],
        ["optimizer=sgd", "optimizer.lr=1e-3", "+optimizer.nesterov=true", "++optimizer.momentum=0.9"],
        ["optimizer={lr: 0.01}", "+optimizer.betas=[0.8,0.9]"],
        ["scheduler=cosine", "train.epochs=4"],
        ["scheduler={_target_: torch.optim.lr_scheduler.StepLR, step_size: 2}"],
        ["objective.beta=4", "objective.likelihood=gaussian", "train.batch_size='32'"],
        ["model.latent_size=${model.layers}", "seed=${train.epochs}"],
        ["tracking.run_name='5'", "model._target_=my.Model", "+model.options={a: [1, {b: c}]}"],
        ["model._target_=my.Model", "+model.options.a=1", "+model.options.b=[2]"],
        ["evaluation=full", "evaluation.metrics=[my.metric]"],
    ],
)
def test_a_point_is_the_one_that_hydra_composes(ways: Ways, line: list[str]) -> None:
    compose, by_hydra = ways
    quick, slow = config.checked(compose(line)), config.checked(by_hydra(line))
    assert OmegaConf.to_yaml(quick) == OmegaConf.to_yaml(slow)
    assert config.config_fingerprint(quick) == config.config_fingerprint(slow)


def test_a_point_leaves_nothing_behind(ways: Ways) -> None:
    compose, _ = ways
    before = OmegaConf.to_yaml(config.checked(compose(["model.layers=2"])))
    config.checked(compose(["model.layers=5", "+optimizer.nesterov=true", "optimizer.lr=0.5"]))
    assert OmegaConf.to_yaml(config.checked(compose(["model.layers=2"]))) == before


@pytest.mark.parametrize(
    "line",
    [
        ["tracking.run_name=5"],
        ["model.latent_size=two"],
        ["model.latent_size=0"],
        ["model.latnt_size=3"],
        ["+model.colour=blue"],
        ["+model={colour: blue}"],
        ["++model={colour: blue}"],
        ["model={colour: blue}"],
        ["+train.run_name=5"],
        ["++tracking.run_name=5"],
        ["optimizer.lr=null"],
        ["train=5"],
        ["model.layers=[2,3]"],
        ["seed=${nowhere}"],
    ],
)
def test_what_is_wrong_is_told_as_of_a_point_that_hydra_composes(ways: Ways, line: list[str]) -> None:
    messages = []
    for way in ways:
        with pytest.raises(Exception) as failed:  # noqa: PT011  whatever Hydra makes of it
            config.checked(way(line))
        messages.append((type(failed.value), str(failed.value)))
    assert messages[0] == messages[1]
