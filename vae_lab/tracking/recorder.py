"""Writing the record of one run; what is written survives the process and a store that is away."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.tracking.multimedia import compress_image_size, convert_to_pil_image

from vae_lab.errors import LabError
from vae_lab.files import checksum as file_checksum
from vae_lab.tracking.courier import Courier, unwritable
from vae_lab.tracking.journal import checksum, sync_files
from vae_lab.tracking.processes import this_process
from vae_lab.tracking.records import ERROR, PROCESS, checksum_tag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vae_lab.data import Dataset
    from vae_lab.tracking.store import Store

LITTLE_SPACE = 1 << 20  # bytes; with fewer left, a failed write is put down to a full disk


class Recorder:
    """Writes one run's record.

    A call returns when the record is safe: in a database, or in the run's journal on the way to a server.

    Args:
        store: where the run is.
        run_id: the run.
        experiment_id: its experiment.
        background: leave records for a server to a thread; else each call waits until the server has it.
    """

    def __init__(self, store: Store, run_id: str, experiment_id: str, *, background: bool = False) -> None:
        self.store, self.run_id, self.experiment_id = store, run_id, experiment_id
        self._background = background
        self._last = 0  # milliseconds since 1970 of the last record; the clock may be set back
        self._pictures = False

    @property
    def _courier(self) -> Courier:
        return self.store.courier

    def log(
        self,
        metrics: Mapping[str, float],
        step: int,
        curve: tuple[str, Sequence[float], int] | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        when: int | None = None,
    ) -> None:
        """Metrics of one step and, in the same record, a curve (name, values, step of the first value).

        Args:
            metrics: values by name.
            step: the step of all of them.
            curve: more values, one a step.
            tags: to be set with them.
            when: milliseconds since 1970, else now; what is logged again with the same time is kept once.
        """
        values = {key: float(value) for key, value in metrics.items()}
        line = None if curve is None else [curve[0], [float(value) for value in curve[1]], curve[2]]
        self._write({"metrics": values, "step": step, "curve": line, "tags": dict(tags or {})}, when)

    def image(self, key: str, picture: NDArray[Any], step: int, *, when: int | None = None) -> None:
        """A picture that the UI shows with a slider over steps; the same `when` replaces it.

        The names are those that MLflow's own `log_image` gives, by which the UI finds key, step and time.
        """
        at = self._at(when)
        # A name of its own for each picture, and the same one if it is logged again.
        token = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.run_id} {key} {step} {at}")
        name = f"{key.replace('/', '~')}+step+{step}+timestamp+{at}+{token}"
        drawn = convert_to_pil_image(picture)
        with self._files(at) as folder:
            (folder / "images").mkdir()
            drawn.save(folder / "images" / f"{name}.png")
            compress_image_size(drawn).save(folder / "images" / f"{name}+compressed.webp")
        if not self._pictures:
            self._write({"tags": {"mlflow.loggedImages": "True"}}, at)
            self._pictures = True

    def now(self) -> int:
        """The time of a record that is about to be written, in milliseconds since 1970."""
        return self._at(None)

    def tag(self, tags: Mapping[str, str | None]) -> None:
        """Sets tags, replacing those that are there; None removes one."""
        if tags:
            self._write({"tags": dict(tags)})

    def params(self, params: Mapping[str, str]) -> None:
        """Sets parameters, which cannot be changed later."""
        if params:
            self._write({"params": {key: value[:6000] for key, value in params.items()}})  # MLflow's limit

    def dataset(self, data: Dataset) -> None:
        """Links the data set as the run's input."""
        profile = {"train": len(data.train), "test": len(data.test), "classes": data.classes}
        described = {
            "name": data.name,
            "digest": data.checksum,
            "source_type": "local",
            "source": data.origin,
            "profile": json.dumps(profile),
        }
        self._write({"dataset": described})

    @contextmanager
    def artifacts(self, *, sealed: Sequence[str] = ()) -> Iterator[Path]:
        """A scratch folder whose files become the run's artifacts when the block ends.

        Of the `sealed` ones, which the lab reads back, a tag of the run keeps the checksum.
        """
        with self._files(self._at(None), durable=True, sealed=sealed) as folder:
            yield folder

    def resume(self) -> None:
        """Says that this process goes on with the run; what waits of it goes to the store first."""
        self._write({"tags": {PROCESS: this_process(), ERROR: None}})
        self._write({"status": "RUNNING"})

    def finish(self, status: str, *, when: int | None = None) -> None:
        """Closes the run as FINISHED, FAILED or KILLED; it ended at `when`, in milliseconds, or now."""
        self._write({"status": status}, when)
        self._courier.finish(self.run_id)

    @contextmanager
    def _files(self, at: int, *, durable: bool = False, sealed: Sequence[str] = ()) -> Iterator[Path]:
        journal = self._courier.journal(self.run_id)
        try:
            folder = journal.new_files()
        except OSError as error:
            raise unwritable(self.store.uri, error) from error
        try:
            yield folder
            if durable and self._courier.remote:
                sync_files(folder)
        except BaseException as error:
            free = shutil.disk_usage(folder).free
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, Exception) and free < LITTLE_SPACE:
                raise LabError(
                    f"{journal.folder}: the disk is full. Free some space, or choose another folder with "
                    "XDG_STATE_HOME."
                ) from error
            raise
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        sums = {file.relative_to(folder).as_posix(): checksum(file) for file in files}
        tags = {checksum_tag(path): file_checksum(folder / path) for path in sealed}
        self._write({"files": folder.name, "sums": sums, "tags": tags}, at)

    def _at(self, when: int | None) -> int:
        """The time of a record: `when`, else now, but never before the last one."""
        at = max(int(time.time() * 1000), self._last) if when is None else when
        self._last = max(self._last, at)
        return at

    def _write(self, entry: dict[str, Any], when: int | None = None) -> None:
        self._courier.submit(self.run_id, {"at": self._at(when), **entry})
        if not self._background:
            self._courier.finish(self.run_id)
