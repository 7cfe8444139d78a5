"""A stateful stand-in for the API server of Kubeflow Pipelines 2.17, over real HTTP.

It has the routes of ``backend/api/v2beta1`` that a client of pipelines, experiments, runs and recurring runs
needs, refuses what the real one refuses (unknown fields, wrong types, missing ids, names taken, parameters that
the pipeline does not have, a filter's unknown key), and answers in its form: snake_case, empty fields left out,
64-bit integers as text, 1970 for a time that has not come. What it does not do is run anything: each time a run
is asked for, it is one step further.

    python tests/cluster/fake_kfp.py --port 0        # prints its URL, serves until it is ended
"""

import argparse
import datetime
import email.parser
import email.policy
import functools
import itertools
import json
import re
import ssl
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, unquote_plus, urlsplit

import yaml

Json = dict[str, Any]
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13, 503: 14}
FILTER_KEYS = {
    "pipelines": {"pipeline_id", "name", "display_name", "created_at", "description", "namespace"},
    "versions": {"pipeline_version_id", "name", "display_name", "created_at", "status", "description"},
    "experiments": {"experiment_id", "name", "display_name", "created_at", "namespace", "storage_state"},
    "runs": {"run_id", "display_name", "created_at", "finished_at", "state", "experiment_id", "recurring_run_id"},
    "recurring_runs": {"recurring_run_id", "name", "display_name", "created_at", "updated_at", "description"},
}
IDS = {
    "versions": "pipeline_version_id",
    **{k: f"{k[:-1]}_id" for k in ("pipelines", "experiments", "runs", "recurring_runs")},
}
REFERENCE = {"pipeline_id": str, "pipeline_version_id": str}
RUNTIME = {"parameters": dict, "pipeline_root": str}
FIELDS: dict[str, Json] = {
    "pipeline": {"display_name": str, "name": str, "description": str, "namespace": str, "tags": dict},
    "experiment": {"display_name": str, "description": str, "namespace": str},
    "run": {
        "experiment_id": str, "display_name": str, "description": str, "pipeline_spec": dict, "service_account": str,
        "pipeline_version_reference": REFERENCE, "runtime_config": RUNTIME, "plugins_input": dict,
    },
    "recurring_run": {
        "experiment_id": str, "display_name": str, "description": str, "pipeline_spec": dict, "service_account": str,
        "pipeline_version_reference": REFERENCE, "runtime_config": RUNTIME, "max_concurrency": int, "mode": str,
        "no_catchup": bool, "namespace": str, "plugins_input": dict,
        "trigger": {
            "cron_schedule": {"cron": str, "start_time": str, "end_time": str},
            "periodic_schedule": {"interval_second": int, "start_time": str, "end_time": str},
        },
    },
}  # fmt: skip
KINDS = {
    "STRING": str, "NUMBER_INTEGER": (int, float), "NUMBER_DOUBLE": (int, float), "BOOLEAN": bool,
    "LIST": list, "STRUCT": dict,
}  # fmt: skip
NEVER = "1970-01-01T00:00:00Z"


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass
class Request:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    prefix: str = ""  # before /apis/v2beta1, where the request was let in


@dataclass
class Fault:
    """What happens to the next ``times`` requests that match ``METHOD path``, before or after they take effect."""

    pattern: str
    act: Callable[["Handler"], None]
    times: int = 1
    after: bool = False


@dataclass
class FakeKfp:
    """The server's state; ``journal`` has, after each change, every recurring run's (name, id, enabled)."""

    multi_user: bool = False
    token: str = ""  # required as a bearer token if set
    cookie: str = ""
    forbidden: str = ""  # a namespace that nobody here may use
    failing_task: str = ""
    failure: str = ""  # the failing task's error; KFP 2.17 itself gives none
    store: dict[str, dict[str, Json]] = field(default_factory=lambda: {kind: {} for kind in FILTER_KEYS})
    files: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    journal: list[list[tuple[str, str, bool]]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    lock: Any = field(default_factory=threading.RLock)
    clock: Any = field(default_factory=lambda: itertools.count(1_800_000_000))

    def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> ThreadingHTTPServer:
        """Serve on 127.0.0.1 in a thread of its own."""
        server = ThreadingHTTPServer(("127.0.0.1", port), type("BoundHandler", (Handler,), {"kfp": self}))
        server.daemon_threads = True
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    def now(self) -> str:
        return datetime.datetime.fromtimestamp(next(self.clock), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def check_identity(self, request: Request) -> None:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            raise Refused(401, "Request header error: there is no user identity header.")
        if self.cookie and request.headers.get("cookie") != self.cookie:
            raise Refused(401, "Request header error: there is no user identity header.")

    def check_namespace(self, namespace: str) -> None:
        if not self.multi_user:
            return
        if not namespace:
            raise Refused(400, "Invalid input error: a namespace cannot be empty in multi-user mode")
        if namespace == self.forbidden:
            raise Refused(403, f"User is not authorized to use namespace {namespace}")

    def get(self, kind: str, key: str) -> Json:
        if key not in self.store[kind]:
            raise Refused(404, f"ResourceNotFoundError: {kind} {key} not found")
        return self.store[kind][key]

    def add(self, kind: str, item: Json) -> Json:
        item = {**item, IDS[kind]: str(uuid.uuid4()), "created_at": self.now()}
        self.store[kind][item[IDS[kind]]] = item
        return item

    def listed(self, kind: str, query: dict[str, str], where: Json) -> Json:
        """Return one page: equal fields of ``where``, the filter, the order, 20 by default and 200 at most."""
        items = [i for i in self.store[kind].values() if all(i.get(k, "") == v for k, v in where.items() if v)]
        for key, value in _predicates(kind, query.get("filter", "")):
            # Without regard to case: MySQL's usual collation.
            items = [i for i in items if str(i.get(key, "")).lower() == value.lower()]
        key, _, order = query.get("sort_by", "").partition(" ")
        if key:
            items = sorted(items, key=lambda i: str(i.get(key, "")), reverse=order == "desc")
        size = min(int(query.get("page_size") or 0) or 20, 200)
        start = int(query.get("page_token") or 0)
        name = {"versions": "pipeline_versions", "recurring_runs": "recurringRuns"}.get(kind, kind)
        token = str(start + size) if start + size < len(items) else ""
        return {name: items[start : start + size], "total_size": len(items), "next_page_token": token}

    # pipelines
    def create_pipeline(self, body: Json) -> Json:
        _checked("pipeline", body, required=("display_name",))
        body = {**body, "name": body.get("name") or body["display_name"]}
        self.check_namespace(body.get("namespace", ""))
        self._free("pipelines", name=body["name"], namespace=body.get("namespace", ""))
        return self.add("pipelines", body)

    def upload_version(self, query: dict[str, str], filename: str, content: str) -> Json:
        self.get("pipelines", query.get("pipelineid", ""))
        if not filename.endswith((".yaml", ".yml")):
            raise Refused(400, "Failed to create a pipeline version")
        documents = _documents(content)
        if documents[0].get("schemaVersion") != "2.1.0":
            raise Refused(400, "Failed to create a pipeline version")
        name = query.get("name") or filename
        if len(name) > 127:
            raise Refused(400, "PipelineVersion.Name length cannot exceed 127")
        self._free("versions", name=name, pipeline_id=query["pipelineid"])
        item = {"pipeline_id": query["pipelineid"], "name": name, "display_name": name}
        item = self.add("versions", {**item, "description": query.get("description", "")})
        self.files[item["pipeline_version_id"]] = content
        return item

    def version(self, item: Json) -> Json:
        documents = _documents(self.files[item["pipeline_version_id"]])
        spec = (
            documents[0]
            if len(documents) == 1
            else dict(zip(("pipeline_spec", "platform_spec"), documents, strict=False))
        )
        return {**item, "pipeline_spec": spec}

    # experiments
    def create_experiment(self, body: Json) -> Json:
        _checked("experiment", body, required=("display_name",))
        self.check_namespace(body.get("namespace", ""))
        self._free("experiments", display_name=body["display_name"], namespace=body.get("namespace", ""))
        return self.add("experiments", {**body, "storage_state": "AVAILABLE"})

    def _free(self, kind: str, **fields: str) -> None:
        if any(all(i.get(k, "") == v for k, v in fields.items()) for i in self.store[kind].values()):
            raise Refused(409, f"Already exist error: the {kind[:-1]} {next(iter(fields.values()))} already exists")

    # runs
    def create_run(self, body: Json, recurring_run_id: str = "") -> Json:
        _checked("run", body, required=("display_name", "experiment_id", "runtime_config"))
        experiment = self.get("experiments", body["experiment_id"])
        self._check_parameters(body)
        account = body.get("service_account") or "pipeline-runner"
        extra = {"service_account": account, "state": "PENDING", "namespace": experiment.get("namespace", "")}
        extra |= {"recurring_run_id": recurring_run_id, "finished_at": NEVER, "storage_state": "AVAILABLE"}
        return self.add("runs", {**body, **extra})

    def observe_run(self, item: Json) -> Json:
        """Answer with a run, which is one task further than the last time."""
        names = self._task_names(item)
        step = item["step"] = item.get("step", 0) + 1
        reached = min(step - 2, len(names))
        failing = names.index(self.failing_task) if self.failing_task in names else len(names)
        failed = reached > failing
        if item["state"] in ("PENDING", "RUNNING"):
            item["state"] = "FAILED" if failed else "PENDING" if step < 2 else "RUNNING"
            if reached == len(names) and not failed:
                item["state"] = "SUCCEEDED"
            if item["state"] in ("FAILED", "SUCCEEDED"):
                item["finished_at"] = self.now()
        details = [] if step < 2 else self._nodes(names, reached, failing if failed else -1)
        answer = {k: v for k, v in item.items() if k != "step"}
        return {**answer, "run_details": {"task_details": details}}

    def _nodes(self, names: list[str], reached: int, failing: int) -> list[Json]:
        """Return Argo's nodes: each task has its driver and its executor beside it."""
        began, ended = "2027-01-15T08:00:00Z", "2027-01-15T08:05:00Z"
        nodes = [("workflow-x7k2p", "RUNNING"), ("root-driver", "SUCCEEDED"), ("root", "RUNNING")]
        for number, name in enumerate(names[: reached + 1]):
            state = "FAILED" if number == failing else "SUCCEEDED" if number < reached else "RUNNING"
            if failing in range(number):
                break
            nodes += [(f"{name}-driver", "SUCCEEDED"), (name, state), ("executor", state)]
        details = []
        for number, (name, state) in enumerate(nodes):
            start = began.replace("08:00:00", f"08:{number:02d}:00")
            node: Json = {"task_id": str(uuid.uuid4()), "display_name": name, "state": state, "start_time": start}
            if state == "FAILED" and self.failure:
                node["error"] = {"code": 2, "message": self.failure}
            details.append({**node, "create_time": began, "end_time": NEVER if state == "RUNNING" else ended})
        return details

    def _task_names(self, item: Json) -> list[str]:
        document, *_ = _documents(self.files[item["pipeline_version_reference"]["pipeline_version_id"]])
        return list(document["root"]["dag"]["tasks"])

    def _check_parameters(self, body: Json) -> None:
        reference = body.get("pipeline_version_reference")
        if not reference or not reference.get("pipeline_version_id"):
            raise Refused(400, "Failed to fetch a template with an empty pipeline spec manifest")
        version = self.get("versions", reference["pipeline_version_id"])
        if version["pipeline_id"] != reference.get("pipeline_id"):
            raise Refused(400, "The version belongs to another pipeline")
        document, *_ = _documents(self.files[version["pipeline_version_id"]])
        inputs = document["root"].get("inputDefinitions", {}).get("parameters", {})
        given = body.get("runtime_config", {}).get("parameters", {})
        if extra := sorted(set(given) - set(inputs)):
            raise Refused(400, f"parameter(s) provided are not required by pipeline: {', '.join(extra)}")
        for name, spec in inputs.items():
            if name not in given:
                if not spec.get("isOptional") and "defaultValue" not in spec:
                    raise Refused(
                        400, f"parameter {name} is not optional, yet has neither default value nor user provided value"
                    )
            elif not isinstance(given[name], KINDS[spec["parameterType"]]):
                raise Refused(400, f"input parameter {name} requires type {spec['parameterType'].lower()}")

    # recurring runs
    def create_recurring_run(self, body: Json) -> Json:
        required = ("display_name", "experiment_id", "max_concurrency", "trigger", "mode", "runtime_config")
        _checked("recurring_run", body, required)
        experiment = self.get("experiments", body["experiment_id"])
        self._check_parameters(body)
        if not 1 <= int(body["max_concurrency"]) <= 10:
            raise Refused(400, "Max concurrency of a recurring run must be at least 1 and at most 10")
        if len(body["trigger"]) != 1:
            raise Refused(400, "a trigger is a cron schedule or a periodic schedule")
        cron = body["trigger"].get("cron_schedule", {}).get("cron")
        if cron is not None and len(cron.split()) != 6 and not cron.startswith("@"):
            raise Refused(400, f"Schedule cron is not a supported format. Error: Expected 6 fields: {cron}")
        if body["mode"] not in ("ENABLE", "DISABLE"):
            raise Refused(400, "mode is ENABLE or DISABLE")
        enabled = body["mode"] == "ENABLE"
        extra = {"status": "ENABLED" if enabled else "DISABLED", "namespace": experiment.get("namespace", "")}
        extra |= {"service_account": body.get("service_account") or "pipeline-runner", "updated_at": self.now()}
        item = self.add("recurring_runs", {**body, **extra})
        self._note()
        return item

    def change_mode(self, item: Json, enabled: bool) -> Json:
        item.update(
            status="ENABLED" if enabled else "DISABLED", mode="ENABLE" if enabled else "DISABLE", updated_at=self.now()
        )
        self._note()
        return {}

    def delete_recurring_run(self, item: Json, query: dict[str, str]) -> Json:
        if query.get("propagation_policy", "ORPHAN") not in ("FOREGROUND", "BACKGROUND", "ORPHAN"):
            raise Refused(400, "unknown propagation policy")
        del self.store["recurring_runs"][item["recurring_run_id"]]
        self._note()
        return {}

    def fire(self, name: str) -> None:
        """Start a run of an enabled recurring run, as the controller does at its time."""
        for item in self.store["recurring_runs"].values():
            if item["display_name"] == name and item["status"] == "ENABLED":
                wanted = {k: v for k, v in item.items() if k in FIELDS["run"]}
                self.create_run(wanted, item["recurring_run_id"])

    def _note(self) -> None:
        items = self.store["recurring_runs"].values()
        self.journal.append([(i["display_name"], i["recurring_run_id"], i["status"] == "ENABLED") for i in items])

    def answer(self, request: Request) -> Json:
        """Return the answer to a request that was let in."""
        path, query, method = request.path, request.query, request.method
        namespace = query.get("namespace", "")
        if method == "GET" and path == "/healthz":
            return {
                "commit_sha": "fake",
                "tag_name": "2.17.0",
                "multi_user": self.multi_user,
                "pipeline_store": "database",
            }
        if method == "POST" and path == "/pipelines/upload_version":
            return self.upload_version(query, *_uploaded(request))
        body = json.loads(request.body) if request.body else {}
        create = {"/pipelines": self.create_pipeline, "/experiments": self.create_experiment, "/runs": self.create_run}
        create["/recurringruns"] = self.create_recurring_run
        if method == "POST" and path in create:
            return create[path](body)
        kinds = {
            "/pipelines": "pipelines",
            "/experiments": "experiments",
            "/runs": "runs",
            "/recurringruns": "recurring_runs",
        }
        if method == "GET" and path in kinds:
            if path != "/pipelines":  # without a namespace: the shared ones
                self.check_namespace(namespace)
            return self.listed(
                kinds[path], query, {"namespace": namespace, "experiment_id": query.get("experiment_id")}
            )
        match = re.fullmatch(r"/(\w+)/([^/:]+)(.*)", path)
        if match is None:
            raise Refused(404, "Not Found")
        return self._answer_one(method, match[1], unquote(match[2]), match[3], query)

    def _answer_one(self, method: str, kind: str, key: str, rest: str, query: dict[str, str]) -> Json:
        if kind == "pipelines" and method == "GET":
            item = self.get("pipelines", key)
            if rest == "/versions":
                page = self.listed("versions", query, {"pipeline_id": key})
                return {**page, "pipeline_versions": [self.version(v) for v in page["pipeline_versions"]]}
            return self.version(self.get("versions", rest.removeprefix("/versions/"))) if rest else item
        if kind == "experiments" and method == "GET":
            return self.get("experiments", key)
        if kind == "runs" and method == "GET":
            return self.observe_run(self.get("runs", key))
        if kind == "recurringruns":
            item = self.get("recurring_runs", key)
            if method == "POST" and rest in (":enable", ":disable"):
                return self.change_mode(item, rest == ":enable")
            if method == "DELETE":
                return self.delete_recurring_run(item, query)
            if method == "GET":
                return item
        raise Refused(404, "Not Found")


class Handler(BaseHTTPRequestHandler):
    kfp: FakeKfp
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def handle_one(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("content-length") or 0)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = parts.path
        kfp = self.kfp
        with kfp.lock:
            request = Request(self.command, path, query, headers, self.rfile.read(length))
            kfp.requests.append(request)
            fault = next((f for f in kfp.faults if f.times and re.search(f.pattern, f"{self.command} {path}")), None)
            if fault:
                fault.times -= 1
                if not fault.after:
                    fault.act(self)
                    return
            try:
                prefix, mark, inner = path.partition("/apis/v2beta1")
                if not mark or prefix not in (
                    "",
                    "/pipeline",
                    "/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy",
                ):
                    raise Refused(404, "Not Found")
                kfp.check_identity(request)
                request.path, request.prefix = inner, prefix
                status, answer = 200, kfp.answer(request)
            except Refused as error:
                details = [{"@type": "type.googleapis.com/google.rpc.Status", "message": error.message}]
                status, answer = (
                    error.status,
                    {"code": CODES[error.status], "message": error.message, "details": details},
                )
                if "upload" in path:
                    answer = {"error_message": error.message, "error_details": error.message}
            if fault:
                fault.act(self)
                return
        self.send(status, json.dumps(_in_kfps_form(answer)), "application/json")

    def send(
        self, status: int, text: str, kind: str = "application/json", headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = do_PATCH = handle_one  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@functools.cache
def _documents(compiled: str) -> list[Json]:
    """Return the pipeline's and the platform's specification of a compiled pipeline."""
    return list(yaml.load_all(compiled, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def _checked(name: str, body: Json, required: tuple[str, ...]) -> None:
    def check(fields: Json, content: Json, where: str) -> None:
        for key, value in content.items():
            if key not in fields:
                raise Refused(400, f'proto: (line 1:2): unknown field "{key}" in {where}')
            kind = fields[key]
            if isinstance(kind, dict):
                if not isinstance(value, dict):
                    raise Refused(400, f"proto: syntax error: {where}.{key} is no message")
                check(kind, value, f"{where}.{key}")
            elif kind is int:
                if isinstance(value, bool) or not re.fullmatch(r"-?\d+", str(value)):
                    raise Refused(400, f"proto: invalid value for int64 {where}.{key}: {value}")
            elif not isinstance(value, kind):
                raise Refused(400, f"proto: invalid value for {where}.{key}: {value}")

    check(FIELDS[name], body, name)
    for key in required:
        if not body.get(key):
            raise Refused(400, f"Invalid input error: the {name}'s {key} is empty")


def _predicates(kind: str, text: str) -> list[tuple[str, str]]:
    found = []
    # Decoded once more than the request, as the real server does.
    for predicate in json.loads(unquote_plus(text))["predicates"] if text else []:
        if predicate["operation"] not in (1, "EQUALS") or predicate["key"] not in FILTER_KEYS[kind]:
            raise Refused(400, f"Invalid input error: cannot filter {kind} by {predicate['key']}")
        found.append((predicate["key"], predicate["stringValue"]))
    return found


def _uploaded(request: Request) -> tuple[str, str]:
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + request.body)
    for part in message.iter_parts():
        if part.get_param("name", header="content-disposition") == "uploadfile":
            return str(part.get_filename()), part.get_payload(decode=True).decode()  # type: ignore[union-attr]
    raise Refused(400, "Failed to read pipeline from file")


def _in_kfps_form(value: Any, key: str = "") -> Any:
    """Leave out what is empty, and write 64-bit integers as text; a run's parameters are as they were given."""
    if isinstance(value, dict):
        if key in ("parameters", "pipeline_spec"):
            return value
        content = {k: _in_kfps_form(v, k) for k, v in value.items()}
        return {k: v for k, v in content.items() if v not in ("", None, False, 0, [], {}) or k == "multi_user"}
    if isinstance(value, list):
        return [_in_kfps_form(v) for v in value]
    return str(value) if key in ("max_concurrency", "interval_second") else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--multi-user", action="store_true")
    parser.add_argument("--token", default="")
    parser.add_argument("--failing-task", default="")
    options = parser.parse_args()
    kfp = FakeKfp(multi_user=options.multi_user, token=options.token, failing_task=options.failing_task)
    server = kfp.start(options.port)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
