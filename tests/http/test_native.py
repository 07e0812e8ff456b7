"""The native API: tasks, their documents, waiting, cancelling, priorities, images."""
import concurrent.futures
import io
import re

import pytest
from conftest import until
from PIL import Image


@pytest.fixture(scope="module")
def server(gradients):
    return gradients


def test_a_task_is_accepted_made_and_fetched(server):
    answer = server.client.post("/api/tasks", json={"prompt": "a fox", "seed": 7, "n": 2, "width": 64, "height": 32})
    assert answer.status_code == 202
    task = answer.json()
    assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{26}", task["id"])
    assert answer.headers["location"] == f"/api/tasks/{task['id']}"
    assert re.fullmatch(r"req_\w+", answer.headers["x-request-id"])
    done = server.finish(task["id"])
    assert done["status"] == "completed"
    assert [i["seed"] for i in done["images"]] == [7, 8]
    assert done["images"][1] == {"id": f"{task['id']}-1", "url": f"/api/images/{task['id']}-1", "seed": 8}
    for key in ("id", "status", "priority", "model", "position", "eta_seconds", "progress", "preview", "images", "error", "plan", "metrics",
                "created_at", "started_at", "finished_at"):
        assert key in done
    assert done["priority"] == "normal" and done["model"] == "demo" and done["position"] is None and done["error"] is None
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]
    assert done["request"]["prompt"] == "a fox"
    picture = Image.open(io.BytesIO(server.client.get(done["images"][0]["url"]).content))
    assert picture.size == (64, 32) and picture.mode == "RGB"
    assert picture.text["parameters"].startswith("a fox\n") and "Seed: 7" in picture.text["parameters"]


def test_defaults_are_the_models(server):
    model = next(m for m in server.client.get("/api/system/models").json()["models"] if m["id"] == "demo")
    assert model["default"] and model["size_bytes"] > 0
    request = server.finish(server.submit())["request"]
    for key in ("width", "height", "num_inference_steps", "guidance_scale", "max_sequence_length"):
        assert request[key] == model["defaults"][key]
    assert request["n"] == 1 and request["precision"] == "auto" and "negative_prompt" not in request


def test_the_same_seed_gives_the_same_file(server):
    one, two, other = (server.finish(server.submit("a fox", seed=s)) for s in (5, 5, 6))
    files = [server.image(t["images"][0]["id"]) for t in (one, two, other)]
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("given, expected", [(0, 0), (2**53 - 1, 2**53 - 1), (2**53, str(2**53)), (2**64 - 1, str(2**64 - 1)), ("12", 12),
                                             (str(2**64 - 1), str(2**64 - 1)), (7.0, 7), (0.0, 0)])
def test_seeds_are_unsigned_64_bit(server, given, expected):
    assert server.finish(server.submit(seed=given))["images"][0]["seed"] == expected


@pytest.mark.parametrize("fields", [{}, {"seed": -1}, {"seed": "-1"}, {"seed": None}])
def test_without_a_seed_it_is_random(server, fields):
    seeds = {server.finish(server.submit(**fields))["images"][0]["seed"] for _ in range(2)}
    assert len(seeds) == 2


def test_seeds_wrap_around(server):
    done = server.finish(server.submit(seed=2**64 - 1, n=2))
    assert [i["seed"] for i in done["images"]] == [str(2**64 - 1), 0]


@pytest.mark.parametrize("given, name", [("URGENT", "urgent"), ("High", "high"), (2, "normal"), ("3", "low"), (0, "urgent"), (3.0, "low")])
def test_priorities_by_name_or_number(server, given, name):
    assert server.task(server.submit(priority=given))["priority"] == name


def test_prefer_wait(server):
    quick = server.client.post("/api/tasks", json={"prompt": "x"}, headers={"Prefer": "respond-async, wait=20"})
    assert quick.status_code == 200 and quick.json()["status"] == "completed"
    assert quick.headers["preference-applied"] == "wait" and quick.headers["location"].endswith(quick.json()["id"])
    slow = server.client.post("/api/tasks", json={"prompt": "slow", "num_inference_steps": 100}, headers={"Prefer": "wait=1"})
    assert slow.status_code == 202
    running = slow.json()
    assert running["status"] == "running" and running["progress"]["phase"] == "denoise" and 0 < running["progress"]["step"] < 100
    assert running["eta_seconds"] > 0
    assert server.client.delete(f"/api/tasks/{running['id']}").status_code in (200, 202)
    server.wait_status(running["id"], "cancelled")


def test_a_waiter_that_leaves_does_not_cancel_a_task(server):
    task_id = server.submit("slow", num_inference_steps=10)
    with pytest.raises(Exception):
        server.client.get(f"/api/tasks/{task_id}", headers={"Prefer": "wait=30"}, timeout=0.1)
    assert server.finish(task_id)["status"] == "completed"


def test_order_positions_and_priorities(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=1)
    first = server.submit("slow", num_inference_steps=60)
    server.wait_status(first, "running")
    low, normal, high = (server.submit("x", priority=p) for p in ("low", "normal", "high"))
    assert [server.task(t)["position"] for t in (high, normal, low)] == [1, 2, 3]
    answer = server.client.patch(f"/api/tasks/{low}", json={"priority": "high"})  # and it is older than the other
    assert answer.status_code == 200 and answer.json()["priority"] == "high" and answer.json()["position"] == 1
    assert server.client.patch(f"/api/tasks/{low}", json={"priority": "soon"}).status_code == 422
    assert server.client.patch(f"/api/tasks/{low}", json={}).status_code == 422
    assert server.client.patch(f"/api/tasks/{low}", json={"prompt": "y"}).status_code == 422
    server.client.delete(f"/api/tasks/{first}")
    ends = {t: server.finish(t)["started_at"] for t in (low, high, normal)}
    assert ends[low] <= ends[high] <= ends[normal]
    assert server.client.patch(f"/api/tasks/{low}", json={"priority": "low"}).status_code == 409


def test_cancelling(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=1)
    running = server.submit("slow", num_inference_steps=200)
    queued = server.submit("x")
    server.wait_status(running, "running")
    answer = server.client.delete(f"/api/tasks/{queued}")
    assert answer.status_code == 200 and answer.json()["status"] == "cancelled"
    assert server.client.delete(f"/api/tasks/{queued}").status_code == 409
    answer = server.client.delete(f"/api/tasks/{running}")
    assert answer.status_code == 202 and answer.json()["cancel_requested"]
    assert server.finish(running, 5)["status"] == "cancelled"
    assert server.finish(server.submit("x"))["status"] == "completed"
    assert server.client.get("/health").json()["active"] == 0


def test_listing(make_server):
    server = make_server()
    ids = [server.submit("x") for _ in range(3)]
    for task_id in ids:
        server.finish(task_id)
    assert [t["id"] for t in server.client.get("/api/tasks").json()["tasks"]] == ids[::-1]
    assert [t["id"] for t in server.client.get("/api/tasks?limit=1").json()["tasks"]] == ids[2:]
    assert server.client.get("/api/tasks?status=queued").json()["tasks"] == []
    assert len(server.client.get("/api/tasks?status=completed&limit=2").json()["tasks"]) == 2
    for query in ("status=done", "limit=0", "limit=x", "limit=1001", "limit="):
        answer = server.client.get(f"/api/tasks?{query}")
        assert answer.status_code == 422 and answer.json()["field"] == query.split("=")[0]


def test_a_full_queue(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=1, IMAGINED_MAX_QUEUED=2)
    server.wait_ready()
    first = server.submit("slow", num_inference_steps=200)
    server.wait_status(first, "running", "loading")
    server.submit("x")
    server.submit("x")
    answer = server.client.post("/api/tasks", json={"prompt": "x"})
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0 and answer.json()["code"] == "busy"


def test_images_can_be_kept_by_caches(server):
    image = server.finish(server.submit())["images"][0]
    answer = server.client.get(image["url"])
    assert answer.headers["content-type"] == "image/png" and "immutable" in answer.headers["cache-control"]
    tag = answer.headers["etag"]
    again = server.client.get(image["url"], headers={"If-None-Match": tag})
    assert again.status_code == 304 and again.content == b"" and again.headers["etag"] == tag
    head = server.client.head(image["url"])
    assert head.status_code == 200 and head.content == b"" and int(head.headers["content-length"]) == len(answer.content)


ID = "0" * 26


@pytest.mark.parametrize("name", ["x", "../../../etc/passwd", "%2e%2e%2fimages%2fx", f"{ID}-0", f"{ID}-00", ID, f"{ID}-0.png", f"{ID[1:]}U-0",
                                  "a" * 500])
def test_no_other_file_can_be_named(server, name):
    assert server.client.get(f"/api/images/{name}").status_code == 404


def test_idempotency_keys(server):
    def post(key, **fields):
        return server.client.post("/api/tasks", json={"prompt": "x", **fields}, headers={"Idempotency-Key": key})

    first, second, other = post("a"), post("a"), post("b")
    assert first.json()["id"] == second.json()["id"] != other.json()["id"]
    assert second.status_code == 202
    clash = post("a", seed=1)
    assert clash.status_code == 422 and clash.json()["field"] == "Idempotency-Key"


def test_an_idempotency_key_that_is_too_long_is_not_overlooked(server):
    before = len(server.client.get("/api/tasks?limit=1000").json()["tasks"])
    for size, status in [(256, 422), (600, 431)]:
        answer = server.client.post("/api/tasks", json={"prompt": "x"}, headers={"Idempotency-Key": "k" * size})
        assert answer.status_code == status and answer.json()["status"] == status
    assert len(server.client.get("/api/tasks?limit=1000").json()["tasks"]) == before


def test_a_long_parameter_hides_none_after_it(server):
    assert server.client.get(f"/api/tasks?x={'a' * 300}&status=none").status_code == 422


def test_many_clients_at_once(server):
    def one(i):
        return server.finish(server.submit(f"picture {i}", seed=i))["status"]

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        assert set(pool.map(one, range(72))) == {"completed"}


def seconds_in(document, path=""):
    """Every figure that is called …seconds, with its path."""
    for key, value in document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ():
        if isinstance(value, float) and str(key).endswith("seconds"):
            yield f"{path}/{key}", value
        yield from seconds_in(value, f"{path}/{key}")


def test_durations_have_no_digits_that_mean_nothing(server):
    task = server.submit("slow", num_inference_steps=3)
    seen = {}
    while (document := server.task(task))["status"] in ("queued", "loading", "running"):
        seen |= {(path, value): value for path, value in seconds_in(document)}
    seen |= {(path, value): value for path, value in seconds_in(document)} | {("/stats", v): v for _, v in seconds_in(server.get("/api/system/stats").json())}
    assert {path for path, _ in seen} >= {"/eta_seconds", "/metrics/wait_seconds", "/metrics/denoise_seconds", "/stats"}
    assert document["metrics"]["denoise_seconds"] > 0.14
    for place, value in seen.items():
        assert value == round(value, 6), place


def test_health_and_page(server):
    health = server.client.get("/health").json()
    assert health["status"] == "ok" and health["engine"] == "ready"
    page = server.client.get("/")
    assert page.status_code == 200 and "text/html" in page.headers["content-type"] and "<title>imagined</title>" in page.text


def test_what_is_not_there(server):
    for path in ("/nope", "/api", "/api/tasks/", "/api/tasks/x", "/api/tasks/00000000000000000000000000", "/api/tasks/x/y"):
        answer = server.client.get(path)
        assert answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json", path
        assert answer.json()["status"] == 404 and answer.json()["title"] == "Not Found"
    answer = server.client.put("/api/tasks")
    assert answer.status_code == 405 and answer.headers["allow"] == "POST, GET, HEAD"
    assert server.client.options("/api/tasks").headers["allow"] == "POST, GET, HEAD"


def test_new_models_show_up(make_server):
    import shutil
    from conftest import ROOT
    server = make_server()
    assert [m["id"] for m in server.client.get("/api/system/models").json()["models"]] == ["demo"]
    shutil.copytree(ROOT / "demo" / "model", server.folder / "models" / "other")
    until(lambda: [m["id"] for m in server.client.get("/api/system/models").json()["models"]] == ["demo", "other"])
    assert server.finish(server.submit(model="other"))["model"] == "other"
