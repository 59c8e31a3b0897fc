"""What every request passes first: whom it comes from, and how much it brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

LOCAL = ("127.0.0.1", "localhost")

_MOST = 50  # megabytes of a request that is no upload
_WRAPPED = 2**20  # bytes of an upload besides the file


class Guard:
    """Refuses what another site lets a browser send, requests that are too large, and uploads without room for them.

    Args:
        alone: only who uses this machine is served: not a site that has its own name lead here. place: of the uploads.
        megabytes: of an upload; forty of them are kept, a day long.
    """

    def __init__(self, app: Any, alone: bool, place: Path, megabytes: int) -> None:
        self._app, self._alone, self._place, self._megabytes = app, alone, place, megabytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and (answer := self._refusal(scope)):
            await answer(scope, receive, send)
            return
        brought, most = 0, self._megabytes if scope.get("path", "").endswith("/upload") else _MOST

        async def counted() -> Any:
            nonlocal brought
            message = await receive()
            brought += len(message.get("body", b""))
            if brought > most * 2**20 + _WRAPPED:
                raise HTTPException(413, f"a request may bring {most} MB at most\n")
            return message

        await self._app(scope, counted, send)

    def _refusal(self, scope: Any) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        if "\0" in scope["path"]:
            return PlainTextResponse("no path has a zero byte\n", 400)
        if self._alone and not from_here(headers.get("host", "")):
            return PlainTextResponse(f"open this page by the name {' or '.join(LOCAL)}\n", 403)
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            foreign = self._alone and "origin" in headers and not from_here(urlsplit(headers["origin"]).netloc)
            if foreign or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
                return PlainTextResponse("another site sent this, not the page\n", 403)
            if scope["path"].endswith("/upload") and _megabytes(self._place) > 40 * self._megabytes:
                return PlainTextResponse("there is no room for more uploads: wait, or start the app anew\n", 507)
        return None


def from_here(host: str) -> bool:
    """Whether a request was sent to this machine by its own name: a foreign site may have its name lead here."""
    try:
        return urlsplit(f"//{host}").hostname in LOCAL
    except ValueError:
        return False


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
