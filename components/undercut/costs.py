"""What a step used, and what that cost: stopwatch, ledger entries, price book.

A step is charged for what it reserves: wall seconds times its cores, and times its accelerators,
as a cloud bills. Prices come from ``pipelines/prices.yaml``; each carries its date and source.
"""

import os
import re
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from undercut.errors import ConfigurationError

CPU_CORE = "cpu-core"


_children_gpus = (0, "")


class LedgerEntry(TypedDict):
    """What one step used. Times in seconds, sizes in bytes, energy in joules (None: unknown)."""

    id: str
    step: str
    detail: str
    started: float
    seconds: float
    cpu_seconds: float
    cores: int
    gpus: int
    accelerator: str
    peak_memory_bytes: int
    output_bytes: int
    energy_joules: float | None


def available_cores() -> int:
    """Return the cores this process may use: affinity, narrowed by the container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        limit, period = quota.read_text().split()
        if limit != "max":
            cores = min(cores, max(1, round(int(limit) / int(period))))
    return cores


def visible_gpus() -> tuple[int, str]:
    """Return the number of GPUs this process, or one that it started, has opened through torch, and their name."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return _children_gpus
    return torch.cuda.device_count(), str(torch.cuda.get_device_name()).lower().replace(" ", "-")


def charge_gpus(count: int, name: str) -> None:
    """Charge this process for the GPUs that a process which it started has opened."""
    global _children_gpus
    _children_gpus = (count, name)


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def peak_memory_bytes() -> int:
    """Return the most memory that this process has held.

    Linux keeps ``ru_maxrss`` across ``exec``, so that a small process started by a large one would
    report the large one's peak; ``VmHWM`` begins anew with the program (proc(5)).
    """
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _peak_of_children_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _energy_joules() -> float | None:
    """Read the CPU packages' energy counters (Linux powercap), where the kernel shows them."""
    counters = sorted(Path("/sys/class/powercap").glob("intel-rapl:?/energy_uj"))
    readable = [c for c in counters if os.access(c, os.R_OK)]
    return sum(int(c.read_text()) for c in readable) / 1e6 if readable else None


class Stopwatch:
    """Measures one step from construction to :meth:`entry`."""

    def __init__(self, step: str, detail: str = "") -> None:
        self.step, self.detail = step, detail
        self.started = time.time()
        self._clock, self._cpu, self._energy = time.perf_counter(), _cpu_seconds(), _energy_joules()
        self.id = f"{step}-{int(self.started * 1000):x}-{os.getpid()}"

    def entry(self, output_bytes: int = 0) -> LedgerEntry:
        """Return what was used until now."""
        gpus, accelerator = visible_gpus()
        energy = _energy_joules()
        known = energy is not None and self._energy is not None and energy >= self._energy
        return LedgerEntry(
            id=self.id,
            step=self.step,
            detail=self.detail,
            started=self.started,
            seconds=time.perf_counter() - self._clock,
            cpu_seconds=_cpu_seconds() - self._cpu,
            cores=available_cores(),
            gpus=gpus,
            accelerator=accelerator,
            peak_memory_bytes=max(peak_memory_bytes(), _peak_of_children_bytes()),
            output_bytes=output_bytes,
            energy_joules=energy - self._energy if known and energy and self._energy else None,
        )


# Settings that say how much is trained and how safely, not what comes of it: they enter no key of a checkpoint.
LIMITS = ("max_seconds", "budget_usd", "usd_per_hour", "checkpoint_seconds")


def allowance_seconds(max_seconds: float, budget_usd: float, usd_per_hour: float) -> float:
    """Return the seconds that time and money allow together; 0 if neither is limited.

    Raises:
        ConfigurationError: an amount is negative, or a budget comes without the machine's price.
    """
    amounts = {"max_seconds": max_seconds, "budget_usd": budget_usd, "usd_per_hour": usd_per_hour}
    for name, amount in amounts.items():
        if amount < 0:
            raise ConfigurationError(name, amount, "zero (no limit) or more")
    if budget_usd and not usd_per_hour:
        raise ConfigurationError("usd_per_hour", usd_per_hour, "the machine's price when budget_usd is set")
    limits = [max_seconds] if max_seconds else []
    if budget_usd:
        limits.append(budget_usd / usd_per_hour * 3600)
    return min(limits, default=0.0)


def check_limits(config: Any) -> None:
    """Check the limits of a training's settings (a Config with all of ``LIMITS``).

    Raises:
        ConfigurationError: one is negative, or a budget comes without the machine's price.
    """
    allowance_seconds(config.max_seconds, config.budget_usd, config.usd_per_hour)
    if config.checkpoint_seconds < 0:
        raise ConfigurationError("checkpoint_seconds", config.checkpoint_seconds, "zero (no limit) or more")


def merge(ledgers: Iterable[Iterable[LedgerEntry]]) -> list[LedgerEntry]:
    """Join ledgers that share steps: each step once, in order of start."""
    entries = {entry["id"]: entry for ledger in ledgers for entry in ledger}
    return sorted(entries.values(), key=lambda entry: entry["started"])


@dataclass(frozen=True, kw_only=True)
class HostedPrice:
    """A hosted API's list price, US dollars per million tokens, with its date and source."""

    name: str
    usd_per_million_input_tokens: float
    usd_per_million_output_tokens: float
    date: str
    source: str


@dataclass(frozen=True, kw_only=True)
class PriceBook:
    """Money per hour for each device, and hosted prices to compare with."""

    devices: Mapping[str, float]
    hosted: tuple[HostedPrice, ...]

    def usd_per_hour(self, device: str) -> float:
        """Return a device's price.

        Raises:
            ConfigurationError: the price book does not list it.
        """
        if device not in self.devices:
            raise ConfigurationError(
                "prices.devices",
                device,
                f"one of {', '.join(sorted(self.devices))}",
                "Add the device with its price to pipelines/prices.yaml",
            )
        return self.devices[device]

    def cost_usd(self, entry: LedgerEntry) -> float:
        """Return what a step cost: hours times the cores and accelerators it held."""
        per_hour = entry["cores"] * self.usd_per_hour(CPU_CORE)
        if entry["gpus"]:
            per_hour += entry["gpus"] * self.usd_per_hour(entry["accelerator"])
        return entry["seconds"] / 3600 * per_hour


def parse_price_book(content: Mapping[str, Any]) -> PriceBook:
    """Check a price book as read from YAML (``devices`` and ``hosted``).

    Raises:
        ConfigurationError: names the entry, the value and what is allowed.
    """
    content = _mapping("prices", content)
    devices = {}
    for name, entry in _mapping("prices.devices", content.get("devices")).items():
        field = f"prices.devices.{name}"
        devices[str(name)] = _amount(f"{field}.usd_per_hour", _mapping(field, entry).get("usd_per_hour"))
    if CPU_CORE not in devices:
        raise ConfigurationError("prices.devices", sorted(devices), f"a list with {CPU_CORE} in it")
    hosted = content.get("hosted", [])
    if not isinstance(hosted, list):
        raise ConfigurationError("prices.hosted", hosted, "a list of hosted prices")
    return PriceBook(devices=devices, hosted=tuple(_hosted(i, item) for i, item in enumerate(hosted)))


def _hosted(index: int, item: object) -> HostedPrice:
    field = f"prices.hosted[{index}]"
    entry = _mapping(field, item)
    for key in ("name", "date", "source"):
        if not entry.get(key):
            raise ConfigurationError(f"{field}.{key}", entry.get(key), "a text", "A price needs its date and source")
    return HostedPrice(
        name=str(entry["name"]),
        usd_per_million_input_tokens=_amount(f"{field}.input", entry.get("input")),
        usd_per_million_output_tokens=_amount(f"{field}.output", entry.get("output")),
        date=str(entry["date"]),
        source=str(entry["source"]),
    )


def _mapping(field: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(field, value, "a mapping")
    return value


def _amount(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ConfigurationError(field, value, "an amount in US dollars, zero or more")
    return float(value)
