"""No transfer: the base handed on, so that what comes after has one input, whether there was a transfer or not."""

from pathlib import Path

from undercut import artifacts, events
from undercut.base_models import BASE_FILES, check_base
from undercut.predictors import TOKENIZER_FILES
from undercut.storage import local_path
from undercut.transfer.settings import TransferConfig


def as_it_is(output: Path, config: TransferConfig) -> None:
    """Write the base into a sealed model folder of the structure ``base``.

    Raises:
        ConfigurationError: the base lacks a file.
    """
    base = local_path(config.base_model, "base_model")
    digest = check_base(base, config.base_model)
    output.mkdir(parents=True, exist_ok=True)
    names = [name for name in (*BASE_FILES, *TOKENIZER_FILES) if (base / name).is_file()]
    artifacts.copy_files(base, output, dict.fromkeys(names))
    content = {
        "task": "masked-language-modelling",
        "labels": [],
        "format": "torch",
        "structure": "base",
        "precision": "as-is",
        "base_model": {"uri": config.base_model.partition("#")[0], "digest": digest},
        "method": "the base as it is",
        "metrics": {},
        "lost": "",
    }
    events.message("transfer is left out: no epochs")
    artifacts.seal(output, artifacts.MODEL, content)
