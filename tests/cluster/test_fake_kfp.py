"""The stand-in speaks of the same fields as KFP's own client."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import kfp_server_api
import pytest
import requests

from tests.cluster import fake_kfp

MESSAGES = {
    "pipeline": kfp_server_api.V2beta1Pipeline,
    "experiment": kfp_server_api.V2beta1Experiment,
    "run": kfp_server_api.V2beta1Run,
    "recurring_run": kfp_server_api.V2beta1RecurringRun,
}


def check(fields: dict[str, Any], message: Any) -> None:
    """Compare field by field; a message within is one of KFP's, too."""
    known = dict(zip(message.attribute_map.values(), message.openapi_types.values(), strict=True))
    for name, kind in fields.items():
        assert name in known
        if isinstance(kind, dict):
            check(kind, getattr(kfp_server_api, known[name]))
        elif kind in (bool, int):
            assert known[name] in ("bool", "str" if kind is int else "")  # 64-bit integers travel as text


@pytest.mark.parametrize("name", MESSAGES)
def test_fields_are_kfps(name: str) -> None:
    check(fake_kfp.FIELDS[name], MESSAGES[name])


def test_an_unknown_field_a_wrong_type_and_a_missing_one_are_refused() -> None:
    kfp = fake_kfp.FakeKfp()
    server = kfp.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/apis/v2beta1"
    for body in ({"display_name": "e", "nickname": "e"}, {"display_name": 3}, {}):
        answer = requests.post(f"{url}/experiments", json=body, timeout=10)
        assert (answer.status_code, answer.json()["code"]) == (400, 3)
    assert requests.post(f"{url}/experiments", json={"display_name": "e"}, timeout=10).status_code == 200
    assert requests.post(f"{url}/experiments", json={"display_name": "e"}, timeout=10).status_code == 409
    assert requests.get(f"{url}/runs/none", timeout=10).status_code == 404
    assert (
        requests.get(
            f"{url}/runs?filter=%7B%22predicates%22%3A%5B%7B%22operation%22%3A1%2C%22key%22%3A%22color%22%2C%22stringValue%22%3A%22red%22%7D%5D%7D",
            timeout=10,
        ).status_code
        == 400
    )
    server.shutdown()
    server.server_close()


def test_it_serves_as_a_program() -> None:
    command = [sys.executable, str(Path(inspect.getfile(fake_kfp))), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert requests.get(f"{url}/apis/v2beta1/healthz", timeout=10).json()["multi_user"] is False
        process.terminate()
