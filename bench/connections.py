#!/usr/bin/env python3
"""A server under a thousand clients at once: half of them event streams, a fifth slow, the rest busy; and how long /health takes meanwhile.

    bench/connections.py [URL]      prints a line of figures (in .deps/venv); tests/http/test_load.py uses `storm`

Slow clients are of three kinds: they read a picture a few bytes at a time, send a request byte by byte, or leave in the middle of an answer. Loopback only.
"""
import asyncio
import json
import multiprocessing
import random
import socket
import statistics
import sys
import time
from urllib.parse import urlsplit

STREAMS, SLOW, BUSY = 500, 200, 300


class Figures:
    def __init__(self):
        self.statuses = {}    # status → answers
        self.health = []      # seconds, each with a connection of its own
        self.events = 0       # events that all streams got together
        self.streams = 0      # streams open at the same time
        self.disconnects = 0  # streams that the server ended
        self.faults = []      # what no client should meet: refused connections, nonsense instead of a status

    def count(self, status):
        self.statuses[status] = self.statuses.get(status, 0) + 1


async def ask(host, port, method, path, body=None, figures=None):
    """One request on a connection of its own; gives status and body."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        payload = json.dumps(body).encode() if body is not None else b""
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        writer.write(head.encode() + payload)
        answer = await reader.read(-1)
        status = int(answer.split(b" ", 2)[1])
        if figures:
            figures.count(status)
        return status, answer.partition(b"\r\n\r\n")[2]
    finally:
        writer.close()


async def stream(host, port, figures, until):
    """Listens to all events."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET /api/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    figures.count(int((await reader.readline()).split(b" ", 2)[1]))
    figures.streams += 1
    try:
        while (left := until - time.monotonic()) > 0:
            line = await asyncio.wait_for(reader.readline(), left)
            if not line:
                figures.disconnects += 1
                return
            figures.events += line.startswith(b"event:")
    except asyncio.TimeoutError:
        pass
    finally:
        writer.close()


async def slow(host, port, picture, figures, until, number):
    """Reads or writes a little now and then; every third goes away in the middle, and comes again."""
    while time.monotonic() < until:
        reader, writer = await asyncio.open_connection(host, port, limit=1024)
        try:
            request = f"GET {picture} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
            if number % 3 == 0:  # a request byte by byte
                for byte in request:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.05)
                figures.count(int((await reader.readline()).split(b" ", 2)[1]))
            elif number % 3 == 1:  # an answer in small bites
                writer.write(request)
                figures.count(int((await reader.readline()).split(b" ", 2)[1]))
                while time.monotonic() < until and await reader.read(64):
                    await asyncio.sleep(0.1)
            else:  # away after the first bytes
                writer.write(request)
                figures.count(int((await reader.read(12)).split(b" ", 2)[1]))
                await asyncio.sleep(random.random())
                writer.transport.abort()
                await asyncio.sleep(0.2)
        except (ConnectionError, ValueError, IndexError) as fault:
            if time.monotonic() < until:
                figures.faults.append(f"slow {number % 3}: {fault!r}")
        finally:
            writer.close()


async def busy(host, port, figures, until, number):
    """Lists, figures, and now and then a task."""
    paths = ["/api/tasks?limit=20", "/api/system/stats", "/api/images?limit=20", "/metrics"]
    while time.monotonic() < until:
        try:
            if number % 10 == 0:
                await ask(host, port, "POST", "/api/tasks", {"prompt": f"visitor {number}", "width": 64, "height": 64, "num_inference_steps": 2}, figures)
            else:
                await ask(host, port, "GET", random.choice(paths), figures=figures)
        except (ConnectionError, ValueError, IndexError) as fault:
            figures.faults.append(f"busy: {fault!r}")
        await asyncio.sleep(1 + random.random())


def health(url, seconds, answers):
    """In a process of its own, so that what is measured is the server and not the thousand clients: statuses and seconds, a new connection each time."""
    at, until, found = urlsplit(url), time.monotonic() + seconds, []
    while time.monotonic() < until:
        begin = time.monotonic()
        with socket.create_connection((at.hostname, at.port)) as s:
            s.sendall(f"GET /health HTTP/1.1\r\nHost: {at.netloc}\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: s.recv(4096), b""))
        found.append((int(answer.split(b" ", 2)[1]), time.monotonic() - begin))
        time.sleep(0.02)
    answers.put(found)


async def a_picture(host, port):
    """The address of one that is there, to be read slowly."""
    status, body = await ask(host, port, "POST", "/api/tasks", {"prompt": "a picture", "width": 1024, "height": 1024, "num_inference_steps": 1})
    assert status == 202, body
    task = json.loads(body)["id"]
    while True:
        status, body = await ask(host, port, "GET", f"/api/tasks/{task}")
        document = json.loads(body)
        if document["status"] == "completed":
            return document["images"][0]["url"]
        assert document["status"] in ("queued", "loading", "running"), document
        await asyncio.sleep(0.1)


async def storm(url, seconds=10, streams=STREAMS, slow_clients=SLOW, busy_clients=BUSY):
    """All of them for so long; gives Figures."""
    at = urlsplit(url)
    host, port, figures = at.hostname, at.port, Figures()
    picture = await a_picture(host, port)
    answers = multiprocessing.get_context("fork").Queue()
    prober = multiprocessing.get_context("fork").Process(target=health, args=(url, seconds, answers))
    prober.start()
    until = time.monotonic() + seconds
    await asyncio.gather(*[stream(host, port, figures, until) for _ in range(streams)],
                         *[slow(host, port, picture, figures, until, i) for i in range(slow_clients)],
                         *[busy(host, port, figures, until, i) for i in range(busy_clients)])
    for status, took in await asyncio.to_thread(answers.get):
        figures.count(status)
        figures.health.append(took)
    prober.join()
    return figures


if __name__ == "__main__":
    f = asyncio.run(storm(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7860"))
    f.health.sort()
    print(f"{f.streams} streams got {f.events} events, {f.disconnects} of them were ended; answers by status: {dict(sorted(f.statuses.items()))}; "
          f"/health: median {statistics.median(f.health) * 1000:.1f} ms, p99 {f.health[int(len(f.health) * 0.99)] * 1000:.1f} ms of {len(f.health)}; "
          f"faults: {f.faults[:5] or 'none'}")
