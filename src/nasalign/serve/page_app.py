"""The application: the page, what it is about, and the answer to a question."""

import asyncio
import re
from concurrent.futures import Future
from importlib import resources
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, StringConstraints
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from nasalign.errors import NasAlignError
from nasalign.evaluation.both_models import BothModels, shown_heads
from nasalign.io.digests import content_source
from nasalign.serve.answer_queue import AnswerQueue, QueueFullError
from nasalign.serve.guard import Guard

LIMITS = {"question": 2000, "answer": 500, "context": 20_000}
"""Maximum length of each part of a question, in characters."""
RETRY_AFTER = "2"
"""Seconds after which a request that found the queue full may come again."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Answer = dict[str, Any]


def _text(name: str, at_least: int = 0) -> StringConstraints:
    return StringConstraints(
        strip_whitespace=True, min_length=at_least, max_length=LIMITS[name], strict=True
    )


class Asked(BaseModel):
    """A question as the page sends it; an empty part counts as none.

    ``columns`` has the placeholders of a template that are none of the others.
    """

    model_config = ConfigDict(extra="forbid")

    question: Annotated[str, _text("question")] = ""
    answer: Annotated[str, _text("answer")] | None = None
    context: Annotated[str, _text("context")] | None = None
    columns: dict[str, Annotated[str, _text("context")]] = {}

    @property
    def values(self) -> dict[str, str | None]:
        """All parts by name."""
        return {
            **self.columns,
            "question": self.question,
            "answer": self.answer,
            "context": self.context,
        }


def make_app(models: BothModels, queue: AnswerQueue, host: str, name: str) -> ASGIApp:
    """Return the application, guarded; ``name`` is the model's. Only the queue asks ``models``."""
    page = resources.files("nasalign.serve").joinpath("page.html").read_text(encoding="utf-8")
    # The pages of documentation load scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, exception_handlers=_HANDLERS)
    about = {"model": name, "aligned": models.adapter is not None, "words": models.words}
    about["columns"] = list(models.columns)

    @app.get("/", response_class=HTMLResponse)
    async def root() -> str:
        return page

    @app.get("/api/about")
    async def tell() -> Answer:
        return about

    @app.post("/api/ask")
    async def ask(asked: Asked, request: Request) -> Answer:
        return await _unless_left(request, queue.add(lambda: _answer(models, asked)))

    return Guard(app, host, _HEADERS | {"Content-Security-Policy": _policy(page)})


def _answer(models: BothModels, asked: Asked) -> Answer:
    """Return what was asked, the answer of each model, and where the shown heads look."""
    example = models.example(asked.values)
    sides = models.ask(example)
    looks = models.look(example, shown_heads(sides))
    parts = asked.model_dump(exclude=None if asked.columns else {"columns"})
    return {"asked": parts, "sides": sides, "looks": looks}


async def _unless_left(request: Request, future: "Future[Answer]") -> Answer:
    """Wait for a result; if the client leaves before its turn comes, the work is cancelled."""
    result: asyncio.Future[Answer] = asyncio.wrap_future(future)
    left: asyncio.Future[None] = asyncio.ensure_future(_left(request))
    both: set[asyncio.Future[Any]] = {result, left}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left.cancel()
        if not result.done():
            result.cancel()
    if result.cancelled():  # the client has left, or the server ends
        raise HTTPException(503, "The question was given up.")
    return result.result()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _error(status: int, sentence: str, **headers: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status, headers)


def _explained(error: Answer) -> str:
    """Return a sentence for what pydantic found wrong with a request first."""
    name = str(error["loc"][-1])
    match error["type"]:
        case "string_too_long":
            return f"The {name} is longer than {LIMITS[name]:,} characters; shorten it."
        case "extra_forbidden":
            return f"There is no {name!r}; send question, answer and context."
        case kind if kind.startswith("string"):
            return f"The {name} is no text that can be read; send it as a JSON string in UTF-8."
    return "Send a JSON object with question, answer and context, as application/json."


_HANDLERS: dict[Any, Any] = {
    NasAlignError: lambda request, error: _error(422, str(error)),
    RequestValidationError: lambda request, error: _error(422, _explained(error.errors()[0])),
    HTTPException: lambda request, error: _error(error.status_code, f"{error.detail.rstrip('.')}."),
    QueueFullError: lambda request, error: _error(
        503,
        "Too many questions wait for the model; ask again in a moment.",
        **{"Retry-After": RETRY_AFTER},
    ),
    Exception: lambda request, error: _error(
        500, "The model failed on this question; the server's terminal says more."
    ),
}
"""Every error is answered by one sentence, under ``error``."""


def _policy(page: str) -> str:
    """Let the page run its own script and style, by their hash, and ask this server."""
    own = {}
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        own[tag] = content_source(content)
    return (
        f"default-src 'none'; script-src {own['script']}; style-src {own['style']}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
