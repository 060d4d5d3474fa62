"""The plan of a multirun, `study.json` of its parent run: what varies, its claims, the runs that it wants."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from vae_lab.config.references import Reference
from vae_lab.errors import UserError, quoted
from vae_lab.metrics import DATA, Metric

PLAN_FILE = "study.json"
Form = TypeVar("Form", bound=Struct)
Words = Annotated[str, Meta(max_length=100_000)]  # more is not meant to be read


class Oracle(Struct, frozen=True, forbid_unknown_fields=True):
    """What the recipes for the latent size are held against; see `latent_size`."""

    metric: str
    shares: list[Annotated[float, Meta(gt=0, lt=1)]]  # of the data's variance
    points: list[str]  # of `also`: runs whose latent space is larger than needed


class Declared(Struct, frozen=True, forbid_unknown_fields=True):
    """A claim as a multirun first declared it, whether the study still has it or not."""

    digest: str
    at: int  # milliseconds since 1970
    seen: int  # runs of the study that had finished by then, also of earlier multiruns
    claim: dict[str, Any]
    dropped: int | None = None  # how many had finished when the claim was dropped or changed; 0: of no study
    values: dict[str, list[str]] | None = None  # see `claims.scope.declared_values`; None: not said by then


class Defined(Struct, frozen=True, forbid_unknown_fields=True):
    """What a metric of the user's own says of itself, for whoever reads its numbers without its code."""

    key: Annotated[str, Meta(pattern=r"^own/\w{1,100}$")]
    heading: Annotated[str, Meta(max_length=100)]
    unit: Annotated[str, Meta(max_length=40)] = ""
    digits: Annotated[int, Meta(ge=0, le=9)] = 3
    better: Literal["", "lower", "higher"] = ""


def digest(claim: Mapping[str, Any]) -> str:
    """Returns twelve hex digits of all that a claim says; its id is a name only.

    Examples:
        >>> digest({"id": "C1", "expect": "increasing"}) == digest({"id": "C2", "expect": "increasing"})
        True
    """
    said = {key: value for key, value in claim.items() if key != "id"}
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:12]


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """What a multirun set out to do; kept on its parent run as `study.json`.

    Examples:
        >>> plan = Plan("depth", cross={"model.layers": ["2", "3"]}, replicate={"seed": ["0", "1"]})
        >>> Plan.from_json(plan.to_json()) == plan
        True
    """

    name: Words
    question: Words | None = None
    cross: dict[str, list[str]] = {}
    one_at_a_time: dict[str, list[str]] = {}
    replicate: dict[str, list[str]] = {}
    also: dict[str, dict[str, str]] = {}  # further points: name to parameters
    base: dict[str, str] = {}  # of each key of one_at_a_time and also, uncrossed
    reference: Reference | None = None
    claims: list[dict[str, Any]] = []
    declared: list[Declared] = []  # these and those that were dropped: when, and what was known by then
    sequential: bool = False  # whether seeds were added while looking at the verdicts
    oracle: Oracle | None = None
    runs: list[tuple[str, str]] = []  # fingerprint and name of each
    metrics: list[Defined] = []  # of the user's own
    search: bool = False  # whether its runs are trials of a search, of which `search.json` tells

    @property
    def fingerprints(self) -> frozenset[str]:
        """Those of the runs that are wanted."""
        return frozenset(fingerprint for fingerprint, _ in self.runs)

    @property
    def pairs_by(self) -> str:
        """The parameter by whose values runs are paired: the seed, if that is among what repeats them."""
        return "seed" if "seed" in self.replicate else next(iter(self.replicate), "seed")

    @property
    def further_repeats(self) -> dict[str, list[str]]:
        """What repeats the runs besides `pairs_by`, with its values: a replicate has the runs of them all.

        >>> plan = Plan("p", replicate={"data.seed": ["0", "1"], "seed": ["0", "1", "2"]})
        >>> plan.pairs_by, plan.further_repeats
        ('seed', {'data.seed': ['0', '1']})
        """
        return {key: values for key, values in self.replicate.items() if key != self.pairs_by}

    @property
    def former(self) -> list[Declared]:
        """The claims that it dropped or changed after runs had been seen; they are judged, too."""
        return [entry for entry in self.declared if entry.dropped]

    @property
    def own_metrics(self) -> list[Metric]:
        """The metrics of the user's own."""
        return [Metric(own.key, own.heading, own.unit, own.digits, own.better, DATA) for own in self.metrics]

    def with_metrics(self, metrics: Iterable[Metric]) -> Plan:
        """Returns the plan with metrics of the user's own; of two of one key the new one counts.

        >>> Plan("depth").with_metrics([Metric("own/gap", "gap")]).own_metrics[0].heading
        'gap'
        """
        defined = {own.key: own for own in self.metrics}
        defined |= {m.key: Defined(m.key, m.heading, m.unit, m.digits, m.better) for m in metrics}  # type: ignore[arg-type]
        return msgspec.structs.replace(self, metrics=list(defined.values()))

    def to_json(self) -> str:
        """Returns the plan as text for `from_json`."""
        return json.dumps(msgspec.to_builtins(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Returns the plan in a text of `to_json`.

        Raises:
            ValueError: the text is damaged, or of another form; the message names the key and the rule.
        """
        return read_json(text, cls)


def read_json(text: str, form: type[Form]) -> Form:
    """Returns what a text holds, if it is JSON of this form.

    Raises:
        ValueError: it is not; the message is one line.
    """
    try:
        return msgspec.convert(json.loads(text), form)
    except (ValueError, msgspec.ValidationError, RecursionError, UserError) as error:
        raise ValueError(quoted(str(error), 300)) from error
