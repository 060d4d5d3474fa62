import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from vae_lab import files

REPOSITORY = Path(__file__).parent.parent


def test_the_yaml_folders_are_found() -> None:
    assert (files.CONF / "config.yaml").is_file()
    assert (files.CONFIG_ROOT / "sweeps" / "depth.yaml").is_file()
    assert (files.CONFIG_ROOT / "experiments" / "reference.yaml").is_file()


def test_the_cache_is_the_platforms_and_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_folder("data/mnist").parts[-3:] == ("vae_lab", "data", "mnist")


def run(python: Path, folder: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """`vae-lab ARGUMENTS` of an environment, in a folder."""
    program = "import sys; sys.argv[0] = 'vae-lab'; from vae_lab.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [str(python), "-c", program, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


TEMPLATES = (
    *("page.html.jinja", "page.md.jinja", "page.css"),
    *("table.html.jinja", "table.css", "view.json.jinja"),
)
CHECKS = (
    (("train", "--cfg", "job", "sweeps=ablations"), "model.latent_size"),
    (("train", "--cfg", "job", "experiments=reference"), "name: reference"),
    (("train", "sweeps=nosuch"), "Valid: ablations, depth, latent_size, none, seeds"),
    (("train", "--help"), "sweeps"),
)


def test_an_editable_install_finds_its_configs_from_another_folder(tmp_path: Path) -> None:
    for arguments, expected in CHECKS:
        process = run(Path(sys.executable), tmp_path, *arguments)
        assert expected in process.stdout + process.stderr


def test_an_installed_wheel_finds_its_configs_from_another_folder(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(REPOSITORY),
    ]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "vae_lab/conf/config.yaml" in names
    assert "vae_lab/experiments/reference.yaml" in names
    assert "hydra_plugins/vae_lab/sweeper.py" in names
    assert {f"vae_lab/report/templates/{name}" for name in TEMPLATES} <= set(names)
    assert not [name for name in names if name.startswith(("conf/", "tests/", "sweeps/", "docs/"))]

    # An environment that sees the packages of this one, but not its editable install of the lab.
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    site = subprocess.run(
        [str(python), "-c", "import site; print(site.getsitepackages()[0])"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.strip()  # fmt: skip
    zipfile.ZipFile(wheel).extractall(site)
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    located = subprocess.run(
        [str(python), "-c", "import vae_lab; print(vae_lab.__file__)"],
        env={**os.environ, "PYTHONPATH": packages}, cwd=tmp_path, capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    assert located.stdout.startswith(site)
    for arguments, expected in CHECKS:
        process = run(python, tmp_path, *arguments, path=packages)
        assert expected in process.stdout + process.stderr
