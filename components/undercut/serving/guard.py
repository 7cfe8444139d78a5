"""Who may exchange or unload the model: whoever reaches the port, or, with a token, whoever has it.

KServe's repository endpoints have no authentication of their own, and a route that leads to predictions
often leads to them too. Where the environment has ``UNDERCUT_SERVING_TOKEN``, they take requests with
``Authorization: Bearer TOKEN`` only (RFC 6750); predictions, health and metrics stay as they are.
"""

import hmac

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

TOKEN = "UNDERCUT_SERVING_TOKEN"
GUARDED = "/v2/repository/"


class TokenGuard:
    """ASGI middleware that answers 401 where a request to the repository lacks the token.

    Args:
        app: the next application.
        token: the token, not empty.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and scope["path"].startswith(GUARDED):
            given = Headers(scope=scope).get("authorization", "").encode()
            if not hmac.compare_digest(given, self._expected):
                refusal = {"error": "this needs the header Authorization: Bearer, with the server's token"}
                response = JSONResponse(refusal, status_code=401, headers={"WWW-Authenticate": "Bearer"})
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)
