"""A first page: the kinds with counts, the states changed last, one state live.

Its files are shipped with the package and bring nothing from elsewhere. A key, where one is
needed, is asked for and kept in the page's memory only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/console.css": ("console.css", "text/css; charset=utf-8"),
    "/console.js": ("console.js", "text/javascript; charset=utf-8"),
}
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def pages() -> dict[str, Callable[[Request], Awaitable[Response]]]:
    """The page and what it is made of, by path."""
    return {path: _page(name, media) for path, (name, media) in FILES.items()}


def _page(name: str, media: str) -> Callable[[Request], Awaitable[Response]]:
    content = files(__name__).joinpath(name).read_bytes()

    async def page(_request: Request) -> Response:
        return Response(content, headers=HEADERS, media_type=media)

    return page
