"""The application: the page, what it is about, and the answer to a question."""

import asyncio
import re
from concurrent.futures import Future
from importlib import resources
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, StringConstraints
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from nasalign.commands.ask import Pair, shown_heads
from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError
from nasalign.io.digests import content_source
from nasalign.serve.connection import Connection
from nasalign.serve.desk import Desk, DeskFullError
from nasalign.serve.guard import Guard

LIMITS = {"question": 2000, "answer": 500, "context": 20_000}
"""Characters of each part of a question at most."""
RETRY_AFTER = 2
"""Seconds after which a refused request may come again."""

GRACE = 5
"""Seconds that answers under way have when the server ends."""

Answer = dict[str, Any]


def _text(name: str, at_least: int) -> StringConstraints:
    return StringConstraints(
        strip_whitespace=True, min_length=at_least, max_length=LIMITS[name], strict=True
    )


class Asked(BaseModel):
    """A question as the page sends it; an empty answer or context counts as none."""

    model_config = ConfigDict(extra="forbid")

    question: Annotated[str, _text("question", 1)]
    answer: Annotated[str, _text("answer", 0)] | None = None
    context: Annotated[str, _text("context", 0)] | None = None

    @property
    def example(self) -> BinaryExample:
        """The question as ``nasalign ask`` asks it; the label is of no use here."""
        return BinaryExample(self.question, True, self.answer or None, self.context or None)


def make_app(pair: Pair, desk: Desk, host: str, model: str) -> ASGIApp:
    """Returns the application, guarded.

    Args:
        pair: what is asked; touched by the desk's thread alone.
        desk: where questions wait.
        host: at which the server listens.
        model: its name, for the page.
    """
    page = resources.files("nasalign.serve").joinpath("page.html").read_text(encoding="utf-8")
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)  # the docs load from a CDN
    about = {
        "model": model,
        "aligned": pair.adapter is not None,
        "words": pair.words,
    }

    @app.get("/", response_class=HTMLResponse)
    async def root() -> str:
        return page

    @app.get("/api/about")
    async def tell() -> Answer:
        return about

    @app.post("/api/ask")
    async def ask(asked: Asked, request: Request) -> Answer:
        return await _unless_left(request, desk.take(lambda: answer(pair, asked)))

    _explain_errors(app)
    return Guard(app, host, _headers(page))


def make_server(pair: Pair, desk: Desk, host: str, model: str) -> uvicorn.Server:
    """Returns what serves the application; see ``make_app``."""
    config = uvicorn.Config(
        make_app(pair, desk, host, model),
        log_level="warning",
        access_log=False,
        server_header=False,
        http=Connection,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)


def answer(pair: Pair, asked: Asked) -> Answer:
    """Returns what was asked, each side's answer as of ``Pair.ask``, and where the heads look.

    Raises:
        NasAlignError: see ``Pair.ask``.
    """
    sides = pair.ask(asked.example)
    looks = pair.look(asked.example, shown_heads(sides))
    return {"asked": asked.model_dump(), "sides": sides, "looks": looks}


async def _unless_left(request: Request, future: "Future[Answer]") -> Answer:
    """The result; if who asked leaves before its turn comes, the work is cancelled."""
    result: asyncio.Future[Answer] = asyncio.wrap_future(future)
    left: asyncio.Future[None] = asyncio.ensure_future(_left(request))
    both: set[asyncio.Future[Any]] = {result, left}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left.cancel()
        if not result.done():
            result.cancel()
    if result.cancelled():  # nobody is there to read it, or the server ends
        raise HTTPException(503, "The question was given up.")
    return result.result()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _explain_errors(app: FastAPI) -> None:
    """Has every error answered by one sentence, under ``error``."""

    @app.exception_handler(NasAlignError)
    async def refused(request: Request, error: NasAlignError) -> JSONResponse:
        return _error(422, str(error))

    @app.exception_handler(RequestValidationError)
    async def unclear(request: Request, error: RequestValidationError) -> JSONResponse:
        return _error(422, _sentence(error.errors()[0]))

    @app.exception_handler(DeskFullError)
    async def full(request: Request, error: DeskFullError) -> JSONResponse:
        sentence = "Too many questions wait for the model; ask again in a moment."
        return _error(503, sentence, {"Retry-After": str(RETRY_AFTER)})

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, f"{error.detail.rstrip('.')}.")

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return _error(500, "The model failed on this question; the server's terminal says more.")


def _error(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": sentence}, status, headers)


def _sentence(error: Answer) -> str:
    """One sentence for what is wrong with a request's first broken part."""
    name = str(error["loc"][-1])
    match error["type"]:
        case "string_too_long":
            return f"The {name} is longer than {LIMITS[name]:,} characters; shorten it."
        case "string_too_short" | "missing" if name == "question":
            return "There is no question; type one."
        case "extra_forbidden":
            return f"There is no {name!r}; send question, answer and context."
        case kind if kind.startswith("string"):
            return f"The {name} is no text that can be read; send it as a JSON string in UTF-8."
    return "A question is sent as a JSON object with question, answer and context."


def _headers(page: str) -> dict[str, str]:
    """What the page may do: run its own script and style, by hash, and ask this server."""
    own = {}
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        own[tag] = content_source(content)
    policy = (
        f"default-src 'none'; script-src {own['script']}; style-src {own['style']}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
