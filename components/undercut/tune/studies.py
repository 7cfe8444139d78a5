"""Where a search lives: one Optuna study in SQLite in the workspace, or in a PostgreSQL that workers share.

A study's name holds the digests of data, base model and settings, so that different data never share
a study. Limits are not in it: a search that ran out of time goes on when it gets more.

A worker that died in the middle of a trial leaves it marked as running. On SQLite the study's lock
tells that nobody runs it; on PostgreSQL a trial is given up once its heartbeat has stopped. The
trial is then failed and its hyperparameters are tried again. Where checkpoints are stored, SQLite's file is
stored with them as each trial begins, so that a pod with an empty disk goes on with the trial that was cut off.
"""

import contextlib
import os
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna import Study
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from undercut import checkpoints, events
from undercut.errors import ConfigurationError, Unavailable
from undercut.tune.attempts import origin
from undercut.tune.settings import TuneConfig
from undercut.tune.space import SeededSampler, pruner

VARIABLE = "UNDERCUT_STUDY_URL"
HEARTBEAT_SECONDS = 15
ATTEMPTS = 3
FILE = "study.db"
_LOCK = 0x756E6463  # any number that all workers agree on


def server_url(parameter: str) -> URL | None:
    """Return the address of the shared database, or None for SQLite in the workspace.

    Args:
        parameter: ``postgresql://user@host/database`` without a password; empty to use the environment.

    Raises:
        ConfigurationError: no PostgreSQL address, or a parameter with a password in it.
    """
    given, field = (parameter, "study_url") if parameter else (os.environ.get(VARIABLE, ""), VARIABLE)
    if not given:
        return None
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise ConfigurationError(field, "an address that cannot be read", "postgresql://user@host/database") from None
    if url.get_backend_name() != "postgresql":
        raise ConfigurationError(field, url.get_backend_name(), "postgresql://user@host/database")
    if parameter and (url.password or "password" in url.query):
        remedy = f"Parameters are stored and shown: put the address into {VARIABLE}, or the password into PGPASSWORD"
        raise ConfigurationError(field, _shown(url), "an address without a password", remedy)
    return url.set(drivername="postgresql+psycopg2")


def _shown(url: URL) -> str:
    """Return the address without secrets."""
    return url.difference_update_query(["password"]).render_as_string(hide_password=True)


@contextlib.contextmanager
def opened(name: str, folder: Path, config: TuneConfig) -> Iterator[Study]:
    """Open or make the study ``name``; trials that a dead process left running are tried again.

    Args:
        name: the study's.
        folder: where SQLite keeps it.
        config: settings.

    Raises:
        ConfigurationError: the database does not answer, or another process runs the study on SQLite.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = server_url(config.study_url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if url is not None:
            yield _shared(name, url, config)
            return
        with checkpoints.locked(folder):
            checkpoints.recall(folder / FILE)
            study = _study(name, RDBStorage(f"sqlite:///{folder / FILE}"), config)
            for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                study.tell(trial.number, state=TrialState.FAIL)
                retry(study, trial)
            yield study


def keep(folder: Path, config: TuneConfig) -> None:
    """Store the study as it is now beside its trials' checkpoints, where it is SQLite's and a pod may vanish."""
    if checkpoints.store() is None or server_url(config.study_url) is not None:
        return
    snapshot = folder / "study.copy"
    with (
        contextlib.closing(sqlite3.connect(folder / FILE)) as source,
        contextlib.closing(sqlite3.connect(snapshot)) as target,
    ):
        source.backup(target)
    checkpoints.remember(folder / FILE, snapshot)
    snapshot.unlink()


def _study(name: str, storage: RDBStorage, config: TuneConfig) -> Study:
    return optuna.create_study(
        study_name=name,
        storage=storage,
        sampler=SeededSampler(config),
        pruner=pruner(config),
        direction=config.direction,
        load_if_exists=True,
    )


def _shared(name: str, url: URL, config: TuneConfig) -> Study:
    """Open the study on PostgreSQL; one worker at a time, since the first makes the tables."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            connection.execute(text("select pg_advisory_lock(:key)"), {"key": _LOCK})
            storage = RDBStorage(
                url.render_as_string(hide_password=False),
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=4 * HEARTBEAT_SECONDS,
                heartbeat_stale_trial_callback=retry,
                engine_kwargs={"pool_pre_ping": True},
            )
            return _study(name, storage, config)
    except DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise Unavailable(
            VARIABLE, _shown(url), "a PostgreSQL that answers and lets tables be made", f"It says: {reason}"
        ) from None
    finally:
        engine.dispose()


def retry(study: Study, trial: FrozenTrial) -> None:
    """Try the hyperparameters of a trial that its process left behind again, at most ``ATTEMPTS`` times."""
    first = origin(trial)
    attempts = sum(origin(t) == first for t in study.get_trials(deepcopy=False))
    if attempts >= ATTEMPTS:
        events.message(f"trial {first} was left behind by {attempts} processes: given up")
        return
    events.message(f"trial {trial.number} was left behind by its process: tried again")
    study.add_trial(waiting(trial))


def waiting(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial that repeats another with the same hyperparameters."""
    return create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={"retry_of": origin(trial)},
    )
