"""The service: its routes, and the way of an image from upload to answer."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from medseg import __version__
from medseg.data.io.pixels import NotAPictureError, TooManyPixelsError
from medseg.errors import DataError
from medseg.inference.predictor import Prediction
from medseg.serve import answer
from medseg.serve.answer import Answer, Models, Spacing
from medseg.serve.body import FIELD, Bodies, busy
from medseg.serve.decoding import Decoders
from medseg.serve.docs import docs_page
from medseg.serve.guard import GONE, Door, Guard
from medseg.serve.limits import Limits
from medseg.serve.metrics import CONTENT_TYPE, Metrics
from medseg.serve.pages import Page
from medseg.serve.scheduler import Job, Scheduler
from medseg.serve.served import Served

PNG, JSON = "image/png", "application/json"
_OPEN = frozenset({"/", "/docs", "/openapi.json", "/healthz"})
_SPACING = r"^\d{1,4}(\.\d{1,6})?(,\d{1,4}(\.\d{1,6})?)?$"


class Problem(BaseModel):
    """Why there is no mask."""

    detail: str


class Health(BaseModel):
    """That the service can compute."""

    status: str


class ClientGoneError(Exception):
    """There is nobody left to answer."""


class Service:
    """Models, the threads and processes that apply them, and how much may wait.

    Args:
        models: by name.
        limits: of the service.
    """

    def __init__(self, models: Mapping[str, Served], limits: Limits) -> None:
        self.models = models
        self.limits = limits
        self.bodies = Bodies(limits)
        self.decoders = Decoders(limits)
        self.metrics = Metrics(self._waiting)
        self.scheduler = Scheduler(
            limits.workers, threads=limits.threads, on_batch=self.metrics.batch_size.observe
        )
        batch = max(each.model.batch_size for each in models.values())
        # Decoded images are large: no more of them than keep the threads busy.
        self._decoded = asyncio.Semaphore(limits.workers * (batch + 1))
        self._admitted = 0

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """Started, and closed when what runs has been answered."""
        await self.decoders.start()
        yield
        await asyncio.to_thread(self.scheduler.close)
        await self.decoders.close()

    def pick(self, name: str | None) -> Served:
        """The model of that name, or the only one.

        Raises:
            HTTPException: 404 where there is none, 422 where there are several.
        """
        if name is None and len(self.models) == 1:
            return next(iter(self.models.values()))
        known = ", ".join(self.models)
        if name is None:
            raise HTTPException(422, f"Name one of the models with ?model=: {known}")
        if name not in self.models:
            raise HTTPException(404, f"There is no model of that name; known: {known}")
        return self.models[name]

    def max_pixels(self, served: Served) -> int:
        """Of an image for this model."""
        return min(self.limits.max_pixels, served.model.max_pixels)

    async def predict(
        self, request: Request, served: Served, kind: str, **options: Any
    ) -> Response:
        """Read, decode, compute and answer one image.

        Args:
            request: with the image.
            served: the model.
            kind: ``PNG`` or ``JSON``.
            options: of :meth:`_mask`.
        """
        self._refuse_when_full()
        with self.bodies.reading() as body:
            data = await body.image(request)
            with self._admission():
                work = self._mask(data, served, kind, **options)
                return Response(await self._in_time(request, work), media_type=kind)

    async def _mask(
        self,
        data: bytes,
        served: Served,
        kind: str,
        *,
        threshold: float | None,
        tta: bool,
        spacing: Spacing | None,
    ) -> bytes:
        started = time.perf_counter()

        def make(found: Prediction) -> bytes:
            if kind == PNG:
                return answer.mask_png(served.model, found)
            return answer.as_json(served, found, spacing, started)

        async with self._decoded:
            image = await self.decoders.decode(data, self.max_pixels(served))
            job = Job(
                served.model, image, make, threshold=threshold, tta=tta,
                with_probabilities=kind == JSON,
            )  # fmt: skip
            self.scheduler.submit(job)
            return await asyncio.wrap_future(job.future)

    async def _in_time(self, request: Request, work: Coroutine[Any, Any, bytes]) -> bytes:
        """The result of ``work``, unless it takes too long or the client leaves; then what has
        not been begun is not done."""
        mask = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_until_gone(request))
        try:
            await asyncio.wait(
                {mask, gone}, timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if mask.done():
                return mask.result()
            if gone.done():
                raise ClientGoneError
            raise HTTPException(504, f"The answer took longer than {self.limits.timeout:g} s")
        finally:
            mask.cancel()
            gone.cancel()

    def _waiting(self) -> int:
        return max(0, self._admitted - self.limits.workers)

    def _refuse_when_full(self) -> None:
        if self._admitted >= self.limits.workers + self.limits.queue:
            raise busy("Too many requests wait")

    @contextmanager
    def _admission(self) -> Iterator[None]:
        self._refuse_when_full()
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1


def create_app(
    service: Service,
    *,
    page: Page | None = None,
    token: str | None = None,
    hosts: frozenset[str] | None = None,
) -> ASGIApp:
    """The whole of HTTP around a service.

    Args:
        service: not yet running; the application's lifespan runs it.
        page: answered at ``/``.
        token: that every client must send; None for none.
        hosts: names by which clients may address the service; None for any.
    """
    app = FastAPI(
        title="medseg",
        version=__version__,
        summary="Masks of medical images. Not a medical device.",
        docs_url=None,
        redoc_url=None,
        lifespan=service.running,
    )
    _add_errors(app)
    _add_routes(app, service)
    _add_pages(app, page)
    _describe_security(app, token)
    routes = frozenset({"/", "/docs", "/openapi.json", *app.openapi()["paths"]})
    door = Door(token, hosts, routes, _OPEN)
    return Guard(app, door=door, metrics=service.metrics, limits=service.limits)


def _add_routes(app: FastAPI, service: Service) -> None:
    responses: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "the mask",
            "content": {PNG: {"schema": {"type": "string", "format": "binary"}}},
            "model": Answer,
        },
        **_problems(400, 401, 404, 406, 408, 413, 415, 421, 422, 429, 500, 504),
    }

    @app.post(
        "/v1/predict",
        responses=responses,
        response_class=Response,
        openapi_extra={"requestBody": _REQUEST_BODY},
        summary="The mask of an image",
    )
    async def predict(
        request: Request,
        model: Annotated[
            str | None, Query(description="its name; needed where there are several")
        ] = None,
        threshold: Annotated[
            float | None,
            Query(gt=0, lt=1, description="of the probability, for a binary model [the model's]"),
        ] = None,
        tta: Annotated[bool, Query(description="average over four flips")] = False,
        spacing: Annotated[
            str | None,
            Query(
                pattern=_SPACING,
                description="mm from pixel to pixel, `MM` or `DOWN,ALONG`, for areas in JSON",
            ),
        ] = None,
    ) -> Response:
        """Send an image file (PNG, JPEG, BMP, GIF, WebP or TIFF) as the body or as the form field
        `image`. With `Accept: image/png`, which is the default, the answer is the mask file that
        `medseg predict` writes; with `Accept: application/json` it tells classes, areas,
        confidence and contours, too."""
        served = service.pick(model)
        if threshold is not None and served.model.manifest.num_classes > 1:
            raise HTTPException(422, "threshold: only a model of one class has one")
        kind = _wanted(request.headers.get("accept", ""))
        return await service.predict(
            request, served, kind, threshold=threshold, tta=tta, spacing=_spacing(spacing)
        )

    @app.get("/v1/models", responses=_problems(401, 421), summary="The models of this service")
    async def models() -> Models:
        """Their names, classes, sizes, scores, licences and cards."""
        return Models(
            models=[
                answer.describe(each, service.max_pixels(each)) for each in service.models.values()
            ]
        )

    @app.get("/healthz", responses=_problems(421, 503), summary="Whether the service can compute")
    async def healthz() -> Health:
        """For load balancers; needs no token."""
        if not service.scheduler.alive:
            raise HTTPException(503, "A thread that computes has died: restart the service")
        return Health(status="ok")

    @app.get(
        "/metrics",
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **_problems(401, 421),
        },
        response_class=Response,
        summary="Counters for Prometheus",
    )
    async def metrics() -> Response:
        """Requests by route and status, their seconds, batch sizes, and what waits."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_pages(app: FastAPI, page: Page | None) -> None:
    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        if page is None:
            raise HTTPException(404, "This installation has no page; the API is at /docs")
        return HTMLResponse(page.html, headers={"content-security-policy": page.policy})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        described = docs_page(app.openapi())
        return HTMLResponse(described.html, headers={"content-security-policy": described.policy})


def _add_errors(app: FastAPI) -> None:
    def handle(kind: type[Exception], status: Callable[[Any], tuple[int, str]]) -> None:
        async def handler(_: Request, error: Exception) -> Response:
            code, detail = status(error)
            headers = getattr(error, "headers", None)
            return JSONResponse({"detail": detail}, code, headers=headers)

        app.add_exception_handler(kind, handler)

    async def nobody(_: Request, __: Exception) -> Response:
        return Response(status_code=GONE)

    handle(HTTPException, lambda error: (error.status_code, error.detail))
    handle(RequestValidationError, lambda error: (422, _first_error(error)))
    handle(NotAPictureError, lambda error: (415, str(error)))
    handle(TooManyPixelsError, lambda error: (413, str(error)))
    handle(DataError, lambda error: (422, str(error)))
    app.add_exception_handler(ClientGoneError, nobody)
    app.add_exception_handler(ClientDisconnect, nobody)


def _first_error(error: RequestValidationError) -> str:
    first = error.errors()[0]
    return f"{first['loc'][-1]}: {first['msg']}"


def _describe_security(app: FastAPI, token: str | None) -> None:
    schema = app.openapi()
    if token is None:
        return
    schema.setdefault("components", {})["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"}
    }
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            operation["security"] = [] if path in _OPEN else [{"token": []}]


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem} for status in statuses}


_FILE = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
_REQUEST_BODY = {
    "required": True,
    "content": {
        "application/octet-stream": _FILE,
        "image/*": _FILE,
        "multipart/form-data": {
            "schema": {
                "type": "object", "required": [FIELD],
                "properties": {FIELD: {"type": "string", "format": "binary", "minLength": 1}},
            }
        },
    },
}  # fmt: skip


def _wanted(accept: str) -> str:
    """``PNG`` or ``JSON``, whichever the header ``Accept`` prefers; PNG where it does not care.

    Raises:
        HTTPException: 406, it takes neither.
    """
    shares = {PNG: 0.0, JSON: 0.0}
    for part in filter(None, (each.strip() for each in accept.lower().split(","))):
        kind, *parameters = (each.strip() for each in part.split(";"))
        found = [re.fullmatch(r"q\s*=\s*([\d.]{1,6})", each) for each in parameters]
        try:
            share = next((float(match[1]) for match in found if match), 1.0)
        except ValueError:
            share = 0.0
        for known in shares:
            if kind in (known, "*/*", f"{known.partition('/')[0]}/*"):
                shares[known] = max(shares[known], share)
    if not accept.strip():
        return PNG
    best = PNG if shares[PNG] >= shares[JSON] else JSON
    if shares[best] <= 0:
        raise HTTPException(406, f"Accept {PNG} or {JSON}")
    return best


def _spacing(text: str | None) -> Spacing | None:
    if text is None:
        return None
    numbers = [float(each) for each in text.split(",")]
    if min(numbers) <= 0:
        raise HTTPException(422, "spacing: millimetres must be above 0")
    return numbers[0], numbers[-1]


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
