from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from vae_lab import config, faults, models, objectives
from vae_lab.config import schema
from vae_lab.errors import UserError
from vae_lab.files import CONF, CONFIG_ROOT

Compose = Callable[..., DictConfig]
GROUP_FILES = sorted(CONF.glob("*/*.yaml"))
GLOBAL_FILES = sorted(
    [*(CONFIG_ROOT / "sweeps").glob("*.yaml"), *(CONFIG_ROOT / "experiments").glob("*.yaml")]
)


@pytest.mark.parametrize(
    "path", [*GROUP_FILES, *GLOBAL_FILES], ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_every_yaml_file_composes_to_a_valid_config(path: Path, composed: Compose) -> None:
    needed = ["data.root=/somewhere"] if path.stem == "idx" else []
    settings = config.checked(composed(f"{path.parent.name}={path.stem}", *needed))
    assert len(config.config_fingerprint(settings)) == 12
    assert path.read_text().startswith("#"), "a YAML file says in its first line what it is"


def test_the_defaults_are_the_reports(composed: Compose) -> None:
    settings = config.checked(composed())
    assert (settings.model.layers, settings.model.latent_size, settings.model.hidden_size) == (3, 15, 400)
    assert (settings.train.epochs, settings.train.batch_size, settings.optimizer.lr) == (10, 128, 1e-3)
    assert settings.optimizer._target_ == "torch.optim.Adam"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.layers=0"], r"^model\.layers=0: must be a whole number from 1 to 1000\.$"),
        (["model.layers=x"], r"^model\.layers=x: must be a whole number from 1 to 1000\.$"),
        (["model.latent_size=2.5"], r"^model\.latent_size=2\.5: must be a whole number"),
        (
            ["model.hidden_size=[8,0,8]"],
            r"^model\.hidden_size=\[8, 0, 8\]: must be a whole number from 1 to 1000000, or",
        ),
        (["model.hidden_size=wide"], r"^model\.hidden_size=wide: must be"),
        (["model.hidden_size=[8,8]"], r"2 widths for 3 layers; .* or model\.layers=2\.$"),
        (["model.activation=relo"], r"^model\.activation=relo: must be one of relu, leaky_relu"),
        (
            ["+model.layer=4"],
            r"^model\.layer: unknown key; did you mean model\.layers\? Valid: model\._target_",
        ),
        (["+modell=4"], r"^modell: unknown key; did you mean model\?"),
        (["+model.options.x=1"], r"^model\.options=\{'x': 1\}: vae_lab\.models\.VAE takes none"),
        (["model.hidden_size=[8,8,8]", "model.decoder_layers=2"], r"3 widths for 3 and 2 layers"),
        (["model.encoder_layers=0"], r"^model\.encoder_layers=0: must be null or"),
        (["model.init=random"], r"^model\.init=random: must be one of default, kaiming, xavier, orthogonal"),
        (["objective.penalty=l2"], r"^objective\.penalty=l2: must be one of none, l1, ard"),
        (["objective.beta=-1"], r"^objective\.beta=-1\.0: must be a finite number of at least 0"),
        (["objective.beta=inf"], r"^objective\.beta=inf"),
        (["objective.std=0"], r"^objective\.std=0\.0: must be a number from 1e-6 to 1e6"),
        (["evaluation.importance_samples=-1"], r"^evaluation\.importance_samples=-1: must be a whole number"),
        (
            ["evaluation.samples=99"],
            r"^evaluation\.samples=99: must be 0 or a whole number from 100 to 100000",
        ),
        (["data.binarize=maybe"], r"^data\.binarize=maybe: must be one of none, fixed, dynamic"),
        (["data=idx"], r"^data\.root: must be given"),
        (["data.name=a/b"], r"^data\.name=a/b: must be letters"),
        (["train.device=gpu"], r"^train\.device=gpu: must be one of auto, cpu"),
        (["train.precision=fp8"], r"^train\.precision=fp8"),
        (["train.threads=0"], r"^train\.threads=0: must be null or"),
        (["optimizer.lr=0"], r"^optimizer\.lr=0: must be a finite number above 0"),
        (["optimizer.lr=fast"], r"^optimizer\.lr=fast"),
        (["~optimizer"], r"^optimizer: must be given"),
        (["~optimizer._target_"], r"^optimizer\._target_: must name a class"),
        (["evaluation.columns=101"], r"^evaluation\.columns=101: must be a whole number from 1 to 100"),
        (["seed=-1"], r"^seed=-1: must be a whole number from 0"),
        (["train.epochs=${nowhere}"], r"^train\.epochs: Interpolation key 'nowhere' not found"),
    ],
)
def test_mistakes_are_named_with_key_value_and_rule(
    overrides: list[str], message: str, composed: Compose
) -> None:
    with pytest.raises(UserError, match=message):
        config.checked(composed(*overrides))


def test_the_names_that_the_schema_repeats_are_those_that_there_are() -> None:
    assert [*schema.ACTIVATIONS] == [*models.ACTIVATIONS]
    assert models.INITS == schema.INITS
    assert len({type(objectives.likelihood(name)) for name in schema.LIKELIHOODS}) == 3
    by_part = {
        "loss": faults.OF_LOSS,
        "model": faults.OF_MODEL,
        "data": faults.OF_DATA,
        "optimizer": faults.OF_OPTIMIZER,
    }
    assert {part: {*names} for part, names in schema.FAULTS.items()} == {
        part: known.keys() for part, known in by_part.items()
    }


def test_one_width_a_layer_is_valid(composed: Compose) -> None:
    settings = config.checked(composed("model.hidden_size=[400,200]", "model.layers=2"))
    assert list(settings.model.hidden_size) == [400, 200]


def test_the_fingerprint_tells_results_apart_and_nothing_else(composed: Compose) -> None:
    def of(*overrides: str) -> str:
        return config.config_fingerprint(config.checked(composed(*overrides)))

    same = ["train.device=cpu", "train.threads=1", "data.root=/x", "tracking.experiment=x", "study.name=x"]
    same += ["evaluation=full", "evaluation.batch_size=7", "evaluation.pictures=false"]
    assert {of(override) for override in same} == {of()}
    other = ["seed=1", "model=cvae", "model.layers=2", "objective.beta=2", "data=digits", "train.epochs=1"]
    other += ["optimizer.lr=0.01", "data.binarize=fixed", "scheduler=cosine", "train.precision=bfloat16"]
    other += ["evaluation.active_threshold=0.1"]
    assert len({of(), *(of(override) for override in other)}) == len(other) + 1


def test_names_begin_with_what_tells_a_run_apart(composed: Compose) -> None:
    settings = config.checked(composed("model=cvae", "model.layers=2", "seed=3"))
    assert config.run_name(settings) == "cvae L2 Z15 s3"
    varied = {"objective.beta": "4", "model.layers": "2"}
    assert config.run_name(settings, varied) == "beta=4 cvae L2 Z15 s3"


def test_an_encoder_and_a_decoder_of_their_own_depth_are_named(composed: Compose) -> None:
    settings = config.checked(composed("model.encoder_layers=2", "model.decoder_layers=4"))
    assert config.run_name(settings) == "vae L2+4 Z15 s0"


def test_a_conditional_vae_is_called_by_what_it_is(composed: Compose) -> None:
    assert config.model_name(config.checked(composed("model.conditional=true"))) == "cvae"
    own = config.checked(composed("model._target_=my.Ladder"))
    assert config.model_name(own) == "ladder"


def test_parameters_are_flat(composed: Compose) -> None:
    flat = config.parameters(config.checked(composed("model=cvae", "data=digits")))
    assert flat["model"] == "cvae"
    assert flat["data"] == "digits"
    assert flat["model.layers"] == "3"
    assert flat["scheduler"] == "null"
    assert not [key for key in flat if key.startswith(("tracking", "study", "sweep"))]
