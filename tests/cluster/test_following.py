"""A run's tasks, out of what KFP's API says of it."""

import datetime

from kfp_server_api import (
    GoogleRpcStatus,
    V2beta1PipelineTaskDetail,
    V2beta1Run,
    V2beta1RunDetails,
    V2beta1RuntimeStatus,
)
from undercut.cluster.following import moment, summary, tasks

START = datetime.datetime(2026, 11, 26, 8, tzinfo=datetime.UTC)
NEVER = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
# As KFP 2.17 lists the nodes of a workflow: sorted by their ids.
NODES = [
    ("lifecycle-x7k2p", "RUNNING"),
    ("root", "RUNNING"),
    ("root-driver", "SUCCEEDED"),
    ("ingest-driver", "SUCCEEDED"),
    ("ingest", "SUCCEEDED"),
    ("executor", "SUCCEEDED"),
    ("for-loop-1-driver", "SUCCEEDED"),
    ("for-loop-1", "RUNNING"),
    ("iteration-driver", "SUCCEEDED"),
    ("iteration-iterations(0:0)", "SUCCEEDED"),
    ("iteration-item-driver", "SUCCEEDED"),
    ("iteration-item", "SUCCEEDED"),
    ("quantize-driver", "SUCCEEDED"),
    ("quantize", "SUCCEEDED"),
    ("quantize-driver", "SUCCEEDED"),
    ("quantize", "FAILED"),
    ("quantize-driver", "SUCCEEDED"),
    ("quantize", "SUCCEEDED"),
    ("select-driver", "SKIPPED"),
    ("select", "PENDING"),
]


def run() -> V2beta1Run:
    """Return a run with these nodes, started a minute apart; the failed one's history has its error."""
    details = []
    for number, (name, state) in enumerate(NODES):
        error = GoogleRpcStatus(code=2, message="it does not fit")
        history = [V2beta1RuntimeStatus(state=state, error=error)] if state == "FAILED" else None
        began = NEVER if state == "PENDING" else START + datetime.timedelta(minutes=number)
        times = {"start_time": began, "end_time": NEVER}
        details.append(V2beta1PipelineTaskDetail(display_name=name, state=state, state_history=history, **times))
    return V2beta1Run(run_details=V2beta1RunDetails(task_details=details))


def test_tasks_without_drivers_executors_and_parts_of_loops() -> None:
    found = tasks(run())
    assert [task.name for task in found] == ["ingest", "for-loop-1", "quantize", "quantize", "quantize", "select"]
    assert [task.error for task in found if task.error] == ["it does not fit"]
    assert found[-1].started is None
    assert found[0].started == START + datetime.timedelta(minutes=4)


def test_a_task_in_a_loop_is_counted() -> None:
    assert summary(run()) == {
        "ingest": "succeeded",
        "for-loop-1": "running",
        "quantize": "1 failed, 2 succeeded",
        "select": "pending",
    }


def test_a_run_that_has_just_been_made_has_no_tasks() -> None:
    assert tasks(V2beta1Run()) == []
    assert moment(None) is None
    assert moment(NEVER) is None
