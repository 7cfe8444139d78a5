"""Every way to a cluster, and every way in which it fails: one line, exit code 2, no secret."""

import datetime
import ipaddress
import json
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes.config import kube_config
from undercut.cluster import connection, settings
from undercut.errors import ConfigurationError

from tests.cluster.conftest import Done, Undercut
from tests.cluster.fake_kfp import FakeKfp, Fault, Handler

TOKEN, COOKIE = "planted-7f3a-token", "authservice_session=planted-7f3a-cookie"
PAGE = "<!DOCTYPE html><html><body>Log in</body></html>"


def answer(status: int, text: str = "", kind: str = "application/json") -> Callable[[Handler], None]:
    body = text or json.dumps({"code": 2, "message": f"the server's own words, {TOKEN}"})
    return lambda handler: handler.send(status, body, kind)


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def assert_refused(done: Done, *words: str) -> None:
    assert done.code == 2, done.out + done.err
    assert len(done.err.splitlines()) == 1, done.err
    assert "Traceback" not in done.err
    assert "planted" not in done.out + done.err
    print(done.err)
    for word in words:
        assert word in done.err, done.err


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (answer(400), ["400", "the server's own words"]),
        (answer(401), ["authentication", "401", "UNDERCUT_KFP_TOKEN"]),
        (answer(403), ["authorization", "403", "GET /apis/v2beta1/"]),
        (answer(404), ["404", "path"]),
        (answer(409), ["409", "exists already"]),
        (answer(500), ["500", "log of ml-pipeline"]),
        (answer(503), ["503"]),
        (answer(502, PAGE, "text/html"), ["web page"]),
        (answer(200, PAGE, "text/html; charset=utf-8"), ["text/html", "web page, perhaps a login"]),
        (answer(200, "ok", "text/plain"), ["text/plain"]),
        (answer(200, '["ok"]'), ["Kubeflow Pipelines"]),
        (answer(200, "{"), ["Kubeflow Pipelines"]),
        (hang_up, ["endpoint"]),
    ],
    ids=["400", "401", "403", "404", "409", "500", "503", "page", "login", "text", "list", "cut", "hang-up"],
)
@pytest.mark.parametrize("path", ["/healthz", "/runs$"])
def test_an_answer_that_is_none(
    undercut: Undercut,
    kfp: FakeKfp,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    act: Callable[[Handler], None],
    words: list[str],
) -> None:
    monkeypatch.setenv("UNDERCUT_KFP_TOKEN", TOKEN)
    kfp.faults.append(Fault(path, act, times=9))
    assert_refused(undercut("runs"), *words)


def test_another_servers_api(undercut: Undercut, kfp: FakeKfp) -> None:
    kfp.faults.append(Fault("/healthz", answer(200, '{"status": "ok"}')))
    assert_refused(undercut("runs"), "Something else answers")


def test_a_server_that_says_when_to_come_again_is_not_waited_for_till_then(undercut: Undercut, kfp: FakeKfp) -> None:
    for status in (429, 503):
        later = Fault("/runs$", lambda h, s=status: h.send(s, "{}", headers=(("Retry-After", "86400"),)), times=9)  # type: ignore[misc]
        kfp.faults = [later]
        assert_refused(undercut("runs"), str(status))


def test_nobody_there(undercut: Undercut) -> None:
    assert_refused(undercut("runs", "--endpoint", "http://127.0.0.1:1"), "127.0.0.1:1", "refused", "port-forward")
    assert_refused(undercut("runs", "--endpoint", "http://kfp.invalid"), "kfp.invalid", "a host that exists")
    assert_refused(undercut("runs", "--endpoint", "kfp.example.com"), "endpoint", "https://host/path")
    assert_refused(undercut("runs", "--endpoint", "https://me:planted@host"), "***@host", "without a login")


def test_a_server_that_does_not_answer(
    undercut: Undercut, kfp: FakeKfp, pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERCUT_KFP_TIMEOUT_SECONDS", "0.2")
    slow = Fault("POST .*/runs$", lambda handler: time.sleep(0.5))
    kfp.faults.append(slow)
    done = undercut("submit", pipeline, "--source", "s3://data/rows.csv")
    assert_refused(Done(done.code, done.out, done.err.splitlines()[-1]), "within 0.2 s", "undercut runs")
    assert slow.times == 0
    assert sum(r.path.endswith("/runs") for r in kfp.requests) == 1, "what may have arrived is not sent again"


def test_a_token_from_the_environment_and_from_a_file(
    undercut: Undercut, kfp: FakeKfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp.token = TOKEN
    assert_refused(undercut("runs"), "401", "no token")
    monkeypatch.setenv("UNDERCUT_KFP_TOKEN", "wrong-planted")
    assert_refused(undercut("runs"), "401", "the token of UNDERCUT_KFP_TOKEN")
    monkeypatch.setenv("UNDERCUT_KFP_TOKEN", TOKEN)
    assert undercut("runs").code == 0
    monkeypatch.delenv("UNDERCUT_KFP_TOKEN")
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    monkeypatch.setenv("UNDERCUT_KFP_TOKEN_FILE", str(file))
    assert undercut("runs").code == 0
    monkeypatch.setenv("UNDERCUT_KFP_TOKEN", TOKEN)
    assert_refused(undercut("runs"), "token and token_file", "one way")


@pytest.mark.parametrize("secret", ["planted-7f3a\nsecond", "planted-7f3a\x00", "planted-7f3ä"])
def test_a_secret_that_no_header_can_hold(
    undercut: Undercut, kfp: FakeKfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    """Python's HTTP client would show it in the error's text."""
    (tmp_path / "token").write_text(secret)
    monkeypatch.setenv("UNDERCUT_KFP_TOKEN_FILE", str(tmp_path / "token"))
    assert_refused(undercut("runs"), "token_file", "one line")
    monkeypatch.delenv("UNDERCUT_KFP_TOKEN_FILE")
    if "\0" not in secret:
        monkeypatch.setenv("UNDERCUT_KFP_COOKIE", secret)
        assert_refused(undercut("runs"), "UNDERCUT_KFP_COOKIE", "one line")
    assert kfp.requests == []


def test_a_cookie(undercut: Undercut, kfp: FakeKfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kfp.cookie = COOKIE
    monkeypatch.setenv("UNDERCUT_KFP_COOKIE", COOKIE)
    assert undercut("runs").code == 0
    assert "authorization" not in kfp.requests[-1].headers
    monkeypatch.delenv("UNDERCUT_KFP_COOKIE")
    (tmp_path / "cookie").write_text(COOKIE)
    monkeypatch.setenv("UNDERCUT_KFP_COOKIE_FILE", str(tmp_path / "cookie"))
    assert undercut("runs").code == 0


def test_a_pods_token_is_read_again(kfp: FakeKfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes renews a projected token while a run is followed."""
    projected = tmp_path / "projected"
    projected.write_text("first")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(projected))
    kfp.token = "first"
    client = connection.Client(settings.read_settings({}))
    client.list_runs()
    kfp.token = "second"
    projected.write_text("second")
    client.list_runs()
    assert [r.headers["authorization"] for r in kfp.requests[-2:]] == ["Bearer first", "Bearer second"]
    kfp.token = "third"
    with pytest.raises(ConfigurationError, match="the pod's token"):
        client.list_runs()


def test_inside_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address is a name that only a cluster knows: what would be asked is all that can be seen here."""
    (tmp_path / "projected").write_text("first")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "projected"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(ConfigurationError, match=r"http://ml-pipeline\.kfp\.svc\.cluster\.local:8888"):
        connection.Client(settings.read_settings({"kfp_namespace": "kfp"}))


def test_through_a_kubeconfig(
    undercut: Undercut, kfp: FakeKfp, pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server's proxy leads to KFP; the user's token is the one of the kubeconfig's context."""
    kfp.token = TOKEN
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "other",
        "clusters": [{"name": "c", "cluster": {"server": os.environ["KF_PIPELINES_ENDPOINT"]}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    done = undercut("submit", pipeline, "--source", "s3://data/rows.csv", "--context", "here")
    assert done.code == 0, done.err
    assert "set `ui` for a link" in done.out
    assert len(kfp.store["runs"]) == 1
    assert {r.headers["authorization"] for r in kfp.requests} == {f"Bearer {TOKEN}"}
    assert {r.prefix for r in kfp.requests} == {"/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy"}
    kfp.faults.append(Fault("/runs$", lambda h: h.send(401, json.dumps({"message": h.headers["authorization"]}))))
    assert_refused(undercut("runs", "--context", "here"), "401", "Bearer ***", "the kubeconfig")
    assert_refused(undercut("runs"), "endpoint", "kubeconfig")
    assert_refused(undercut("runs", "--context", "elsewhere"), "context", "elsewhere")
    monkeypatch.setenv("UNDERCUT_KFP_TOKEN", TOKEN)
    assert_refused(undercut("runs", "--context", "here"), "the address that the token is for")
    monkeypatch.delenv("UNDERCUT_KFP_TOKEN")
    (tmp_path / "kubeconfig").write_text("apiVersion: [")
    assert_refused(undercut("runs", "--context", "here"), "context", "KUBECONFIG")


def test_no_way_at_all(undercut: Undercut, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", "/nowhere/config")
    assert_refused(undercut("runs"), "endpoint", "KF_PIPELINES_ENDPOINT", "kubeconfig")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, and its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kfp")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*formats))
    (tmp_path / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return tmp_path / "ca.pem"


def test_tls(undercut: Undercut, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    server = FakeKfp().start(tls=context)
    url = f"https://127.0.0.1:{server.server_address[1]}"
    assert_refused(undercut("runs", "--endpoint", url), "certificate", "ca_file")
    monkeypatch.setenv("UNDERCUT_KFP_CA_FILE", str(certificate))
    assert undercut("runs", "--endpoint", url).code == 0
    monkeypatch.delenv("UNDERCUT_KFP_CA_FILE")
    monkeypatch.setenv("UNDERCUT_KFP_VERIFY", "false")
    done = undercut("runs", "--endpoint", url)
    assert (done.code, done.err) == (0, "")
    plain = undercut("runs", "--endpoint", url.replace("https", "http"))
    assert_refused(plain, "endpoint")
    server.shutdown()
    server.server_close()


def test_the_file_of_settings(
    undercut: Undercut, kfp: FakeKfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = os.environ["KF_PIPELINES_ENDPOINT"]
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    file = tmp_path / "config" / "undercut" / "config.yaml"
    file.parent.mkdir(parents=True)
    (tmp_path / "token").write_text(TOKEN)
    kfp.token, kfp.multi_user = TOKEN, True
    content = {"endpoint": f"{url}/pipeline", "namespace": "team-a", "token_file": str(tmp_path / "token")}
    file.write_text(yaml.safe_dump({**content, "ui": "https://kubeflow.example.com/pipeline"}))
    assert undercut("runs").code == 0
    assert kfp.requests[-1].query["namespace"] == "team-a"
    monkeypatch.setenv("UNDERCUT_KFP_NAMESPACE", "team-b")
    undercut("runs")
    assert kfp.requests[-1].query["namespace"] == "team-b"
    undercut("runs", "--namespace", "team-c")
    assert kfp.requests[-1].query["namespace"] == "team-c"
    for wrong, words in (
        ({"token": "planted"}, ["token", "token_file"]),
        ({"endpont": url}, ["endpont", "endpoint"]),
        ({"verify": "perhaps"}, ["verify", "true or false"]),
        ({"namespace": 3}, ["namespace", "a text"]),
        ({"timeout_seconds": "long"}, ["timeout_seconds", "a number"]),
        ({"ca_file": "/nowhere.pem"}, ["ca_file", "/nowhere.pem"]),
    ):
        file.write_text(yaml.safe_dump({**content, **wrong}))
        assert_refused(undercut("runs"), *words)
    file.write_text("- endpoint")
    assert_refused(undercut("runs"), str(file), "mapping")


def test_a_kubeflow_of_several_users(undercut: Undercut, kfp: FakeKfp) -> None:
    kfp.multi_user, kfp.forbidden = True, "theirs"
    assert_refused(undercut("runs"), "namespace", "several users")
    assert_refused(undercut("runs", "--namespace", "theirs"), "403", "authorization")
    assert undercut("runs", "--namespace", "mine").code == 0


def test_a_namespace_is_left_out_where_kfp_has_one_user(undercut: Undercut, kfp: FakeKfp, pipeline: Path) -> None:
    done = undercut("submit", pipeline, "--source", "s3://data/rows.csv", "--namespace", "team-a")
    assert done.code == 0, done.err
    assert not any("team-a" in str(r) for r in kfp.requests)


def test_settings_do_not_show_secrets() -> None:
    assert "planted" not in repr(settings.Connection(token=TOKEN))
