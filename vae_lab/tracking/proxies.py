"""Keeps requests to servers on this machine out of proxies."""

from __future__ import annotations

from collections.abc import MutableMapping

LOCAL = ("127.0.0.1", "localhost", "::1")
_PROXIES, _EXCEPTIONS = ("http_proxy", "https_proxy", "all_proxy"), ("no_proxy", "NO_PROXY")


def exempt_this_machine(environment: MutableMapping[str, str]) -> None:
    """Adds this machine's addresses to what the environment exempts from its proxies, if it names any.

    Where it names none, exceptions alone would hide the proxies of the system's own settings.

    Examples:
        >>> environment = {"https_proxy": "http://proxy:3128", "NO_PROXY": "example.org"}
        >>> exempt_this_machine(environment)
        >>> environment["no_proxy"]
        'example.org,127.0.0.1,localhost,::1'
    """
    if not any(environment.get(name) or environment.get(name.upper()) for name in _PROXIES):
        return
    exempt = next(filter(None, map(environment.get, _EXCEPTIONS)), "")
    if exempt.strip() == "*":
        return
    names = [name.strip() for name in exempt.split(",") if name.strip()]
    for variable in _EXCEPTIONS:  # programs differ in which one they read
        environment[variable] = ",".join(dict.fromkeys([*names, *LOCAL]))
