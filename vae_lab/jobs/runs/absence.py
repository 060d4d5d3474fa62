"""What could not be measured of a run: the reasons in its tag and its description, and void values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from omegaconf import DictConfig

from vae_lab.errors import quoted
from vae_lab.evaluation import Measures
from vae_lab.jobs.parts.own_metrics import own_metrics
from vae_lab.metrics import EVALUATION_COUNTS, metric_named
from vae_lab.tracking import NOTE, WITHDRAWN, StoredRun

ABSENT = "vae_lab.absent"  # tag: measures that were not taken, and why
LONGEST = 1000  # letters of the tag
WORDS = "Not measured: "  # begin the paragraph of a description
AFTERWARDS = "Pictures: "  # begin the paragraph behind it
_KEYS = r"(?:test|eval|real|own)/[^\s,;()]+(?:, (?:test|eval|real|own)/[^\s,;()]+)*"
_REASON = re.compile(rf"({_KEYS}) \((.*?)(?:\)(?=; {_KEYS} \(|$)|\.\.\.$)")  # the last may have been cut


def reasons_by_key(text: str) -> dict[str, str]:
    """Returns the reason of each absent measure in a text of `Measures.reasons`.

    Examples:
        >>> reasons_by_key("eval/recall, own/gap (no image); own/light (f() fails)")
        {'eval/recall': 'no image', 'own/gap': 'no image', 'own/light': 'f() fails'}
    """
    return {key: reason for keys, reason in _REASON.findall(text) for key in keys.split(", ")}


def absent_tag(reasons: str) -> dict[str, str]:
    """Returns the tag that says which measures are absent, and why; no tag if all are there."""
    return {ABSENT: quoted(reasons, LONGEST)} if reasons else {}


def measured_anew(
    run: StoredRun, settings: DictConfig, measures: Measures
) -> tuple[dict[str, float], dict[str, str | None]]:
    """Returns what is logged to a run that has been measured again: metrics, and tags of what is absent.

    What was measured before and could not be now is NaN, which readers of the lab's leave out. Reasons of
    what was not tried now stay.

    Args:
        run: As it was.
        settings: What was tried: its counts of draws, and metrics of the user's own.
        measures: What came of it.
    """
    counts = {count for count in EVALUATION_COUNTS if settings.evaluation[count]}
    own = {chosen.metric.key for chosen in own_metrics(settings.evaluation.metrics)}

    def is_settled(key: str) -> bool:
        return key in measures.metrics or key in own or metric_named(key).needs in counts

    void = [key for key in run.metrics if is_settled(key) and key not in measures.metrics]
    before = reasons_by_key(run.tags.get(ABSENT, ""))
    absent = {key: reason for key, reason in before.items() if not is_settled(key)} | measures.absent
    reasons = Measures({}, absent).reasons()
    tags: dict[str, str | None] = dict.fromkeys([ABSENT] if ABSENT in run.tags else [])
    tags |= absent_tag(reasons) | ({WITHDRAWN: "true"} if void else {})
    if NOTE in run.tags and (note := _with_reasons(run.tags[NOTE], reasons)) != run.tags[NOTE]:
        tags[NOTE] = note
    return measures.metrics | dict.fromkeys(void, math.nan), tags


def _with_reasons(note: str, reasons: str) -> str:
    """Returns a run's description with these reasons in the place of those before; a foreign one as it is."""
    parts = [part for part in note.split("\n\n") if not part.startswith(WORDS)]
    place = next((number for number, part in enumerate(parts) if part.startswith(AFTERWARDS)), None)
    if place is not None and reasons:
        parts.insert(place, paragraph(reasons))
    return note if place is None else "\n\n".join(parts)


def paragraph(reasons: str) -> str:
    """Returns what a description says of absent measures.

    >>> paragraph("own/gap (no image)")
    'Not measured: own/gap (no image).'
    """
    return f"{WORDS}{reasons}."


def without_absent(present: Mapping[str, str], run: StoredRun) -> dict[str, str]:
    """Returns how a run was measured without what is absent from it, by which nothing was measured."""
    absent = reasons_by_key(run.tags.get(ABSENT, ""))
    return {fact: value for fact, value in present.items() if fact not in absent}
