"""Which explanations of an effect outlive the verdicts on what they predict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vae_lab.studies.claims.sharing import NEGLIGIBLE, REFUTED, SUPPORTED
from vae_lab.studies.claims.verdicts import Verdict

SURVIVES, CONTRADICTED, OPEN = "survives", "contradicted", "open"


class Explanation(NamedTuple):
    """An explanation with the verdicts on the claims that it predicts."""

    text: str
    status: str  # SURVIVES, CONTRADICTED or OPEN
    verdicts: list[Verdict]

    @property
    def claims(self) -> str:
        """The claims and what became of them: `E1 supported, E2 undecided`."""
        return ", ".join(f"{verdict.claim.id} {verdict.verdict}" for verdict in self.verdicts)


def explanations(verdicts: Iterable[Verdict]) -> list[Explanation]:
    """Returns the explanations that a study's claims carry, in their order.

    An explanation survives if all of its claims are supported and is contradicted if any is refuted or shown
    to be negligible: what it predicts is not there, or too small to matter. To survive is not to
    be proven: it predicted what was then seen, and so may another explanation.
    """
    by_explanation: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.claim.explanation:
            by_explanation.setdefault(verdict.claim.explanation, []).append(verdict)
    return [Explanation(text, _status(predicted), predicted) for text, predicted in by_explanation.items()]


def _status(predicted: Sequence[Verdict]) -> str:
    verdicts = {verdict.verdict for verdict in predicted}
    if verdicts & {REFUTED, NEGLIGIBLE}:
        return CONTRADICTED
    return SURVIVES if verdicts == {SUPPORTED} else OPEN


def explanation_summary(explained: Sequence[Explanation]) -> str:
    """Returns one sentence that says which explanation survives; empty if the study names none."""
    if not explained:
        return ""
    named = {
        status: [f"“{explanation.text}”" for explanation in explained if explanation.status == status]
        for status in (SURVIVES, CONTRADICTED, OPEN)
    }
    none = "no explanation has survived yet" if named[OPEN] else "no explanation survives"
    parts = [_listed(named[SURVIVES], "survives", "survive") or none]
    parts += filter(
        None,
        [
            _listed(named[CONTRADICTED], "is contradicted", "are contradicted"),
            _listed(named[OPEN], "is still open", "are still open"),
        ],
    )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _listed(names: Sequence[str], verb: str, plural: str) -> str:
    if len(names) < 2:
        return f"{names[0]} {verb}" if names else ""
    return f"{', '.join(names[:-1])} and {names[-1]} {plural}"
