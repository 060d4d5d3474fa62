from vae_lab.studies.plan import Plan
from vae_lab.studies.status import RunState, count_states, run_states
from vae_lab.studies.study import Study
from vae_lab.tracking import ERROR, FINGERPRINT, HEARTBEAT, StoredRun


def run(key: str, status: str, *, epoch: int = 0, error: str = "") -> StoredRun:
    tags = {FINGERPRINT: key, HEARTBEAT: f'{{"epoch": {epoch}, "at": 5000}}'}
    return StoredRun(
        f"id {key} {status}", "1", f"run {key}", status, {"train.epochs": "10"}, {}, tags | {ERROR: error}, 1
    )


def test_each_planned_run_is_in_one_state_and_the_furthest_counts() -> None:
    plan = Plan(
        "study", runs=[("a", "run a"), ("b", "run b"), ("c", "run c"), ("d", "run d"), ("e", "run e")]
    )
    runs = [
        run("a", "KILLED"),
        run("a", "FINISHED"),
        run("b", "RUNNING", epoch=3),
        run("c", "KILLED", epoch=4, error="interrupted"),
        run("d", "FAILED", error="diverged"),
        run("x", "FINISHED"),
    ]
    parent = StoredRun("parent", "1", "study", "RUNNING", {}, {}, {}, 1)
    states = run_states(Study(parent, plan, runs))
    assert [(state.name, state.state, state.done) for state in states] == [
        ("run a", "finished", 10),
        ("run b", "running", 3),
        ("run c", "interrupted", 4),
        ("run d", "failed", 0),
        ("run e", "missing", 0),
        ("run x", "finished", 10),
    ]
    assert states[2].reason == "interrupted"
    assert states[1].last_seen == 5000
    assert count_states(states) == {"finished": 2, "running": 1, "interrupted": 1, "failed": 1, "missing": 1}


def test_a_plan_of_an_older_version_names_no_runs_and_none_is_missing() -> None:
    parent = StoredRun("parent", "1", "study", "FINISHED", {}, {}, {}, 1)
    states = run_states(Study(parent, Plan("study"), [run("a", "FINISHED")]))
    assert states == [RunState("run a", "finished", 10, 10, 5000, "")]
