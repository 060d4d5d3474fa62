"""Training gives the numbers that are stored in curves.json: no change of the code may move one of them.

The file says which commit made them on what machine. Another build of torch or another processor has other
kernels, which round differently; there the curves agree up to rounding.
"""

import json
from pathlib import Path

import pytest
import torch

from vae_lab import machine

STORED = json.loads(Path(__file__).with_name("curves.json").read_text())
MACHINE = {
    "torch": torch.__version__,
    "capability": torch.backends.cpu.get_cpu_capability(),
    "processor": machine.processor(),
}
Curves = dict[str, dict[str, list[float]]]  # by model and seed, then by metric


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> Curves:
    """The curves of the stored runs, trained now by `vae-lab train`."""
    from vae_lab.cli import train
    from vae_lab.tracking import Store

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("curves"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for model, seed in map(str.split, STORED["curves"]):
            assert train.run_hydra([*STORED["command"], f"model={model}", f"seed={seed}"]) == 0
        store = Store.open()
        runs = {f"{run.params['model']} {run.params['seed']}": run.run_id for run in store.records()}
        trained = {
            name: {metric: store.history(runs[name], metric) for metric in metrics}
            for name, metrics in STORED["curves"].items()
        }
    torch.set_num_threads(threads)  # the runs set one
    return trained


@pytest.mark.skipif(
    STORED["machine"] != MACHINE,
    reason=f"curves are held up to rounding alone: stored on {STORED['machine']}, trained on {MACHINE}",
)
def test_curves_are_the_stored_ones_to_the_last_bit(curves: Curves) -> None:
    assert curves == STORED["curves"]


@pytest.mark.parametrize("name", STORED["curves"])
def test_curves_are_the_stored_ones_up_to_rounding(curves: Curves, name: str) -> None:
    for metric, values in STORED["curves"][name].items():
        assert curves[name][metric] == pytest.approx(values, rel=1e-5), metric
