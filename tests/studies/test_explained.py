import math

import pytest

from vae_lab.studies.claims import Claim, Verdict, explanation_summary, explanations, parse


def verdict(name: str, decision: str, explanation: str) -> Verdict:
    claim = Claim(name, "x", "test/loss", "better", explanation=explanation)
    return Verdict(claim, decision, 1.0, -math.inf, math.inf, 3, 0.1, 0.1, 1.0, None, "A sentence.")


CAUSES = [
    verdict("A1", "supported", "cause A"),
    verdict("B1", "supported", "cause B"),
    verdict("B2", "refuted", "cause B"),
    verdict("C1", "undecided", "cause C"),
    verdict("A2", "supported", "cause A"),
    verdict("D", "supported", ""),
]


def test_an_explanation_survives_only_if_all_that_it_predicts_is_supported() -> None:
    explained = explanations(CAUSES)
    assert [(explanation.text, explanation.status) for explanation in explained] == [
        ("cause A", "survives"),
        ("cause B", "contradicted"),
        ("cause C", "open"),
    ]
    assert explained[0].claims == "A1 supported, A2 supported"


def test_one_supported_and_one_undecided_claim_leave_it_open() -> None:
    (explanation,) = explanations([verdict("1", "supported", "x"), verdict("2", "undecided", "x")])
    assert explanation.status == "open"


def test_what_is_too_small_to_matter_contradicts_its_explanation() -> None:
    (explanation,) = explanations([verdict("1", "supported", "x"), verdict("2", "negligible", "x")])
    assert explanation.status == "contradicted"


def test_a_sentence_says_which_explanation_survives() -> None:
    assert explanation_summary(explanations(CAUSES)) == (
        "“cause A” survives; “cause B” is contradicted; “cause C” is still open."
    )
    two = [verdict("1", "refuted", "x"), verdict("2", "refuted", "y")]
    assert explanation_summary(explanations(two)) == "No explanation survives; “x” and “y” are contradicted."
    one = [verdict("1", "undecided", "x")]
    assert explanation_summary(explanations(one)) == "No explanation has survived yet; “x” is still open."
    assert explanation_summary(explanations([verdict("D", "supported", "")])) == ""


@pytest.mark.parametrize(("given", "expected"), [({"explanation": "cause A"}, "cause A"), ({}, "")])
def test_a_claim_can_carry_an_explanation(given: dict[str, str], expected: str) -> None:
    entry = {"id": "A", "text": "x", "metric": "test/loss", "expect": "increasing", "along": "model.layers"}
    assert parse([entry | given])[0].explanation == expected
