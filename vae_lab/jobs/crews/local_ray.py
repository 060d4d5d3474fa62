"""A Ray on this machine for one command: a process of its own keeps it, and ends it when the command ends."""

from __future__ import annotations

import functools
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import NamedTuple

from vae_lab.errors import LabError, without_credentials

# Names of variables that give somebody in; PWD and OLDPWD are folders, and Ray's key is the path of a file.
SECRET = re.compile(
    r"""
    ^MLFLOW_ | ^PG | SECRET | CREDENTIAL | TOKEN(?!IZER)
    | PASSW | PASSPHRASE | PASSCODE | PASS(?:_|$) | (?<!^)(?<!^OLD)PWD(?:_|$)
    | (?:^|_|API|ACCESS|ACCOUNT|PRIVATE)(?<!^RAY_TLS_SERVER_)KEYS?(?:_|$)
    | (?:^|_)(?:AUTH|CREDS?|DSN|JWT|PAT|SAS)(?:_|$)
    | CONN(?:ECTION)?_?STR
    """,
    re.IGNORECASE | re.VERBOSE,
)
SECRET_VALUE = re.compile(r"(?i)(?:^|[;,\s])(?:password|passwd|pwd|(?:account|sharedaccess)key)\s*=")
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # what binds a Ray to 127.0.0.1, on every system
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a worker hides GPUs that are not its own itself
    "RAY_worker_niceness": "0",  # Ray's own 15 starves workers on a machine that others use, too
    # How long Ray's agents outlive a Ray that was killed: they wait for it to come back.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
}
SOCKETS = "/tmp"  # a socket's path has at most 107 characters, of which Ray takes 62


class LocalRay(NamedTuple):
    """A Ray that was started for this command."""

    token: str
    process: subprocess.Popen[str]

    @classmethod
    def start(cls, cpus: float) -> LocalRay:
        """Begins to start a Ray on 127.0.0.1 that nobody without its token can use.

        Args:
            cpus: How many it may lend to workers; GPUs it lends all that it finds.
        """
        token = _token()
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(cpus)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=without_secrets(os.environ) | SETTINGS | {"RAY_AUTH_TOKEN": token},
            start_new_session=True,  # Ctrl-C is for the command, which lets epochs end first
        )
        return cls(token, process)

    def address(self) -> str:
        """Returns its address, once it has started.

        Raises:
            LabError: It did not start.
        """
        assert self.process.stdout is not None
        address = self.process.stdout.readline().strip()
        if not address:
            _, said = self.process.communicate()
            reason = next(reversed(said.split("\n")[:-1]), "it ended without a word")
            raise LabError(f"hydra/launcher=ray: Ray did not start on this machine: {reason}")
        return address

    def stop(self) -> None:
        """Ends it and all its processes."""
        self.process.communicate()  # closes its input


@functools.cache
def _token() -> str:
    """Returns the token of all that are started for this process, where Ray reads it once."""
    return secrets.token_hex(32)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns variables for workers: none of MLflow's or PostgreSQL's, none that gives somebody in.

    What does so is known by the name, by an address with a password, or by a `password=` in the value.

    Examples:
        >>> without_secrets({"HOME": "/root", "MLFLOW_TRACKING_PASSWORD": "x", "DB": "postgresql://a:b@c/d"})
        {'HOME': '/root'}
    """
    return {
        name: value
        for name, value in environment.items()
        if not (SECRET.search(name) or SECRET_VALUE.search(value)) and without_credentials(value) == value
    }


def forget_secrets(environment: MutableMapping[str, str]) -> None:
    """Removes from a worker's variables what `without_secrets` leaves out, but what is Ray's own.

    A Ray that somebody else started hands all of its variables on to its workers. Ray itself reads its token
    and its settings as long as it runs.

    Examples:
        >>> variables = {"HOME": "/root", "MLFLOW_TRACKING_PASSWORD": "x", "RAY_AUTH_TOKEN": "y"}
        >>> forget_secrets(variables)
        >>> variables
        {'HOME': '/root', 'RAY_AUTH_TOKEN': 'y'}
    """
    for name in environment.keys() - without_secrets(environment).keys():
        if not name.startswith("RAY_"):
            del environment[name]


def main() -> None:
    """Starts Ray, says its address, and ends it with the input: when the command has ended or died."""
    import ray

    folder = Path(tempfile.mkdtemp(prefix="vae-lab-", dir=SOCKETS))
    try:
        context = ray.init(
            "local",  # whatever RAY_ADDRESS says
            num_cpus=float(sys.argv[1]),
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=str(folder),
        )
        sys.stdout.write(f"{context.address_info['address']}\n")  # to the process that started this one
        sys.stdout.flush()
        sys.stdin.read()
        ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
