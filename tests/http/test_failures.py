"""Engines that die and fail: tasks go on, are charged only for what they did, and the front keeps answering."""
import io
import os
import signal
import time

import pytest
from conftest import until
from PIL import Image


@pytest.fixture(scope="module")
def server(gradients):
    return gradients


@pytest.fixture(scope="module")
def reference(server):
    """The files a seed gives without any trouble."""
    return lambda **fields: [server.image(i["id"]) for i in server.finish(server.submit("slow", **fields))["images"]]


def test_a_killed_engine_costs_only_time(make_server, reference):
    server = make_server()
    task_id = server.submit("slow", seed=3, num_inference_steps=12)
    server.wait_status(task_id, "running")
    os.kill(server.engine_pid(), signal.SIGKILL)
    done = server.finish(task_id)
    assert done["status"] == "completed"
    expected = reference(seed=3, num_inference_steps=12)
    assert Image.open(io.BytesIO(expected[0])).size == (done["request"]["width"], done["request"]["height"])
    # The prompts are the same and so must be the files.
    assert [server.image(i["id"]) for i in done["images"]] == expected


def test_images_that_are_stored_are_kept(make_server, reference):
    server = make_server()
    task_id = server.submit("slow", seed=3, n=3, num_inference_steps=6)
    until(lambda: len(server.task(task_id)["images"]) == 1)
    stored = server.folder / "state" / "images" / f"{task_id}-0.png"
    before = stored.stat()
    os.kill(server.engine_pid(), signal.SIGKILL)
    done = server.finish(task_id)
    assert [server.image(i["id"]) for i in done["images"]] == reference(seed=3, n=3, num_inference_steps=6)
    assert (stored.stat().st_ino, stored.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(list(stored.parent.iterdir())) == 3


def test_foreign_kills_charge_nothing(make_server):
    server = make_server()
    done = server.finish(server.submit("kill<6"))
    assert done["status"] == "completed"
    assert "engine died" in server.log.read_text()


def test_two_crashes_are_forgiven(make_server):
    server = make_server()
    assert server.finish(server.submit("segv<3"))["status"] == "completed"


def test_three_crashes_fail_the_task_with_the_reason(make_server):
    server = make_server()
    other = server.submit("slow", num_inference_steps=30)
    bad = server.submit("segv<1000")
    done = server.finish(bad)
    assert done["status"] == "failed" and done["error"]["status"] == 500
    assert "SIGSEGV" in done["error"]["detail"] and "3 times" in done["error"]["detail"]
    assert server.finish(other)["status"] == "completed", "a neighbour is not charged"
    assert server.finish(server.submit("x"))["status"] == "completed"


def test_health_answers_while_engines_die(make_server):
    server = make_server()
    bad = server.submit("segv<1000")
    slowest = 0
    for _ in range(100):
        start = time.monotonic()
        assert server.client.get("/health").status_code == 200
        slowest = max(slowest, time.monotonic() - start)
        time.sleep(0.005)
    assert slowest < 5  # not a measurement: a front that waits for an engine would stand for ever
    assert server.finish(bad)["status"] == "failed"


def test_ready_follows_the_engine(make_server):
    server = make_server()
    server.wait_ready()
    os.kill(server.engine_pid(), signal.SIGSTOP)  # it neither works nor ends
    assert server.client.get("/health").json()["engine"] == "ready"
    os.kill(server.engine_pid(), signal.SIGKILL)
    server.wait_ready()


def test_a_task_can_be_cancelled_while_its_engine_is_stuck(make_server):
    server = make_server()
    task_id = server.submit("slow", num_inference_steps=500)
    server.wait_status(task_id, "running")
    engine = server.engine_pid()
    os.kill(engine, signal.SIGSTOP)
    assert server.client.delete(f"/api/tasks/{task_id}").status_code == 202
    os.kill(engine, signal.SIGKILL)
    assert server.finish(task_id)["status"] == "cancelled"


@pytest.mark.parametrize("prompt, status, words", [("fail", 503, "told to fail"), ("skip", 500, "without its image"),
                                                  ("lie", 500, "another image")])
def test_what_an_engine_does_wrong_fails_the_task_only(server, prompt, status, words):
    done = server.finish(server.submit(prompt))
    assert done["status"] == "failed" and done["error"]["status"] == status and words in done["error"]["detail"]
    assert server.finish(server.submit("x"))["status"] == "completed"


def test_a_picture_that_cannot_be_stored_fails_its_task(make_server):
    server = make_server()
    images = server.folder / "state" / "images"
    images.rmdir()
    images.write_text("in the way")
    done = server.finish(server.submit("x"))
    assert done["status"] == "failed" and "images" in done["error"]["detail"] and done["images"] == []
    images.unlink()
    images.mkdir()
    assert server.finish(server.submit("x"))["status"] == "completed"
    assert not [f for f in images.iterdir() if f.suffix != ".png"]


def test_a_state_folder_that_is_gone_is_the_servers_fault(make_server):
    server = make_server()
    (server.folder / "state" / "images").rmdir()
    done = server.finish(server.submit("x"))
    assert done["status"] == "failed" and done["error"]["status"] == 500 and "images" in done["error"]["detail"]


def test_no_engine_can_be_started(make_server):
    server = make_server(IMAGINED_ENGINE_EXECUTABLE="/bin/false")
    assert server.client.get("/health").json()["engine"] == "starting"
    assert server.client.get("/health/ready").status_code == 503
    task_id = server.submit("x")
    assert server.task(task_id)["status"] == "queued"
    assert server.client.delete(f"/api/tasks/{task_id}").json()["status"] == "cancelled"


def test_health_tells_why_no_engine_comes_up(make_server):
    server = make_server(real_engine=True, IMAGINED_DEVICE="abacus")
    reason = until(lambda: server.get("/health").json()["engine_error"])
    assert "abacus" in reason and "CPU" in reason
    assert server.get("/health/ready").status_code == 503


def test_a_missing_default_model_is_told_at_the_start(make_server):
    server = make_server(IMAGINED_DEFAULT_MODEL="nowhere")
    until(lambda: "nowhere" in server.log.read_text())
    assert server.get("/health").status_code == 200
