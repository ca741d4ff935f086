"""The receiver under load, beside a bare Starlette application that does the same write without keys.

    python benchmarks/http_receiver.py [--seconds 120] [--connections 16] [--bytes 500]

Both are served by uvicorn in a process of their own and take PUTs of small files over loopback at full speed, in
alternating rounds; the bare one writes as the receiver does (temporary file, fsync, rename, fsync of the folder) and
has no keys, tokens, checks or records. After each round every confirmed file has to be there with its content.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TOKEN = "benchmark-token-of-length"
ROUNDS = 4

_RECEIVER = """
from etl_project import settings
from etl_project.http_in import receiver, settings as delivery_settings
receiver.serve(settings.load(), delivery_settings.receiver())
"""


@dataclass
class Load:
    """What the rounds of one server have shown; latencies in seconds, memory in bytes."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    errors: int = 0
    lost: int = 0
    memory: list[int] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """The numbers to report."""
        ordered = sorted(self.latencies)
        return {
            "requests": len(ordered),
            "requests_per_second": round(len(ordered) / self.seconds, 1),
            "p50_ms": round(ordered[len(ordered) // 2] * 1000, 2),
            "p99_ms": round(ordered[len(ordered) * 99 // 100] * 1000, 2),
            "errors": self.errors,
            "lost": self.lost,
            "memory_first_mb": round(self.memory[0] / 1e6, 1),
            "memory_last_mb": round(self.memory[-1] / 1e6, 1),
        }


def bare_app(folder: Path) -> Starlette:
    """The write alone: what an application would do that trusts everybody and never repeats."""

    def write(name: str, body: bytes) -> None:
        temporary = folder / f".{uuid.uuid4().hex}.tmp"
        with temporary.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(folder / name)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(descriptor)
        os.close(descriptor)

    async def put(request: Request) -> Response:
        name = request.path_params["name"]
        body = await request.body()
        await to_thread.run_sync(write, name, body)
        return JSONResponse({"name": name, "size_bytes": len(body)}, 201)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[Route("/healthz", health), Route("/v1/incoming/{source}/{name:path}", put, methods=["PUT"])]
    )


def serve_bare(folder: Path, port: int) -> None:
    """Serve the bare application as the receiver is served."""
    uvicorn.run(bare_app(folder), port=port, access_log=False, server_header=False, log_level="warning")


@contextmanager
def served(kind: str, data_dir: Path) -> Iterator[tuple[int, psutil.Process]]:
    """A server of the kind in a process of its own: its port and process."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {
        **os.environ,
        "ETL_DATA_DIR": str(data_dir),
        "ETL_RECEIVER_PORT": str(port),
        "ETL_RECEIVER_TOKEN_BENCH": TOKEN,
        "ETL_RECEIVER_SOURCES_BENCH": "orders",
    }
    bare = [sys.executable, __file__, "--serve-bare", str(data_dir / "incoming" / "orders"), str(port)]
    command = bare if kind == "bare" else [sys.executable, "-c", _RECEIVER]
    (data_dir / "incoming" / "orders").mkdir(parents=True)
    with (data_dir / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    try:
        for _ in range(600):
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


async def one_round(port: int, prefix: str, seconds: float, connections: int, size: int, load: Load) -> list[str]:
    """Full speed over some connections for some seconds; the names that were confirmed."""
    confirmed: list[str] = []
    until = time.perf_counter() + seconds

    async def worker(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        count = 0
        while time.perf_counter() < until:
            name = f"{prefix}-{number}-{count}-2026-01-05.csv"
            count += 1
            body = name.encode().ljust(size, b".")
            start = time.perf_counter()
            writer.write(
                f"PUT /v1/incoming/orders/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
                f'Idempotency-Key: "{name}"\r\nContent-Length: {len(body)}\r\n\r\n'.encode()
                + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            load.latencies.append(time.perf_counter() - start)
            if head.startswith(b"HTTP/1.1 201 "):
                confirmed.append(name)
            else:
                load.errors += 1
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(worker(number) for number in range(connections)))
    load.seconds += time.perf_counter() - start
    return confirmed


def check(folder: Path, confirmed: list[str], size: int, load: Load) -> None:
    """Every confirmed file is there with its content; then make room."""
    for name in confirmed:
        path = folder / name
        if not path.is_file() or path.read_bytes() != name.encode().ljust(size, b"."):
            load.lost += 1
    for entry in os.scandir(folder):
        os.unlink(entry.path)


def run(seconds: float, connections: int, size: int) -> dict[str, object]:
    """Alternate both servers over the rounds, `seconds` in all for each."""
    loads = {"receiver": Load(), "bare": Load()}
    base = Path(tempfile.mkdtemp(prefix="http-receiver-", dir=os.environ.get("BENCH_DIR")))
    try:
        with served("receiver", base / "receiver") as receiver, served("bare", base / "bare") as bare:
            servers = {"receiver": receiver, "bare": bare}
            for kind, (port, _) in servers.items():
                warm = asyncio.run(one_round(port, "warm", 2, connections, size, Load()))
                check(base / kind / "incoming" / "orders", warm, size, Load())
            for number in range(ROUNDS):
                for kind, (port, process) in servers.items():
                    load = loads[kind]
                    names = asyncio.run(one_round(port, f"r{number}", seconds / ROUNDS, connections, size, load))
                    load.memory.append(process.memory_info().rss)
                    check(base / kind / "incoming" / "orders", names, size, load)
    finally:
        shutil.rmtree(base)
    summaries = {kind: load.summary() for kind, load in loads.items()}
    ratio = summaries["receiver"]["requests_per_second"] / summaries["bare"]["requests_per_second"]
    return {
        "seconds": seconds,
        "connections": connections,
        "bytes": size,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        **summaries,
        "ratio": round(ratio, 2),
    }


def main() -> None:
    """Run and print the result as JSON."""
    if sys.argv[1:2] == ["--serve-bare"]:
        serve_bare(Path(sys.argv[2]), int(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--bytes", type=int, default=500)
    options = parser.parse_args()
    print(json.dumps(run(options.seconds, options.connections, options.bytes), indent=2))


if __name__ == "__main__":
    main()
