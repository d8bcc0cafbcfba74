"""The routes of the API: who answers which request, and what an error looks like."""

from typing import Any

from fastapi import APIRouter, Request

from nasalign.serve.answer_queue import AnswerQueue
from nasalign.serve.chat_api import ChatRequest, chat_completion
from nasalign.serve.decision_api import DecisionRequest, decision
from nasalign.serve.leaving import unless_left
from nasalign.serve.served_model import ServedModel

Reply = dict[str, Any]


def api_routes(served: ServedModel, queue: AnswerQueue) -> APIRouter:
    """Return the routes under ``/v1``; only the queue asks the model."""
    router = APIRouter(prefix="/v1")
    about = {
        "id": served.name,
        "object": "model",
        "created": 0,  # not known
        "owned_by": "nasalign",
    }

    @router.get("/models")
    async def models() -> Reply:
        return {"object": "list", "data": [about]}

    @router.get("/models/{name:path}")
    async def model(name: str) -> Reply:
        served.check_name(name)
        return about

    @router.post("/chat/completions")
    async def chat(asked: ChatRequest, request: Request) -> Reply:
        served.check_name(asked.model)
        unused, turns = asked.without_effect(), asked.turns()

        def make() -> list[Any]:
            prompts = [served.conversation(turns)]
            served.check_lengths(prompts)
            return prompts

        (answer,) = await unless_left(request, queue.add_prompts(make, served.answer))
        return chat_completion(served, asked, answer, unused)

    @router.post("/decisions")
    async def decide(asked: DecisionRequest, request: Request) -> Reply:
        served.check_name(asked.model)
        future = queue.add_prompts(lambda: asked.prompts(served), served.answer, asked.size)
        answers = await unless_left(request, future)
        return decision(served, asked, answers)

    return router
