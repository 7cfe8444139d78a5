"""``hf://`` to a local file or folder: a Hugging Face Hub's models and data sets, through its own client.

``hf://org/model@revision`` is a model's folder, of which only files come that hold no code;
``hf://datasets/org/name@revision/train.csv`` a data set's file; without a path its folder. Without
``@revision`` it is the newest. The client reads its own environment: ``HF_ENDPOINT`` (a mirror),
``HF_TOKEN`` (private and gated repositories), ``HF_HUB_OFFLINE`` (only what was fetched before).
"""

from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, HfUri, constants, hf_hub_download, parse_hf_uri, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HfUriError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from undercut import downloads, events, workspace
from undercut.downloads import Interrupted
from undercut.errors import ConfigurationError

# Neither pickles nor Python files: Undercut would not read them.
MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")
DATASET_FILES = tuple(f"*.{name}{gz}" for name in ("csv", "tsv", "jsonl", "parquet", "txt", "md") for gz in ("", ".gz"))
_REMEDIES: tuple[tuple[type[Exception], str], ...] = (
    (GatedRepoError, "Accept its terms on the Hub and set HF_TOKEN"),
    (RepositoryNotFoundError, "There is no such repository, or it is private: check the name, or set HF_TOKEN"),
    (RevisionNotFoundError, "There is no such branch, tag or commit: check what follows the @"),
    (LocalEntryNotFoundError, "There is no copy here and HF_HUB_OFFLINE forbids to fetch one: unset it"),
    (OfflineModeIsEnabled, "There is no copy here and HF_HUB_OFFLINE forbids to fetch one: unset it"),
    (EntryNotFoundError, "There is no such file in the repository: check the path"),
)


def from_hub(uri: str, field: str, _pinned: str) -> Path:
    """Fetch a repository's file or its folder into the workspace.

    Args:
        uri: ``hf://[datasets/]org/name[@revision][/path]``.
        field: the setting that names it.
        _pinned: not used: the Hub's client knows by itself what it has fetched.

    Raises:
        ConfigurationError: the URI is not one of a model or data set, nothing is there, access is
            refused, it is over the size limit, or the Hub cannot be reached.
    """
    try:
        place = parse_hf_uri(uri)
    except (HfUriError, HFValidationError) as error:
        raise ConfigurationError(field, uri, "hf://[datasets/]org/name[@revision][/path]", str(error)) from error
    if place.type not in ("model", "dataset"):
        raise ConfigurationError(field, uri, "a model or data set of the Hub")
    found: list[Path] = []
    downloads.persist(lambda: found.append(_fetch(place, uri, field)), uri, field)
    return found[0]


def _fetch(place: HfUri, uri: str, field: str) -> Path:
    common: dict[str, Any] = {"repo_type": place.type, "revision": place.revision}
    cache = workspace.home() / "downloads" / "hub"
    cache.mkdir(parents=True, exist_ok=True)
    try:
        if place.path_in_repo:
            events.message(f"{field}: fetching {uri}")
            dry = hf_hub_download(place.id, place.path_in_repo, cache_dir=cache, dry_run=True, **common)
            downloads.check_size((dry.file_size or 0) * dry.will_download, 0, cache, uri, field)
            return Path(hf_hub_download(place.id, place.path_in_repo, cache_dir=cache, **common))
        common["allow_patterns"] = MODEL_FILES if place.type == "model" else DATASET_FILES
        if not constants.HF_HUB_OFFLINE:
            # Asked first: snapshot_download's dry run says of every failure that the repository is not reached.
            HfApi().repo_info(place.id, revision=place.revision, repo_type=place.type)
            files = snapshot_download(place.id, cache_dir=cache, dry_run=True, **common)
            downloads.check_size(sum(f.file_size or 0 for f in files if f.will_download), 0, cache, uri, field)
            events.message(f"{field}: fetching {len(files)} files of {uri}")
        return Path(snapshot_download(place.id, cache_dir=cache, **common))
    except tuple(kind for kind, _ in _REMEDIES) as error:
        if isinstance(error, LocalEntryNotFoundError) and not constants.HF_HUB_OFFLINE:
            raise Interrupted(str(error)) from error
        remedy = next(remedy for kind, remedy in _REMEDIES if isinstance(error, kind))
        raise ConfigurationError(field, uri, "a repository and file of the Hub that can be read", remedy) from error
    except HfHubHTTPError as error:
        if error.response.status_code < 500 and error.response.status_code != 429:
            raise ConfigurationError(field, uri, "a repository that can be read", str(error)) from error
        raise Interrupted(str(error)) from error
    except httpx2.TransportError as error:
        raise Interrupted(str(error)) from error
