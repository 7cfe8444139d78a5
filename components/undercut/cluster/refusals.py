"""What a cluster's answers mean to a person: one line each, without a secret in it."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import urllib3

from undercut.cluster.settings import Connection
from undercut.errors import ConfigurationError

LONGEST = 300  # characters of a server's own words
REMEDIES = {
    401: "The server wants to know who you are: set UNDERCUT_KFP_TOKEN, token_file, UNDERCUT_KFP_COOKIE or cookie_file",
    403: "Ask for a role in that namespace, or give another --namespace",
    404: "Check the name or id, and that the endpoint's path is the one of Kubeflow Pipelines",
    409: "It exists already, made by someone else a moment ago: give the command again",
}


class Refusal(ConfigurationError):
    """The cluster did not do what was asked.

    Attributes:
        status: the HTTP status; 0 where there was no answer.
    """

    def __init__(self, field: str, got: object, allowed: str, remedy: str = "", status: int = 0) -> None:
        super().__init__(field, got, allowed, remedy)
        self.status = status


def refusal(error: Any, method: str, url: str, settings: Connection, secrets: Sequence[str], kind: str = "") -> Refusal:
    """Return what an answer outside 200 to 299 means, or one that is no JSON.

    Args:
        error: kfp's exception; None for an answer that is no JSON.
        method: of the request.
        url: of the request.
        settings: how the server was reached.
        secrets: what no line may show, even where the server repeats it.
        kind: the answer's content type.
    """
    asked = f"{method} {urlsplit(url).path}"
    if error is None or (error.status not in REMEDIES and "<html" in str(error.body)[:LONGEST].lower()):
        got = f"{kind.partition(';')[0] or 'an answer'} from {_address(url)}"
        page = "html" in kind or error is not None
        what = "a web page, perhaps a login" if page else "not what KFP answers"
        remedy = f"That is {what}: check the endpoint's path, and the token or cookie"
        return Refusal("endpoint", got, "the API of Kubeflow Pipelines", remedy, getattr(error, "status", 0))
    words = _without(_words(error.body) or str(error.reason or ""), secrets)
    got = f"{error.status} {words}".strip()
    if error.status == 401:
        return Refusal(
            "authentication", got, f"what {_address(url)} accepts ({_used(settings, secrets)})", REMEDIES[401], 401
        )
    if error.status == 403:
        allowed = f"{asked} with the rights of {_used(settings, secrets)}"
        return Refusal("authorization", got, allowed, REMEDIES[403], 403)
    remedy = REMEDIES.get(error.status, "" if error.status < 500 else "Look at the log of ml-pipeline in the cluster")
    if error.status == 400 and "/upload" in asked:
        remedy = "KFP says no more: the compiled pipeline is none, or you may not upload into that namespace"
    return Refusal(_address(url), got, f"an answer to {asked}", remedy, int(error.status))


def unanswered(error: Exception, method: str, url: str, settings: Connection) -> Refusal:
    """Return why there was no answer: no such host, nothing listens, a certificate, no time."""
    reason = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason else error
    words = str(reason)
    address = _address(url)
    if isinstance(reason, urllib3.exceptions.SSLError):
        remedy = f"{_last(words)}: name the certificates by ca_file, or give http:// where the server has no TLS"
        return Refusal("endpoint", address, "a server whose certificate can be checked", remedy)
    if isinstance(reason, urllib3.exceptions.NameResolutionError):
        return Refusal("endpoint", address, "a host that exists", "Its name is not known here: check it, or the VPN")
    if isinstance(reason, urllib3.exceptions.NewConnectionError):
        remedy = f"{_last(words)}: check the address; is the port-forward running"
        return Refusal("endpoint", address, "a server that listens", remedy)
    if isinstance(reason, urllib3.exceptions.TimeoutError):
        remedy = "Raise timeout_seconds, or look at the log of ml-pipeline"
        if method == "POST":
            remedy = "It may yet have been done: see `undercut runs` and `undercut schedule list` before you repeat it"
        return Refusal("endpoint", address, f"an answer within {settings.timeout_seconds:g} s", remedy)
    cause = next((str(a) for a in reversed(reason.args) if isinstance(a, Exception)), _last(words))
    remedy = f"It hung up ({cause}): check the address, and whether it wants https://"
    return Refusal("endpoint", address, "the API of Kubeflow Pipelines", remedy)


def _used(settings: Connection, secrets: Sequence[str]) -> str:
    """Return in words how this client authenticates; ``secrets`` are those that it sent."""
    if settings.token or settings.token_file:
        return f"the token of {settings.token_file or 'UNDERCUT_KFP_TOKEN'}"
    if settings.cookie or settings.cookie_file:
        return f"the cookie of {settings.cookie_file or 'UNDERCUT_KFP_COOKIE'}"
    if not settings.endpoint:
        return "the kubeconfig or the pod's token"
    return "the pod's token" if any(secrets) else "no token"


def _words(body: Any) -> str:
    """Return the server's own words: KFP answers ``error`` or ``message``, or ``error_message`` for an upload."""
    try:
        content = json.loads(body)
    except (TypeError, ValueError):
        return str(body or "")
    if not isinstance(content, dict):
        return ""
    return str(content.get("error_message") or content.get("message") or content.get("error") or "")


def _without(text: str, secrets: Sequence[str]) -> str:
    """Return a text in one line, cut, without the secrets."""
    for secret in secrets:
        text = text.replace(secret, "***") if secret else text
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} …"


def _last(words: str) -> str:
    """Return the end of urllib3's chain of words, which is what the system said."""
    return words.rpartition("] ")[2].rpartition(": ")[2].strip(" .)('\"") or words


def _address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme or 'http'}://{parts.netloc}{parts.path.partition('/apis/')[0]}".rstrip("/")
