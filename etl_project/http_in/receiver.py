"""The receiver: an ASGI application that takes files over HTTP into `incoming/`, with one effect a key.

Belongs here: the routes and the order of steps from request to answer. Does not belong here: parsing heads
(`requests`), reading bodies (`bodies`), who holds a key (`claims`), the connection (`protocol`).

The rules are those of draft-ietf-httpapi-idempotency-key-header: a key is required (400), another request with it
waits while the first is in progress (409), another body under it is refused (422), and otherwise the first answer is
replayed, marked `Idempotency-Replayed: true`. Only effects are remembered: a refused request may be sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib
import hmac
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.config import LOGGING_CONFIG

from etl_project import atomic, faults, utc
from etl_project.http_in import bodies, openapi, problems, requests, webhooks
from etl_project.http_in.claims import Answered, ClaimLost, InProgress, Upload
from etl_project.http_in.declared import Declared, declared_sources, refuse_unknown
from etl_project.http_in.keeper import Keeper
from etl_project.http_in.problems import Problem
from etl_project.http_in.protocol import GuardedProtocol
from etl_project.http_in.settings import Receiver, Sender
from etl_project.http_in.sink import Sink, refuse_without_room
from etl_project.settings import Settings, pipelines

_LOG = logging.getLogger("etl.receiver")


def serve(settings: Settings, receiving: Receiver) -> None:
    """Serve until SIGTERM or SIGINT, which let running uploads end for up to 10 s.

    A kill leaves nothing that the next start or the next request with the same key does not finish or undo.
    Raises SettingsError (retrying does not help) where a client may send to a source that no pipeline reads.
    """
    declared = declared_sources(pipelines())
    refuse_unknown(receiving.clients, declared)
    logs = copy.deepcopy(LOGGING_CONFIG)
    logs["loggers"]["etl"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    uvicorn.run(
        create_app(settings, receiving, declared),
        host=receiving.host,
        port=receiving.port,
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=logs,
        ssl_certfile=receiving.tls.certificate if receiving.tls else None,
        ssl_keyfile=receiving.tls.key if receiving.tls else None,
        timeout_graceful_shutdown=10,
    )


def create_app(settings: Settings, receiving: Receiver, declared: Mapping[str, Declared]) -> Starlette:
    """The application; it opens its records when it starts and closes them when it stops."""
    receiver = _Receiver(settings, receiving, declared)
    return Starlette(
        routes=[
            Route("/healthz", receiver.health, methods=["GET"]),
            Route("/openapi.json", receiver.document, methods=["GET"]),
            Route("/v1/incoming/{source}", receiver.post_lines, methods=["POST"]),
            Route("/v1/webhooks/{client}/{source}", receiver.post_webhook, methods=["POST"]),
            Route("/v1/incoming/{source}/{name:path}", receiver.put_file, methods=["PUT"]),
        ],
        exception_handlers=problems.HANDLERS,
        lifespan=receiver.lifespan,
    )


@dataclass(frozen=True)
class _Wanted:
    """A file of this name for this source, once under this key. `asked` tells the request from others. `apart`: what
    tells its lines from equal ones under another key, where that is wanted."""

    client: Sender
    source: str
    name: str
    asked: str
    key: str
    apart: str = ""


class _Receiver:
    def __init__(self, settings: Settings, receiving: Receiver, declared: Mapping[str, Declared]) -> None:
        self._settings = settings
        self._declared = declared
        self._receiving = receiving
        self._keeper = Keeper(settings, receiving)
        self._uploads: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Finish what a killed receiver left, then serve, renewing leases and forgetting old keys."""
        await self._keeper.start()
        upkeep = asyncio.create_task(self._keeper.keep_up())
        try:
            yield
        finally:
            upkeep.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await upkeep
            self._keeper.close()

    async def health(self, request: Request) -> Response:
        """200 while an upload could be recorded; 507, 503 or 500 otherwise."""
        await to_thread.run_sync(self._keeper.check)
        return JSONResponse({"status": "ok"})

    async def document(self, request: Request) -> Response:
        """The OpenAPI document."""
        return JSONResponse(openapi.document(self._receiving))

    async def put_file(self, request: Request) -> Response:
        """One file, as it is, under the name in the path."""
        client, source = self._admit(request)
        name = requests.file_name(request.path_params["name"])
        day = self._declared[source].day(name, self._settings.start_date, utc.now().date())
        if isinstance(day, str):
            raise Problem(400, "name", f"{source} would not read a file of this name: {day}.")
        key = requests.idempotency_key(request.headers, client.key_header)
        wanted = _Wanted(client, source, name, f"PUT {source}/{name}", key)
        return await self._once(request, wanted, None)

    async def post_lines(self, request: Request) -> Response:
        """JSON lines; the file is named after the day and the key, so that the same key is the same file."""
        client, source = self._admit(request)
        requests.json_lines(request.headers)
        days = request.query_params.getlist("day")
        day = requests.day(days)
        key = requests.idempotency_key(request.headers, client.key_header)
        unique = _unique(client, key)
        name = self._name_of_lines(source, day, unique)
        wanted = _Wanted(client, source, name, f"POST {source} {''.join(days)}", key, unique)
        return await self._once(request, wanted, bodies.JsonLinesCheck())

    async def post_webhook(self, request: Request) -> Response:
        """One JSON object, signed by its sender: a line of its own file, on the day (UTC) on which it came."""
        client = requests.signing_client(request.path_params["client"], self._receiving.clients)
        source = requests.allowed_source(client, request.path_params["source"])
        with self._slot(client):
            line, document = await webhooks.read(request, client, self._receiving)
            key = webhooks.key(request.headers, document, client)
            unique = _unique(client, key)
            name = self._name_of_lines(source, utc.now().date(), unique)
            # Where the key is a field of the message, no two of them are equal.
            apart = "" if client.key_field else unique
            wanted = _Wanted(client, source, name, f"webhook {source}", key, apart)
            return await self._answer(request, wanted, len(line), _whole(line), bodies.Checks({}, None))

    def _name_of_lines(self, source: str, day: date, unique: str) -> str:
        declared, first, today = self._declared[source], self._settings.start_date, utc.now().date()
        name = declared.name_for(day, unique, first, today)
        if name is None and declared.name_for(today, unique, first, today) is None:
            raise Problem(415, "media-type", f"{source} reads no JSON lines: its files are called otherwise.")
        if name is None:
            raise Problem(400, "day", f"{source} reads no file of {day}: its days are {first} to tomorrow (UTC).")
        return name

    def _admit(self, request: Request) -> tuple[Sender, str]:
        client = requests.authenticate(request.headers, self._receiving.clients)
        requests.printable_path(request.scope["path"])
        return client, requests.allowed_source(client, request.path_params["source"])

    async def _once(self, request: Request, wanted: _Wanted, lines: bodies.JsonLinesCheck | None) -> Response:
        """The effect and its answer, or the first answer again."""
        announced = requests.announced_size(request.headers, self._receiving.max_bytes)
        checks = bodies.Checks(requests.content_digest(request.headers), lines)
        with self._slot(wanted.client):
            body = bodies.chunks(request, announced, self._receiving)
            return await self._answer(request, wanted, announced, body, checks)

    @contextlib.contextmanager
    def _slot(self, client: Sender) -> Iterator[None]:
        """One of the client's uploads at once; 503 when it has none left."""
        if self._uploads[client.name] >= self._receiving.max_uploads:
            raise Problem(503, "busy", "Too many uploads of this client at once.", {"Retry-After": "2"})
        self._uploads[client.name] += 1
        try:
            yield
        finally:
            self._uploads[client.name] -= 1

    async def _answer(
        self, request: Request, wanted: _Wanted, size: int | None, body: AsyncIterator[bytes], checks: bodies.Checks
    ) -> Response:
        target = self._settings.incoming / wanted.source / wanted.name
        claim = await to_thread.run_sync(self._claim, wanted, target, size or 0)
        if isinstance(claim, Answered):
            return await self._replay(claim, wanted, body, checks)
        return await self._store(claim, wanted, body, checks)

    def _claim(self, wanted: _Wanted, target: Path, size: int) -> Upload | Answered:
        claims = self._keeper.claims()
        try:
            atomic.make_folder(target.parent)
            claim = claims.claim(wanted.client.name, wanted.key, wanted.asked, target)
        except InProgress as busy:
            raise Problem(409, "in-progress", str(busy), {"Retry-After": "1"}) from busy
        if isinstance(claim, Upload):
            try:
                _refuse_folder(target)
                refuse_without_room(target.parent, size)
            except BaseException:
                claims.release(claim)
                raise
        return claim

    async def _store(
        self, upload: Upload, wanted: _Wanted, body: AsyncIterator[bytes], checks: bodies.Checks
    ) -> Response:
        """Stream the body beside its target, then land it; any failure before that gives the key up again."""
        faults.reach("receiver.claimed")
        sink = Sink(upload.temporary)
        apart = bodies.ToldApart(wanted.apart) if wanted.apart else None
        try:
            async for chunk in body:
                checks.feed(chunk)
                if sink.add(apart.feed(chunk) if apart is not None else chunk):
                    await to_thread.run_sync(sink.write)
                    faults.reach("receiver.streaming")
            body_sha256 = checks.finish()
            if apart is not None:
                sink.add(apart.finish())
            answer = openapi.answer(wanted.source, upload.target.name, checks.size_bytes, body_sha256)
            await to_thread.run_sync(self._land, sink, upload, body_sha256, answer)
        except BaseException as failure:
            sink.close()
            await to_thread.run_sync(self._keeper.claims().release, upload)
            if isinstance(failure, ClaimLost):
                raise Problem(409, "in-progress", str(failure), {"Retry-After": "1"}) from failure
            raise
        client, source = wanted.client.name, wanted.source
        _LOG.info("%s: %s/%s, %d bytes, %s", client, source, upload.target.name, checks.size_bytes, body_sha256)
        return Response(answer, 201, media_type="application/json")

    def _land(self, sink: Sink, upload: Upload, body_sha256: str, answer: str) -> None:
        sink.finish()
        self._keeper.claims().land(upload, body_sha256, 201, answer)

    async def _replay(
        self, first: Answered, wanted: _Wanted, body: AsyncIterator[bytes], checks: bodies.Checks
    ) -> Response:
        """The first answer, if this is the first request again; its body is read to know that, and not kept."""
        other = Problem(
            422, "key-reused", "This key was used for another request; send changed content under a new key."
        )
        if first.request != wanted.asked:
            raise other
        async for chunk in body:
            checks.feed(chunk)
        if not hmac.compare_digest(checks.finish(), first.body_sha256):
            raise other
        return Response(
            first.answer, first.status, media_type="application/json", headers={"Idempotency-Replayed": "true"}
        )


def _unique(client: Sender, key: str) -> str:
    return hashlib.sha256(f"{client.name}\0{key}".encode()).hexdigest()[:16]


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _refuse_folder(target: Path) -> None:
    if target.is_dir():
        raise Problem(400, "name", f"{target.name!r} is the name of a folder here; a file needs another one.")
