"""A schema registry for tests: a real HTTP server that speaks the part of Confluent's API that serializers and
deserializers use. What it should answer instead (an error) can be said for a test."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

References = Sequence[Mapping[str, Any]]


@dataclass
class RegistryServer:
    """The schemas by number, and what was asked."""

    url: str = ""
    schemas: dict[int, dict[str, Any]] = field(default_factory=dict)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    status: int = 200
    """Another one is the answer to every question."""

    def register(self, subject: str, schema: dict[str, Any], number: int | None = None) -> int:
        """The number of the schema, a new version of the subject unless it is there already."""
        for known in self.subjects.get(subject, []):
            if self.schemas[known] == schema:
                return known
        number = number or len(self.schemas) + 1
        self.schemas[number] = schema
        self.subjects.setdefault(subject, []).append(number)
        return number

    def register_avro(self, subject: str, schema: dict[str, Any], references: References = ()) -> int:
        """The same for an Avro schema."""
        return self.register(subject, {"schema": json.dumps(schema), "references": list(references)})

    def register_descriptor(self, subject: str, serialized: bytes, references: References = ()) -> int:
        """The same for a Protobuf file."""
        text = base64.b64encode(serialized).decode()
        return self.register(subject, {"schemaType": "PROTOBUF", "schema": text, "references": list(references)})

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Status and content for one request."""
        parts, query = [unquote(part) for part in urlsplit(path).path.split("/")[1:]], parse_qs(urlsplit(path).query)
        self.asked.append(f"{method} {path}")
        if self.status != 200:
            return self.status, {"error_code": self.status, "message": "as the test says"}
        if method == "POST" and parts[0] == "subjects":
            return 200, {"id": self.register(parts[1], {key: body[key] for key in body})}
        if parts[:2] == ["schemas", "ids"] and int(parts[2]) in self.schemas:
            schema = self.schemas[int(parts[2])]
            if schema.get("schemaType") == "PROTOBUF" and query.get("format") != ["serialized"]:
                return 422, {"error_code": 422, "message": "this server has descriptors only"}
            return 200, schema
        if parts[0] == "subjects" and len(parts) == 4 and parts[1] in self.subjects:
            number = self.subjects[parts[1]][int(parts[3]) - 1]
            return 200, {"subject": parts[1], "version": int(parts[3]), "id": number, **self.schemas[number]}
        return 404, {"error_code": 40403, "message": "Schema not found"}


@contextmanager
def running() -> Iterator[RegistryServer]:
    """A server on a port of its own, for as long as the block lasts."""
    registry = RegistryServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            status, content = registry.answer(self.command, self.path, body)
            sent = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
