"""The model that is served, and how it is exchanged while it answers.

A load reads the folder anew, verifies, loads, warms up and smoke-tests what it holds beside the running
model, and only then swaps one reference (KServe's own ``ModelRepository.load`` does nothing). Whatever is
wrong with the folder, the running model goes on. Loads are done one after the other, in one thread.

The folder is what ``--model`` names: a model folder, or a symbolic link to one. To exchange it at one
moment, put the new folder beside the old one and switch the link (``ln -sfn``); to roll back, switch the
link back and load again.
"""

import asyncio
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from kserve import ModelRepository
from kserve.errors import ModelNotFound

from undercut.errors import ConfigurationError
from undercut.serving import metrics
from undercut.serving.classifier import TextClassifier
from undercut.serving.loading import ServedModel, folder_digest, load_model
from undercut.serving.settings import ServeConfig


class SwappingRepository(ModelRepository):  # type: ignore[misc]
    """One named model, loaded from one folder as often as it is asked to.

    Args:
        config: the server's settings.

    Raises:
        ConfigurationError: the folder cannot be served.
    """

    def __init__(self, config: ServeConfig) -> None:
        super().__init__(str(config.model))
        self._config = config
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
        self._put(load_model(config.model, config.threads, config.digest, config.tokenizer))

    @property
    def served(self) -> ServedModel | None:
        """Return the model that answers now; None after it was unloaded."""
        classifier = self.models.get(self._config.name)
        return classifier.model if classifier else None

    async def load(self, name: str, digest: str | None = None) -> ServedModel:
        """Serve what the folder holds now; the answer comes when it is in place.

        Args:
            name: the model's name.
            digest: the digest that the folder must have.

        Raises:
            ModelNotFound: the server has no model of that name (HTTP 404).
            ConfigurationError: the folder cannot be served; the running model goes on (HTTP 400).
        """
        if name != self._config.name:
            raise ModelNotFound(name)
        if self._config.digest and not digest:
            remedy = 'Send {"parameters": {"digest": "…"}}: this server was started with --digest'
            raise ConfigurationError("parameters.digest", digest, "the digest of the model to load", remedy)
        return await asyncio.wrap_future(self.submit(digest))

    def unload(self, name: str) -> None:
        """Stop serving the model: requests for it get 404 until it is loaded again; those in flight are answered.

        Raises:
            KeyError: there is no such model (KServe makes it HTTP 404).
        """
        super().unload(name)
        metrics.MODEL_INFO.remove(name)

    def submit(self, digest: str | None = None) -> Future[ServedModel]:
        """Put a load in the queue."""
        return self._loader.submit(self._load, digest)

    def _load(self, digest: str | None) -> ServedModel:
        config, started, outcome = self._config, time.perf_counter(), "failed"
        try:
            model = load_model(config.model, config.threads, digest, config.tokenizer)
            running = self.served
            outcome = "unchanged" if running and running.digest == model.digest else "swapped"
            if outcome == "swapped":
                self._put(model)
            return model
        except ConfigurationError:
            outcome = "refused"
            raise
        finally:
            metrics.LOAD_DURATION.labels(config.name).observe(time.perf_counter() - started)
            metrics.LOADS.labels(config.name, outcome).inc()

    def _put(self, model: ServedModel) -> None:
        classifier = self.models.get(self._config.name)
        if classifier:
            classifier.model = model
        else:
            self.update(TextClassifier(self._config.name, model, self._config.usd_per_hour))
        information = {"digest": model.digest, "candidate": model.candidate}
        metrics.MODEL_INFO.labels(self._config.name).info(information)


def watch(repository: SwappingRepository, config: ServeConfig) -> threading.Thread:
    """Start a thread that loads the folder whenever its digest is not the served one.

    A folder that cannot be served is reported once and tried again each time, since it may still be in
    the middle of being written.
    """

    def look() -> None:
        reported = ""
        while True:
            time.sleep(config.watch_seconds)
            served = repository.served
            if served is None:  # unloaded on purpose
                continue
            error = _look_once(repository, config, served.digest)
            if error and error != reported:
                print(f"watch: {error}", file=sys.stderr, flush=True)
            reported = error

    thread = threading.Thread(target=look, name="watch-folder", daemon=True)
    thread.start()
    return thread


def _look_once(repository: SwappingRepository, config: ServeConfig, digest: str) -> str:
    """Load the folder if it changed; return what was wrong with it in one line, or nothing."""
    try:
        if folder_digest(config.model) == digest:
            return ""
    except (ConfigurationError, OSError) as error:  # it may be exchanged at this moment
        return str(error)
    fault = repository.submit().exception()
    if fault is None or isinstance(fault, ConfigurationError):
        return str(fault or "")
    return f"{type(fault).__name__}: {fault}"
