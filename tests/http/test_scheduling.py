"""Who is next, seen from outside: ageing, fairness between keys, affinity, deadlines, urgent tasks, pauses, a full queue."""
import pytest
from conftest import until


def in_turn(server, ids):
    """Waits for all; the order they started in, as the log has it."""
    for t in ids:
        server.finish(t)
    log = server.log.read_text()
    return sorted(ids, key=lambda t: log.index(f"task {t} starts"))


@pytest.fixture
def one_slot(make_server):
    """A server with one slot, and that taken until `release` is called."""

    def make(**environment):
        server = make_server(MAX_CONCURRENT_TASKS=1, **environment)
        blocker = server.submit("slow", num_inference_steps=1000, priority="high")
        server.wait_status(blocker, "running")
        server.release = lambda: server.client.delete(f"/api/tasks/{blocker}")
        server.blocker = blocker
        return server

    return make


def submit(server, key=None, **fields):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    answer = server.post("/api/tasks", json={"prompt": "x", "num_inference_steps": 2, **fields}, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def test_waiting_raises_a_task_by_classes_but_never_to_urgent(one_slot):
    server = one_slot(IMAGINED_AGING_SECONDS=1)
    low = submit(server, priority="low")
    assert server.task(low)["effective_priority"] == "low"
    seen = []

    def overdue():
        seen.append(server.task(low)["effective_priority"])
        return seen[-1] == "overdue"

    until(overdue)
    assert [c for c in ("low", "normal", "high", "overdue") if c in seen] == sorted(set(seen), key=seen.index)
    high = submit(server, priority="high")
    assert server.task(low)["position"] == 1 and server.task(high)["position"] == 2
    assert server.task(low)["priority"] == "low"
    urgent = submit(server, priority="urgent")
    server.finish(urgent)
    assert server.task(low)["status"] == "queued"
    server.release()
    assert in_turn(server, [high, low]) == [low, high]
    assert "risen from low" in server.log.read_text()


def test_without_ageing_a_task_stays_in_its_class(one_slot):
    server = one_slot(IMAGINED_AGING_SECONDS=0)
    low = submit(server, priority="low")
    until(lambda: server.task(low)["metrics"]["wait_seconds"] > 1.2)
    assert server.task(low)["effective_priority"] == "low"


def test_keys_take_turns(one_slot):
    server = one_slot()
    anna = [submit(server, "anna") for _ in range(4)]
    ben = [submit(server, "ben") for _ in range(2)]
    assert [server.task(t)["position"] for t in (anna[0], ben[0], anna[1], ben[1], anna[2], anna[3])] == [1, 2, 3, 4, 5, 6]
    server.release()
    assert in_turn(server, anna + ben) == [anna[0], ben[0], anna[1], ben[1], anna[2], anna[3]]


def test_a_key_that_holds_slots_lets_others_go_first(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=2)
    first = [submit(server, "anna", prompt="slow", num_inference_steps=500) for _ in range(2)]
    for t in first:
        server.wait_status(t, "running")
    more = submit(server, "anna", prompt="slow", num_inference_steps=500)
    other = submit(server, "ben")
    server.client.delete(f"/api/tasks/{first[0]}")
    server.finish(other)
    assert server.log.read_text().index(f"task {other} starts") < server.log.read_text().index(f"task {more} starts")


def test_what_was_made_counts_more_than_how_many(one_slot):
    server = one_slot()
    large = [submit(server, "anna", width=128, height=128, num_inference_steps=12) for _ in range(2)]
    small = [submit(server, "ben", width=64, height=64, num_inference_steps=3) for _ in range(4)]
    server.release()
    order = in_turn(server, large + small)
    assert order[0] == large[0] and order[-1] == large[1]


def other_model(server):
    """The demo model by another name."""
    demo = server.folder / "models" / "other"
    demo.parent.mkdir(exist_ok=True)
    from conftest import ROOT
    demo.symlink_to(ROOT / "demo" / "model")
    return "other"


def test_tasks_of_the_loaded_model_go_first_within_bounds(one_slot):
    server = one_slot(IMAGINED_AFFINITY_SECONDS=1000, MAX_MODELS_IN_MEMORY=1)
    other = other_model(server)
    until(lambda: "other" in [m["id"] for m in server.get("/api/system/models").json()["models"]])
    passed = submit(server, model=other)
    same = [submit(server) for _ in range(2)]
    server.release()
    assert in_turn(server, [passed] + same) == same + [passed]
    assert "its model is loaded" in server.log.read_text()


def test_without_affinity_the_older_task_goes_first(one_slot):
    server = one_slot(IMAGINED_AFFINITY_SECONDS=0, MAX_MODELS_IN_MEMORY=1)
    other = other_model(server)
    until(lambda: "other" in [m["id"] for m in server.get("/api/system/models").json()["models"]])
    older = submit(server, model=other)
    newer = submit(server)
    server.release()
    assert in_turn(server, [older, newer]) == [older, newer]


def test_a_task_past_its_deadline_fails_wherever_it_is(one_slot):
    server = one_slot()
    queued = submit(server, deadline_seconds=0.3)
    document = server.task(queued)
    assert document["deadline"] > document["created_at"]
    done = server.finish(queued)
    assert done["status"] == "failed" and done["started_at"] is None
    assert done["error"]["status"] == 504 and done["error"]["code"] == "timeout" and "0.300 seconds" in done["error"]["detail"]
    assert "waited for its turn" in done["error"]["detail"]
    server.release()
    running = submit(server, prompt="slow", num_inference_steps=1000, deadline_seconds=0.5)
    server.wait_status(running, "running")
    done = server.finish(running)
    assert done["status"] == "failed" and done["error"]["status"] == 504 and "still running" in done["error"]["detail"]
    assert server.finish(submit(server))["status"] == "completed"  # its slot is free again
    assert server.finish(submit(server, deadline_seconds=60))["status"] == "completed"


@pytest.mark.parametrize("value", [0, -1, "soon", 1e9])
def test_a_deadline_is_a_number_of_seconds(gradients, value):
    answer = gradients.post("/api/tasks", json={"prompt": "x", "deadline_seconds": value})
    assert answer.status_code == 422 and answer.json()["field"] == "deadline_seconds"


def test_an_openai_client_is_told_of_its_deadline(one_slot):
    server = one_slot()
    answer = server.post("/v1/images/generations", json={"prompt": "x", "deadline_seconds": 0.2})
    assert answer.status_code == 504 and "deadline" in answer.json()["error"]["message"]


def test_an_urgent_task_takes_a_slot_and_gives_it_back(one_slot):
    server = one_slot()
    queued = submit(server)
    until(lambda: server.task(server.blocker)["progress"]["step"] > 2)
    urgent = submit(server, prompt="slow", num_inference_steps=20, priority="urgent")
    running = server.wait_status(urgent, "running")
    suspended = server.task(server.blocker)
    assert suspended["status"] == "queued" and suspended["suspended"] and suspended["position"] == 1
    assert suspended["progress"]["step"] > 2 and suspended["started_at"] < running["started_at"]
    assert server.task(queued)["position"] == 2
    assert server.finish(urgent)["status"] == "completed"
    again = server.wait_status(server.blocker, "running")
    assert not again["suspended"] and again["progress"]["step"] >= suspended["progress"]["step"]
    assert again["metrics"]["wait_seconds"] >= 0.9  # twenty steps of 50 ms
    assert server.task(queued)["status"] == "queued"


def test_the_last_started_of_the_lowest_class_gives_way(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=3)
    ids = [submit(server, prompt="slow", num_inference_steps=500, priority=p) for p in ("normal", "normal", "high")]
    for t in ids:
        server.wait_status(t, "running")
    urgent = submit(server, prompt="slow", num_inference_steps=40, priority="urgent")
    server.wait_status(urgent, "running")
    assert [server.task(t)["suspended"] for t in ids] == [False, True, False]
    assert server.get("/health").json()["active"] == 3


def test_a_suspended_task_can_be_cancelled_and_raised(one_slot):
    server = one_slot()
    urgent = [submit(server, prompt="slow", num_inference_steps=100, priority="urgent") for _ in range(2)]
    server.wait_status(urgent[0], "running")
    assert server.task(server.blocker)["suspended"]
    assert server.client.patch(f"/api/tasks/{server.blocker}", json={"priority": "low"}).json()["suspended"]
    assert server.client.delete(f"/api/tasks/{server.blocker}").status_code in (200, 202)
    server.wait_status(server.blocker, "cancelled")
    assert server.task(urgent[0])["status"] == "running"


def test_an_engine_that_dies_takes_no_suspended_task_with_it(one_slot):
    server = one_slot()
    urgent = submit(server, prompt="slow segv<2", num_inference_steps=10, priority="urgent")
    assert server.finish(urgent)["status"] == "completed"
    again = server.wait_status(server.blocker, "running")
    assert not again["suspended"]


def test_priorities_change_at_any_time(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=2)
    first = [submit(server, prompt="slow", num_inference_steps=500, priority="normal") for _ in range(2)]
    for t in first:
        server.wait_status(t, "running")
    queued = submit(server, prompt="slow", num_inference_steps=200, priority="low")
    assert server.client.patch(f"/api/tasks/{first[0]}", json={"priority": "low"}).json()["status"] == "running"
    raised = server.client.patch(f"/api/tasks/{queued}", json={"priority": "urgent"}).json()
    assert raised["priority"] == "urgent"
    server.wait_status(queued, "running")
    assert [server.task(t)["suspended"] for t in first] == [True, False]


def test_the_engine_hears_of_a_running_tasks_new_priority(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=2)
    ids = [submit(server, prompt="slow", num_inference_steps=20, priority="normal") for _ in range(2)]
    for t in ids:
        server.wait_status(t, "running")
    assert server.client.patch(f"/api/tasks/{ids[1]}", json={"priority": "high"}).json()["status"] == "running"
    assert [server.finish(t)["metrics"]["largest_batch"] for t in ids] == [2, 1]  # as which this engine tells the class it knew it in


def test_a_paused_queue_starts_nothing_and_finishes_what_runs(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=2)
    running = submit(server, prompt="slow", num_inference_steps=10)
    server.wait_status(running, "running")
    assert server.post("/api/system/queue/pause", json={"reason": "for a test"}).status_code == 200
    waiting, urgent = submit(server), submit(server, priority="urgent")
    assert server.finish(running)["status"] == "completed"
    for t in (waiting, urgent):
        document = server.task(t)
        assert document["status"] == "queued" and document["eta_seconds"] is None and document["position"] in (1, 2)
    assert server.post("/api/system/queue/resume").status_code == 200
    assert in_turn(server, [waiting, urgent]) == [urgent, waiting]


def test_a_full_queue_says_when_to_come_again(one_slot):
    server = one_slot(IMAGINED_MAX_QUEUED=2)
    tasks = [submit(server) for _ in range(2)]
    refused = server.post("/api/tasks", json={"prompt": "x"})
    assert refused.status_code == 429 and refused.json()["code"] == "busy"
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert 1 <= int(server.post("/v1/images/generations", json={"prompt": "x"}).headers["retry-after"]) <= 120
    server.release()
    for t in tasks:
        server.finish(t)
    assert server.finish(submit(server))["status"] == "completed"


def test_the_estimate_comes_from_what_such_tasks_took(one_slot):
    server = one_slot()
    blocked = submit(server)
    assert server.task(blocked)["eta_seconds"] is None  # nothing is known yet
    server.release()
    server.finish(blocked)
    server.finish(submit(server, prompt="slow", num_inference_steps=10))
    first = submit(server, prompt="slow", num_inference_steps=100)
    server.wait_status(first, "running")
    second = submit(server, prompt="slow", num_inference_steps=20)
    one, two = server.task(first)["eta_seconds"], server.task(second)["eta_seconds"]
    assert 0 < one < two


def test_estimates_outlive_the_server(make_server, tmp_path):
    server = make_server(STATE=tmp_path)
    server.finish(submit(server))
    assert server.stop() == 0
    again = make_server(STATE=tmp_path, MAX_CONCURRENT_TASKS=1)
    blocker = submit(again, prompt="slow", num_inference_steps=200)
    again.wait_status(blocker, "running")
    assert again.task(submit(again))["eta_seconds"] > 0


def test_a_picture_that_was_suspended_is_the_same(make_server):
    server = make_server(real_engine=True, MAX_CONCURRENT_TASKS=1)
    whole = server.finish(submit(server, prompt="a fox", seed=3, num_inference_steps=40))
    parted = submit(server, prompt="a fox", seed=3, num_inference_steps=40)
    until(lambda: server.task(parted)["progress"]["step"] > 2)
    urgent = submit(server, prompt="a cat", priority="urgent")
    assert server.finish(urgent)["status"] == "completed"
    done = server.finish(parted)
    assert f"task {parted} is suspended" in server.log.read_text() and f"task {parted} goes on" in server.log.read_text()
    assert server.image(done["images"][0]["id"]) == server.image(whole["images"][0]["id"])
