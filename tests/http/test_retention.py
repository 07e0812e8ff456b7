"""What is kept, and what goes: finished tasks beyond a number, pictures beyond an age or a number of bytes; oldest first, row and files together, and never of a
task that is not over."""
import contextlib
import sqlite3

import pytest
from conftest import until


def pictures(server):
    return sorted(p.name for p in (server.folder / "state" / "images").iterdir())


def rows(server):
    """Ids on disk; the server is stopped for that."""
    assert server.stop() == 0
    with contextlib.closing(sqlite3.connect(server.folder / "state" / "imagined.db")) as db:
        return [r[0] for r in db.execute("SELECT id FROM tasks ORDER BY sequence")]


def make(server, count, **fields):
    return [server.finish(server.submit("x", **fields))["id"] for _ in range(count)]


def gone(server, task):
    return server.get(f"/api/tasks/{task}").status_code == 404 and server.get(f"/api/images/{task}-0").status_code == 404


def test_finished_tasks_beyond_the_number_go_with_their_pictures(make_server):
    server = make_server(IMAGINED_KEEP_TASKS=3)
    waiting = server.submit("slow", num_inference_steps=1000, priority="urgent")
    tasks = make(server, 6, n=2)
    until(lambda: all(gone(server, t) for t in tasks[:3]))
    assert server.task(waiting)["status"] in ("loading", "running")
    for t in tasks[3:]:
        assert server.task(t)["status"] == "completed" and server.image(f"{t}-1")[:4] == b"\x89PNG"
    until(lambda: pictures(server) == sorted(f"{t}-{i}.png" for t in tasks[3:] for i in range(2)))
    server.client.delete(f"/api/tasks/{waiting}")
    server.finish(waiting)
    assert rows(server) == [waiting, *tasks[4:]]


def test_a_lower_number_holds_from_the_next_start_on(make_server, tmp_path):
    server = make_server(STATE=tmp_path)
    tasks = make(server, 5)
    server.stop()
    server = make_server(STATE=tmp_path, IMAGINED_KEEP_TASKS=2)
    until(lambda: all(gone(server, t) for t in tasks[:3]))
    until(lambda: sorted(p.name for p in (tmp_path / "images").iterdir()) == sorted(f"{t}-0.png" for t in tasks[3:]))
    assert [server.task(t)["status"] for t in tasks[3:]] == ["completed"] * 2


def test_old_pictures_go(make_server):
    server = make_server(IMAGINED_KEEP_IMAGES_DAYS=1 / 24 / 3600 / 1000)  # a millisecond
    failed = server.finish(server.submit("fail"))["id"]
    tasks = make(server, 2)
    server.stop()
    again = make_server(STATE=server.folder / "state", IMAGINED_KEEP_IMAGES_DAYS=1 / 24 / 3600 / 1000)
    until(lambda: all(gone(again, t) for t in tasks))
    until(lambda: not list((server.folder / "state" / "images").iterdir()))
    assert again.task(failed)["status"] == "failed"  # it has no picture


def test_young_pictures_stay(make_server):
    server = make_server(IMAGINED_KEEP_IMAGES_DAYS=1, IMAGINED_KEEP_IMAGES_GB=1)
    tasks = make(server, 3)
    server.stop()
    again = make_server(STATE=server.folder / "state", IMAGINED_KEEP_IMAGES_DAYS=1, IMAGINED_KEEP_IMAGES_GB=1)
    assert [again.task(t)["status"] for t in tasks] == ["completed"] * 3


@pytest.mark.parametrize("restart", [False, True])
def test_pictures_beyond_the_bytes_go_oldest_first(make_server, restart):
    server = make_server()
    size = len(server.image(server.finish(server.submit("x"))["images"][0]["id"]))
    server.stop()
    limit = 2.5 * size / 2**30
    server = make_server(**({} if restart else {"IMAGINED_KEEP_IMAGES_GB": limit}))
    failed = server.finish(server.submit("fail"))["id"]
    tasks = make(server, 5)
    if restart:
        server.stop()
        folder = server.folder / "state"
        server = make_server(STATE=folder, IMAGINED_KEEP_IMAGES_GB=limit)
    until(lambda: all(gone(server, t) for t in tasks[:3]))
    assert [server.task(t)["status"] for t in [failed, *tasks[3:]]] == ["failed", "completed", "completed"]
    assert server.image(f"{tasks[4]}-0")[:4] == b"\x89PNG"
