import io
from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console

from tests.studies.test_claims import AXES, BASE, reference, runs
from vae_lab.report import tables
from vae_lab.report import verdicts as verdict_tables
from vae_lab.studies import claims
from vae_lab.studies.claims import Verdict


@pytest.fixture(scope="module")
def verdicts() -> list[Verdict]:
    rows = pd.DataFrame(runs(10, lambda m, L, Z: 10 * L))
    return claims.judge(reference(), rows, axes=AXES, base=BASE)


def printed(verdicts: list[Verdict], width: int) -> str:
    file = io.StringIO()
    verdict_tables.print_verdicts(verdicts, Console(width=width, file=file))
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_every_verdict_and_its_sentence_whole(verdicts: list[Verdict], width: int) -> None:
    text = printed(verdicts, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = " ".join(text.split())
    for verdict in verdicts:
        assert verdict.sentence in words
        assert verdict.claim.text in words
    (row,) = [line for line in text.splitlines() if line.split()[:2] == ["C1", "supported"]]
    assert "+9.87" in row
    assert " 0.0011 " in row, "the least p of so many rearrangements, times eleven claims"


def test_the_table_keeps_numbers_unrounded_and_leaves_the_infinite_out(verdicts: list[Verdict]) -> None:
    frame = verdict_tables.verdict_table(verdicts).frame().set_index("claim")
    assert frame.loc["C1", "effect"] == verdicts[0].effect
    assert frame.loc["C1", "finding"] == verdicts[0].sentence
    assert frame["effect"].isna()["C3"]
    assert "inf" not in tables.csv(verdict_tables.verdict_table(verdicts))


@pytest.mark.parametrize("form", tables.FORMATS)
def test_every_format_holds_every_sentence(verdicts: list[Verdict], form: str) -> None:
    text = tables.FORMATS[form](verdict_tables.verdict_table(verdicts))
    for verdict in verdicts:
        assert (
            verdict.sentence.replace("%", r"\%" if form == "latex" else "%").replace(
                "_", r"\_" if form == "latex" else "_"
            )
            in text
        )


def test_the_note_names_95_percent_only_where_that_is_the_level(verdicts: list[Verdict]) -> None:
    other = replace(verdicts[0], claim=replace(verdicts[0].claim, level=0.01))
    assert "its 95 % interval" in verdict_tables.verdict_table(verdicts).note
    assert "its interval at the claim's level" in verdict_tables.verdict_table([other]).note


def test_the_pages_table_keeps_every_claim_and_its_sentence(verdicts: list[Verdict]) -> None:
    brief = verdict_tables.brief_table(verdicts)
    assert [row[0].value for row in brief.rows] == [verdict.claim.id for verdict in verdicts]
    for row, verdict in zip(brief.rows, verdicts, strict=True):
        assert row[1].value == verdict.verdict
        assert verdict.sentence in str(row[-1].value)
