"""GET /openapi.json is true: every native route is in it and nothing else, schemathesis finds no answer that it does not tell of, and real answers of each kind conform."""
import io
import os
import pathlib
import re
import subprocess
import sys

import pytest
import schemathesis
from conftest import ROOT, until
from PIL import Image

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def server(tmp_path_factory, gradients):
    return gradients


@pytest.fixture(scope="module")
def schema(server):
    return schemathesis.openapi.from_url(server.url + "/openapi.json")


def conforms(schema, answer, path, method, status):
    assert answer.status_code == status, answer.text
    answer.request.read()  # of a form, for schemathesis
    schema[path][method].validate_response(answer)
    return answer


def test_the_document_itself(server, schema):
    answer = conforms(schema, server.get("/openapi.json"), "/openapi.json", "GET", 200)
    document = answer.json()
    assert document["openapi"] == "3.1.0" and document["info"]["version"] == server.get("/health").json()["version"]
    assert server.get("/openapi.json", headers={"if-none-match": answer.headers["etag"]}).status_code == 304
    schema.validate()
    ids = [o["operationId"] for path in document["paths"].values() for method, o in path.items() if method != "parameters"]
    assert len(set(ids)) == len(ids)


def test_it_has_every_native_route_and_no_other(server):
    routes = set(re.findall(r'{"([A-Z]+)", "(/[^"]*)", \w+', (ROOT / "src/server/api/native.c").read_text()))
    page = {("GET", "/"), ("GET", "/ui/{id}")}
    assert len(routes) > 20 and page < routes
    told = {(method.upper(), path) for path, item in server.get("/openapi.json").json()["paths"].items() for method in item if method != "parameters"}
    assert told == routes - page


def test_schemathesis_finds_nothing(server):
    """schemathesis.toml says what it is asked for; IMAGINED_OPENAPI_EXAMPLES asks for more of it."""
    run = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"), "run", server.url + "/openapi.json", "--seed", "1",
         "--max-examples", os.environ.get("IMAGINED_OPENAPI_EXAMPLES", "10"), "--generation-deterministic", "--request-timeout", "60", "--no-color",
         "--suppress-health-check", "all"],
        env=os.environ | {"PYTHONPATH": str(HERE)}, capture_output=True, text=True, cwd=server.folder)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert re.search(r"[1-9]\d\d+ generated", run.stdout), run.stdout[-2000:]
    server.post("/api/system/queue/resume")


def test_a_task_from_start_to_end(server, schema):
    fields = {"prompt": "slow", "negative_prompt": "x", "seed": str(2**64 - 1), "n": 2, "num_inference_steps": 20, "webhook": "https://example.invalid/",
              "webhook_events_filter": ["start"]}
    asked = conforms(schema, server.post("/api/tasks", json=fields), "/api/tasks", "POST", 202)
    path = asked.headers["location"]
    for _ in range(5):
        conforms(schema, server.get(path), "/api/tasks/{id}", "GET", 200)
    conforms(schema, server.get(path, headers={"prefer": "wait=0"}), "/api/tasks/{id}", "GET", 202)
    conforms(schema, server.client.patch(path, json={"priority": "LOW"}), "/api/tasks/{id}", "PATCH", 200)
    conforms(schema, server.get(path, headers={"prefer": "wait=60"}), "/api/tasks/{id}", "GET", 200)
    conforms(schema, server.client.patch(path, json={"priority": "low"}), "/api/tasks/{id}", "PATCH", 409)
    conforms(schema, server.client.delete(path), "/api/tasks/{id}", "DELETE", 409)
    conforms(schema, server.post("/api/tasks", json={"prompt": "x"}, headers={"prefer": "wait=60"}), "/api/tasks", "POST", 200)
    failed = server.finish(server.submit("fail"))
    assert failed["error"]
    long = server.submit("slow", num_inference_steps=1000)
    server.wait_status(long, "running")
    conforms(schema, server.client.delete(f"/api/tasks/{long}"), "/api/tasks/{id}", "DELETE", 202)
    server.finish(long)
    conforms(schema, server.get("/api/tasks?limit=1000"), "/api/tasks", "GET", 200)
    conforms(schema, server.get("/api/tasks?status=failed"), "/api/tasks", "GET", 200)
    server.post("/api/system/queue/pause")
    waiting = conforms(schema, server.post("/api/tasks", json={"prompt": "x"}), "/api/tasks", "POST", 202).json()["id"]
    conforms(schema, server.client.delete(f"/api/tasks/{waiting}"), "/api/tasks/{id}", "DELETE", 200)
    conforms(schema, server.post("/api/system/queue/resume"), "/api/system/queue/resume", "POST", 200)
    conforms(schema, server.post("/api/tasks", content=b"{"), "/api/tasks", "POST", 400)
    conforms(schema, server.post("/api/tasks", content=b" " * (2 << 20)), "/api/tasks", "POST", 413)
    conforms(schema, server.post("/api/tasks", json={"prompt": "x"}, headers={"host": "evil.example"}), "/api/tasks", "POST", 421)
    conforms(schema, server.post("/api/tasks", json={"prompt": "x"}, headers={"origin": "http://evil.example"}), "/api/tasks", "POST", 403)


def test_events(server, schema):
    task_id = server.submit("slow", num_inference_steps=3)
    for path, url in (("/api/tasks/{id}/events", f"/api/tasks/{task_id}/events"), ("/api/events", "/api/events")):
        with server.client.stream("GET", url) as answer:
            declared = server.get("/openapi.json").json()["paths"][path]["get"]["responses"]["200"]
            assert answer.status_code == 200 and answer.headers["content-type"] in declared["content"]
            assert next(answer.iter_lines())
    ended = server.get(f"/api/tasks/{server.finish(task_id)['id']}/events")
    last = re.findall(r"id: (\d+)", ended.text)[-1]
    conforms(schema, server.get(f"/api/tasks/{task_id}/events", headers={"last-event-id": last}), "/api/tasks/{id}/events", "GET", 204)
    conforms(schema, server.get("/api/tasks/none/events"), "/api/tasks/{id}/events", "GET", 404)


def test_images(server, schema):
    file = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(file, "PNG")
    brought = conforms(schema, server.post("/api/images", content=file.getvalue()), "/api/images", "POST", 201)
    conforms(schema, server.post("/api/images", files={"image": file.getvalue()}), "/api/images", "POST", 201)
    conforms(schema, server.post("/api/images", content=b"x"), "/api/images", "POST", 422)
    made = server.finish(server.submit("x", n=2))["images"]
    for path in (brought.headers["location"], made[0]["url"]):
        answer = conforms(schema, server.get(path), "/api/images/{id}", "GET", 200)
        conforms(schema, server.get(path, headers={"if-none-match": answer.headers["etag"]}), "/api/images/{id}", "GET", 304)
    begun = {"prompt": "slow", "image": brought.json()["id"], "strength": 0.5, "mask": made[1]["url"], "mask_source": "alpha", "num_inference_steps": 100}
    task = conforms(schema, server.post("/api/tasks", json=begun), "/api/tasks", "POST", 202)
    conforms(schema, server.client.delete(brought.headers["location"]), "/api/images/{id}", "DELETE", 409)
    conforms(schema, server.client.delete(task.headers["location"]), "/api/tasks/{id}", "DELETE", 202)
    assert server.finish(task.json()["id"])["request"]["mask_source"] == "alpha"
    first = conforms(schema, server.get("/api/images?limit=1"), "/api/images", "GET", 200).json()
    conforms(schema, server.get("/api/images", params={"before": first["next"]}), "/api/images", "GET", 200)
    for kind in ("picture", "input"):
        images = conforms(schema, server.get("/api/images", params={"kind": kind}), "/api/images", "GET", 200).json()["images"]
        assert {i["kind"] for i in images} == {kind}
    running = server.submit("slow", n=2, num_inference_steps=30)
    until(lambda: server.task(running)["images"])
    conforms(schema, server.client.delete(f"/api/images/{running}-0"), "/api/images/{id}", "DELETE", 409)
    server.client.delete(f"/api/tasks/{running}")
    for path in (brought.headers["location"], made[0]["url"]):
        conforms(schema, server.client.delete(path), "/api/images/{id}", "DELETE", 204)
        conforms(schema, server.get(path), "/api/images/{id}", "GET", 404)


def test_previews(server, schema):
    task_id = server.submit("slow", num_inference_steps=200)
    path, url = "/api/tasks/{id}/preview", f"/api/tasks/{task_id}/preview"
    conforms(schema, server.get(url, params={"side": 0}), path, "GET", 422)
    shown = until(lambda: server.task(task_id)["preview"])
    conforms(schema, server.get(f"/api/tasks/{task_id}"), "/api/tasks/{id}", "GET", 200)
    conforms(schema, server.get(shown["url"]), path, "GET", 200)
    for kind in ("jpeg", "png", "webp"):
        assert conforms(schema, server.get(url, params={"format": kind, "side": 64}), path, "GET", 200).headers["content-type"] == f"image/{kind}"
    conforms(schema, server.get(url, headers={"if-none-match": "*"}), path, "GET", 304)
    server.client.delete(f"/api/tasks/{task_id}")
    server.finish(task_id)
    conforms(schema, server.get(url), path, "GET", 204)
    conforms(schema, server.get(url.replace(task_id, "01M85RAHCXNV0FKR44ED86FNP7")), path, "GET", 404)


def test_models_figures_and_health(server, schema):
    for what in ("load", "preload", "unload"):
        path = "/api/system/models/{id}/" + what
        conforms(schema, server.post(f"/api/system/models/demo/{what}"), path, "POST", 202 if what == "preload" else 200)
        conforms(schema, server.post(f"/api/system/models/none/{what}"), path, "POST", 404)
        conforms(schema, server.post(f"/api/system/models/demo/{what}", json={"precision": 7}), path, "POST", 422)
    busy = server.submit("slow", num_inference_steps=100)
    server.wait_status(busy, "running")
    conforms(schema, server.post("/api/system/models/demo/unload"), "/api/system/models/{id}/unload", "POST", 409)
    for path in ("/api/system/models", "/api/system/stats", "/metrics", "/health", "/health/ready"):
        conforms(schema, server.get(path), path, "GET", 200)
    conforms(schema, server.post("/api/system/cleanup"), "/api/system/cleanup", "POST", 200)
    server.client.delete(f"/api/tasks/{busy}")
    conforms(schema, server.post("/api/system/queue/pause", json={"reason": "a test"}), "/api/system/queue/pause", "POST", 200)
    conforms(schema, server.get("/api/system/stats"), "/api/system/stats", "GET", 200)
    conforms(schema, server.get("/health"), "/health", "GET", 200)
    conforms(schema, server.post("/api/system/queue/resume"), "/api/system/queue/resume", "POST", 200)


def test_before_there_is_an_engine_and_when_the_queue_is_full(make_server, schema):
    server = make_server(IMAGINED_ENGINE_EXECUTABLE="/bin/false", IMAGINED_MAX_QUEUED=1)
    for path in ("/api/system/models", "/api/system/stats", "/metrics", "/health"):
        conforms(schema, server.get(path), path, "GET", 200)
    conforms(schema, server.get("/health/ready"), "/health/ready", "GET", 503)
    conforms(schema, server.post("/api/tasks", json={"prompt": "x"}), "/api/tasks", "POST", 202)
    full = conforms(schema, server.post("/api/tasks", json={"prompt": "x"}), "/api/tasks", "POST", 429)
    assert int(full.headers["retry-after"]) > 0
    conforms(schema, server.get("/api/tasks"), "/api/tasks", "GET", 200)


def test_without_a_key(make_server, schema, tmp_path):
    (tmp_path / "keys").write_text("anna:" + "0" * 64 + "\n")
    server = make_server(IMAGINED_API_KEYS_FILE=tmp_path / "keys", IMAGINED_LOOPBACK_NEEDS_KEY="true")
    paths = schema.raw_schema["paths"]
    for path, item in paths.items():
        for method in item:
            answer = server.client.request(method, path.replace("{id}", "x")) if method != "parameters" else None
            if answer is not None:
                conforms(schema, answer, path, method.upper(), 401 if not path.startswith("/health") else answer.status_code)
