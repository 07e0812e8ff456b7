"""Models that kill the engine when they are loaded ahead of their use: nobody else pays for that, and it ends."""
import os
import signal

from conftest import until
from test_system import add_models


def test_a_task_is_not_charged_for_the_next_tasks_model(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=1)
    server.wait_ready()
    add_models(server, "deadly")
    first = server.submit("slow", num_inference_steps=40)
    server.wait_status(first, "running")
    second = server.submit(model="deadly")
    assert server.finish(first)["status"] == "completed"
    assert server.finish(second)["status"] == "completed"
    log = server.log.read_text()
    assert "charged" not in log
    assert log.count("the engine died") == 1  # the model is not loaded unasked a second time


def test_models_that_kill_each_engine_are_no_longer_preloaded(make_server):
    server = make_server(IMAGINED_PRELOAD="demo,deadly")
    server.wait_ready()
    add_models(server, "deadly")
    os.kill(server.engine_pid(), signal.SIGKILL)
    until(lambda: "no longer preloaded" in server.log.read_text())
    server.wait_ready()
    assert server.finish(server.submit())["status"] == "completed"
    assert server.log.read_text().count("the engine died") == 1 + 3
