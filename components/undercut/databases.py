"""A query's rows to a local Parquet file: ``sql+sqlite:///shop.db#query=SELECT text, label FROM t``.

What follows ``sql+`` is SQLAlchemy's URL without a password, for example
``sql+postgresql+psycopg2://ann@host/shop``; everything after ``#query=`` is the query, as it is. The
password comes from ``UNDERCUT_SQL_PASSWORD``, or from what the driver itself reads (``PGPASSWORD``).

The rows stream through a server-side cursor in one read-only transaction. Each value is kept as the
text that it would be in a CSV file, in UTF-8. A query without ORDER BY may give its rows in another
order each time, and then has another SHA-256.
"""

import json
import math
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from datetime import date, datetime
from datetime import time as clock
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from undercut import downloads, events
from undercut.downloads import Interrupted
from undercut.errors import ConfigurationError

PASSWORD = "UNDERCUT_SQL_PASSWORD"
_QUERY = "#query="
_BATCH_ROWS = 4096
_PROGRESS_SECONDS = 0.5
_SECRETS = re.compile(r"(?i)password|passwd|pwd|secret|token")
# What a server says that starts, stops, or is gone for a moment; a wrong name or password says otherwise.
_UNREACHABLE = re.compile(
    r"(?i)connection refused|could not connect|starting up|shutting down|closed the connection|lost connection"
    r"|timed? ?out|terminating connection|No such file or directory\s+Is the server running"
)


def from_database(uri: str, field: str, _pinned: str) -> Path:
    """Run a query and keep its rows as a Parquet file.

    Args:
        uri: ``sql+dialect://user@host/database#query=SELECT …``.
        field: the setting that names it.
        _pinned: not used: only the database knows whether its rows are still the same.

    Raises:
        ConfigurationError: the URI holds a password or no query, the driver is not installed, the server
            cannot be reached or refuses, the query is wrong, changes something or gives no columns, or
            its rows are over the size limit.
    """
    url, query = parse(uri, field)
    place = downloads.folder(uri)
    engine = _engine(url, uri, field)
    try:
        with downloads.locked(place):
            path = place / "rows.parquet"
            downloads.persist(lambda: _run(engine, query, path, uri, field), uri, field)
    finally:
        engine.dispose()
    return path


def parse(uri: str, field: str) -> tuple[URL, str]:
    """Return the database's address, with the password of the environment, and the query; nothing is opened.

    Raises:
        ConfigurationError: the URI is none of a database, holds a password, or has no query.
    """
    address, mark, query = uri[len("sql+") :].partition(_QUERY)
    allowed = "sql+dialect://user@host/database#query=SELECT …"
    try:
        url = make_url(address)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(field, f"sql+{address.partition('://')[0]}://…", allowed, str(error)) from error
    if url.password is not None or any(_SECRETS.search(name) for name in url.query):
        hidden = url.set(query={}).render_as_string(hide_password=True)
        remedy = f"A run's settings are shown to others: put the password into {PASSWORD}"
        raise ConfigurationError(field, f"sql+{hidden}", "an address without a password", remedy)
    if not mark or not query.strip():
        raise ConfigurationError(field, uri, allowed, f"Write {_QUERY} and the query after the address")
    password = os.environ.get(PASSWORD)
    return (url.set(password=password) if password and url.username else url), query


def _engine(url: URL, uri: str, field: str) -> Engine:
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise ConfigurationError(field, uri, "a database file that exists", f"Nothing is at {url.database or 'memory'}")
    try:
        engine = create_engine(url)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        remedy = f"Install it with pip, for example psycopg2-binary for PostgreSQL: {error}"
        raise ConfigurationError(field, uri, "a database whose driver is installed", remedy) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _open_sqlite)
    return engine


def _open_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    """Forbid writing, and leave text that is not UTF-8 to the row rules, which count it."""
    connection.execute("PRAGMA query_only = ON")
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")


def _run(engine: Engine, query: str, path: Path, uri: str, field: str) -> None:
    try:
        with engine.connect() as connection:
            _write(connection, query, path, uri, field)
    except DBAPIError as error:
        reason = " ".join(str(error.orig).split())
        if error.connection_invalidated or (isinstance(error, OperationalError) and _UNREACHABLE.search(reason)):
            raise Interrupted(reason) from error
        remedy = f"The database says: {reason}"
        raise ConfigurationError(field, uri, "a query that the database answers", remedy) from error


def _write(connection: Connection, query: str, path: Path, uri: str, field: str) -> None:
    options: dict[str, Any] = {"stream_results": True, "max_row_buffer": _BATCH_ROWS, "no_parameters": True}
    if connection.dialect.name == "postgresql":
        options["postgresql_readonly"] = True
    result = connection.execution_options(**options).exec_driver_sql(query)
    if not result.returns_rows:
        raise ConfigurationError(field, uri, "a query that gives rows", "Write a SELECT")
    partial, limit, rows, reported = path.with_name("rows.partial"), downloads.limit_bytes(), 0, time.monotonic()
    schema = pa.schema([(name, pa.binary()) for name in _names(list(result.keys()))])
    with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for batch in result.partitions(_BATCH_ROWS):
            columns = [pa.array(values, pa.binary()) for values in _columns(batch, len(schema))]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            rows += len(batch)
            if (size := partial.stat().st_size) > limit:
                downloads.check_size(size, size, path.parent, uri, field)
            if time.monotonic() - reported > _PROGRESS_SECONDS:
                reported = time.monotonic()
                events.progress(rows, rows, f"{rows:,} rows fetched")
    partial.replace(path)
    events.message(f"{field}: {rows:,} rows from the database")


def _names(columns: list[str]) -> list[str]:
    """Return names that differ: a join may give two columns one name."""
    return [name if columns.index(name) == i else f"{name}_{i + 1}" for i, name in enumerate(columns)]


def _columns(batch: Any, width: int) -> Iterator[list[bytes | None]]:
    for i in range(width):
        yield [_as_bytes(row[i]) for row in batch]


def _as_bytes(value: object) -> bytes | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bytes | memoryview):
        return bytes(value)
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, datetime | date | clock):
        value = value.isoformat()
    elif isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return str(value).encode("utf-8", "surrogateescape")
