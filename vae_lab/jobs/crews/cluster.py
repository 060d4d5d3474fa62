"""The Ray that a command uses, from its start or the first connection to the end of the process."""

from __future__ import annotations

import atexit
import os
import socket

from vae_lab import interruption
from vae_lab.errors import LabError, quoted
from vae_lab.jobs.crews.local_ray import SETTINGS, LocalRay
from vae_lab.jobs.crews.ray_member import RayMember

ANSWER_SECONDS = 10.0  # in which a running Ray takes a connection


class Cluster:
    """The Ray that a command uses: one of its own on this machine, or one that runs already.

    Args:
        address: Of a running one, `auto` for the one that Ray finds; None for one of the command's own.
        cpus: How many one of its own lends at least.
    """

    def __init__(self, address: str | None, cpus: float) -> None:
        self.address, self.cpus = address, own_cpus(cpus)
        self.own = LocalRay.start(self.cpus) if address is None else None
        self.members: list[RayMember] = []  # that were ever there
        self._is_connected = False

    def can_lend(self, address: str | None, cpus: float) -> bool:
        """Returns whether it is the one of an address, and there; one of the command's own with the CPUs."""
        if self.own is None:
            return address == self.address
        return address is None and cpus <= self.cpus and self.own.process.poll() is None

    def connect(self) -> None:
        """Makes this process a driver of it; a second time does nothing.

        Raises:
            LabError: It cannot be reached, or does not let this process in.
        """
        if self._is_connected:
            return
        if self.own is not None:
            os.environ.update(SETTINGS, RAY_AUTH_TOKEN=self.own.token)
        import ray

        if self.address is not None:
            _check_answers(self.address)
        address = self.own.address() if self.own is not None else self.address
        with interruption.undisturbed():
            try:
                ray.init(address=address, log_to_driver=False, configure_logging=False)
            except Exception as error:  # ConnectionError, RuntimeError, AuthenticationError and others
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                raise LabError(
                    f"hydra.launcher.address={quoted(self.address)}: {reason} A cluster's token is read from "
                    "RAY_AUTH_TOKEN, the file in RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token."
                ) from error
        self._is_connected = True

    def close(self) -> None:
        """Leaves it; one of the command's own ends."""
        if self._is_connected:
            import ray

            ray.shutdown()
            self._is_connected = False
        if self.own is not None:
            self.own.stop()


def own_cpus(cpus: float) -> float:
    """Returns how many CPUs a Ray of the command's own lends: this machine's, and `cpus` at least."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores, cpus)


_clusters: list[Cluster] = []  # none or one: a process uses one Ray at a time


def cluster_at(address: str | None, cpus: float) -> Cluster:
    """Returns the Ray that all multiruns of this process use, with the workers that it has already.

    Args:
        address: See `Cluster`; another than before takes the place of the one before.
        cpus: How many one of the command's own lends at least.
    """
    if _clusters and not _clusters[0].can_lend(address, cpus):
        before = _clusters.pop()
        atexit.unregister(before.close)
        before.close()
    if not _clusters:
        _clusters.append(Cluster(address, cpus))
        atexit.register(_clusters[0].close)
    return _clusters[0]


def _check_answers(address: str) -> None:
    """Raises a LabError for an address that takes no connection: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():  # such as `auto`
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        reason = error.strerror or error
        raise LabError(
            f"hydra.launcher.address={quoted(address)}: nobody answers there: {reason}."
        ) from error
