from pathlib import Path

import optuna
import pytest
from undercut.errors import ConfigurationError
from undercut.tune.attempts import origin
from undercut.tune.settings import TuneConfig
from undercut.tune.studies import ATTEMPTS, opened, server_url


def test_the_address_comes_from_the_parameter_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNDERCUT_STUDY_URL", raising=False)
    assert server_url("") is None
    monkeypatch.setenv("UNDERCUT_STUDY_URL", "postgresql://ann:secret@db/studies")
    url = server_url("")
    assert url is not None
    assert url.password == "secret"
    other = server_url("postgresql://bob@other:5433/studies")
    assert other is not None
    assert str(other) == "postgresql+psycopg2://bob@other:5433/studies"


@pytest.mark.parametrize("url", ["postgresql://ann:secret@db/studies", "postgresql://ann@db/studies?password=secret"])
def test_a_password_in_a_parameter_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"study_url: .* UNDERCUT_STUDY_URL") as caught:
        server_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://ann@db/studies", "db/studies", "postgresql://ann@db:port/studies"])
def test_what_is_no_postgresql_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="study_url: got"):
        server_url(url)


def test_a_database_that_does_not_answer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERCUT_STUDY_URL", f"postgresql://ann:secret@/studies?host={tmp_path}")
    with (
        pytest.raises(ConfigurationError, match=r"UNDERCUT_STUDY_URL: .* a PostgreSQL that answers") as caught,
        opened("study", tmp_path / "study", TuneConfig()),
    ):
        pass
    assert "secret" not in str(caught.value)


def test_one_process_a_study_on_sqlite(tmp_path: Path) -> None:
    with (
        opened("study", tmp_path / "study", TuneConfig()),
        pytest.raises(ConfigurationError, match="one training at a time"),
        opened("study", tmp_path / "study", TuneConfig()),
    ):
        pass


def test_a_trial_left_behind_is_failed_and_tried_again_but_not_for_ever(tmp_path: Path) -> None:
    """Each opening finds the trial that the one before it asked for and never told."""
    config = TuneConfig()
    for attempt in range(ATTEMPTS):
        with opened("study", tmp_path / "study", config) as study:
            trial = study.ask()
            assert trial.suggest_float("learning_rate", 1e-5, 1e-3) == config.defaults["learning_rate"]
            assert trial.user_attrs.get("retry_of", trial.number) == 0
            assert trial.number == attempt
    with opened("study", tmp_path / "study", config) as study:
        assert [t.state for t in study.trials] == [optuna.trial.TrialState.FAIL] * ATTEMPTS
        assert [origin(t) for t in study.trials] == [0] * ATTEMPTS
