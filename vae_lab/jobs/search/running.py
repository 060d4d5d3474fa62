"""A search from its space to its parent run: trials are runs under it, and the best of them is told."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from omegaconf import DictConfig
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from vae_lab import config, tracking
from vae_lab.errors import without_credentials
from vae_lab.jobs import grammar, progress
from vae_lab.jobs.commands import is_of, multirun_command, without
from vae_lab.jobs.crews.crew import Crew, train_all
from vae_lab.jobs.job import Job
from vae_lab.jobs.lines.multirun import MultirunError, check_names, parent_run
from vae_lab.jobs.search.engine import Rules, Search
from vae_lab.jobs.search.members import Members
from vae_lab.jobs.search.points import Points
from vae_lab.jobs.search.rules import digest, rules_of
from vae_lab.jobs.search.source import SearchSource
from vae_lab.jobs.search.space import by_key
from vae_lab.jobs.search.storage import closed_at_last, errors_in_one_line, held, opened, storage_address
from vae_lab.jobs.search.telling import searched
from vae_lab.jobs.search.trials import FINGERPRINT, study_of_today
from vae_lab.report.terminal import output
from vae_lab.studies.plan import Plan
from vae_lab.studies.searched import SEARCH_FILE
from vae_lab.tracking import Store
from vae_lab.tracking.environment import experiment_name

CrewOf = Callable[[Job, int], Crew]  # from one of the jobs and how many there will be
CONFIRMING = 5  # seeds on which the best is trained again


def run_search(master: DictConfig, arguments: Sequence[str], points: Points, crew_of: CrewOf) -> None:
    """Runs a search; its parent run gets tables and pictures, whatever failed.

    Args:
        master: The composed config of the search, with its `hydra` node.
        arguments: The command line's overrides.
        points: Makes jobs of points.
        crew_of: Returns who trains.

    Raises:
        UserError: A point is not valid, or the search itself; nothing has been trained or written.
        LabError: Optuna's storage cannot be used.
        MultirunError: Some runs failed.
    """
    with progress.busy("Checking the space and the data"):
        first = points.checked()
        settings = first.settings
        check_names(settings)
        rules = rules_of(settings)
        Search(points.space, rules)  # with samplers and pruners that exist
        asked = settings.search.storage
        place = storage_address(asked, tracking.resolve_address(settings.tracking.uri))
        storage = None if asked is None else opened(place)  # before there is a store
        crew = crew_of(first, rules.trials)
    store = Store.open(settings.tracking.uri, create=True)
    store.wait = settings.tracking.wait
    plan = _plan(settings, points)
    experiment = store.experiment(experiment_name(store, settings.tracking.experiment))
    belongs_to = [experiment.name, experiment.creation_time, tracking.owner(store.uri)]
    name = f"{plan.name} {digest(points.space, settings, rules, belongs_to)}"
    tags = {tracking.STUDY: plan.name, tracking.COMMAND: multirun_command(master.hydra, arguments)}
    with held(place, name), errors_in_one_line(place), closed_at_last(storage or opened(place)) as trials:
        search = _search_of_today(points, rules, trials, name)
        search.trials.name_objectives(settings.search.metrics)
        with parent_run(store, experiment.name, tags, plan, anew=False) as parent:
            _search(search, crew, Members(parent, plan, points, rules.trials), settings.search.metrics)
    _print_best(search, points, plan.name)
    if parent.failures:
        raise MultirunError(f"{len(parent.failures)} of {len(search.points)} runs failed:", parent.failures)


def _search_of_today(points: Points, rules: Rules, storage: BaseStorage, name: str) -> Search:
    """Returns the search of that name whose trials are all of today's code and data; says so of a new one."""

    def is_of_today(trial: FrozenTrial) -> bool:
        noted = trial.user_attrs.get(FINGERPRINT)
        return noted is not None and noted == points.fingerprint(by_key(trial.params))

    study, others = study_of_today(storage, name, is_of_today)
    search = Search(points.space, rules, storage, study, points.identity, points.fingerprint)
    if others and not search.points:
        progress.console.print(
            f"{name.rpartition(' ')[0]}: its trials so far ({others}) are of other code or other data, or do "
            "not say of which: the search begins anew.",
            soft_wrap=True,
        )
    return search


def _search(search: Search, crew: Crew, members: Members, metrics: Sequence[str]) -> None:
    """Has a crew train what a search asks for, and records what came of it."""
    parent = members.parent
    repeated = members.without_run({number: search.points[number] for number in search.whole()})
    source = SearchSource(search, members.job_of, members.settled, parent.store, metrics, repeated)
    with progress.open_display(search.rules.trials, search.rules.budget):
        _worked_off(crew, source)
    parent.failures.extend(source.failures)
    _record(search, members, metrics)


def _plan(settings: DictConfig, points: Points) -> Plan:
    """Returns what a search sets out to do, before it has any trial."""
    varied = points.axes()
    name = config.quotable(str(settings.study.name or f"search {' x '.join(map(_last, varied))}"))
    question, seeds = settings.study.question, {"seed": [str(settings.seed)]}
    return Plan(name=name, question=question, cross=varied, replicate=seeds, search=True)


def _record(search: Search, members: Members, metrics: Sequence[str]) -> None:
    """Writes plan and steps of a search to its parent run; trials of earlier processes are its own, too."""
    for number, values in search.points.items():
        members.take_over(number, values)
    members.record()
    told = searched(search, [*metrics], lambda number: members.jobs[number].name)
    with members.parent.recorder.artifacts(sealed=[SEARCH_FILE]) as folder:
        (folder / SEARCH_FILE).write_text(told.to_json(), encoding="utf-8")
    members.measure()


def _worked_off(crew: Crew, source: SearchSource) -> None:
    try:
        train_all(crew, source)
    except BaseException as error:
        source.close(error)
        raise
    source.close(None)


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _print_best(search: Search, points: Points, study: str) -> None:
    """Says which trial came to the best end, and the command that trains it on fresh seeds."""
    number = search.best()
    terminal = output()
    if number is None:
        terminal.print("\nNo trial has its full length.")
        return
    job = points.job(search.points[number])
    front = " (one of the front)" if len(search.rules.directions) > 1 else ""
    terminal.print(f"\nBest of {len(search.points)} trials{front}: {job.name}", soft_wrap=True)
    for line in on_fresh_seeds(job, study):
        terminal.print(line, soft_wrap=True)


def on_fresh_seeds(job: Job, study: str) -> list[str]:
    """Returns in words how to train the best of a search again, and what its command leaves out."""
    lines = [f"On fresh seeds {confirming(job, study)}"]
    if any(map(_names_secret, job.overrides)):
        lines.append("Add tracking.uri=... as before: it names a user or a password, which are not printed.")
    return lines


def confirming(job: Job, study: str) -> str:
    """Returns the command that trains the best of a search again, on seeds that it was not chosen by.

    It has the store and the experiment of the search; but no address with a user or a password.
    """
    own = ("search", "seed", "study.name", "hydra/sweeper", "hydra.sweeper")
    words = [word for word in without([*job.hydra_words, *job.overrides], own) if not _names_secret(word)]
    seeds = ",".join(str(job.settings.seed + step) for step in range(1, CONFIRMING + 1))
    name = f"study.name={grammar.written(f'{study} confirmed')}"
    return shlex.join(["vae-lab", "train", "-m", *words, name, f"seed={seeds}", "hydra/sweeper=ablation"])


def _names_secret(override: str) -> bool:
    return is_of(override, ["tracking"]) and without_credentials(override) != override
