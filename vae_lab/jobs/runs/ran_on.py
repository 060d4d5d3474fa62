"""What a run ran on, code and machine; of what changed under way its tags say at which epoch it did."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from vae_lab import devices, evaluation, machine, tracking
from vae_lab.config import code_version
from vae_lab.tracking.records import parsed_object

DEVICE = "vae_lab.device"
NOT_RECORDED = "not recorded"
THEN = ", then "


def ran_on(device: torch.device) -> dict[str, str]:
    """Returns the tags that say what a run on `device` runs on now."""
    facts = machine.describe(device) | {"code of the evaluation": _code_of_evaluation()}
    return {DEVICE: devices.describe(device), tracking.ENVIRONMENT: json.dumps(facts)}


def went_on(before: Mapping[str, str], now: Mapping[str, str], done: int) -> dict[str, str]:
    """Returns the tags of `now` for a run that goes on.

    Args:
        before: The run's tags until now.
        now: Those of `ran_on`, and of the code where it may have changed, that it goes on with.
        done: Epochs that it has behind it; none of them ran on anything if there are none.

    Returns:
        Of what has changed, both, and the epoch between.
    """
    if not done:
        return dict(now)
    recorded = parsed_object(before.get(tracking.ENVIRONMENT, ""))
    earlier = {fact: str(value) for fact, value in recorded.items()}
    facts = changed(earlier, json.loads(now[tracking.ENVIRONMENT]), done)
    tags = changed({key: before[key] for key in now if key in before}, now, done)
    return tags | {tracking.ENVIRONMENT: json.dumps(facts)}


def changed(before: Mapping[str, str], now: Mapping[str, str], done: int) -> dict[str, str]:
    """Returns facts of which some changed after epoch `done`.

    Examples:
        >>> changed({"torch": "2.9", "cores": "2"}, {"torch": "2.10", "cores": "2"}, 5)
        {'torch': '2.9 to epoch 5, then 2.10', 'cores': '2'}
        >>> changed({"torch": "2.9 to epoch 5, then 2.10"}, {"torch": "2.10"}, 7)
        {'torch': '2.9 to epoch 5, then 2.10'}
    """
    facts = {}
    for key in dict.fromkeys([*before, *now]):
        earlier, later = before.get(key, NOT_RECORDED), now.get(key, NOT_RECORDED)
        same = earlier.rpartition(THEN)[2] == later
        facts[key] = earlier if same else f"{earlier} to epoch {done}{THEN}{later}"
    return facts


@functools.cache
def _code_of_evaluation() -> str:
    """Returns a checksum of what measures a run, on which its training does not depend."""
    return code_version.checksum(sorted(Path(str(evaluation.__file__)).parent.glob("*.py")))
