"""``undercut schedule``: one recurring run a name, whatever is repeated, changed or cut short."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import Done, Undercut
from tests.cluster.fake_kfp import FakeKfp, Fault

NIGHTLY = ("--source", "s3://data/rows.csv", "--name", "nightly")
CRON = ("--cron", "0 0 2 * * *")
# Where a change may be cut short: the request, and whether it took effect before the answer was lost.
CUTS = [
    (pattern, after) for pattern in ("POST .*/recurringruns$", "DELETE", "POST .*:enable") for after in (False, True)
]


def definitions(kfp: FakeKfp) -> list[tuple[str, bool]]:
    """Return (when, enabled) of every recurring run called nightly."""
    found = []
    for run in kfp.store["recurring_runs"].values():
        trigger = run["trigger"]
        when = trigger.get("cron_schedule", {}).get("cron") or trigger["periodic_schedule"]["interval_second"]
        found.append((when, run["status"] == "ENABLED"))
    return found


def most_enabled(kfp: FakeKfp) -> int:
    """Return how many were enabled at once, at most, at any moment."""
    return max(sum(enabled for _, _, enabled in state) for state in kfp.journal)


def fail(kfp: FakeKfp, pattern: str, after: bool) -> None:
    kfp.faults.append(Fault(pattern, lambda handler: handler.send(500, '{"message": "gone"}'), after=after))


def test_the_same_command_twice_leaves_one(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    first = undercut("schedule", "set", pipeline, *NIGHTLY, *CRON)
    changes = len(kfp.journal)
    again = undercut("schedule", pipeline, *NIGHTLY, "--cron", "0 2 * * *")
    assert (first.code, again.code) == (0, 0), first.err + again.err
    assert "nightly: created" in first.out
    assert "nightly: unchanged" in again.out
    assert "taken as '0 0 2 * * *'" in again.err
    assert definitions(kfp) == [("0 0 2 * * *", True)]
    assert len(kfp.journal) == changes
    (run,) = kfp.store["recurring_runs"].values()
    assert (run["no_catchup"], run["max_concurrency"]) == (True, 1)
    assert run["service_account"] == "undercut-runner"
    assert set(run["pipeline_version_reference"]) == {"pipeline_id", "pipeline_version_id"}
    assert run["runtime_config"]["parameters"]["source"] == "s3://data/rows.csv"


@pytest.mark.parametrize(
    "changed",
    [
        (*NIGHTLY, "--cron", "0 30 3 * * *"),
        (*NIGHTLY, "--every", "24h"),
        (*NIGHTLY, *CRON, "--epochs", "4"),
        (*NIGHTLY, *CRON, "--team", "blue", "--no-cache"),
        (*NIGHTLY, *CRON, "--service-account", "other"),
        (*NIGHTLY, *CRON, "--max-concurrency", "2", "--catch-up"),
    ],
    ids=["cron", "interval", "argument", "version", "account", "concurrency"],
)
def test_a_change_replaces_without_a_gap_or_a_double(
    undercut: Undercut, kfp: FakeKfp, pipeline: Path, changed: tuple[str, ...]
) -> None:
    undercut("schedule", pipeline, *NIGHTLY, *CRON)
    (old,) = kfp.store["recurring_runs"]
    start = len(kfp.journal)
    done = undercut("schedule", pipeline, *changed)
    assert "nightly: changed" in done.out, done.err
    (new,) = kfp.store["recurring_runs"]
    assert kfp.journal[start:] == [
        [("nightly", old, True), ("nightly", new, False)],
        [("nightly", new, False)],
        [("nightly", new, True)],
    ]
    (deletion,) = (r for r in kfp.requests if r.method == "DELETE")
    assert deletion.query == {"propagation_policy": "ORPHAN"}, "its running workflows stay"


@pytest.mark.parametrize(("pattern", "after"), CUTS)
def test_a_change_that_was_cut_short_is_repaired(
    undercut: Undercut, kfp: FakeKfp, pipeline: Path, pattern: str, after: bool
) -> None:
    undercut("schedule", pipeline, *NIGHTLY, *CRON)
    fail(kfp, pattern, after)
    cut = undercut("schedule", pipeline, *NIGHTLY, "--every", "12h")
    assert cut.code == 2
    assert "gone" in cut.err
    assert kfp.store["recurring_runs"], "a schedule is never lost"
    repaired = undercut("schedule", pipeline, *NIGHTLY, "--every", "12h")
    assert repaired.code == 0, repaired.err
    assert definitions(kfp) == [(43200, True)]
    assert most_enabled(kfp) == 1


@pytest.mark.parametrize(("pattern", "after"), CUTS)
def test_a_change_that_was_cut_short_and_taken_back(
    undercut: Undercut, kfp: FakeKfp, pipeline: Path, pattern: str, after: bool
) -> None:
    undercut("schedule", pipeline, *NIGHTLY, *CRON)
    fail(kfp, pattern, after)
    undercut("schedule", pipeline, *NIGHTLY, "--every", "12h")
    undercut("schedule", pipeline, *NIGHTLY, *CRON)
    assert definitions(kfp) == [("0 0 2 * * *", True)]
    assert most_enabled(kfp) == 1


def test_a_change_whose_process_is_killed(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    """A real process gets SIGKILL after the old one is deleted, before the new one is enabled."""
    undercut("schedule", pipeline, *NIGHTLY, *CRON)
    kfp.faults.append(Fault("DELETE", lambda handler: process.kill(), after=True))
    code = "from undercut.cli.main import main; main()"
    command = [sys.executable, "-c", code, "schedule", str(pipeline), *NIGHTLY, "--every", "12h"]
    process = subprocess.Popen(command)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert definitions(kfp) == [(43200, False)]
    assert "repaired" in undercut("schedule", pipeline, *NIGHTLY, "--every", "12h").out
    assert definitions(kfp) == [(43200, True)]
    assert most_enabled(kfp) == 1


@pytest.mark.parametrize("after", [False, True])
def test_a_creation_that_was_cut_short_is_repaired(
    undercut: Undercut, kfp: FakeKfp, pipeline: Path, after: bool
) -> None:
    fail(kfp, "POST .*:enable", after)
    assert undercut("schedule", pipeline, *NIGHTLY, *CRON).code == 2
    done = undercut("schedule", pipeline, *NIGHTLY, *CRON)
    assert ("unchanged" if after else "repaired") in done.out
    assert definitions(kfp) == [("0 0 2 * * *", True)]


def test_two_at_the_same_time_leave_one(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    """Someone else's equal one appears between our look and our creation."""
    undercut("schedule", pipeline, *NIGHTLY, *CRON)
    kfp.faults.append(Fault("GET .*/recurringruns$", lambda handler: handler.send(200, "{}")))
    undercut("schedule", pipeline, *NIGHTLY, *CRON)
    assert definitions(kfp) == [("0 0 2 * * *", True)]
    assert most_enabled(kfp) == 1


def test_doubles_from_elsewhere_are_removed(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    undercut("schedule", pipeline, *NIGHTLY, *CRON)
    (ours,) = kfp.store["recurring_runs"].values()
    kfp.add("recurring_runs", {k: v for k, v in ours.items() if k != "description"})
    assert "repaired" in undercut("schedule", pipeline, *NIGHTLY, *CRON).out
    assert definitions(kfp) == [("0 0 2 * * *", True)]


def test_paused_stays_paused(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    undercut("schedule", pipeline, *NIGHTLY, *CRON)
    assert "nightly: paused" in undercut("schedule", "pause", "nightly").out
    assert "was paused already" in undercut("schedule", "pause", "nightly").out
    assert "unchanged, paused" in undercut("schedule", pipeline, *NIGHTLY, *CRON).out
    assert "changed, paused" in undercut("schedule", pipeline, *NIGHTLY, "--every", "1h").out
    assert definitions(kfp) == [(3600, False)]
    assert re.search(r"nightly +every 3600 s +paused", undercut("schedule", "list").out)
    assert "nightly: resumed" in undercut("schedule", "resume", "nightly").out
    assert "was not paused" in undercut("schedule", "resume", "nightly").out
    kfp.fire("nightly")
    undercut("schedule", "pause", "nightly")
    assert "unchanged, paused" in undercut("schedule", pipeline, *NIGHTLY, "--every", "1h").out
    assert most_enabled(kfp) == 1


@pytest.mark.parametrize(
    ("pattern", "after"), [("POST .*:disable", True), ("POST .*/recurringruns$", True), ("DELETE", False)]
)
def test_a_pause_that_was_cut_short_is_finished(
    undercut: Undercut, kfp: FakeKfp, pipeline: Path, pattern: str, after: bool
) -> None:
    """It never started a run: what marks it as one to be enabled has to go, or the next command enables it."""
    undercut("schedule", pipeline, *NIGHTLY, *CRON)
    fail(kfp, pattern, after)
    assert undercut("schedule", "pause", "nightly").code == 2
    assert "nightly: paused" in undercut("schedule", "pause", "nightly").out
    assert definitions(kfp) == [("0 0 2 * * *", False)]
    assert "unchanged, paused" in undercut("schedule", pipeline, *NIGHTLY, *CRON).out
    assert definitions(kfp) == [("0 0 2 * * *", False)]


def test_delete_leaves_the_others(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    undercut("schedule", pipeline, *NIGHTLY, *CRON)
    undercut("schedule", pipeline, *NIGHTLY[:2], "--name", "weekly", "--every", "7d")
    assert "nightly: deleted" in undercut("schedule", "delete", "nightly").out
    assert [r["display_name"] for r in kfp.store["recurring_runs"].values()] == ["weekly"]
    missing = undercut("schedule", "delete", "nightly")
    assert (missing.code, "weekly" in missing.err) == (2, True)


def test_names_are_what_they_are(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    """The server's database has no regard for case, and its filters are decoded twice."""
    for name in ("nightly", "Nightly", "a+b at 100%", "naïve"):
        for _ in range(2):
            done = undercut("schedule", pipeline, *NIGHTLY[:2], "--name", name, *CRON, "--experiment", "a+b")
            assert done.code == 0, done.err
    names = [r["display_name"] for r in kfp.store["recurring_runs"].values()]
    assert names == ["nightly", "Nightly", "a+b at 100%", "naïve"]
    assert len(kfp.store["experiments"]) == 1
    refused = undercut("schedule", pipeline, *NIGHTLY[:2], "--name", " ", *CRON)
    assert (refused.code, "printable" in refused.err) == (2, True)


def test_a_long_name_hides_nothing(
    undercut: Undercut, kfp: FakeKfp, pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS")
    undercut("schedule", pipeline, *NIGHTLY[:2], "--name", "n" * 100, *CRON)
    shown = undercut("schedule", "list").out
    assert "n" * 100 in shown
    assert all(word in shown for word in ("0 0 2 * * *", "enabled", "undercut")), shown


def test_more_schedules_than_fit_on_a_page(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    undercut("schedule", pipeline, *NIGHTLY, *CRON)
    (one,) = kfp.store["recurring_runs"].values()
    for number in range(230):
        kfp.add("recurring_runs", {**one, "display_name": f"other-{number}"})
    shown = undercut("schedule", "list").out
    assert len(re.findall(r"other-\d+", shown)) == 230
    assert "nightly" in shown


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ((), ["cron, every", "neither"]),
        (("--cron", "0 0 2 * * *", "--every", "1h"), ["cron, every", "both"]),
        (("--cron", "0 2 * *"), ["six fields"]),
        (("--cron", "0 0 25 * * *"), ["hour", "25", "0 to 23"]),
        (("--every", "soon"), ["every", "24h"]),
    ],
)
def test_a_wrong_time_is_refused_before_anything_is_sent(
    undercut: Undercut, kfp: FakeKfp, pipeline: Path, when: tuple[str, ...], words: list[str]
) -> None:
    done: Done = undercut("schedule", pipeline, *NIGHTLY, *when)
    assert done.code == 2
    assert all(word in done.err for word in words), done.err
    assert kfp.requests == []


def test_schedules_of_a_profile(
    undercut: Undercut, kfp: FakeKfp, pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp.multi_user = True
    undercut("schedule", pipeline, *NIGHTLY, *CRON, "--namespace", "team-a")
    undercut("schedule", pipeline, *NIGHTLY, *CRON, "--namespace", "team-b")
    assert [r["namespace"] for r in kfp.store["recurring_runs"].values()] == ["team-a", "team-b"]
    monkeypatch.setenv("UNDERCUT_KFP_NAMESPACE", "team-a")
    undercut("schedule", "delete", "nightly")
    assert [r["namespace"] for r in kfp.store["recurring_runs"].values()] == ["team-b"]
    (created, _) = (json.loads(r.body) for r in kfp.requests if (r.method, r.path) == ("POST", "/experiments"))
    assert created == {"display_name": "undercut", "namespace": "team-a"}
