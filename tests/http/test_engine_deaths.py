"""The real engine, killed in the middle of a picture: nothing is lost but time, and the picture is the same to the byte."""
import os
import signal

from conftest import until

LONG = {"prompt": "a fox on a blue background", "num_inference_steps": 150, "seed": 11, "precision": "f32"}


def start_long(server):
    task_id = server.submit(**LONG)
    until(lambda: server.task(task_id)["progress"]["step"] > 2)
    return task_id


def test_kill_9_costs_only_time(server, make_server):
    task_id = start_long(server)
    undisturbed = server.finish(task_id, 100)
    expected = server.image(undisturbed["images"][0]["id"])

    other = make_server(real_engine=True)
    task_id = start_long(other)
    os.kill(other.engine_pid(), signal.SIGKILL)
    assert other.client.get("/health").status_code == 200
    done = other.finish(task_id, 100)
    assert done["status"] == "completed"
    assert other.image(done["images"][0]["id"]) == expected


def test_three_crashes_of_its_own_fail_a_task(make_server):
    server = make_server(real_engine=True)
    task_id = server.submit(**LONG)
    for _ in range(3):
        until(lambda: server.task(task_id)["progress"]["step"] > 2)
        os.kill(server.engine_pid(), signal.SIGABRT)
        until(lambda: (t := server.task(task_id))["status"] != "running")
    done = server.finish(task_id)
    assert done["status"] == "failed" and "SIGABRT" in done["error"]["detail"]
    assert server.finish(server.submit("a fox", num_inference_steps=2))["status"] == "completed"


def test_cancelling_takes_effect_within_a_step(server):
    task_id = start_long(server)
    assert server.client.delete(f"/api/tasks/{task_id}").status_code == 202
    done = server.finish(task_id, 20)
    assert done["status"] == "cancelled" and done["images"] == [] and done["progress"]["step"] < 150


def test_two_tasks_take_turns(server):
    tasks = [start_long(server) for _ in range(2)]
    running = [server.task(t) for t in tasks]
    assert [t["status"] for t in running] == ["running", "running"]
    for t in tasks:
        server.client.delete(f"/api/tasks/{t}")
        assert server.finish(t, 20)["status"] == "cancelled"
