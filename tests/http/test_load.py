"""A thousand clients at once, half of them event streams, a fifth slow or leaving in the middle: everybody gets an answer that means something, nothing they
leave behind stays. How fast it is meanwhile is measured, not tested, by bench/connections.py, whose clients these are."""
import asyncio
import os
import re
import sys

from conftest import ROOT, until

sys.path.insert(0, str(ROOT / "bench"))
import connections  # noqa: E402


def resident(server):
    """The front's own memory, file pages left out."""
    return int(re.search(r"RssAnon:\s+(\d+)", open(f"/proc/{server.process.pid}/status").read())[1]) * 1024


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def storm(server):
    figures = asyncio.run(connections.storm(server.url, seconds=4))
    assert figures.faults == []
    assert figures.streams == connections.STREAMS and figures.disconnects == 0 and figures.events > connections.STREAMS
    assert {s for s in figures.statuses if not 200 <= s < 300} <= {429, 503}, figures.statuses
    assert figures.health
    until(lambda: server.get("/api/system/stats").json()["queue"]["queued"] == 0, 60)


def test_a_thousand_clients_at_once(make_server):
    server = make_server()
    server.wait_ready()
    storm(server)
    open_before, before, grown = descriptors(server), resident(server), []
    # What it needs once, it keeps: events of the last minutes, buffers, what malloc holds. What leaked would leak in each storm.
    while len(grown) < 6 and (not grown or grown[-1] > 1 << 20):
        storm(server)
        until(lambda: descriptors(server) <= open_before + 2, 60)  # connections, streams and half-sent answers are all gone again
        now = resident(server)
        grown.append(now - before)
        before = now
    assert grown[-1] <= 1 << 20, grown
    assert {t["status"] for t in server.get("/api/tasks?limit=100").json()["tasks"]} == {"completed"}
    assert server.get("/health").status_code == 200
