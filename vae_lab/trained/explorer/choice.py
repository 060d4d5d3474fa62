"""Which runs stand side by side: those that are asked for, else the ends of what a study varies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from vae_lab.errors import UserError, choices, quoted
from vae_lab.report.lines import lines
from vae_lab.studies.comparison import Group, comparisons
from vae_lab.studies.names import UnknownStudyError
from vae_lab.studies.study import Study, load_study
from vae_lab.tracking import Reader, StoredRun
from vae_lab.trained.reference import RUN_NAME, chosen_run

MOST = 4  # models on a page


class Choice(NamedTuple):
    """The runs whose models a page holds, and the study that they are of, if it was named."""

    runs: list[StoredRun]
    study: Study | None


def chosen_runs(store: Reader, name: str, models: Sequence[str] = ()) -> Choice:
    """Returns the runs that a page holds.

    Args:
        store: Where they are kept.
        name: A study, the id of a parent run, or whatever `vae_lab.load` takes for a run.
        models: Names or ids of runs of the study, one in a text or several with commas between them; without
            any the lab chooses.

    Raises:
        UserError: There is no such study or run, or too many are asked for.
    """
    try:
        study = load_study(store, name)
    except UnknownStudyError:
        run = chosen_run(store, name).run
        names = _all_names(models, lambda text: _is_run(store, text))
        others = [chosen_run(store, model).run for model in names]
        return Choice(_distinct([run, *others]), None)
    finished = [run for run in study.runs if run.status == "FINISHED"]
    if not finished:
        raise UserError(f"{quoted(name)}: none of its runs has finished. See: vae-lab status {quoted(name)}")
    if models:
        names = _all_names(models, {key for run in study.runs for key in (run.name, run.run_id)}.__contains__)
        return Choice(_distinct([_named(finished, model) for model in names]), study)
    return Choice(ends(study)[:MOST], study)


def ends(study: Study) -> list[StoredRun]:
    """Returns the first finished runs of a study's configurations, the most different ones before the rest.

    First come the two ends of each line of the first family: the shallowest and the deepest, the smallest and
    the largest latent size; then the ends of the other lines, then what lies between.
    """
    every = list(lines(comparisons(study)))
    family = every[0].family if every else ""
    ordered = sorted(every, key=lambda line: line.family != family)
    groups: list[Group] = []
    for line in ordered:
        groups += [line.groups[0], line.groups[-1]]
    for line in ordered:
        groups += line.groups
    firsts = [run for group in groups for run in group.finished[:1]]
    return _distinct([*firsts, *(run for run in study.runs if run.status == "FINISHED")])


def names_in(text: str, is_name: Callable[[str], bool]) -> list[str]:
    """Returns the names in a text that has commas between them; a name may have commas, too.

    Args:
        text: The names.
        is_name: Whether there is a run of a name; of several beginnings that are names the longest counts.

    Examples:
        >>> names_in("vae L2, sizes=[32,16] vae", {"vae L2", "sizes=[32,16] vae"}.__contains__)
        ['vae L2', 'sizes=[32,16] vae']
    """
    parts, names = text.split(","), []
    while parts:
        beginnings = (",".join(parts[:count]).strip() for count in range(len(parts), 1, -1))
        name = next(filter(is_name, beginnings), parts[0].strip())
        names.append(name)
        parts = parts[1 + name.count(",") :]
    return names


def _all_names(texts: Sequence[str], is_name: Callable[[str], bool]) -> list[str]:
    names = [name for text in texts for name in names_in(text, is_name)]
    if len(names) > MOST:
        raise UserError(f"--models: {len(names)} runs; at most {MOST} models stand side by side.")
    return names


def _is_run(store: Reader, name: str) -> bool:
    """Whether a run, or several, can be meant by a name."""
    if store.tagged(RUN_NAME, name):
        return True
    try:
        chosen_run(store, name)
    except UserError:
        return False
    return True


def _named(runs: Sequence[StoredRun], name: str) -> StoredRun:
    for run in runs:
        if name in (run.name, run.run_id):
            return run
    known = [run.name for run in runs]
    raise UserError(f"--models {quoted(name)}: no finished run of the study{choices(name, known)}")


def _distinct(runs: Sequence[StoredRun]) -> list[StoredRun]:
    return list({run.run_id: run for run in runs}.values())
