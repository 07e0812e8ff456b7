"""Commands to the engine over HTTP: load, preload, unload, cleanup; preloading unasked; an idle engine that stops and comes back."""
import concurrent.futures
import shutil
import signal

import pytest
from conftest import ROOT, until


def add_models(server, *names):
    """Folders beside the demo model; the gradient engine reads none of them."""
    for name in names:
        shutil.copytree(ROOT / "demo" / "model", server.folder / "models" / name,
                        ignore=shutil.ignore_patterns("*.safetensors"))
        folder = server.folder / "models" / name
        for path in (ROOT / "demo" / "model").rglob("*.safetensors"):
            (folder / path.relative_to(ROOT / "demo" / "model")).symlink_to(path)
    until(lambda: set(names) <= set(models(server)))


def models(server):
    return {m["id"]: m for m in server.get("/api/system/models").json()["models"]}


def states(server):
    return {name: m["state"] for name, m in models(server).items()}


@pytest.fixture
def server(make_server):
    server = make_server()
    server.wait_ready()
    return server


def test_load_answers_when_the_model_is_there(server):
    assert states(server) == {"demo": "available"} and models(server)["demo"]["last_used"] is None
    answer = server.post("/api/system/models/demo/load")
    assert answer.status_code == 200
    loaded = answer.json()
    assert loaded["id"] == "demo" and loaded["load_seconds"] == 0.25 and len(loaded["cached"]) == 1
    row = models(server)["demo"]["cached"][0]
    assert loaded["cached"] == [row]
    assert row["state"] == "cached" and row["size_bytes"] == 1000000 and row["leases"] == 0 and row["loads"] == 1 and row["last_used"]
    assert server.post("/api/system/models/demo/load", json={"precision": "f32"}).json()["load_seconds"] == 0  # it was there
    assert states(server) == {"demo": "cached"} and models(server)["demo"]["last_used"]


def test_preload_answers_at_once(server):
    answer = server.post("/api/system/models/demo/preload", json={})
    assert answer.status_code == 202 and answer.json() == {"id": "demo"}
    until(lambda: states(server) == {"demo": "cached"})


def test_unload(server):
    nothing = {"freed": {"ram_bytes": 0, "vram_bytes": 0}, "models_unloaded": [], "skipped_leased": []}
    assert server.post("/api/system/models/demo/unload").json() == nothing
    server.post("/api/system/models/demo/load")
    answer = server.post("/api/system/models/demo/unload")
    assert answer.status_code == 200
    assert answer.json() == {"freed": {"ram_bytes": 100000, "vram_bytes": 2}, "models_unloaded": ["demo"], "skipped_leased": []}
    assert states(server) == {"demo": "available"}


def test_a_model_in_use_stays(server):
    add_models(server, "other")
    server.post("/api/system/models/other/load")
    task = server.submit("slow", num_inference_steps=500)
    server.wait_status(task, "running")
    answer = server.post("/api/system/models/demo/unload")
    assert answer.status_code == 409 and answer.headers["content-type"] == "application/problem+json"
    assert states(server) == {"demo": "in_use", "other": "cached"}
    cleaned = server.post("/api/system/cleanup").json()
    assert cleaned == {"freed": {"ram_bytes": 100000, "vram_bytes": 2}, "models_unloaded": ["other"], "skipped_leased": ["demo"]}
    server.client.delete(f"/api/tasks/{task}")
    server.finish(task)
    assert server.post("/api/system/cleanup", json={}).json()["models_unloaded"] == ["demo"]


@pytest.mark.parametrize("path", ["load", "preload", "unload"])
def test_what_commands_refuse(server, path):
    answer = server.post(f"/api/system/models/nobody/{path}")
    assert answer.status_code == 404 and answer.json()["code"] == "not_found"
    assert server.post(f"/api/system/models/{'x' * 200}/{path}").status_code == 404
    to = f"/api/system/models/demo/{path}"
    assert server.post(to, content="{").status_code == 400
    for body in ([], "demo", 7):
        assert server.post(to, json=body).status_code == 422
    for body in ({"precision": "f64"}, {"precision": 7}, {"precison": "f32"}, {"precision": "int8"}):
        answer = server.post(to, json=body)
        assert answer.status_code == 422 and answer.json()["field"].startswith("preci"), answer.text
    assert server.get(to).status_code == 405
    assert states(server) == {"demo": "available"}


def test_cleanup_refuses_junk(server):
    assert server.post("/api/system/cleanup", content="nonsense").status_code == 400
    assert server.post("/api/system/cleanup", content="\0\xff").status_code == 400
    assert server.post("/api/system/cleanup", json={"everything": True}).json()["field"] == "everything"
    assert server.post("/api/system/cleanup", content=b"x" * (2 << 20)).status_code == 413
    assert server.get("/api/system/cleanup").status_code == 405


def test_a_load_that_kills_the_engine_is_told(server):
    before = server.engine_pid()
    answer = server.post("/api/system/models/demo/load", json={"precision": "f16"})
    assert answer.status_code == 500 and "SIGKILL" in answer.json()["detail"]
    server.wait_ready()
    assert server.engine_pid() != before
    assert server.post("/api/system/models/demo/load").status_code == 200


def test_commands_before_there_is_an_engine_wait_for_it(make_server):
    server = make_server()
    assert server.post("/api/system/models/demo/load").status_code == 200


def test_many_at_once_and_clients_that_leave(server):
    add_models(server, "a", "b", "c")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: server.post(f"/api/system/models/{'abc'[i % 3]}/{'load' if i % 2 else 'unload'}").status_code,
                                range(60)))
    assert set(answers) == {200}
    for i in range(20):
        with server.client.stream("POST", f"/api/system/models/{'abc'[i % 3]}/load"):
            pass
    assert server.post("/api/system/cleanup").status_code == 200
    assert set(states(server).values()) == {"available"}


def test_models_are_preloaded_into_each_engine(make_server):
    server = make_server(IMAGINED_PRELOAD=" demo, nobody ,,")
    until(lambda: states(server) == {"demo": "cached"})
    assert "cannot preload 'nobody'" in server.log.read_text()
    before = server.engine_pid()
    import os
    os.kill(before, signal.SIGKILL)
    until(lambda: server.engine_pid() not in (None, before))
    until(lambda: states(server) == {"demo": "cached"})


def test_the_next_tasks_model_is_loaded_meanwhile(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=1)
    server.wait_ready()
    add_models(server, "other", "third")
    first = server.submit("slow", num_inference_steps=500)
    server.wait_status(first, "running")
    second = server.submit(model="other")
    until(lambda: states(server)["other"] == "cached")
    assert server.task(second)["status"] == "queued"
    # There is room for two only, and nothing leaves for a model that nobody asked for.
    third = server.submit(model="third", priority="high")
    assert server.post("/api/system/models/demo/load").status_code == 200  # answered after what was asked before
    assert states(server) == {"demo": "in_use", "other": "cached", "third": "available"}
    server.client.delete(f"/api/tasks/{first}")
    assert server.finish(third)["status"] == server.finish(second)["status"] == "completed"


def test_an_idle_engine_is_stopped_and_comes_back(make_server):
    server = make_server(IMAGINED_ENGINE_IDLE_SECONDS=1)
    server.wait_ready()
    health = lambda: server.get("/health").json()["engine"]
    server.post("/api/system/models/demo/load")
    until(lambda: health() == "stopped")
    until(lambda: server.engine_pid() is None)
    assert states(server) == {"demo": "available"}
    assert server.get("/health/ready").status_code == 200  # a task starts one
    assert server.post("/api/system/cleanup").json()["models_unloaded"] == []
    assert server.post("/api/system/models/demo/unload").status_code == 200
    assert health() == "stopped" and server.engine_pid() is None
    assert server.finish(server.submit())["status"] == "completed"
    assert health() == "ready"
    until(lambda: health() == "stopped")
    assert server.post("/api/system/models/demo/load").status_code == 200
    assert "died" not in server.log.read_text()


def test_the_engine_is_not_stopped_while_it_works(make_server):
    server = make_server(IMAGINED_ENGINE_IDLE_SECONDS=1)
    server.wait_ready()
    pid = server.engine_pid()
    assert server.finish(server.submit("slow", num_inference_steps=40))["status"] == "completed"  # two seconds
    assert server.engine_pid() == pid


# --- the queue ---

def test_pausing_and_resuming(server):
    running = server.submit("slow", num_inference_steps=40)
    server.wait_status(running, "running")
    answer = server.post("/api/system/queue/pause", json={"reason": "new fans"})
    assert answer.status_code == 200
    assert answer.json() == {"paused": True, "pause_reason": "new fans", "queued": 0, "active": 1}
    waiting = server.submit()
    assert server.finish(running)["status"] == "completed"  # what has started goes on
    assert server.task(waiting)["status"] == "queued"
    queue = server.get("/api/system/stats").json()["queue"]
    assert (queue["paused"], queue["pause_reason"], queue["queued"], queue["active"]) == (True, "new fans", 1, 0)
    assert server.post("/api/system/queue/pause").json()["pause_reason"]  # again, for no reason given
    assert server.post("/api/system/queue/resume").json()["paused"] is False
    assert server.finish(waiting)["status"] == "completed"
    queue = server.get("/api/system/stats").json()["queue"]
    assert (queue["paused"], queue["pause_reason"]) == (False, None)
    assert server.post("/api/system/queue/resume", json={}).status_code == 200


def test_what_pausing_refuses(server):
    for body in ({"reason": 7}, {"reason": "x" * 160}, {"why": "no"}, []):
        assert server.post("/api/system/queue/pause", json=body).status_code == 422
    assert server.post("/api/system/queue/pause", content="{").status_code == 400
    assert server.post("/api/system/queue/resume", json={"reason": "no"}).status_code == 422
    assert server.get("/api/system/queue/pause").status_code == 405
    assert server.get("/api/system/stats").json()["queue"]["paused"] is False


def test_a_paused_queue_needs_no_engine(make_server):
    server = make_server(IMAGINED_ENGINE_IDLE_SECONDS=1)
    server.post("/api/system/queue/pause")
    task = server.submit()
    until(lambda: server.get("/health").json()["engine"] == "stopped")
    server.post("/api/system/queue/resume")
    assert server.finish(task)["status"] == "completed"


def test_a_pause_outlives_the_server(make_server, tmp_path):
    server = make_server(STATE=tmp_path / "state")
    server.post("/api/system/queue/pause", json={"reason": "new fans"})
    task = server.submit()
    server.stop(signal.SIGKILL)
    server = make_server(STATE=tmp_path / "state")
    server.wait_ready()
    assert server.task(task)["status"] == "queued"
    queue = server.get("/api/system/stats").json()["queue"]
    assert (queue["paused"], queue["pause_reason"], queue["queued"]) == (True, "new fans", 1)
    server.post("/api/system/queue/resume")
    assert server.finish(task)["status"] == "completed"
    server.stop()
    server = make_server(STATE=tmp_path / "state")
    assert server.get("/api/system/stats").json()["queue"]["paused"] is False
