"""A full disk: what was accepted waits and completes, new tasks are refused with 507, and the server says so until there is space again.

Once on a small file system of its own, where the tests may mount one, and once with a library that makes writing fail, which works for everybody."""
import pathlib
import subprocess

import pytest
from conftest import BUILD, until


class Mounted:
    """A tmpfs of two megabytes."""

    def __init__(self, folder):
        self.folder = folder
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], capture_output=True).returncode != 0:
            pytest.skip("needs the right to mount a small file system")
        self.environment = {}

    def fill(self):
        with open(self.folder / "filler", "wb", buffering=0) as filler:
            with pytest.raises(OSError):
                while True:
                    filler.write(b"x" * 4096)

    def free(self):
        (self.folder / "filler").unlink()

    def close(self):
        subprocess.run(["umount", "-l", self.folder])


class Preloaded:
    def __init__(self, folder):
        self.flag = pathlib.Path(f"{folder}.is-full")
        self.folder = folder
        self.environment = {"LD_PRELOAD": str(BUILD / "tests/http/libfull_disk.so"), "FULL_DISK_FLAG": str(self.flag), "FULL_DISK_FOLDER": str(folder)}

    def fill(self):
        self.flag.touch()

    def free(self):
        self.flag.unlink()

    def close(self):
        pass


@pytest.fixture(params=[Mounted, Preloaded])
def disk(request, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    made = request.param(folder)
    yield made
    made.close()


def is_paused(server):
    return server.get("/health").json()["paused"]


def test_a_full_disk_pauses_the_queue_and_loses_nothing(make_server, disk):
    server = make_server(STATE=disk.folder / "state", **disk.environment)
    before = server.finish(server.submit("a fox"))
    running = server.submit("slow", num_inference_steps=8)
    waiting = [server.submit("slow", num_inference_steps=2) for _ in range(3)]
    server.wait_status(running, "running")
    disk.fill()

    reason = until(lambda: is_paused(server))
    assert "state" in reason and "full" in reason or "No space" in reason
    for path, body in [("/api/tasks", {"prompt": "x"}), ("/v1/images/generations", {"prompt": "x"})]:
        refused = server.post(path, json=body)
        assert refused.status_code == 507, refused.text
        assert "disk_full" in refused.text and "state" in refused.text
    assert server.get("/health").status_code == 200
    assert server.image(before["images"][0]["id"])[:4] == b"\x89PNG"
    assert {server.task(t)["status"] for t in [running, *waiting]} <= {"queued", "loading", "running"}

    disk.free()
    for task in [running, *waiting]:
        done = server.finish(task)
        assert done["status"] == "completed" and done["metrics"], done
        assert server.image(done["images"][0]["id"])[:4] == b"\x89PNG"
    assert is_paused(server) is None
    assert server.finish(server.submit("a fox"))["status"] == "completed"
    assert not list(disk.folder.rglob("*.tmp"))
    assert server.stop() == 0


def test_a_submission_that_fails_can_be_sent_again_with_its_key(make_server, disk):
    server = make_server(STATE=disk.folder / "state", **disk.environment)
    server.finish(server.submit("a fox"))
    disk.fill()
    key = {"Idempotency-Key": "one"}
    assert server.post("/api/tasks", json={"prompt": "a"}, headers=key).status_code == 507
    disk.free()
    until(lambda: is_paused(server) is None)
    # The key made nothing: it is as good as new, for another body too.
    made = server.post("/api/tasks", json={"prompt": "b"}, headers=key)
    assert made.status_code == 202
    assert server.post("/api/tasks", json={"prompt": "b"}, headers=key).json()["id"] == made.json()["id"]
    assert server.finish(made.json()["id"])["status"] == "completed"


def test_what_a_full_disk_held_back_is_there_after_a_restart(make_server, disk):
    server = make_server(STATE=disk.folder / "state", **disk.environment)
    server.finish(server.submit("a fox"))
    task = server.submit("slow", num_inference_steps=6)
    queued = server.submit("slow", num_inference_steps=3)
    server.wait_status(task, "running")
    disk.fill()
    until(lambda: is_paused(server))
    server.process.kill()
    server.process.wait()
    disk.free()
    again = make_server(STATE=disk.folder / "state", **disk.environment)
    for t in (task, queued):
        assert again.finish(t)["status"] == "completed"


def test_where_only_pictures_find_no_room(make_server, tmp_path):
    """The database can still be written: the pictures that are there are kept in memory until they can be, and are not made again."""
    state = tmp_path / "state"
    disk = Preloaded(state / "images")
    server = make_server(STATE=state, **disk.environment)
    disk.fill()
    task = server.submit("x", n=2)
    reason = until(lambda: is_paused(server))
    assert "images" in reason and "No space" in reason
    assert server.post("/api/tasks", json={"prompt": "x"}).status_code == 507
    held = server.task(task)
    assert held["status"] in ("loading", "running") and held["images"] == []
    disk.free()
    done = server.finish(task)
    assert done["status"] == "completed" and done["started_at"] == held["started_at"]
    assert [server.image(i["id"])[:4] for i in done["images"]] == [b"\x89PNG"] * 2
    assert is_paused(server) is None


def test_a_server_whose_disk_is_full_can_be_stopped(make_server, tmp_path):
    state = tmp_path / "state"
    disk = Preloaded(state)
    server = make_server(STATE=state, **disk.environment)
    task = server.submit("slow", num_inference_steps=3)
    server.wait_status(task, "running")
    disk.fill()
    until(lambda: is_paused(server))
    server.process.terminate()
    until(lambda: server.get("/health").json()["status"] == "draining")
    server.process.terminate()  # at once: not when there is space
    assert server.process.wait(20) == 0
    disk.free()
    assert make_server(STATE=state).finish(task)["status"] == "completed"
