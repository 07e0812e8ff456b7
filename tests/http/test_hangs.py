"""Engines that hang: the front notices, ends them, and their tasks go on in the next one; who hangs three engines is failed."""
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from conftest import BUILD, until


def log_of(server, words):
    return [line for line in server.log.read_text().splitlines() if words in line]


def test_a_stopped_engine_is_replaced_and_its_task_goes_on(make_server):
    server = make_server(IMAGINED_ENGINE_TIMEOUT_SECONDS=4)
    server.wait_ready()
    task_id = server.submit("slow", num_inference_steps=40)
    server.wait_status(task_id, "running")
    first = server.engine_pid()
    os.kill(first, signal.SIGSTOP)  # neither a message nor work; and SIGABRT does not end it
    until(lambda: server.get("/health/ready").status_code == 503, seconds=60)
    assert server.get("/health").status_code == 200
    assert server.finish(task_id, 90)["status"] == "completed"
    told = log_of(server, "hung")
    assert len(told) == 1, told
    for words in (f"process {first}", task_id, "4 s", "IMAGINED_ENGINE_TIMEOUT_SECONDS"):
        assert words in told[0]
    assert server.engine_pid() != first
    assert len(log_of(server, "charged with the engine's death")) == 1
    health = server.get("/health/ready")
    assert health.status_code == 200 and health.json()["engine_error"] is None
    assert "imagined_engine_restarts_total 1" in server.get("/metrics").text


def test_a_server_that_is_stopped_with_its_engine_finds_no_hang(make_server):
    """As by Ctrl-Z in a terminal, or where a container is frozen: three timeouts pass that nobody watched."""
    server = make_server(IMAGINED_ENGINE_TIMEOUT_SECONDS=3)
    server.wait_ready()
    task_id = server.submit("slow", num_inference_steps=40)
    server.wait_status(task_id, "running")
    engine = server.engine_pid()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        os.kill(server.process.pid, number)
        os.kill(engine, number)
        time.sleep(9 if number == signal.SIGSTOP else 0)
    assert server.finish(task_id)["status"] == "completed"
    assert server.engine_pid() == engine and not log_of(server, "hung")


def test_a_real_engine_is_watched_too(make_server):
    server = make_server(real_engine=True, IMAGINED_ENGINE_TIMEOUT_SECONDS=5)
    server.wait_ready()
    task_id = server.submit("a fox on a blue background", num_inference_steps=60, seed=3)
    until(lambda: server.task(task_id)["progress"]["step"] > 2, seconds=60)
    os.kill(server.engine_pid(), signal.SIGSTOP)
    assert server.finish(task_id, 120)["status"] == "completed"
    assert len(log_of(server, "hung")) == 1


def test_three_hangs_fail_the_task_with_the_reason(make_server):
    server = make_server(IMAGINED_ENGINE_TIMEOUT_SECONDS=2)
    done = server.finish(server.submit("hang<1000"), 120)
    assert done["status"] == "failed" and done["error"]["status"] == 500
    assert "hung" in done["error"]["detail"] and "3 times" in done["error"]["detail"]
    assert server.finish(server.submit("x"))["status"] == "completed"


def test_three_hangs_before_the_first_step_fail_the_task_too(make_server):
    """As over a disk that is gone: no slice ever runs, yet it does not hang engine after engine, and the tasks behind it are done."""
    server = make_server(IMAGINED_ENGINE_TIMEOUT_SECONDS=2)
    bad, good = server.submit("stall<1000"), server.submit("x")
    done = server.finish(bad, 120)
    assert done["status"] == "failed" and "hung" in done["error"]["detail"] and "3 times" in done["error"]["detail"]
    assert server.finish(good, 120)["status"] == "completed"
    assert all(f"to work on task {bad}" in line for line in log_of(server, "hung") if "process" in line)


def test_an_engine_that_never_says_hello_is_replaced(make_server):
    server = make_server(IMAGINED_ENGINE_TIMEOUT_SECONDS=2, GRADIENT_MUTE=2)
    assert server.get("/health/ready").status_code == 503
    task_id = server.submit("x")
    assert server.finish(task_id, 90)["status"] == "completed"
    assert len(log_of(server, "hung")) == 1
    assert not log_of(server, "charged with the engine's death")


def test_an_idle_engine_is_not_watched(make_server):
    """It is stopped for three timeouts and works on afterwards, as the same process."""
    server = make_server(IMAGINED_ENGINE_TIMEOUT_SECONDS=1)
    server.wait_ready()
    assert server.finish(server.submit("x"))["status"] == "completed"
    engine = server.engine_pid()
    os.kill(engine, signal.SIGSTOP)
    with pytest.raises(AssertionError):
        until(lambda: server.get("/health/ready").status_code != 200, seconds=3)
    os.kill(engine, signal.SIGCONT)
    assert server.finish(server.submit("x"))["status"] == "completed"
    assert server.engine_pid() == engine


def assert_nothing_was_freed(*answers):
    for answer in answers:
        assert answer.status_code == 200 and answer.json()["freed"]["ram_bytes"] == 0 and answer.json()["models_unloaded"] == []


def assert_commands_are_answered(server, engine):
    """At once, of an engine that is stuck: it can do nothing, and what it holds is nothing that a command could free."""
    for path in ("/api/system/models/demo/load", "/api/system/models/demo/preload", "/sdapi/v1/reload-checkpoint"):
        answer = server.post(path)
        assert answer.status_code == 503 and f"process {engine} does not end" in answer.text, answer.text
    assert_nothing_was_freed(server.post("/api/system/models/demo/unload"), server.post("/api/system/cleanup"))
    assert server.post("/sdapi/v1/unload-checkpoint").status_code == 200
    assert server.post("/free", json={"unload_models": True}).status_code == 200


def test_an_engine_that_cannot_be_killed_does_not_stop_the_front(make_server, tmp_path):
    lock = tmp_path / "unkillable"
    lock.touch()
    server = make_server(IMAGINED_ENGINE_TIMEOUT_SECONDS=2, LD_PRELOAD=BUILD / "tests/http/libunkillable.so", UNKILLABLE=lock)
    server.wait_ready()
    task_id, waits = server.submit("slow", num_inference_steps=40), server.submit("x")
    server.wait_status(task_id, "running")
    engine = server.engine_pid()
    os.kill(engine, signal.SIGSTOP)
    until(lambda: server.get("/health").json()["engine"] == "starting", seconds=60)  # it hangs, and is not given up yet
    with ThreadPoolExecutor() as pool:
        paths = ["models/demo/load", "models/demo/unload", "cleanup"]
        wait = [pool.submit(httpx.post, f"{server.url}/api/system/{path}", timeout=90) for path in paths]
        until(lambda: server.get("/health").json()["engine"] == "stuck", seconds=90)
        load, unload, cleanup = (one.result() for one in wait)
    assert load.status_code == 503 and f"process {engine} does not end" in load.json()["detail"]
    assert_nothing_was_freed(unload, cleanup)
    health = server.get("/health/ready")
    assert health.status_code == 503 and f"process {engine} does not end" in health.json()["engine_error"]
    assert server.get("/api/system/stats").json()["engine"]["state"] == "stuck"
    assert server.task(task_id)["status"] == "queued"
    assert_commands_are_answered(server, engine)
    assert server.client.delete(f"/api/tasks/{task_id}").json()["status"] == "cancelled"  # at once
    lock.unlink()
    os.kill(engine, signal.SIGKILL)
    assert server.finish(waits)["status"] == "completed"
    assert server.get("/health/ready").status_code == 200
    assert server.post("/api/system/models/demo/load").status_code == 200
