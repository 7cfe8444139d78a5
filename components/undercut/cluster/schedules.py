"""Recurring runs on a cluster: set, list, pause, resume, delete.

KFP cannot change a recurring run, so a change is three calls: the new one is created disabled, the old is
deleted, the new is enabled. That it is created before the deletion means that no crash loses the schedule; that
it is enabled after it, that at no moment two are enabled. Where the process ends between the calls, either the
old one still runs, or none does and the new one is marked as to be enabled: the same command then finishes what
was begun. A time of the schedule that falls between the last two calls is not lost: KFP counts from the creation
of the new one. (One that falls into the milliseconds between the first two starts both.)

A definition's digest stands in the recurring run's description, so that the same command finds its own work.
"""

import datetime
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from kfp_server_api import V2beta1RecurringRun

from undercut.cluster.connection import Client
from undercut.cluster.refusals import Refusal
from undercut.cluster.submission import name_is
from undercut.errors import ConfigurationError

PAGE = 100
CONCURRENCY = 1
NOT_FOUND = 404
LONGEST_NAME = 100
_DIGEST = re.compile(r"definition sha256:([0-9a-f]{64})")
TO_BE_ENABLED = "; to be enabled"


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What a schedule starts, and when; exactly one of ``cron`` and ``every_seconds`` is set."""

    name: str
    cron: str
    every_seconds: int
    experiment_id: str
    pipeline_id: str
    version_id: str
    arguments: Mapping[str, Any]
    service_account: str
    max_concurrency: int = CONCURRENCY
    catch_up: bool = False

    def __post_init__(self) -> None:
        if not 0 < len(self.name.strip()) <= LONGEST_NAME or not self.name.isprintable():
            raise ConfigurationError("name", self.name, f"up to {LONGEST_NAME} printable characters")

    @property
    def digest(self) -> str:
        """Return the SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A recurring run of the cluster."""

    id: str
    name: str
    enabled: bool
    when: str
    created: datetime.datetime
    description: str

    @property
    def digest(self) -> str:
        """Return the definition's digest; empty for one that was not set by ``undercut schedule``."""
        found = _DIGEST.search(self.description)
        return found[1] if found else ""


def set_schedule(client: Client, definition: Definition) -> str:
    """Leave exactly one recurring run of that name, with that definition; return what was done, in words.

    A schedule that someone paused stays paused, whatever else changes.

    Raises:
        Refusal: the cluster does not answer, or refuses.
        ConfigurationError: someone else changes the same schedule now.
    """
    before = schedules(client, definition.name)
    running = not before or any(s.enabled for s in before) or any(_interrupted(client, s) for s in before)
    present = before
    if all(s.digest != definition.digest for s in before):
        _create(client, definition, to_be_enabled=running)
        present = schedules(client, definition.name)  # again: the same command may run elsewhere at this moment
    equal = [s for s in present if s.digest == definition.digest]
    if not equal:
        raise ConfigurationError("name", definition.name, "one change at a time", "Another has just been made: repeat")
    kept = min(equal, key=lambda s: (not s.enabled, s.created, s.id))
    for other in present:
        if other.id != kept.id:
            _delete(client, other)
    if running and not kept.enabled:
        client.enable_recurring_run(kept.id)
    done = "created" if not before else "changed" if present is not before else "unchanged"
    if done == "unchanged" and (len(present) > 1 or kept.enabled != running):
        done = "repaired"
    return done if running else f"{done}, paused"


def schedules(client: Client, name: str = "") -> list[Schedule]:
    """Return the recurring runs of the namespace; those of one name if it is given."""
    found: list[Schedule] = []
    token = ""
    while True:
        answer = client.list_recurring_runs(
            page_token=token,
            page_size=PAGE,
            sort_by="created_at desc",
            namespace=client.profile,
            filter=name_is(name) if name else None,
        )
        found += [_schedule(r) for r in answer.recurring_runs or [] if name in ("", r.display_name)]
        token = answer.next_page_token or ""
        if not token:
            return found


def pause(client: Client, name: str) -> bool:
    """Disable a schedule; return False where it was paused already.

    One that has not started a run yet is also replaced by one without the mark of a change under way: else the
    next command would take it for that, and enable it.
    """
    found = _named(client, name)
    marked = [s for s in found if _interrupted(client, replace(s, enabled=False))]
    unmarked = {s.digest for s in found if TO_BE_ENABLED not in s.description}
    enabled = [s for s in found if s.enabled]
    for schedule in enabled:
        client.disable_recurring_run(schedule.id)
    for schedule in marked:  # those already disabled, too: a pause may have been cut short here
        if schedule.digest not in unmarked:
            _create_unmarked(client, schedule)
            unmarked.add(schedule.digest)
        _delete(client, schedule)
    return bool(enabled or marked)


def resume(client: Client, name: str) -> bool:
    """Enable a schedule; return False where it was enabled already.

    Raises:
        ConfigurationError: there are several of that name, which only a change that was cut short leaves.
    """
    found = _named(client, name)
    if any(s.enabled for s in found):
        return False
    if len(found) > 1:
        remedy = f"Give `undercut schedule set … --name {name}` again: it finishes the change that was cut short"
        raise ConfigurationError("name", f"{len(found)} schedules called {name}", "one", remedy)
    client.enable_recurring_run(found[0].id)
    return True


def delete(client: Client, name: str) -> None:
    """Delete a schedule; runs that it started go on."""
    for schedule in _named(client, name):
        _delete(client, schedule)


def _named(client: Client, name: str) -> list[Schedule]:
    found = schedules(client, name)
    if not found:
        known = ", ".join(sorted({s.name for s in schedules(client)})) or "none: `undercut schedule set` makes one"
        raise ConfigurationError("name", name, known)
    return found


def _interrupted(client: Client, schedule: Schedule) -> bool:
    """Tell whether a disabled schedule waits for being enabled: it is marked so, and never started a run."""
    if schedule.enabled or TO_BE_ENABLED not in schedule.description:
        return False
    started = client.list_runs(
        page_size=1, namespace=client.profile, filter=name_is(schedule.id, key="recurring_run_id")
    )
    return not started.runs


def _create(client: Client, definition: Definition, to_be_enabled: bool) -> None:
    """Create the recurring run of a definition, disabled."""
    description = f"Set by undercut schedule; definition sha256:{definition.digest}"
    client.create_recurring_run(
        definition.experiment_id,
        definition.name,
        description=description + (TO_BE_ENABLED if to_be_enabled else ""),
        cron_expression=definition.cron or None,
        interval_second=definition.every_seconds or None,
        max_concurrency=definition.max_concurrency,
        no_catchup=not definition.catch_up,
        params=dict(definition.arguments),
        pipeline_id=definition.pipeline_id,
        version_id=definition.version_id,
        enabled=False,
        service_account=definition.service_account or None,
    )


def _create_unmarked(client: Client, schedule: Schedule) -> None:
    """Create a disabled copy of a recurring run, not marked as one to be enabled."""
    run = client.get_recurring_run(schedule.id)
    body = V2beta1RecurringRun(
        display_name=run.display_name,
        description=schedule.description.replace(TO_BE_ENABLED, ""),
        experiment_id=run.experiment_id,
        pipeline_version_reference=run.pipeline_version_reference,
        runtime_config=run.runtime_config,
        trigger=run.trigger,
        max_concurrency=run.max_concurrency,
        no_catchup=run.no_catchup,
        service_account=run.service_account,
        mode="DISABLE",
    )
    client.recurring_runs.recurring_run_service_create_recurring_run(recurring_run=body)


def _delete(client: Client, schedule: Schedule) -> None:
    """Delete a recurring run; ORPHAN: Kubernetes would otherwise take its running workflows with it."""
    try:
        client.recurring_runs.recurring_run_service_delete_recurring_run(
            recurring_run_id=schedule.id, propagation_policy="ORPHAN"
        )
    except Refusal as error:
        if error.status != NOT_FOUND:  # gone: what was wanted
            raise


def _schedule(run: Any) -> Schedule:
    trigger = run.trigger
    cron = trigger.cron_schedule.cron if trigger and trigger.cron_schedule else ""
    seconds = trigger.periodic_schedule.interval_second if trigger and trigger.periodic_schedule else ""
    return Schedule(
        id=str(run.recurring_run_id),
        name=str(run.display_name),
        enabled=run.status == "ENABLED",
        when=cron or (f"every {seconds} s" if seconds else ""),
        created=run.created_at,
        description=str(run.description or ""),
    )
