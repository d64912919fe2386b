"""The service: FastAPI in front, statehold behind.

    SHOP_BACKEND=sqlite:///shop.db uvicorn --factory examples.shop.app:create

A request reads the visit, lets the shop work on it, and commits what the shop did as one. When the
store cannot answer, the shop goes on without its memory and says so.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path as File
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Path, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from examples.shop import shop
from examples.shop.catalogue import load
from examples.shop.retrieval import Index, Ranked
from examples.shop.state import Visit
from statehold import AsyncCollection, AsyncStore, Invalid, Revision, TooLarge, Unavailable

REQUESTS_A_MINUTE = 120

router = APIRouter()


def create(store: Callable[[], AsyncStore] | None = None, data: File | None = None) -> FastAPI:
    """The application. Without arguments the environment says where state and products are."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        folder = data or (File(found) if (found := os.environ.get("SHOP_DATA")) else None)
        app.state.index = index = Index(load(folder))
        async with store() if store else AsyncStore.open(os.environ["SHOP_BACKEND"]) as opened:
            # A taste is a vector of this catalogue: with another catalogue, visits begin afresh.
            app.state.visits = opened.collection(Visit, tenant=index.catalogue.version)
            yield

    app = FastAPI(title="statehold shop", lifespan=lifespan)
    app.include_router(router)
    app.add_exception_handler(Invalid, _refused)
    app.add_exception_handler(TooLarge, _refused)
    return app


async def _refused(_: Request, error: Exception) -> Response:
    """A value that a field does not take is the visitor's doing, and nothing was written."""
    return JSONResponse({"detail": str(error)}, 422)


def _visits(request: Request) -> AsyncCollection[Visit]:
    return request.app.state.visits  # type: ignore[no-any-return]


def _index(request: Request) -> Index:
    return request.app.state.index  # type: ignore[no-any-return]


Visits = Annotated[AsyncCollection[Visit], Depends(_visits)]
Shelf = Annotated[Index, Depends(_index)]
Id = Annotated[str, Path(min_length=1, max_length=64)]


@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """The page."""
    return FileResponse(File(__file__).with_name("page.html"))


@router.get("/healthz")
async def healthz(visits: Visits) -> dict[str, Any]:
    """Whether the store can answer. The shop serves either way."""
    try:
        await visits.store.check()
    except Unavailable as error:
        return {"process": os.getpid(), "store": error.code}
    return {"process": os.getpid(), "store": "ok"}


@router.get("/api/visits/{id}")
async def look(id: Id, visits: Visits, shelf: Shelf) -> Response:
    """The visit as it is, and the products on its page. Looking changes nothing."""
    visit = await visits.get(id, on_failure="default")
    return _answer(visit, shelf, None if visit.meta.degraded else visit.meta.revision)


@router.post("/api/visits/{id}/say")
async def say(
    id: Id,
    text: Annotated[str, Body(embed=True, min_length=1, max_length=500)],
    visits: Visits,
    shelf: Shelf,
) -> Response:
    """The shop answers, and remembers."""
    visit = await _welcome(visits, id)
    shop.say(visit, text, shelf)
    return _answer(visit, shelf, await _keep(visits, visit))


@router.post("/api/visits/{id}/click")
async def click(
    id: Id, product: Annotated[str, Body(embed=True)], visits: Visits, shelf: Shelf
) -> Response:
    """What is clicked changes what is recommended, at once."""
    if product not in shelf:
        raise HTTPException(404, f"no product {product:.80}")
    visit = await _welcome(visits, id)
    shop.click(visit, product, shelf)
    return _answer(visit, shelf, await _keep(visits, visit))


@router.get("/api/visits/{id}/ranking")
async def ranking(id: Id, visits: Visits, shelf: Shelf) -> Response:
    """All products that fit, the best first, with what puts each where it is."""
    visit = await visits.get(id, on_failure="default")
    return _json({"products": [_card(item) for item in shop.ranking(visit, shelf)]})


@router.delete("/api/visits/{id}", status_code=204)
async def forget(id: Id, visits: Visits) -> None:
    """Nothing is left of the visit."""
    try:
        await visits.delete(id)
    except Unavailable as error:
        raise HTTPException(503, str(error)) from error


async def _welcome(visits: AsyncCollection[Visit], id: str) -> Visit:
    visit = await visits.get(id, on_failure="default")
    if visit.rate.count >= REQUESTS_A_MINUTE:
        raise HTTPException(429, "that was quick: wait a moment", {"Retry-After": "5"})
    return visit


async def _keep(visits: AsyncCollection[Visit], visit: Visit) -> Revision | None:
    """Commit what was done to the visit; None if the store cannot."""
    if visit.meta.degraded:
        return None  # it was worked out from defaults, not from what the visitor has said before
    try:
        return await visits.apply(visit.meta.id, *visit.pending)
    except Unavailable:
        return None


def _answer(visit: Visit, shelf: Index, revision: Revision | None) -> Response:
    ranked = {item.product.id: item for item in shop.ranking(visit, shelf)}
    shown = visit.shown or list(ranked)[: shop.PAGE]
    focus = visit.focus
    known = {*shown, *visit.clicks, *visit.ignored} | ({focus} if focus else set())
    return _json(
        {
            "conversation": list(visit.conversation),
            "products": [_card(ranked[id]) for id in shown if id in ranked],
            "focus": shelf[focus] if focus else None,
            "state": visit.to_json(),
            "changes": [_described(change) for change in visit.pending],
            "names": {id: shelf[id].name for id in known},
            "remembered": revision is not None,
            "revision": str(revision or ""),
            "process": os.getpid(),
        }
    )


def _card(item: Ranked) -> dict[str, Any]:
    why = {name: round(getattr(item, name), 3) for name in ("relevance", "taste", "ignored")}
    return {**msgspec.structs.asdict(item.product), "score": round(item.score, 3), "why": why}


def _described(change: Any) -> str:
    where = f"{change.field}.{change.entry}" if change.field == "filters" else change.field
    return f"{type(change).__name__.lower()} {where}"


def _json(content: Any) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
