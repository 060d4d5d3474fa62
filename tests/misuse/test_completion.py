"""What the shell offers is inserted as it is and runs nothing: names of configs may be anybody's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = ("plain", "a b$(touch pwned)", "c*", "it's;`touch pwned`", "new\nline", "\x1b[2J")
ASK = """
source "$1/completion"
COMP_WORDS=(vae-lab train hydra.searchpath = "[file://$1]" experiments = '')
COMP_CWORD=7
_vae_lab_completion vae-lab
for offered in "${COMPREPLY[@]}"; do eval "printf '%s\\n' $offered"; done  # as the next return would
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_a_name_is_offered_as_a_word_of_the_shell(folder: Path) -> None:
    (folder / "experiments").mkdir()
    for name in NAMES:
        (folder / "experiments" / f"{name}.yaml").write_text("")
    command = folder / "bin" / "vae-lab"
    command.parent.mkdir()
    main = "'from vae_lab.cli import main; main()'"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c {main} "$@"\n')
    command.chmod(0o700)
    environment = {"PATH": f"{command.parent}:/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}

    def run(*words: str) -> str:
        ended = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout

    (folder / "completion").write_text(run("vae-lab", "completion", "bash"))
    offered = run("bash", "--norc", "-c", ASK, "bash", str(folder)).splitlines()
    assert {name for name in NAMES if name.isprintable()} < {*offered}
    assert not {*offered} & {"new", "line", "a", "completion"}
    assert not (folder / "pwned").exists()
