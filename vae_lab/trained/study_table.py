"""A table of a study's runs that shows itself in a notebook as the study's tables do."""

from __future__ import annotations

import html
from typing import Any

from pandas import DataFrame

from vae_lab.errors import visible
from vae_lab.studies.study import Study


class StudyTable(DataFrame):
    """A row a run; what is made of it (rows, columns, groups) is a plain `DataFrame`.

    Attributes:
        study: The study as it was read back.
    """

    _metadata = ["study"]  # noqa: RUF012  pandas reads it
    study: Study

    @property
    def _constructor(self) -> Any:
        return DataFrame

    @classmethod
    def of(cls, table: DataFrame, study: Study) -> StudyTable:
        """Returns the table of a study's runs."""
        shown = cls(table)
        shown.study = study
        return shown

    def _repr_html_(self) -> str:
        """Returns the study's question and its tables, with means and intervals where seeds repeat."""
        from vae_lab.report import tables  # late: 2 s of imports, only to be shown
        from vae_lab.studies.status import states_in_words

        plan = self.study.plan
        heading = f"<b>{_text(plan.name)}</b>: {_text(states_in_words(self.study))}"
        question = f"<br>{_text(plan.question)}" if plan.question else ""
        drawn = "".join(tables.html(table) for table in tables.study_tables(self.study))
        size = f"{len(self)} rows, one a run, and {len(self.columns)} columns: .columns names them"
        return f"<div>{heading}{question}{drawn}<small>{size}.</small></div>"


def _text(text: str) -> str:
    return html.escape(visible(text))
