"""Which runs a claim compares, by their parameters alone: of planned runs as of finished ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from vae_lab.studies.claims.declared import Claim
from vae_lab.studies.plan import Plan
from vae_lab.studies.study import POINT, params_with_point
from vae_lab.studies.values import canonical


class Scope(NamedTuple):
    """The runs that one group of a claim compares, and what is averaged over among them."""

    values: dict[str, frozenset[str]]  # key to the values, as `canonical` writes them, that such a run has
    crossed: list[str]  # keys that the claim does not name: compared where they are equal, then averaged

    def has(self, params: Mapping[str, object]) -> bool:
        """Whether a run with these parameters is compared."""
        return all(canonical(params.get(key, "")) in values for key, values in self.values.items())


def scope(
    claim: Claim,
    group: Mapping[str, str],
    keys: Collection[object],
    *,
    replicate: str = "seed",
    axes: Mapping[str, Sequence[str]] | None = None,
    base: Mapping[str, str] | None = None,
) -> Scope:
    """Returns which runs a claim compares for one of its groups.

    Args:
        claim: which contrast of which metric.
        group: `claim.of`, `claim.than`, or nothing where a claim has no groups.
        keys: the parameters that the runs have.
        replicate: the parameter by which runs are paired.
        axes: every varied key with its planned values, those that repeat the runs of one replicate too.
        base: where keys stay that a claim does not name, in a study that varies one key at a time.

    Examples:
        >>> claim = Claim("C1", "Depth raises the loss.", "test/loss", "increasing", along="model.layers")
        >>> params = {"model.layers": "4", "model.latent_size": "15", "seed": "0"}
        >>> depth = scope(claim, {}, params, base={"model.layers": "3", "model.latent_size": "15"})
        >>> depth.has(params), depth.has({**params, "model.latent_size": "30"})
        (True, False)
    """
    axes, base = axes or {}, base or {}
    named = {*claim.of, *claim.than, *claim.within, claim.along, replicate}
    # A named point says where all the keys stand that could leave the base.
    stays = {} if POINT in named else {key: base[key] for key in base if key not in named and key in keys}
    wanted = {**stays, **claim.within, **group}
    values = {key: frozenset([canonical(value)]) for key, value in wanted.items()}
    if axes.get(claim.along):
        values[claim.along] = frozenset(map(canonical, axes[claim.along]))
    crossed = [key for key in axes if key not in named and key not in stays and key in keys]
    if POINT in named:  # which can set other values than those of an axis
        return Scope(values, [key for key in crossed if key not in base])
    return Scope({**values, **{key: frozenset(map(canonical, axes[key])) for key in crossed}}, crossed)


def groups(claim: Claim) -> list[Mapping[str, str]]:
    """Returns the groups that a claim compares, one without a condition where it names none."""
    return [claim.of, claim.than] if claim.of else [{}]


def named_points(claim: Claim) -> list[str]:
    """Returns the points of `also`, and the base, that a claim names."""
    return [group[POINT] for group in (claim.of, claim.than, claim.within) if POINT in group]


def compared(claims: Sequence[Claim], params: Sequence[Mapping[str, str]], plan: Plan) -> list[bool]:
    """Returns for each run of a multirun whether one of these claims compares it.

    Args:
        claims: of the plan, such as those that are not settled yet.
        params: of each run, whether it is only planned or has finished.
        plan: what varies, and from which base.

    Examples:
        >>> claim = Claim("C1", "Depth raises the loss.", "test/loss", "increasing", along="model.layers")
        >>> plan = Plan("p", one_at_a_time={"model.layers": ["2", "3"], "model.latent_size": ["15", "30"]},
        ...             base={"model.layers": "3", "model.latent_size": "15"})
        >>> runs = [("3", "15"), ("2", "15"), ("3", "30")]
        >>> compared([claim], [{"model.layers": layers, "model.latent_size": z} for layers, z in runs], plan)
        [True, True, False]
    """
    placed = [params_with_point(run, plan) for run in params]
    keys = {key for run in placed for key in run}
    varied = {key: value for key, value in design(plan).items() if key in ("replicate", "axes", "base")}
    scopes = [scope(claim, group, keys, **varied) for claim in claims for group in groups(claim)]
    return [any(compares.has(run) for compares in scopes) for run in placed]


def design(plan: Plan) -> dict[str, Any]:
    """Returns what a plan says to `judge`: what repeats its runs, what varies, and from where."""
    return {
        "replicate": plan.pairs_by,
        "axes": {**plan.cross, **plan.one_at_a_time, **plan.further_repeats},
        "base": plan.base,
        "points": plan.also,
        "repeats": tuple(plan.further_repeats),
    }


def declared_values(claim: Mapping[str, Any], plan: Plan) -> dict[str, list[str]]:
    """Returns the values that a plan gives to the keys that a claim leaves open: they are a part of it.

    These are the values of its axis, of the keys that it averages over, of those that stay at the base, and
    the settings of the points that it names.

    Args:
        claim: As the study's YAML declares it; it need not be valid.
        plan: What varies, and from which base.

    Examples:
        >>> plan = Plan("p", cross={"model": ["vae", "cvae"]}, one_at_a_time={"model.layers": ["2", "3"]},
        ...             base={"model.layers": "3"})
        >>> declared_values({"along": "model.layers", "within": {"model": "vae"}}, plan)
        {'model.layers': ['2', '3']}
    """
    parts = [claim.get(part) for part in ("of", "than", "as", "within")]
    named = [
        (str(key), str(value)) for part in parts if isinstance(part, Mapping) for key, value in part.items()
    ]
    fixed, along = {key for key, _ in named}, claim.get("along")
    values = {
        key: [canonical(value)] for key, value in plan.base.items() if key not in fixed and key != along
    }
    for key, axis in {**plan.cross, **plan.one_at_a_time}.items():
        if key not in fixed and key not in values:
            values[key] = sorted(set(map(canonical, axis)))
    for key, point in named:
        if key == POINT:
            values[f"{POINT} {point}"] = settings_of(plan.also.get(point, {}))
    return values


def settings_of(point: Mapping[str, str]) -> list[str]:
    """Returns what a point sets, as `declared_values` has it."""
    return sorted(f"{key}={value}" for key, value in point.items())


def same_values(
    claim: Mapping[str, Any], first: Mapping[str, list[str]] | None, second: Mapping[str, list[str]] | None
) -> bool:
    """Returns whether a claim compares the same by two plans' `declared_values`, as far as they say.

    A key that only one of them varies, and of which that one has a single value, was at some value in the
    other, too. By a plan whose axis is too short the claim compares nothing that could be seen.
    """
    if first is None or second is None:
        return True
    along, least = str(claim.get("along", "")), 3 if claim.get("expect") == "best_inside" else 2
    if along and any(len(values.get(along, ())) < least for values in (first, second)):
        return True
    return all(
        set(map(canonical, first[key])) == set(map(canonical, second[key]))
        if key in first and key in second
        else len(values[key]) < 2
        for values in (first, second)
        for key in values
    )
