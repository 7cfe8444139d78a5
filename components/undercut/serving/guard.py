"""Who may exchange or unload the model: whoever has the token, or, without one, whoever is on this machine.

KServe's repository endpoints have no authentication of their own, and a route that leads to predictions
often leads to them too. Where the environment has ``UNDERCUT_SERVING_TOKEN``, they take requests with
``Authorization: Bearer TOKEN`` only (RFC 6750). Without a token they are closed where the server listens to
other machines. Predictions, health and metrics stay as they are.

And how much a request may hold: one of 50 MB keeps the one thread that predicts busy for a minute, and everybody
else waits.
"""

import hmac
import ipaddress

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN = "UNDERCUT_SERVING_TOKEN"
GUARDED = "/v2/repository/"
CLOSED = f"closed: the server listens to other machines, and its environment has no {TOKEN}"
# Two thousand bytes for each of the most texts that a request may have.
MAX_BYTES = 8 << 20
TOO_LARGE = f"the body is too large; allowed: {MAX_BYTES} bytes"


def is_local(host: str) -> bool:
    """Tell whether a server that listens on an address is reached from its own machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class TokenGuard:
    """ASGI middleware that answers 401 where a request to the repository lacks the token, 403 where none opens it.

    Args:
        app: the next application.
        token: the token; empty for none.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._expected = app, f"Bearer {token}".encode() if token else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and scope["path"].startswith(GUARDED):
            if not self._expected:
                await JSONResponse({"error": CLOSED}, status_code=403)(scope, receive, send)
                return
            given = Headers(scope=scope).get("authorization", "").encode()
            if not hmac.compare_digest(given, self._expected):
                refusal = {"error": "this needs the header Authorization: Bearer, with the server's token"}
                response = JSONResponse(refusal, status_code=401, headers={"WWW-Authenticate": "Bearer"})
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


class SizeLimit:
    """ASGI middleware that answers 413 (RFC 9110) where a body is larger than ``MAX_BYTES``, before it is read.

    Args:
        app: the next application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        stated = Headers(scope=scope).get("content-length", "") if scope["type"] == "http" else ""
        if stated.isdecimal() and int(stated) > MAX_BYTES:
            await JSONResponse({"error": TOO_LARGE}, status_code=413)(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > MAX_BYTES:  # sent in chunks, without a length
                raise HTTPException(413, TOO_LARGE)
            return message

        await self._app(scope, counted, send)
