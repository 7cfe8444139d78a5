"""``https://`` to a local file. Credentials, where a host wants them, come from ``~/.netrc`` (or ``NETRC``).

Plain ``http://`` proves nothing about who answers, so it is allowed only on this machine or where
``#sha256=…`` pins the content; the same holds for every redirect on the way.
"""

import contextlib
import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urljoin, urlsplit

import requests

from undercut import downloads
from undercut.downloads import Have, Interrupted, Opened
from undercut.errors import ConfigurationError

_CHUNK = 1 << 16  # a connection that is cut loses the chunk it was in
_TIMEOUT_SECONDS = (10, 60)
_MAX_REDIRECTS = 10
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_SECRETS = re.compile(r"(?i)(^|[-_])(token|key|apikey|secret|signature|sig|password|passwd|pwd|credential)$")
_REFUSALS = {
    401: "Put the host's login into ~/.netrc",
    403: "Put the host's login into ~/.netrc, or ask its owner for access",
    404: "Nothing is there: check the address",
}


def from_web(uri: str, field: str, pinned: str) -> Path:
    """Fetch a file over HTTPS.

    Args:
        uri: the address, without a pin.
        field: the setting that names it.
        pinned: the SHA-256 it must have, or empty.

    Raises:
        ConfigurationError: the address holds a secret, is plain http to another machine without a pin, is
            refused, redirects without end, or cannot be reached.
    """
    parts = urlsplit(uri)
    if not parts.hostname:
        raise ConfigurationError(field, uri, "https://host/path")
    refuse_secrets(uri, field)
    _check_transport(uri, uri, field, pinned)

    @contextlib.contextmanager
    def open_file(have: Have) -> Iterator[Opened]:
        headers = {"Accept-Encoding": "identity"}
        if have.complete:
            headers["If-Modified-Since" if _is_date(have.version) else "If-None-Match"] = have.version
        elif have.bytes:
            headers |= {"Range": f"bytes={have.bytes}-", "If-Range": have.version}
        with requests.Session() as session:
            response = _get(session, uri, headers, field, pinned)
            with response:
                yield _opened(response, have, uri, field)

    name = downloads.safe_name(unquote(parts.path))
    return downloads.fetch(uri, downloads.folder(uri) / name, field, pinned, open_file)


def refuse_secrets(uri: str, field: str) -> None:
    """Refuse what would be shown to everyone who sees the run's settings.

    Raises:
        ConfigurationError: the address holds a login, a token or a signature.
    """
    parts = urlsplit(uri)
    secret = next((name for name, _ in parse_qsl(parts.query) if _SECRETS.search(name)), None)
    if "@" in parts.netloc or secret:
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path} with {secret or 'a login'}"
        remedy = "A run's settings are shown to others: put the login into ~/.netrc, or fetch the file yourself"
        raise ConfigurationError(field, shown, "an address without login, token or signature", remedy)


def _check_transport(url: str, first: str, field: str, pinned: str) -> None:
    """Allow https, http where the content is pinned, and http on this machine from beginning to end."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and (pinned or (_is_local(url) and _is_local(first)))):
        return
    remedy = "Use https, or pin the content with #sha256=…"
    raise ConfigurationError(field, first if url == first else f"{first}, which leads to {url}", "https://", remedy)


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _is_date(version: str) -> bool:
    """Tell a Last-Modified date from an ETag, which is quoted."""
    return '"' not in version


def _get(session: requests.Session, uri: str, headers: dict[str, str], field: str, pinned: str) -> requests.Response:
    url = uri
    for _ in range(_MAX_REDIRECTS):
        try:
            response = session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS, allow_redirects=False)
        except requests.exceptions.SSLError as error:
            remedy = f"Name your own certificates in REQUESTS_CA_BUNDLE if you have any: {error}"
            raise ConfigurationError(field, uri, "a server with a certificate that can be trusted", remedy) from error
        except (requests.ConnectionError, requests.Timeout) as error:
            raise Interrupted(str(error)) from error
        target = session.get_redirect_target(response)
        if target is None:
            return response
        response.close()
        url = urljoin(url, target)
        _check_transport(url, uri, field, pinned)
    raise ConfigurationError(field, uri, f"at most {_MAX_REDIRECTS} redirects", "Give the address they lead to")


def _opened(response: requests.Response, have: Have, uri: str, field: str) -> Opened:
    status, headers = response.status_code, response.headers
    if status == 304 and have.complete:
        return Opened(unchanged=True)
    if status == 416:
        raise Interrupted("the file has become shorter than what is here of it")
    if status in _AGAIN:
        raise Interrupted(f"HTTP {status} {response.reason}")
    if status not in (200, 206):
        remedy = _REFUSALS.get(status, "Open the address in a browser to see what it answers")
        raise ConfigurationError(field, uri, f"an address that answers 200 OK (it says {status})", remedy)
    if headers.get("Content-Encoding", "identity") != "identity":
        raise ConfigurationError(field, uri, f"a file sent as it is (not {headers['Content-Encoding']})")
    start, length = (have.bytes if status == 206 else 0), headers.get("Content-Length")
    version = headers.get("ETag", "")
    if not version or version.startswith("W/"):  # a weak ETag does not vouch for the bytes
        version = headers.get("Last-Modified", "")
    return Opened(chunks=_chunks(response), start=start, total=start + int(length) if length else None, version=version)


def _chunks(response: requests.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_content(_CHUNK)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise Interrupted(str(error)) from error
