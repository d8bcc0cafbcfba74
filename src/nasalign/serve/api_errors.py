"""Errors of the API, in the form in which OpenAI's API has them."""

from collections.abc import Sequence
from typing import Any


class RequestError(Exception):
    """A request that the API cannot answer as it is.

    Args:
        message: a sentence that says what is wrong and what to do.
        param: name of the field that it is about.
        code: OpenAI's code of the error, where there is one.
        status: of the response.
    """

    def __init__(
        self, message: str, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.param, self.code, self.status = param, code, status


def error_object(
    message: str, status: int, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """Return the body of a response with an error: an ``error`` with these four fields."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    if status == 429:
        kind, code = "rate_limit_exceeded", code or "rate_limit_exceeded"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def invalid(errors: Sequence[dict[str, Any]]) -> RequestError:
    """Return the error for what pydantic found wrong with a request.

    Where a value may be of several types, it is that of the type which fits farthest.
    """
    error = max(errors, key=lambda one: len(one["loc"]))
    parts = [str(part) for part in error["loc"] if part not in ("body", "str")]
    place = ".".join(part for part in parts if "[" not in part) or None
    match error["type"]:
        case "json_invalid":
            return RequestError("The body is not valid JSON.")
        case "missing" if place is None:
            return RequestError("There is no body; send a JSON object as application/json.")
        case "missing":
            return RequestError(f"{place} is missing.", place, "missing_required_parameter")
        case "extra_forbidden":
            return RequestError(f"There is no parameter {place}.", place, "unknown_parameter")
        case "model_attributes_type" | "dict_type" if place is None:
            return RequestError("The body is no JSON object; send one as application/json.")
    said = str(error["msg"]).rstrip(".")
    return RequestError(f"{place or 'The body'} is not valid: {said}.", place, "invalid_value")
