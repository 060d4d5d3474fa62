"""The commands that give a run or a multirun again, as records keep them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from itertools import pairwise

from hydra.conf import HydraConf
from omegaconf import DictConfig, OmegaConf

from vae_lab.config import STUDY_GROUPS
from vae_lab.files import CONF
from vae_lab.jobs.job import Job

LAB_CONFIG = "config"  # the name of the lab's primary config
FOLDER_FLAGS = {
    "main": "--config-path",
    "command-line": "--config-dir",
}  # by Hydra's name of who gave a folder
STORES = ("tracking", "search.storage")  # whose addresses may name a user, and hold a password
# What only a multirun reads: the single run of one is found again without them.
MULTIRUN_KEYS = ("seeds", "max_seeds", "reuse", "search")
MULTIRUN_PARTS = ("hydra/launcher", "hydra/sweeper", "hydra.launcher", "hydra.sweeper", "hydra.sweep")


def hydra_words(hydra: DictConfig | HydraConf) -> tuple[str, ...]:
    """Returns what a line said to Hydra itself: its folders and its name of configs, launcher and the like.

    Args:
        hydra: The node of that name of a composed config.
    """
    words = []
    for source in hydra.runtime.config_sources:
        flag = FOLDER_FLAGS.get(source.provider)
        if flag is not None and source.path != str(CONF):
            words += [flag, source.path]
    if hydra.job.config_name != LAB_CONFIG:
        words += ["--config-name", hydra.job.config_name]
    unsaid = ("hydra.mode", "hydra.job.env_set")  # the flag -m, and by what the lab tells a job its multirun
    said = OmegaConf.to_container(hydra.overrides.hydra, resolve=False)  # ${hydra:job.num} is a job's own
    assert isinstance(said, list)
    return *words, *(str(text) for text in said if not is_of(str(text), unsaid))


def run_command(job: Job) -> str:
    """Returns the command that trains this configuration again, alone even where a sweep trained it."""
    overrides = [text for text in public(job.overrides) if not is_of(text, MULTIRUN_KEYS)]
    words = without(job.hydra_words, MULTIRUN_PARTS)
    if job.settings.seeds is not None or "seeds=null" in job.overrides:
        overrides.append("seeds=null")  # else a study's YAML would ask for several
    swept = job.multirun is not None or any(is_of(text, STUDY_GROUPS) for text in overrides)
    return shlex.join(["vae-lab", "train", *words, *overrides, *(["hydra.mode=RUN"] if swept else [])])


def multirun_command(hydra: DictConfig, arguments: Sequence[str]) -> str:
    """Returns the line that starts this multirun again.

    Args:
        hydra: The node of that name of the multirun's config.
        arguments: The command line's overrides.
    """
    return shlex.join(["vae-lab", "train", "-m", *hydra_words(hydra), *public(arguments)])


def public(overrides: Iterable[str]) -> list[str]:
    """Returns the overrides without those of the stores of runs and of a search's trials."""
    return [text for text in overrides if not is_of(text, STORES)]


def without(words: Iterable[str], parts: Iterable[str]) -> list[str]:
    """Returns the words of a line without the overrides of some keys or groups; flags keep their values.

    Examples:
        >>> without(["--config-name", "search", "search.trials=3", "searched=1"], ["search"])
        ['--config-name', 'search', 'searched=1']
    """
    pairs = pairwise(["", *words])
    return [word for before, word in pairs if before.startswith("--") or not is_of(word, parts)]


def is_of(override: str, parts: Iterable[str]) -> bool:
    """Returns whether an override sets one of these keys or groups, or a key below one.

    Examples:
        >>> is_of("++hydra.launcher.stack=2", MULTIRUN_PARTS), is_of("hydra.mode=RUN", MULTIRUN_PARTS)
        (True, False)
    """
    key = override.lstrip("+~").partition("=")[0].partition("@")[0]
    return any(key == part or key.startswith(f"{part}.") for part in parts)
