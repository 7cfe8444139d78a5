"""What a TrainJob hands on, over an outage of the store."""

import threading
from pathlib import Path

import pytest
from undercut import artifacts
from undercut.cluster import folders
from undercut.errors import ConfigurationError

from tests.seaweedfs import serving

pytestmark = pytest.mark.resilience


def test_a_store_that_restarts_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    artifacts.seal(model, artifacts.MODEL, {"lost": ""})
    with serving(tmp_path / "weed") as weed:
        weed.bucket("store")
        for name, value in weed.environment.items():
            monkeypatch.setenv(name, value)
        assert folders.read("s3://store/report.json") is None
        weed.kill()
        threading.Timer(1, weed.start).start()
        folders.upload(model, "s3://store/made/")
        weed.kill()
        threading.Timer(1, weed.start).start()
        folders.write("s3://store/report.json", b"{}")
        assert folders.read("s3://store/report.json") == b"{}"
        assert folders.read("s3://store/made/model.json") == (model / "model.json").read_bytes()
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        with pytest.raises(ConfigurationError, match=r"^object store: .*AWS_SECRET_ACCESS_KEY does not belong"):
            folders.read("s3://store/report.json")
