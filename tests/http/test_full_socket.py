"""An engine that is in a long slice and does not read: what it could not be told is told later."""
from conftest import BUILD, until
from test_system import states


def test_a_task_whose_deadline_passes_meanwhile_leaves_the_engine(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=1, LD_PRELOAD=BUILD / "tests/http/libsmall_sockets.so")
    server.wait_ready()
    first = server.submit("slow", num_inference_steps=1000, deadline_seconds=2)
    server.wait_status(first, "running")
    urgent = server.submit("deaf", num_inference_steps=1, priority="urgent")
    server.wait_status(urgent, "running")
    for _ in range(200):
        assert server.post("/api/system/models/demo/preload").status_code == 202
    assert server.finish(first)["status"] == "failed"
    assert server.finish(urgent)["status"] == "completed"
    until(lambda: states(server) == {"demo": "cached"}, seconds=10)


def test_a_priority_that_changes_meanwhile_reaches_the_engine(make_server):
    server = make_server(LD_PRELOAD=BUILD / "tests/http/libsmall_sockets.so")
    server.wait_ready()
    task = server.submit("deaf", num_inference_steps=2, priority="low")
    server.wait_status(task, "running")
    for _ in range(200):
        assert server.post("/api/system/models/demo/preload").status_code == 202
    assert server.client.patch(f"/api/tasks/{task}", json={"priority": "high"}).status_code == 200
    assert server.finish(task)["metrics"]["largest_batch"] == 1  # as which this engine tells the class it knew it in
