"""Refusals of a server: one sentence with a message code and an HTTP status, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response

from shards.core.errors import Failure, UserError, shortened


class Problem(UserError):
    """A request that cannot be answered.

    Args:
        http_status: of the response.
        headers: more headers of the response.
    """

    def __init__(self, http_status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code, message)
        self.http_status = http_status
        self.headers = dict(headers or {})


def body_of(error: UserError) -> bytes:
    """Return the JSON of an error: {"error": {"code": …, "message": …}}."""
    return json.dumps({"error": {"code": error.code, "message": shortened(str(error))}}).encode()


def response_of(error: UserError) -> Response:
    """Return the response to an error; one without an HTTP status is about the words (422), unless it is a failure."""
    unnamed = 500 if isinstance(error, Failure) else 422
    status, headers = (error.http_status, error.headers) if isinstance(error, Problem) else (unnamed, {})
    return Response(body_of(error), status, headers, "application/json")


def closing(status: int, code: str, message: str) -> Problem:
    """Return a problem after which the connection is closed, since the request was not read to its end."""
    return Problem(status, code, message, {"Connection": "close"})
