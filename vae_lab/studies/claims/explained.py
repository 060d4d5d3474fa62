"""Which explanations of an effect outlive the verdicts on what they predict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vae_lab.studies.claims.verdicts import REFUTED, SUPPORTED, Verdict

SURVIVES, CONTRADICTED, OPEN = "survives", "contradicted", "open"


class Explanation(NamedTuple):
    """An explanation with the verdicts on the claims that it predicts."""

    text: str
    fate: str  # SURVIVES, CONTRADICTED or OPEN
    verdicts: list[Verdict]

    @property
    def claims(self) -> str:
        """The claims and what became of them: `E1 supported, E2 undecided`."""
        return ", ".join(f"{each.claim.id} {each.verdict}" for each in self.verdicts)


def explanations(verdicts: Iterable[Verdict]) -> list[Explanation]:
    """The explanations that a study's claims carry, in their order.

    One survives if all of its claims are supported and is contradicted if any is refuted. To survive is not
    to be proven: it predicted what was then seen, and so may another explanation.
    """
    found: dict[str, list[Verdict]] = {}
    for each in verdicts:
        if each.claim.explanation:
            found.setdefault(each.claim.explanation, []).append(each)
    return [Explanation(text, _fate({each.verdict for each in mine}), mine) for text, mine in found.items()]


def _fate(seen: set[str]) -> str:
    if REFUTED in seen:
        return CONTRADICTED
    return SURVIVES if seen == {SUPPORTED} else OPEN


def surviving(found: Sequence[Explanation]) -> str:
    """One sentence that says which explanation survives; empty if the study names none."""
    if not found:
        return ""
    named = {fate: [f"“{each.text}”" for each in found if each.fate == fate] for fate in FATES}
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


FATES = (SURVIVES, CONTRADICTED, OPEN)


def _listed(names: Sequence[str], one: str, many: str) -> str:
    if len(names) < 2:
        return f"{names[0]} {one}" if names else ""
    return f"{', '.join(names[:-1])} and {names[-1]} {many}"
