"""GET /metrics, read by Prometheus' own Python client, against what the test did."""
import os
import signal

import pytest
from conftest import until
from prometheus_client.parser import text_string_to_metric_families
from test_system import add_models


class Metrics(dict):
    """{(name, labels): value} of one reading; `families` by name. A sample that comes twice, or without help and type, fails."""

    def __init__(self, server):
        answer = server.get("/metrics")
        assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        self.text = answer.text
        self.families = {}
        for family in text_string_to_metric_families(self.text):
            assert family.name not in self.families and family.documentation and family.type != "unknown", family
            self.families[family.name] = family
            for s in family.samples:
                key = s.name.removeprefix("imagined_"), frozenset(s.labels.items())
                assert key not in self and s.name.startswith("imagined_"), s
                self[key] = s.value

    def of(self, name, **labels):
        return self[name, frozenset(labels.items())]

    def by(self, name, label):
        return {dict(labels)[label]: value for (n, labels), value in self.items() if n == name}


@pytest.fixture
def server(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=1, MAX_MODELS_IN_MEMORY=1)
    server.wait_ready()
    return server


def test_a_new_server(server):
    m = Metrics(server)
    assert m.of("build_info", version=server.get("/health").json()["version"]) == 1
    assert m.by("queue_depth", "priority") == dict.fromkeys(("urgent", "high", "normal", "low"), 0)
    assert m.by("tasks_total", "status") == dict.fromkeys(("completed", "failed", "cancelled"), 0)
    assert m.by("model_evictions_total", "cause") == dict.fromkeys(("count", "bytes", "vram", "manual"), 0)
    for name in ("tasks_active", "model_loads_total", "models_cached", "prompt_cache_hits_total", "prompt_cache_misses_total", "prompt_cache_bytes",
                 "steps_total", "batched_steps_total", "batched_images_total", "engine_restarts_total", "queue_paused",
                 "task_duration_seconds_count"):
        assert m.of(name) == 0, name
    assert m.of("engine_up") == 1
    kinds = {name.removeprefix("imagined_"): f.type for name, f in m.families.items()}
    assert {name for name, kind in kinds.items() if kind == "histogram"} == {"task_duration_seconds", "task_wait_seconds"}
    assert kinds["model_loads"] == kinds["tasks"] == kinds["http_requests"] == "counter" and kinds["queue_depth"] == "gauge"


def test_head_and_other_methods(server):
    head = server.client.head("/metrics")
    assert head.status_code == 200 and head.content == b"" and int(head.headers["content-length"]) > 1000
    assert head.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert server.post("/metrics").status_code == 405


def test_tasks_and_the_queue(server):
    for priority in ("high", "high", "low"):
        server.finish(server.submit("slow", num_inference_steps=2, priority=priority))
    server.finish(server.submit("please fail"))
    active = server.submit("slow", num_inference_steps=500)
    server.wait_status(active, "running")
    queued = [server.submit(priority=p) for p in ("low", "high", "low")]
    server.post("/api/system/queue/pause")
    server.client.delete(f"/api/tasks/{queued[1]}")
    m = Metrics(server)
    assert m.by("queue_depth", "priority") == {"urgent": 0, "high": 0, "normal": 0, "low": 2}
    assert m.by("tasks_total", "status") == {"completed": 3, "failed": 1, "cancelled": 1}
    assert m.of("tasks_active") == 1 and m.of("queue_paused") == 1
    assert m.by("task_wait_seconds_count", "priority") == {"urgent": 0, "high": 2, "normal": 2, "low": 1}
    assert m.of("task_duration_seconds_count") == 3 and m.of("task_duration_seconds_sum") >= 0.3  # two steps of 50 ms each
    assert m.of("task_duration_seconds_bucket", le="0.03") == 0 and m.of("task_duration_seconds_bucket", le="+Inf") == 3
    for priority, count in m.by("task_wait_seconds_count", "priority").items():
        buckets = [(float(dict(labels)["le"]), value) for (name, labels), value in m.items()
                   if name == "task_wait_seconds_bucket" and ("priority", priority) in labels]
        assert len(buckets) == 17 and sorted(buckets) == buckets and buckets[-1] == (float("inf"), count)
        assert [value for _, value in buckets] == sorted(value for _, value in buckets)


def test_memory_models_and_prompts(server):
    server.post("/api/system/models/demo/load")
    s, m = server.get("/api/system/stats").json(), Metrics(server)
    device = s["vram"]["device"]
    uses = m.by("device_bytes", "use")
    assert uses.pop("latents") == 0 and uses == {use: s["vram"]["ledger"][use] for use in ("weights", "compute", "staging", "cache", "foreign")}
    assert m.of("device_bytes", device=device, use="weights") == 100000
    primary = next(d for d in s["devices"] if d["primary"])
    assert (m.of("vram_total_bytes", device=device), m.of("vram_used_bytes", device=device)) == (primary["total_bytes"], primary["used_bytes"])
    assert sum(uses.values()) == primary["used_bytes"]
    assert m.by("vram_state", "state") == {one: one == s["vram"]["state"] for one in ("low", "moderate", "high", "critical")}
    assert m.of("models_cached") == m.of("model_loads_total") == 1
    server.finish(server.submit())
    m = Metrics(server)
    assert m.of("prompt_cache_misses_total") == 1 and m.of("prompt_cache_bytes") == 100


def test_a_device_with_an_odd_name_and_a_limit(make_server):
    odd = 'a"b\\c}'
    server = make_server(GRADIENT_DEVICE=odd + ":x", IMAGINED_VRAM_LIMIT_MB=7)
    server.wait_ready()
    m = Metrics(server)
    assert list(m.by("vram_used_bytes", "device")) == [odd] and m.of("vram_limit_bytes", device=odd) == 7 << 20


def test_counters_go_on_over_engines(server):
    add_models(server, "other")
    server.post("/api/system/models/demo/load"), server.post("/api/system/models/other/load")
    server.finish(server.submit())
    before = Metrics(server)
    assert before.of("model_loads_total") == 3 and before.by("model_evictions_total", "cause")["count"] == 2
    pid = server.engine_pid()
    os.kill(pid, signal.SIGKILL)
    until(lambda: Metrics(server).of("engine_restarts_total") == 1)
    server.wait_ready()
    server.finish(server.submit("another fox"))
    after = Metrics(server)
    counted = [family for family in before.families.values() if family.type in ("counter", "histogram")]
    for family in counted:
        for s in family.samples:
            name, labels = s.name.removeprefix("imagined_"), s.labels
            assert after.of(name, **labels) >= s.value, s
    assert after.of("model_loads_total") == 4 and after.of("models_cached") == 1 and after.of("engine_up") == 1
    assert after.of("prompt_cache_misses_total") == 2 and after.by("tasks_total", "status")["completed"] == 2


def test_a_restarted_server_counts_from_zero(make_server, tmp_path):
    first = make_server(STATE=tmp_path / "state")
    first.finish(first.submit())
    assert Metrics(first).by("tasks_total", "status")["completed"] == 1
    first.stop()
    second = make_server(STATE=tmp_path / "state")
    assert second.get("/api/system/stats").json()["queue"]["completed"] == 1
    assert Metrics(second).by("tasks_total", "status") == {"completed": 0, "failed": 0, "cancelled": 0}
    second.finish(second.submit())
    assert Metrics(second).by("tasks_total", "status")["completed"] == 1


def test_answers_are_counted_by_status(server):
    before = Metrics(server).by("http_requests_total", "code")
    for _ in range(3):
        server.get("/nowhere")
    server.submit()
    after = Metrics(server).by("http_requests_total", "code")
    assert after["404"] == before.get("404", 0) + 3 and after["202"] == before.get("202", 0) + 1
    assert after["200"] == before.get("200", 0) + 1  # the reading before


def test_a_stopped_engine_is_not_a_restart(make_server):
    server = make_server(IMAGINED_ENGINE_IDLE_SECONDS=1)
    server.post("/api/system/models/demo/load")
    until(lambda: server.get("/health").json()["engine"] == "stopped")
    m = Metrics(server)
    assert m.of("engine_up") == m.of("engine_restarts_total") == m.of("models_cached") == 0 and m.of("model_loads_total") == 1
