"""The routes of a server: draw by words, the words themselves, the playground, health and metrics."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from torch import Tensor

from shards.core.errors import UserError
from shards.dataset.label_rows import Labels
from trainer.generation import image_grid
from trainer.generation.sampler import Sampler
from trainer.serving import metrics as prometheus
from trainer.serving import openapi
from trainer.serving.drawing import DrawingThread
from trainer.serving.metrics import Metrics
from trainer.serving.problems import Problem, closing, response_of
from trainer.serving.sample_request import JSON, MAX_BODY, PNG, SampleRequest, choose_answer, parse

_DISCARDED = 1 << 20  # bytes of a body that is too large, which are read so that the client hears why
_WORKERS = 2  # threads that read words and write PNGs

T = TypeVar("T")


@dataclass(frozen=True)
class Page:
    """The page at "/": a document and its Content-Security-Policy."""

    content: bytes
    policy: str


@dataclass(frozen=True)
class Patience:
    """How much a server holds, and for how long.

    Attributes:
        queue: requests that are being drawn or wait for it.
        seconds: that drawing may take, waiting included.
        client_seconds: that a client may take to send a body.
    """

    queue: int
    seconds: float
    client_seconds: float


class Service:
    """Answers requests with the images of one generator.

    Args:
        sampler: draws the images.
        page: the playground, or why there is none.
        patience: its limits.
        metrics: counts what is drawn.
    """

    def __init__(self, sampler: Sampler, page: Page | UserError, patience: Patience, metrics: Metrics) -> None:
        self._sampler, self._page, self._patience, self._metrics = sampler, page, patience, metrics
        self._drawing = DrawingThread(sampler, metrics)
        self._workers = ThreadPoolExecutor(_WORKERS, "words")
        self._waiting = 0
        self._last_seconds = 1.0
        metrics.waiting = lambda: self._waiting
        self.routes = {
            "/": self.show_page,
            "/sample": self.sample,
            "/labels": self.labels,
            "/health": self.health,
            "/metrics": self.metrics,
            "/openapi.json": self.openapi,
        }

    def application(self) -> Starlette:
        """Return the ASGI application."""
        methods = {"/sample": ["POST"]}
        application = Starlette(
            routes=[Route(path, answer, methods=methods.get(path, ["GET"])) for path, answer in self.routes.items()],
            exception_handlers={UserError: _refuse, HTTPException: _refuse_route, Exception: _apologize},
            lifespan=self._lifespan,
        )
        application.router.redirect_slashes = False  # /labels/ is an unknown path, and no answer names another address
        return application

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self._drawing.end()
        self._workers.shutdown()

    async def sample(self, request: Request) -> Response:
        """Draw images: one PNG, or JSON with a PNG for each image."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            # Forms of other sites cannot have this type, so they cannot make a browser draw.
            raise Problem(415, "content-type", f"send the body as Content-Type: {JSON}")
        answer = choose_answer(request.headers.get("accept"))
        wanted = parse(await self._body(request))
        with self._admitted():
            return await self._unless_gone(request, self._draw(wanted, answer))

    async def show_page(self, request: Request) -> Response:
        """Show the playground."""
        if isinstance(self._page, UserError):
            raise Problem(404, self._page.code, str(self._page))
        return Response(
            self._page.content, headers={"Content-Security-Policy": self._page.policy}, media_type="text/html"
        )

    async def labels(self, request: Request) -> Response:
        """List the attributes and their values."""
        vocabulary = self._sampler.vocabulary
        attributes = [
            {"name": a.name, "kind": a.kind, "values": list(a.values), "width": a.width}
            for a in vocabulary.schema.attributes
        ]
        return JSONResponse({"attributes": attributes, "synonyms": dict(vocabulary.synonyms)})

    async def health(self, request: Request) -> Response:
        """Say whether images are drawn."""
        alive = self._drawing.is_alive
        content = {
            "status": "ok" if alive else "failed",
            "images_seen": self._sampler.saved.images_seen,
            "waiting": self._waiting,
        }
        return JSONResponse(content, 200 if alive else 503)

    async def metrics(self, request: Request) -> Response:
        """Return the metrics as Prometheus reads them."""
        return Response(self._metrics.text(), media_type=prometheus.CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        """Describe this interface."""
        return JSONResponse(openapi.document())

    async def _body(self, request: Request) -> bytes:
        """Read a body of at most `MAX_BODY` bytes."""
        body, size = bytearray(), 0
        try:
            async with asyncio.timeout(self._patience.client_seconds):
                async for part in request.stream():
                    size += len(part)
                    if size <= MAX_BODY:
                        body += part
                    if size > _DISCARDED:
                        break
        except TimeoutError:
            raise closing(408, "body-too-slow", "the body did not arrive in time") from None
        except ClientDisconnect:
            raise _gone() from None
        if size > MAX_BODY:
            raise closing(413, "body-too-large", f"the body is larger than {MAX_BODY:,} bytes")
        return bytes(body)

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[None]:
        """Hold a place in the queue."""
        if self._waiting >= self._patience.queue:
            wait = math.ceil(min(self._last_seconds, self._patience.seconds))
            message = f"{self._waiting} requests wait already; try again later"
            raise Problem(503, "queue-full", message, {"Retry-After": str(wait)})
        self._waiting += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self._waiting -= 1
            self._last_seconds = time.monotonic() - began

    async def _unless_gone(self, request: Request, work: Awaitable[T]) -> T:
        """Return the result of ``work``, unless it takes too long or its client leaves, which cancels it."""
        task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({task, gone}, timeout=self._patience.seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if gone.done():
                raise _gone()
            raise Problem(504, "too-slow", f"the images were not drawn within {self._patience.seconds:g} s; try fewer")
        except asyncio.CancelledError:
            raise Problem(503, "stopping", "this server is stopping; try again later") from None
        finally:
            task.cancel()
            gone.cancel()

    async def _draw(self, wanted: SampleRequest, answer: str) -> Response:
        labels, z = await self._on_worker(lambda: self._read(wanted))
        # Submitted here and not by the worker: a client that has left has cancelled this, but no worker.
        images = await asyncio.wrap_future(self._drawing.submit(labels, z))
        content = await self._on_worker(lambda: _encoded(self._sampler, wanted, labels, images, answer))
        return Response(content, media_type=answer)

    def _read(self, wanted: SampleRequest) -> tuple[Labels, Tensor]:
        """Return the labels and the noise of a request."""
        labels = self._sampler.labels_for(wanted.words, wanted.count, wanted.seed)
        return labels, self._sampler.noise(wanted.count, wanted.seed)

    async def _on_worker(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._workers, function)


def _encoded(sampler: Sampler, wanted: SampleRequest, labels: Labels, images: np.ndarray, answer: str) -> bytes:
    """Return images as `cgan sample` writes them: the grid of its .png, or the single images of its folder."""
    if answer == PNG and wanted.count > 1:
        return image_grid.encode(image_grid.grid(images, min(image_grid.COLUMNS, wanted.count)), [wanted.words])
    pngs = [image_grid.encode_single(image) for image in images]
    if answer == PNG:
        return pngs[0]
    content = {
        "words": wanted.words,
        "count": wanted.count,
        "seed": wanted.seed,
        "images_seen": sampler.saved.images_seen,
        "images": [
            {"png": base64.b64encode(png).decode(), "label": sampler.schema.words(*label)}
            for png, label in zip(pngs, zip(*labels, strict=True), strict=True)
        ],
    }
    return json.dumps(content).encode()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _gone() -> Problem:
    return Problem(499, "client-gone", "the client closed the connection")  # which only the log and the metrics see


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, UserError)
    return response_of(error)


async def _refuse_route(request: Request, error: Exception) -> Response:
    """Answer an unknown path or method."""
    assert isinstance(error, HTTPException)
    known = "see /openapi.json for what there is"
    codes = {404: ("unknown-path", f"there is no such path; {known}"), 405: ("method", f"no such method here; {known}")}
    code, message = codes.get(error.status_code, ("refused", str(error.detail)))
    return response_of(Problem(error.status_code, code, message, error.headers))


async def _apologize(_: Request, error: Exception) -> Response:
    """Answer a fault of this program, which uvicorn then logs with its traceback."""
    return response_of(Problem(500, "internal-error", f"this server failed ({type(error).__name__}); its log says how"))
