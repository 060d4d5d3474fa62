"""What the doctor says: findings with number, threshold and remedy, and the report of them all."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vae_lab.errors import quoted, visible
from vae_lab.trained.doctor.catalogue import CATALOGUE

GRADES = NOTE, WARNING, FAULT = ("note", "warning", "fault")  # the worst last


@dataclass(frozen=True)
class Finding:
    """One thing that the doctor has seen.

    Args:
        name: A key of `CATALOGUE`, which has the remedy and the public threads.
        grade: One of `GRADES`.
        seen: What was measured, in a whole sentence with its number.
        number: That number; None where none can be given, as for a figure that is not a number.
        sound: What the number is in a sound model, such as `1 ± 0.02`.
        own_remedy: What to change, where this model's own numbers say it better than the catalogue.
    """

    name: str
    grade: str
    seen: str
    number: float | None
    sound: str
    own_remedy: str = ""

    @property
    def remedy(self) -> str:
        """What to change."""
        return self.own_remedy or CATALOGUE[self.name].remedy

    @property
    def threads(self) -> tuple[str, ...]:
        """Public threads in which people met it: repository and number."""
        return CATALOGUE[self.name].threads

    def as_dict(self) -> dict[str, Any]:
        """Returns the finding as JSON has it."""
        number = self.number if self.number is not None and math.isfinite(self.number) else None
        return {
            "grade": self.grade,
            "finding": self.name,
            "seen": self.seen,
            "number": number,
            "sound": self.sound,
            "remedy": self.remedy,
            "threads": list(self.threads),
        }


class UnexaminedError(Exception):
    """A check cannot be made; the message says what it needs."""


def reason_of(error: BaseException) -> str:
    """Returns the first line of what an error says, or its class, which a message goes on with.

    Examples:
        >>> reason_of(ValueError("no such layer")), reason_of(KeyError())
        ('no such layer', 'KeyError')
    """
    return next(iter(str(error).splitlines()), "") or type(error).__name__


@dataclass(frozen=True)
class Report:
    """What an audit found, the worst first, and what it could not look at.

    Examples:
        >>> finding = Finding("kl_mean", "fault", "The KL has weight 0.07.", 0.07, "1 ± 0.02")
        >>> report = Report("my_vae.VAE", [finding], {"sampling": "needs decode"})
        >>> report.worst, "kl_mean" in report, "ignores_z" in report
        ('fault', True, False)
        >>> print(report)
        my_vae.VAE: 1 fault
          fault  kl_mean: The KL has weight 0.07. Sound: 1 ± 0.02. Sum the KL over latent dimensions ...
          not examined: sampling (needs decode)
    """

    subject: str
    findings: Sequence[Finding]
    unexamined: dict[str, str] = field(default_factory=dict)  # why, by check
    injected: str = ""  # the fault that the run was given on purpose, as its record says
    failure: str = ""  # why it could not be examined at all

    @property
    def worst(self) -> str:
        """The grade of the worst finding; empty if there is none."""
        return max((finding.grade for finding in self.findings), key=GRADES.index, default="")

    @property
    def summary(self) -> str:
        """How many findings there are of each grade, in words: `1 fault, 2 notes`."""
        if self.failure:
            return f"cannot be examined: {self.failure}"
        counts = {grade: sum(finding.grade == grade for finding in self.findings) for grade in GRADES[::-1]}
        words = [f"{count} {grade}{'s' * (count > 1)}" for grade, count in counts.items() if count]
        return ", ".join(words) or "nothing found"

    def __contains__(self, name: object) -> bool:
        return any(finding.name == name for finding in self.findings)

    def finding(self, name: str, grade: str) -> Finding:
        """Returns the finding of that name and grade, of which a report has one at most.

        Raises:
            KeyError: There is none.
        """
        return {(finding.name, finding.grade): finding for finding in self.findings}[name, grade]

    def of_grade(self, grade: str) -> list[str]:
        """Returns the names of the findings of a grade."""
        return [finding.name for finding in self.findings if finding.grade == grade]

    def as_dict(self) -> dict[str, Any]:
        """Returns the report as JSON has it."""
        return {
            "subject": self.subject,
            "worst": self.worst or None,
            "findings": [finding.as_dict() for finding in self.findings],
            "unexamined": self.unexamined,
            "injected": self.injected or None,
            "failure": self.failure or None,
        }

    def to_json(self) -> str:
        """Returns the report as JSON."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False)

    def __str__(self) -> str:
        lines = [f"{quoted(self.subject)}: {self.summary}"]
        lines += [
            f"  {finding.grade:7}{finding.name}: {finding.seen} Sound: {finding.sound}. {finding.remedy}"
            for finding in self.findings
        ]
        lines += [f"  not examined: {check} ({visible(why)})" for check, why in self.unexamined.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Returns the report as a table for a notebook."""
        rows = "".join(
            "<tr>"
            + "".join(
                f"<td style='text-align:left'>{html.escape(text)}</td>"
                for text in (finding.grade, finding.name, finding.seen, finding.sound, finding.remedy)
            )
            + "</tr>"
            for finding in self.findings
        )
        heads = "".join(f"<th style='text-align:left'>{head}</th>" for head in COLUMNS)
        return f"<b>{html.escape(self.subject)}</b>: {self.summary}<table><tr>{heads}</tr>{rows}</table>"


COLUMNS = ("grade", "finding", "seen", "sound", "remedy")


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Returns the findings with the worst grade first, and of each name and grade the first alone."""
    first = {(finding.name, finding.grade): finding for finding in reversed(findings)}
    kept = [finding for finding in findings if first[finding.name, finding.grade] is finding]
    return sorted(kept, key=lambda finding: -GRADES.index(finding.grade))
