"""Writing the record of one run; what is written survives the process and a store that is away."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.tracking.multimedia import compress_image_size, convert_to_pil_image

from vae_lab.files import checksum
from vae_lab.tracking.courier import Courier
from vae_lab.tracking.processes import this_process
from vae_lab.tracking.records import ATTEMPT, ERROR, PROCESS, checksum_tag
from vae_lab.tracking.spool import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Recorder:
    """Writes one run's record.

    A call returns when the record is safe: in a database, or in the run's spool on the way to a server.
    `Store.start`, `Store.reopen` and `Store.recorder` make one::

        recorder = store.start("lab", "vae L3 Z15", kind=RUN, params={"model.layers": "3"})
        recorder.log({"test/loss": 103.2}, step=1)
        with recorder.artifacts() as folder:
            (folder / "note.txt").write_text("kept")
        recorder.finish("FINISHED")

    Args:
        courier: Brings the records to the store.
        run_id: The run.
        experiment_id: Its experiment.
        attempt: The run's tag ATTEMPT.
        wait: Whether each call waits until the store has the record, also where a thread delivers it.
    """

    def __init__(
        self, courier: Courier, run_id: str, experiment_id: str, *, attempt: str = "", wait: bool = False
    ) -> None:
        self.run_id, self.experiment_id = run_id, experiment_id
        self._courier, self._attempt = courier, attempt
        self._submit = partial(courier.submit, run_id, wait=wait)
        self._last = 0  # milliseconds since 1970 of the last record; the clock may be set back
        self._pictures = False

    def log(
        self,
        metrics: Mapping[str, float],
        step: int,
        curve: tuple[str, Mapping[int, float]] | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        when: int | None = None,
    ) -> None:
        """Records metrics of one step and, with them, a curve: its name and its values by their steps.

        Args:
            metrics: Values by name.
            step: The step of all of them.
            curve: More values, of other steps.
            tags: To be set with them.
            when: Milliseconds since 1970, else now; what is logged again with the same time is kept once.
        """
        points = [(name, float(value), step) for name, value in metrics.items()]
        if curve is not None:
            name, values = curve
            points += [(name, float(value), at) for at, value in values.items()]
        self._submit(self._record(when, metrics=points, tags=tags or {}))

    def image(self, key: str, picture: NDArray[Any], step: int, *, when: int | None = None) -> None:
        """Records a picture that the UI shows with a slider over steps; the same `when` replaces it.

        The names are those that MLflow's own `log_image` gives, by which the UI finds key, step and time.
        """
        at = self._at(when)
        # A name of its own for each picture, and the same one if it is logged again.
        token = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.run_id} {key} {step} {at}")
        name = f"{key.replace('/', '~')}+step+{step}+timestamp+{at}+{token}"
        image = convert_to_pil_image(picture)
        with self._courier.spool(self.run_id).scratch() as folder:
            (folder / "images").mkdir()
            image.save(folder / "images" / f"{name}.png")
            compress_image_size(image).save(folder / "images" / f"{name}+compressed.webp")
            self._submit(
                self._record(at, files=folder, tags={} if self._pictures else {"mlflow.loggedImages": "True"})
            )
        self._pictures = True

    def now(self) -> int:
        """Returns the time of a record that is about to be written, in milliseconds since 1970."""
        return self._at(None)

    def tag(self, tags: Mapping[str, str | None]) -> None:
        """Sets tags, replacing those that are there; None removes one."""
        if tags:
            self._submit(self._record(None, tags=tags))

    def params(self, params: Mapping[str, str]) -> None:
        """Sets parameters, which cannot be changed later."""
        if params:
            limited = {key: value[:6000] for key, value in params.items()}  # MLflow's limit
            self._submit(self._record(None, params=limited))

    def dataset(self, *, name: str, digest: str, source: str, profile: Mapping[str, int]) -> None:
        """Links a data set as the run's input.

        Args:
            name: What it is called.
            digest: Tells it from another one of that name.
            source: Where its files lie.
            profile: Its sizes, as the UI shows them.
        """
        described = {"name": name, "digest": digest, "source_type": "local", "source": source}
        self._submit(self._record(None, dataset={**described, "profile": json.dumps(dict(profile))}))

    @contextmanager
    def artifacts(self, *, sealed: Sequence[str] = ()) -> Iterator[Path]:
        """Yields a scratch folder whose files become the run's artifacts when the block ends.

        Of the `sealed` ones, which the lab reads back, a tag of the run keeps the checksum.
        """
        with self._courier.spool(self.run_id).scratch() as folder:
            yield folder
            tags = {checksum_tag(path): checksum(folder / path) for path in sealed}
            self._submit(self._record(None, files=folder, tags=tags))

    def resume(self) -> None:
        """Says that this process goes on with the run; what waits of it goes to the store first."""
        attempt = uuid.uuid4().hex
        tags = {PROCESS: this_process(), ATTEMPT: attempt, ERROR: None}
        self._submit(self._record(None, tags=tags, status="RUNNING"))
        self._attempt = attempt

    def finish(self, status: str, *, when: int | None = None) -> None:
        """Closes the run as FINISHED, FAILED or KILLED; it ended at `when`, in milliseconds, or now."""
        # One that has finished may have been given up meanwhile, by a machine that did not hear of it.
        tags = {ERROR: None} if status == "FINISHED" else {}
        self._submit(self._record(when, status=status, tags=tags))
        self._courier.finish(self.run_id)

    def _record(self, when: int | None, **content: Any) -> Record:
        return Record(self._at(when), **content, attempt=self._attempt)

    def _at(self, when: int | None) -> int:
        """Returns the time of a record: `when`, else now, but never before the last one."""
        at = max(int(time.time() * 1000), self._last) if when is None else when
        self._last = max(self._last, at)
        return at
