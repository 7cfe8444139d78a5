"""URIs to local paths: where sources and base models are read from, and the digests that pin them.

======================================== =====================================================
URI                                      what it names
======================================== =====================================================
a path, ``file:///folder/file``          a file or folder of this machine
``pkg://package/path``                   a file or folder that an installed Python package carries
``https://host/file``                    a file on a web server (``web.py``)
``s3://bucket/key``, ``s3://bucket/a/``  an object, or all objects under a prefix (``objects.py``)
``hf://datasets/org/name@revision/file`` a file, data set or model of a Hugging Face Hub (``hub.py``)
``sql+postgresql://…#query=SELECT …``    a query's rows (``databases.py``)
``models://NAME@champion``               the fine-tuned model kept beside a registered version (``companions.py``)
======================================== =====================================================

Each may end in ``#sha256=<64 hexadecimal digits>``: then the content must have that digest, so that a
run names what it read and a cache key changes when the content does. No URI holds a password: a run's
settings are shown to others, so those come from the environment. A new scheme is one function in
``SCHEMES``; it gets the URI, the setting that names it, and the digest it is pinned to (or "").
"""

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from undercut.artifacts import file_digest
from undercut.errors import ConfigurationError

_PIN = "#sha256="
_LOGIN = re.compile(r"//[^/@]*@")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def local_path(uri: str, field: str) -> Path:
    """Return the local file or folder that a URI names; it exists and can be read.

    Args:
        uri: a path or a URI of one of the schemes, with or without ``#sha256=…``.
        field: the setting the URI was given in; errors name it.

    Raises:
        ConfigurationError: the scheme is unknown, the package is not installed, nothing is there, it
            may not be read or cannot be fetched, or its digest is not the pinned one.
    """
    bare, pinned = _split_pin(uri, field)
    match = _SCHEME.match(bare)
    scheme = match.group(1).lower() if match else ""
    scheme = "sql+" if scheme.startswith("sql+") else scheme
    if scheme not in SCHEMES:
        known = ", ".join(["a path", *(f"{name}://" for name in SCHEMES if name)]).replace("sql+", "sql+DIALECT")
        remedy = "Copy the data to a file on this machine and give its path"
        raise ConfigurationError(field, _LOGIN.sub("//***@", uri), known, remedy)
    path = SCHEMES[scheme](bare, field, pinned)
    _check_readable(path, uri, field)
    if pinned and (found := digest(path)) != pinned:
        remedy = f"Its SHA-256 is {found}: restore the content that was pinned, or pin the new one"
        raise ConfigurationError(field, uri, "content with the pinned SHA-256", remedy)
    return path


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's file names and contents, in hexadecimal.

    A folder's files count in the order of their POSIX paths, so the result does not depend on the
    operating system or on the order in which it lists them.
    """
    if path.is_file():
        return file_digest(path)
    files = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
    lines = (f"{name}\0{file_digest(files[name])}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def pin(uri: str, field: str = "uri") -> str:
    """Return the URI with the SHA-256 of what it names now; a pin that it already has is checked.

    Raises:
        ConfigurationError: as :func:`local_path`.
    """
    path = local_path(uri, field)
    bare, pinned = _split_pin(uri, field)
    return f"{bare}{_PIN}{pinned or digest(path)}"


def without_pin(uri: str) -> str:
    """Return the URI as a person reads it, without ``#sha256=…``."""
    return uri.rpartition(_PIN)[0] or uri


def _split_pin(uri: str, field: str) -> tuple[str, str]:
    bare, mark, value = uri.rpartition(_PIN)
    if not mark:
        return uri, ""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ConfigurationError(field, uri, f"{_PIN} followed by 64 hexadecimal digits")
    return bare, value.lower()


def _check_readable(path: Path, uri: str, field: str) -> None:
    """Refuse what is missing or closed to this user now, before a step fails in the middle of it."""
    nearest = next(parent for parent in path.absolute().parents if os.path.isdir(parent))
    if not os.path.lexists(path) and os.access(nearest, os.X_OK):
        remedy = f"Nothing is at {path.absolute()}: check the path, or mount the folder that holds it"
        raise ConfigurationError(field, uri, "a file or folder that exists", remedy)
    parts = [path, *path.rglob("*")] if os.path.isdir(path) else [path]
    closed = next((p for p in parts if not os.access(p, os.R_OK | (os.X_OK if os.path.isdir(p) else 0))), None)
    if closed is not None:
        remedy = f"This user may not read {closed.absolute()}, or its link leads nowhere: change its permissions"
        raise ConfigurationError(field, uri, "a file or folder that can be read", remedy)


def _from_path(uri: str, field: str, _pinned: str) -> Path:
    if not uri:
        raise ConfigurationError(field, uri, "the path of a file or folder")
    return Path(uri).expanduser()


def _from_file(uri: str, field: str, _pinned: str) -> Path:
    parts = urlsplit(uri.replace("#", "%23").replace("?", "%3F"))
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise ConfigurationError(field, uri, "file:// with an absolute path", "Write file:///folder/file")
    return Path(unquote(parts.path))


def _from_package(uri: str, field: str, _pinned: str) -> Path:
    """Find the package's folder without importing it: a base model's package may be slow to import."""
    package, _, inside = uri.split("://", 1)[1].partition("/")
    if not package.isidentifier() or ".." in Path(inside).parts:
        raise ConfigurationError(field, uri, "pkg://package/path inside the package")
    spec = importlib.util.find_spec(package)
    if spec is None:
        remedy = f"Install the package that holds {package}, for example: pip install {package.replace('_', '-')}"
        raise ConfigurationError(field, uri, "an installed Python package", remedy)
    folders = [Path(folder) for folder in spec.submodule_search_locations or []]
    found = [folder / inside for folder in folders if (folder / inside).exists()]
    if not found:
        raise ConfigurationError(field, uri, f"a file or folder inside {package}", "Check the part after the package")
    return found[0]


# The remote schemes' modules are imported when they are used: boto3 alone takes a third of a second.
def _from_web(uri: str, field: str, pinned: str) -> Path:
    from undercut.web import from_web

    return from_web(uri, field, pinned)


def _from_objects(uri: str, field: str, pinned: str) -> Path:
    from undercut.objects import from_objects

    return from_objects(uri, field, pinned)


def _from_hub(uri: str, field: str, pinned: str) -> Path:
    from undercut.hub import from_hub

    return from_hub(uri, field, pinned)


def _from_database(uri: str, field: str, pinned: str) -> Path:
    from undercut.databases import from_database

    return from_database(uri, field, pinned)


def _from_registry(uri: str, field: str, pinned: str) -> Path:
    from undercut.companions import from_registry

    return from_registry(uri, field, pinned)


SCHEMES: dict[str, Callable[[str, str, str], Path]] = {
    "": _from_path,
    "file": _from_file,
    "pkg": _from_package,
    "https": _from_web,
    "http": _from_web,
    "s3": _from_objects,
    "hf": _from_hub,
    "sql+": _from_database,
    "models": _from_registry,
}
