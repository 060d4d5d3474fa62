from pathlib import Path

import pytest

from tests.misuse.conftest import Lab, left_behind


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (["data", "../../etc/passwd"], "../../etc/passwd: no such data set"),
        (["data", "a\nb"], "a\\nb: no such data set"),
        (["data", "idx", "--root", "~nobody-of-that-name/x"], "data.root=~nobody-of-that-name/x"),
        (["data", "idx", "--root", "x" * 5000], "data.root=xxx"),
        (
            ["data", "digits", "--svd", "--figure", "x.exe"],
            "--figure x.exe: must end in one of .png, .pdf, .svg.",
        ),
        (["data", "digits", "--svd", "--figure", "no/such/x.png"], "No such file or directory"),
        (["compare", "--uri", "nonsense"], "tracking.uri=nonsense: not an address"),
        (["compare", "x", "--contrast", "nonsense"], "nonsense"),
        (["data", "digits", "--latent-size", "5"], "--latent-size 5: is of the spectrum; add --svd."),
        (
            ["data", "--root", "x"],
            "--root x: is the folder of a data set; name it, as in: vae-lab data mnist",
        ),
        (["compare", "--format", "csv"], "--format csv: is of a study's tables; name the study, as in: "),
        (["compare", "--metric", "nonsense"], "--metric nonsense: is of a study's tables"),
        (["compare", "--by", "nokey"], "--by nokey: is of a study's tables"),
        (["compare", "--contrast", "seed=0,1"], "--contrast seed=0,1: is of a study's tables"),
        (["compare", "--importance"], "--importance: is of a study's tables"),
        (["status", "--all"], "--all: lists the runs of a study; name it, as in: vae-lab status reference"),
        (["server", "--without-passwords", "--new-password"], "--new-password: is of users, and --without"),
        (["server", "--without-passwords", "--permission", "READ"], "--permission READ: is of users"),
        (["report", "x"], "no runs are kept here yet"),
        (["evaluate", "x", "model.layers=3"], "a finished run keeps its settings"),
        (
            ["evaluate", "x", "train.threads=many"],
            "train.threads=many: must be null or a whole number from 1 to 1024.",
        ),
        (["evaluate", "x", "train.threads=1000000"], "train.threads=1000000: must be null or a whole number"),
        (["evaluate", "x", "~evaluation.samples"], "evaluation.samples: must be given"),
        (["evaluate", "x", "evaluation.samples=[" * 3], "must be 0 or a whole number from 100 to"),
        (
            ["evaluate", "x", "evaluation.samples=1000000000000"],
            "evaluation.samples=1000000000000: must be 0 or",
        ),
        (["evaluate", "x", "evaluation=nothing"], "evaluation=nothing: no such option"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_mistake_in_any_command_is_one_message(
    command: Lab, folder: Path, line: list[str], named: str
) -> None:
    code, _, err = command(*line)
    assert code in (1, 2)
    assert err.startswith("vae-lab: ")
    assert named in err
    assert len(err.splitlines()) == 1
    assert left_behind(folder) == []
