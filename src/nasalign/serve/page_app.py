"""The application: the page, what it is about, the answer to a question, and the API."""

import re
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
from nasalign.serve.api_errors import RequestError, error_object, invalid
from nasalign.serve.api_routes import api_routes
from nasalign.serve.guard import Guard, is_api
from nasalign.serve.leaving import unless_left
from nasalign.serve.served_model import ServedModel

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


def make_app(served: ServedModel, queue: AnswerQueue, host: str) -> ASGIApp:
    """Return the page and the API, guarded; only the queue asks the model."""
    models = served.models
    page = resources.files("nasalign.serve").joinpath("page.html").read_text(encoding="utf-8")
    # The pages of documentation load scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, exception_handlers=_HANDLERS)
    about = {"model": served.name, "aligned": models.adapter is not None, "words": models.words}
    about["columns"] = list(models.columns)

    @app.get("/", response_class=HTMLResponse)
    async def root() -> str:
        return page

    @app.get("/api/about")
    async def tell() -> Answer:
        return about

    @app.post("/api/ask")
    async def ask(asked: Asked, request: Request) -> Answer:
        return await unless_left(request, queue.add(lambda: _answer(models, asked)))

    app.include_router(api_routes(served, queue))
    return Guard(app, host, _HEADERS | {"Content-Security-Policy": _policy(page)})


def _answer(models: BothModels, asked: Asked) -> Answer:
    """Return what was asked, the answer of each model, and where the shown heads look."""
    example = models.example(asked.values)
    sides = models.ask(example)
    looks = models.look(example, shown_heads(sides))
    parts = asked.model_dump(exclude=None if asked.columns else {"columns"})
    return {"asked": parts, "sides": sides, "looks": looks}


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


def _handled(request: Request, error: Exception) -> JSONResponse:
    """Return the response to an error: one sentence, in the API as OpenAI's object."""
    api = is_api(request.url.path)
    known = error if isinstance(error, RequestError) else _known(error, api)
    sentence, status = str(known), known.status
    body = error_object(sentence, status, known.param, known.code) if api else {"error": sentence}
    busy = status in (429, 503) and not isinstance(error, HTTPException)
    return JSONResponse(body, status, {"Retry-After": RETRY_AFTER} if busy else None)


def _known(error: Exception, api: bool) -> RequestError:
    """Return what is wrong as an error of a request."""
    if isinstance(error, RequestValidationError):
        if api:
            return invalid(error.errors())
        return RequestError(_explained(error.errors()[0]), status=422)
    if isinstance(error, NasAlignError):
        return RequestError(str(error), status=400 if api else 422)
    if isinstance(error, HTTPException):
        return RequestError(f"{error.detail.rstrip('.')}.", status=error.status_code)
    if isinstance(error, QueueFullError):
        what = "Too many questions wait for the model; ask again in a moment."
        return RequestError(what, status=429 if api else 503)
    what = "The model failed on this question; the server's terminal says more."
    return RequestError(what, status=500)


_KINDS = (NasAlignError, RequestError, RequestValidationError, HTTPException, QueueFullError)
_HANDLERS: dict[Any, Any] = dict.fromkeys((*_KINDS, Exception), _handled)


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
