"""The addresses at which other machines reach this one: those of its network interfaces."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
import sys

# Where an address stands in its structure, for Linux, macOS and the BSDs.
OFFSETS: dict[int, tuple[int, int]] = {socket.AF_INET: (4, 4), socket.AF_INET6: (8, 16)}  # start, size


class _Interface(ctypes.Structure):
    """C's `struct ifaddrs`, as far as it is read here."""


_Interface._fields_ = [
    ("next", ctypes.POINTER(_Interface)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
]


def own_addresses() -> list[str]:
    """Returns the addresses of all interfaces but those that only this machine or its own link reaches."""
    addresses = _of_interfaces() if os.name == "posix" else _by_name()
    reached = (
        address
        for address in map(ipaddress.ip_address, addresses)
        if not (address.is_loopback or address.is_link_local)
    )
    return [*dict.fromkeys(map(str, reached))]


def _of_interfaces() -> list[str]:
    system = ctypes.CDLL(None, use_errno=True)
    first = ctypes.POINTER(_Interface)()
    if system.getifaddrs(ctypes.byref(first)):
        return _by_name()
    addresses, one = [], first
    while one:
        if one.contents.address:
            family = _family(one.contents.address)
            if family in OFFSETS:  # others are of hardware
                start, size = OFFSETS[family]
                packed = ctypes.string_at(one.contents.address + start, size)
                addresses.append(socket.inet_ntop(family, packed))
        one = one.contents.next
    system.freeifaddrs(first)
    return addresses


def _family(structure: int) -> int:
    """Returns of which kind an address is: in two bytes on Linux, elsewhere in the second of two."""
    head = ctypes.string_at(structure, 2)
    return int.from_bytes(head, sys.byteorder) if sys.platform == "linux" else head[1]


def _by_name() -> list[str]:
    """Returns the addresses that the machine's name has."""
    try:
        answers = socket.getaddrinfo(socket.gethostname(), None)
    except OSError:  # a name that nobody knows
        return []
    return [str(answer[4][0]).partition("%")[0] for answer in answers]
