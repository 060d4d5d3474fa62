"""Claims that are changed, and seeds that were chosen, after the runs had been seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from vae_lab import tracking
from vae_lab.cli.group import commands
from vae_lab.jobs.lines import multirun
from vae_lab.jobs.lines.declarations import Earlier, declared, with_declarations
from vae_lab.report.conclusion import conclude
from vae_lab.report.tables import SUFFIXES
from vae_lab.report.terminal import Terminal
from vae_lab.report.verdicts import print_verdicts
from vae_lab.studies.claims import judge_study, verdicts_of
from vae_lab.studies.plan import PLAN_FILE, Plan
from vae_lab.studies.study import Study, load_study
from vae_lab.tracking import Store, StoredRun

Lab = Callable[..., tuple[int, str, str]]

STUDY = """\
# @package _global_
study:
  name: width
  claims: [{{id: W1, text: Width counts., metric: test/loss, expect: {expect}, along: model.hidden_size}}]
train: {{epochs: {epochs}}}
evaluation: {{pictures: false}}
sweep: {{cross: {{model.hidden_size: [1, 32]}}}}
hydra: {{mode: MULTIRUN}}
"""
LINE = ("--config-dir", "own", "data=digits", "train.device=cpu", "experiments=width")


def declare(folder: Path, expect: str, epochs: int = 1) -> None:
    (folder / "own" / "experiments").mkdir(parents=True, exist_ok=True)
    (folder / "own" / "experiments" / "width.yaml").write_text(STUDY.format(expect=expect, epochs=epochs))


CLAIM = {"id": "W1", "text": "Depth counts.", "metric": "test/loss", "along": "model.layers"}
POINTS = [(layers, seed) for layers in (2, 3) for seed in range(7)]


def planted_runs(store: Store, code: str = "") -> list[StoredRun]:
    """Fourteen finished runs, never trained, whose loss rises with depth."""
    for layers, seed in POINTS:
        params = {"model": "vae", "model.layers": str(layers), "seed": str(seed)}
        tags = {tracking.FINGERPRINT: f"{code}{layers}{seed}"}
        run = store.start("lab", f"vae L{layers} s{seed}", kind=tracking.RUN, params=params, tags=tags)
        run.log({"test/loss": 100 + 10 * layers + 0.1 * layers * seed}, step=1)
        run.finish("FINISHED")
    return finished_runs_of(store, code)


def finished_runs_of(store: Store, code: str) -> list[StoredRun]:
    """The planted runs whose fingerprints begin with the mark of the code that trained them."""
    wanted = {f"{code}{layers}{seed}" for layers, seed in POINTS}
    runs = store.tagged(tracking.KIND, tracking.RUN)
    return [run for run in runs if run.tags[tracking.FINGERPRINT] in wanted]


def adopting(
    store: Store, *expect: str, name: str = "depth", code: str = "", sequential: bool = False, seeds: int = 7
) -> Study:
    """A multirun that has adopted all runs that are there of its code, without tables or a page."""
    plan = Plan(
        name,
        one_at_a_time={"model.layers": ["2", "3"]},
        base={"model.layers": "3"},
        replicate={"seed": [str(seed) for seed in range(seeds)]},
        claims=[{**CLAIM, "expect": way} for way in expect],
        sequential=sequential,
        runs=[(f"{code}{layers}{seed}", f"vae L{layers} s{seed}") for layers, seed in POINTS if seed < seeds],
    )
    finished = [
        run for run in finished_runs_of(store, code) if run.tags[tracking.FINGERPRINT] in plan.fingerprints
    ]
    plan = with_declarations(plan, store, finished, "lab")
    parent = store.start("lab", name, kind=tracking.SWEEP, tags={tracking.STUDY: name})
    with parent.artifacts(sealed=[PLAN_FILE]) as folder:
        (folder / PLAN_FILE).write_text(plan.to_json())
    for run in finished or planted_runs(store, code):
        store.recorder(run).tag({tracking.member_tag(parent.run_id): "1"})
    parent.finish("FINISHED")
    return load_study(store, parent.run_id)


def concluded(store: Store, *expect: str, **settings: Any) -> Study:
    """The same with its tables and its page."""
    study = adopting(store, *expect, **settings)
    conclude(store, store.recorder(study.parent))
    return load_study(store, study.parent.run_id)


def test_a_claim_that_is_turned_round_after_the_runs_is_marked_and_the_first_one_stays(folder: Path) -> None:
    store = Store.open(create=True)
    (first,) = judge_study(adopting(store, "decreasing"))
    assert (first.verdict, first.standing) == ("refuted", "")
    study = concluded(store, "increasing", name="renamed")
    late, before = judge_study(study)
    assert (late.verdict, before.verdict, before.claim.id) == ("supported", "refuted", "W1 before")
    marks = "declared after 14 runs had been seen", "dropped or changed after 14 runs had been seen"
    tags = study.parent.tags
    assert tags["vae_lab.verdict.W1"] == f"supported, {marks[0]}"
    assert tags["vae_lab.verdict.W1 before"] == f"refuted, {marks[1]}"
    for suffix in ("csv", "md", "tex", "html"):
        text = store.download(study.parent.run_id, f"tables/verdicts.{suffix}").read_text()
        assert all(mark in text for mark in marks), suffix
    page = store.download(study.parent.run_id, "report.html").read_text()
    assert all(mark in page and mark in tags[tracking.NOTE] for mark in marks)
    again, former = judge_study(adopting(store, "decreasing"))
    assert (again.verdict, again.standing, former.dropped) == ("refuted", "", True)


def test_seeds_that_followed_verdicts_are_judged_so_under_every_name(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = Store.open(create=True)
    adopting(store, "increasing", sequential=True)
    study = concluded(store, "increasing", name="other")
    assert (
        "other: seeds=auto chose runs of it, so its claims are judged sequentially" in capfd.readouterr().err
    )
    (verdict,) = judge_study(study)
    fixed_plan = msgspec.structs.replace(study.plan, sequential=False)
    (fixed,) = judge_study(study._replace(plan=fixed_plan))
    assert verdict.sequential
    assert not fixed.sequential
    assert verdict.p > fixed.p
    for file in ("report.html", "tables/verdicts.md"):
        assert "p: sequential test" in store.download(study.parent.run_id, file).read_text()
    print_verdicts([verdict], Terminal(width=400))
    assert "p: sequential test" in " ".join(capfd.readouterr().out.split())


MARKS = "declared after 14 runs had been seen", "dropped or changed after 14 runs had been seen"


@pytest.mark.parametrize("deleted", [False, True])
def test_runs_of_other_code_data_or_settings_have_been_seen_too(folder: Path, deleted: bool) -> None:
    """A change of the training code gives every run another fingerprint."""
    store = Store.open(create=True)
    before = adopting(store, "decreasing")
    for run in [before.parent, *before.runs] if deleted else []:
        store.client.delete_run(run.run_id)
    late, dropped = judge_study(adopting(store, "increasing", code="new"))
    assert (late.standing, dropped.standing) == MARKS
    assert (late.verdict, dropped.verdict) == ("supported", "refuted")
    alone = judge_study(adopting(store, "increasing", name="other", code="newer"))
    assert [verdict.standing for verdict in alone] == [""], "another name and other runs: another study"


def test_a_study_of_another_owner_or_experiment_is_another_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(create=True)
    adopting(store, "decreasing")
    plan = Plan("depth", claims=[{**CLAIM, "expect": "increasing"}], runs=[("new20", "vae L2 s0")])
    assert len(with_declarations(plan, store, [], "lab").former) == 1
    assert with_declarations(plan, store, [], "elsewhere").former == []
    monkeypatch.setattr(tracking, "owner", lambda uri: "ann")
    assert with_declarations(plan, store, [], "lab").former == []


def test_the_sequential_test_outlives_a_change_of_the_training_code(folder: Path) -> None:
    """Else as many seeds as looked good could be trained again, as if their number were chosen blindly."""
    store = Store.open(create=True)
    adopting(store, "increasing", sequential=True)
    (verdict,) = judge_study(adopting(store, "increasing", code="new"))
    assert verdict.sequential
    (verdict,) = judge_study(adopting(store, "increasing", name="other", code="newer"))
    assert not verdict.sequential


def test_the_runs_of_later_rounds_have_been_seen_when_the_first_begins(folder: Path) -> None:
    """With seeds=auto a multirun that begins has the seeds of its first round only."""
    store = Store.open(create=True)
    adopting(store, "decreasing", sequential=True)
    late, dropped = judge_study(adopting(store, "increasing", sequential=True, seeds=4))
    assert (late.standing, dropped.standing) == MARKS


def test_a_study_that_drops_all_its_claims_shows_them_everywhere(folder: Path) -> None:
    store = Store.open(create=True)
    adopting(store, "increasing")
    study = concluded(store)
    (dropped,) = verdicts_of(study)
    assert (dropped.claim.id, dropped.standing) == ("W1 before", MARKS[1])
    tags = store.record(study.parent.run_id).tags
    assert tags["vae_lab.verdict.W1 before"] == f"supported, {MARKS[1]}"
    assert MARKS[1] in tags[tracking.NOTE]
    for file in ("report.html", "report.md", *(f"tables/verdicts.{suffix}" for suffix in SUFFIXES.values())):
        assert MARKS[1] in store.download(study.parent.run_id, file).read_text(), file
    for line in (["verdict", "depth"], ["verdict", "depth", "--format", "markdown"]):
        result = CliRunner().invoke(commands, line)
        assert MARKS[1] in " ".join(result.output.split()), line
    assert CliRunner().invoke(commands, ["report", "depth", "--out", "depth.html"]).exit_code == 0
    assert MARKS[1] in Path("depth.md").read_text()


def test_a_claim_that_was_taken_back_before_any_run_was_seen_is_of_no_study() -> None:
    first = planned("up")
    first = msgspec.structs.replace(first, declared=declared(first, [], 0))
    second = planned("down")
    second = msgspec.structs.replace(second, declared=declared(second, [Earlier(first, 1)], 0))
    assert (second.former, second.declared[0].dropped) == ([], 0)
    third = planned("level")
    third = msgspec.structs.replace(
        third, declared=declared(third, [Earlier(first, 1), Earlier(second, 2)], 9)
    )
    assert [entry.claim["expect"] for entry in third.former] == ["down"]
    back = {
        entry.claim["expect"]: (entry.seen, entry.dropped)
        for entry in declared(first, [Earlier(second, 2), Earlier(third, 3)], 12)
    }
    assert back == {"up": (12, None), "down": (0, 9), "level": (9, 12)}, "of many one is chosen by its values"


def test_a_multirun_that_goes_on_keeps_the_claims_that_it_began_with(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    declare(folder, "increasing")
    with monkeypatch.context() as patch:
        patch.setattr(multirun, "conclude", interrupted)
        assert lab(*LINE, "seeds=1")[0] == 130
    declare(folder, "decreasing", epochs=2)
    code, _, err = lab(*LINE, "seeds=1")
    assert code == 0
    assert "goes on where it ended before" in err
    assert "they leave the study and are trained anew" in err
    study = load_study(Store.open(), "width")
    marks = [verdict.standing for verdict in judge_study(study)]
    assert marks == [mark.replace("14", "2") for mark in MARKS]
    declare(folder, "increasing", epochs=3)
    assert lab(*LINE, "seeds=1")[0] == 0
    first, second = judge_study(load_study(Store.open(), "width"))
    assert (first.standing, second.standing) == ("", "dropped or changed after 4 runs had been seen")


def planned(*expectations: str) -> Plan:
    claims: list[dict[str, Any]] = [{"id": "C", "expect": expect} for expect in expectations]
    return Plan("p", claims=claims, runs=[("a", "vae s0")])


def test_a_claim_keeps_the_moment_at_which_it_was_first_declared() -> None:
    first = planned("up")
    first = msgspec.structs.replace(first, declared=declared(first, [], 0))
    second = planned("down", "level")
    second = msgspec.structs.replace(second, declared=declared(second, [Earlier(first, 1)], 7))
    known = {entry.claim["expect"]: (entry.seen, entry.dropped) for entry in second.declared}
    assert known == {"up": (0, 7), "down": (7, None), "level": (7, None)}
    third = planned("up")
    entries = declared(third, [Earlier(first, 1), Earlier(second, 2)], 9)
    known = {entry.claim["expect"]: (entry.seen, entry.dropped) for entry in entries}
    assert known == {"up": (0, None), "down": (7, 9), "level": (7, 9)}
    assert Plan.from_json(second.to_json()) == second


def test_claims_of_another_study_that_shares_some_runs_are_its_own() -> None:
    """`reference` and `recommended` share the base models: neither has dropped the other's claims."""
    reference = msgspec.structs.replace(
        planned("up"), name="reference", runs=[(f"r{i}", "") for i in range(10)]
    )
    recommended = msgspec.structs.replace(planned("down"), name="recommended", runs=[("r0", ""), ("r1", "")])
    recommended = msgspec.structs.replace(recommended, runs=[*recommended.runs, ("a", ""), ("b", "")])
    (own,) = declared(recommended, [Earlier(reference, 1)], 2)
    assert (own.claim["expect"], own.seen, own.dropped) == ("down", 2, None)
    same = msgspec.structs.replace(recommended, claims=reference.claims)
    (known,) = declared(same, [Earlier(reference, 1)], 2)
    assert known.seen == 0, "that study had declared it in time"
    renamed = msgspec.structs.replace(recommended, name="other", runs=reference.runs[:9])
    assert {
        entry.claim["expect"]: entry.dropped for entry in declared(renamed, [Earlier(reference, 1)], 9)
    } == {
        "up": 9,
        "down": None,
    }


def test_what_an_older_lab_planned_is_taken_as_declared_in_time() -> None:
    (entry,) = declared(planned("up"), [Earlier(planned("up"), 5)], 3)
    assert (entry.at, entry.seen, entry.dropped) == (5, 0, None)


@pytest.mark.parametrize("key", ["text", "expect", "metric", "level"])
def test_whatever_is_changed_makes_another_claim(key: str) -> None:
    before = Plan("p", claims=[{"id": "C", "text": "a", "expect": "b", "metric": "c", "level": 0.05}])
    after = Plan("p", claims=[{**before.claims[0], key: "other"}])
    assert len(declared(after, [Earlier(before, 1)], 1)) == 2
    renamed = Plan("p", claims=[{**before.claims[0], "id": "D"}])
    assert len(declared(renamed, [Earlier(before, 1)], 1)) == 1


def over(*layers: str, claim: dict[str, Any] | None = None, **settings: Any) -> Plan:
    """A study of a claim along the depth, with runs of every depth."""
    axes: dict[str, Any] = {"one_at_a_time": {"model.layers": [*layers]}, "base": {"model.layers": "2"}}
    runs = [(f"{depth}{seed}", f"vae L{depth} s{seed}") for depth in layers for seed in range(8)]
    replicate = {"seed": [str(seed) for seed in range(8)]}
    said = claim or {**CLAIM, "expect": "increasing"}
    return Plan("depth", replicate=replicate, claims=[said], runs=runs, **(axes | settings))


def since(plan: Plan, *before: Plan, seen: int = 24) -> Plan:
    """The plan with what it and earlier multiruns declared."""
    earlier = [Earlier(multirun, place) for place, multirun in enumerate(before)]
    return msgspec.structs.replace(plan, declared=declared(plan, earlier, seen))


def test_a_claim_of_fewer_values_of_its_axis_is_another_one() -> None:
    """The loss falls at four layers: without them the same words would be true of what was seen."""
    runs = [
        StoredRun(
            f"{layers}{seed}", "1", f"vae L{layers} s{seed}", "FINISHED",
            {"model.layers": layers, "seed": str(seed)},
            {"test/loss": {"2": 10.0, "3": 20.0, "4": 15.0}[layers] + 0.1 * seed}, {}, 0,
        )
        for layers in "234"
        for seed in range(8)
    ]  # fmt: skip
    first = since(over("2", "3", "4"), seen=0)
    (refuted,) = judge_study(Study(runs[0], first, runs))
    assert (refuted.verdict, refuted.standing) == ("refuted", "")
    narrow = since(over("2", "3"), first)
    late, before = judge_study(Study(runs[0], narrow, runs[:16]))
    assert (late.verdict, late.standing) == ("supported", "declared after 24 runs had been seen")
    assert (before.claim.id, before.dropped) == ("W1 before", True)
    assert (before.verdict, before.n) == ("undecided", 0), "it is about four layers, too"
    again, former = judge_study(Study(runs[0], since(over("2", "3", "4"), first, narrow), runs))
    assert (again.verdict, again.standing, former.verdict) == ("refuted", "", "supported")


@pytest.mark.parametrize(
    ("change", "claims"),
    [
        ({}, 1),
        ({"one_at_a_time": {"model.layers": ["2.0", "3", "4"]}}, 1),
        ({"one_at_a_time": {"model.layers": ["2", "3", "4", "5"]}}, 2),
        ({"cross": {"optimizer.lr": ["1", "2"]}}, 2),
        ({"cross": {"optimizer.lr": ["1"]}}, 1),
        ({"one_at_a_time": {"model.layers": ["2"]}}, 1),
    ],
)
def test_other_values_of_what_a_claim_compares_make_another_claim(
    change: dict[str, Any], claims: int
) -> None:
    """Of fewer than two values of its axis it says nothing: a pilot of one depth is no trial of it."""
    first = since(over("2", "3", "4"), seen=0)
    assert len(since(over("2", "3", "4", **change), first).declared) == claims


def test_another_base_or_another_point_makes_another_claim() -> None:
    axes = {"model.layers": ["2", "3"], "model.latent_size": ["10", "15"]}
    base = {"model.layers": "2", "model.latent_size": "15"}
    first = since(over("2", "3", one_at_a_time=axes, base=base), seen=0)
    moved = over("2", "3", one_at_a_time=axes, base={**base, "model.latent_size": "10"})
    assert len(since(moved, first).declared) == 2
    assert len(since(over("2", "3"), first).declared) == 1, "the other axis is gone, and what is left stays"
    wide = {**CLAIM, "expect": "better", "of": {"point": "wide"}, "than": {"point": "base"}}
    del wide["along"]
    points = [
        over("2", "3", claim=wide, also={"wide": {"model.hidden_size": size}}) for size in ("64", "128")
    ]
    assert len(since(points[1], since(points[0], seen=0)).declared) == 2


def test_declarations_that_do_not_say_their_values_have_those_of_their_plan() -> None:
    """As an earlier version of the lab kept them."""
    old = over("2", "3", "4")
    without_values = [msgspec.structs.replace(entry, values=None) for entry in since(old, seen=0).declared]
    before = msgspec.structs.replace(old, declared=without_values)
    (entry,) = since(over("2", "3", "4"), before).declared
    assert (entry.seen, entry.dropped) == (0, None)
    assert [entry.dropped for entry in since(over("2", "3"), before).declared] == [24, None]


def test_a_parent_that_is_gone_hides_no_other(lab: Lab, folder: Path) -> None:
    declare(folder, "increasing")
    assert lab(*LINE, "seeds=1")[0] == 0
    store = Store.open()
    store.client.delete_run(load_study(store, "width").parent.run_id)
    declare(folder, "decreasing")
    assert lab(*LINE, "seeds=1", "study.name=clean")[0] == 0
    assert tracking.STUDY in store.records()[0].tags
    late, first = judge_study(load_study(store, "clean"))
    assert (late.standing, first.dropped) == ("declared after 2 runs had been seen", True)
