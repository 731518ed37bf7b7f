"""Processes as Linux shows them in /proc: descendants, processor time, and the addresses they listen on."""

from __future__ import annotations

import ipaddress
import os
import re
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

LISTEN = "0A"


def parent(pid: int) -> int:
    """Process id of the parent; `OSError` if the process is gone."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def descendants(root: int) -> list[int]:
    """Process ids of all children, and theirs."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            children.setdefault(parent(int(path.name)), []).append(int(path.name))
    found, waiting = [], [root]
    while waiting:
        waiting += (inner := children.get(waiting.pop(), []))
        found += inner
    return found


def command_line(pid: int) -> str:
    """The command line of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def cpu_ticks(pid: int) -> int:
    """Processor time that a process has used, in clock ticks; 0 if it is gone."""
    try:
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0
    return int(user) + int(system)


def listening_addresses(pids: Iterable[int]) -> set[tuple[str, int]]:
    """(address, port) of the TCP sockets on which processes listen; IPv4 in IPv6 as IPv4."""
    inodes = {inode for pid in pids for inode in _socket_inodes(pid)}
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and fields[9] in inodes:
                address, port = fields[1].split(":")
                found.add((_address(address), int(port, 16)))
    return found


def _socket_inodes(pid: int) -> list[str]:
    inodes = []
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        with suppress(OSError):
            inodes += re.findall(r"socket:\[(\d+)\]", os.readlink(link))
    return inodes


def _address(text: str) -> str:
    words = [int(text[start:start + 8], 16) for start in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(struct.pack("=I", word) for word in words))
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)
