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


def test_a_thousand_clients_at_once(make_server):
    server = make_server()
    server.wait_ready()
    for _ in range(4):  # what it needs once, it keeps: events of the last minutes, buffers; 25 MiB after one storm, 38 to 41 from the third on
        asyncio.run(connections.storm(server.url, seconds=3))
    until(lambda: server.get("/api/system/stats").json()["queue"]["queued"] == 0, 60)
    before, open_before = resident(server), descriptors(server)
    figures = asyncio.run(connections.storm(server.url, seconds=5))
    assert figures.faults == []
    assert figures.streams == connections.STREAMS and figures.disconnects == 0 and figures.events > connections.STREAMS
    assert {s for s in figures.statuses if not 200 <= s < 300} <= {429, 503}, figures.statuses
    assert figures.health
    # Connections, streams and half-sent answers are all gone again.
    until(lambda: descriptors(server) <= open_before + 2, 60)
    until(lambda: resident(server) - before < 8 << 20, 30)
    assert server.get("/health").status_code == 200
