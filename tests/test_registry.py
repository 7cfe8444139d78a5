from pathlib import Path

import pytest
from undercut import registry, workspace
from undercut.errors import ConfigurationError


def test_passwords_are_not_shown() -> None:
    assert registry.shown("postgresql+psycopg2://me:p%40ss@db:5432/x") == "postgresql+psycopg2://me:…@db:5432/x"
    assert registry.shown("GET http://me:a@b@host/ failed") == "GET http://me:…@host/ failed"
    assert registry.shown("sqlite:////home/me/mlflow.db") == "sqlite:////home/me/mlflow.db"
    assert registry.shown("http://host:5000") == "http://host:5000"


def test_the_local_store_is_in_the_workspace(capfd: pytest.CaptureFixture[str]) -> None:
    client = registry.connect()
    number = registry.experiment_id(client, "shop")
    assert registry.experiment_id(client, "shop") == number
    assert client.get_experiment(number).artifact_location == (workspace.home() / "mlartifacts").as_uri()
    assert [p.name for p in workspace.home().iterdir()] == ["mlflow.db"]
    assert capfd.readouterr() == ("", "")


def test_no_champion_names_what_there_is() -> None:
    client = registry.connect()
    client.create_registered_model("shop")
    assert registry.by_alias(client, "shop", registry.CHAMPION) is None
    assert registry.by_alias(client, "none", registry.CHAMPION) is None
    with pytest.raises(ConfigurationError, match=r"model: got 'news'; allowed: .*\(shop\)\. Run a pipeline first"):
        registry.champion_folder("news")


def test_a_version_not_made_here_is_refused(tmp_path: Path) -> None:
    client = registry.connect()
    client.create_registered_model("shop")
    client.create_model_version("shop", source=tmp_path.as_uri())
    client.set_registered_model_alias("shop", registry.CHAMPION, "1")
    with pytest.raises(ConfigurationError, match=r"models:/shop/1: got ''; allowed: a tag 'digest'"):
        registry.champion_folder("shop")
