"""Names each onboarding: `request.state.session_id`."""

import re
import uuid
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
COOKIE = "session_id"


class SessionMiddleware:
    """Takes the session from the header X-Session-Id or else the cookie `session_id`, or makes one. The answer has both."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        session_id = _sent(Headers(scope=scope)) or f"onb-{uuid.uuid4().hex}"
        scope.setdefault("state", {})["session_id"] = session_id

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Session-Id"] = session_id
                headers.append("Set-Cookie", f"{COOKIE}={session_id}; Path=/; HttpOnly; SameSite=Lax")
            await send(message)

        await self._app(scope, receive, answer)


def _sent(headers: Headers) -> str | None:
    """What the browser sent, if it can be a session's name."""
    try:
        cookie = SimpleCookie(headers.get("Cookie", "")).get(COOKIE)
    except CookieError:
        cookie = None
    for name in (headers.get("X-Session-Id"), cookie.value if cookie else None):
        if name and NAME.fullmatch(name):
            return name
    return None
