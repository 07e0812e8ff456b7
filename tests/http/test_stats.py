"""GET /api/system/stats against what the test itself did, against figures that it makes up (a library in place of NVML), and against the kernel's."""
import os
import pathlib
import signal

import pytest
from conftest import BUILD, ROOT, until
from test_system import add_models

NVML = str(BUILD / "tests" / "unit" / "nvml")
GIB = 1 << 30


def stats(server):
    answer = server.get("/api/system/stats")
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    return answer.json()


class Gpu:
    """A made-up GPU whose figures the test sets."""

    def __init__(self, make_server, path, lines=("GPU-0|NVIDIA Made Up|{total}|{free}",), **environment):
        self.path, self.lines = path, lines
        self.set(0)
        self.server = make_server(LD_LIBRARY_PATH=NVML, FAKE_NVML=path, GRADIENT_DEVICE="cuda:NVIDIA Made Up", **environment)
        self.server.wait_ready()

    def set(self, used, total=100 * GIB):
        text = "".join(line.format(total=total, free=total - used) + "\n" for line in self.lines)
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.rename(self.path)

    def vram(self):
        return stats(self.server)["vram"]


def test_the_shape(server):
    s = stats(server)
    kinds = {"vram": {"device": str, "total_vram_mb": int, "used_vram_mb": int, "free_vram_mb": int, "utilization_percent": float, "state": str},
             "models": {"cached_models": int, "max_models": int, "models": list},
             "queue": {"queued": int, "active": int, "completed": int, "failed": int},
             "optimizations": {"amp_enabled": bool, "xformers_available": bool, "flash_attention_available": bool, "optimal_dtype": str}}
    for part, keys in kinds.items():
        for key, kind in keys.items():
            assert type(s[part][key]) is kind, (part, key, s[part])
    assert s["optimizations"]["xformers_available"] is False and s["optimizations"]["optimal_dtype"].startswith("torch.")
    assert s["vram"]["state"] in ("low", "moderate", "high", "critical")
    assert s["vram"]["used_vram_mb"] + s["vram"]["free_vram_mb"] == s["vram"]["total_vram_mb"]


def test_three_queued_one_active_two_cached(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=1, MAX_MODELS_IN_MEMORY=3)
    server.wait_ready()
    add_models(server, "other", "third", "fourth")
    for _ in range(2):
        server.finish(server.submit())
    server.finish(server.submit("please fail"))
    server.post("/api/system/models/other/load")
    active = server.submit("slow", num_inference_steps=500)
    server.wait_status(active, "running")
    queued = [server.submit(priority=p) for p in ("low", "high", "normal")]
    gone = server.submit()
    server.client.delete(f"/api/tasks/{gone}")
    s = stats(server)
    q = s["queue"]
    assert (q["queued"], q["active"], q["completed"], q["failed"], q["cancelled"]) == (3, 1, 2, 1, 1)
    m = s["models"]
    assert (m["cached_models"], m["max_models"], m["loads"]) == (2, 3, 2)
    assert {row["id"]: (row["state"], row["leases"]) for row in m["models"]} == {"demo": ("in_use", 1), "other": ("cached", 0)}
    assert set(m["models"][0]) >= {"id", "state", "device", "size_bytes", "mapped_bytes", "private_bytes", "vram_bytes", "leases", "loads",
                                   "load_seconds", "last_used", "peak_bytes"}
    assert m["evictions"] == {"count": 0, "bytes": 0, "vram": 0, "manual": 0}
    # A third and a fourth model: the least recently used that is not in use leaves.
    for name in ("third", "fourth"):
        server.post(f"/api/system/models/{name}/load")
    m = stats(server)["models"]
    assert {row["id"] for row in m["models"]} == {"demo", "third", "fourth"} and m["evictions"]["count"] == 1 and m["loads"] == 4
    server.post("/api/system/models/third/unload")
    m = stats(server)["models"]
    assert m["cached_models"] == 2 and m["evictions"]["manual"] == 1
    server.client.delete(f"/api/tasks/{active}")
    for one in queued:
        server.finish(one)
    q = stats(server)["queue"]
    assert (q["queued"], q["active"], q["completed"], q["failed"], q["cancelled"]) == (0, 0, 5, 1, 2)


def test_waits_and_run_times(server):
    for priority in ("high", "high", "low"):
        server.finish(server.submit("slow", num_inference_steps=2, priority=priority))
    q = stats(server)["queue"]
    waits, runs = q["wait_seconds"], q["run_seconds"]
    assert {p: waits[p]["count"] for p in waits} == {"urgent": 0, "high": 2, "normal": 0, "low": 1} and runs["count"] == 3
    for h in (*waits.values(), runs):
        assert h["at_most"] == sorted(h["at_most"]) and len(h["at_most"]) == len(h["seconds"]) and h["at_most"][-1] == h["count"]
    assert runs["sum"] >= 0.3 and runs["at_most"][runs["seconds"].index(0.03)] == 0  # two steps of 50 ms each


def test_the_ledger_adds_up(server):
    server.post("/api/system/models/demo/load")
    task = server.submit("slow", num_inference_steps=100)
    s = until(lambda: (s := stats(server))["vram"]["ledger"]["latents"] and s)
    server.client.delete(f"/api/tasks/{task}")
    ledger = s["vram"]["ledger"]
    assert (ledger["weights"], ledger["compute"], ledger["staging"], ledger["latents"]) == (100000, 5000, 0, 1000)
    used = next(d for d in s["devices"] if d["primary"])["used_bytes"]
    assert sum(ledger[use] for use in ("weights", "compute", "staging", "cache", "foreign")) == used  # latents are main memory
    assert used // (1 << 20) <= s["vram"]["used_vram_mb"] <= used // (1 << 20) + 1
    assert s["optimizations"]["reasons"]["optimal_dtype"] == "gradients are exact" and s["optimizations"]["attention"] == "flash"


def test_what_a_suspended_task_keeps_is_in_the_ledger(make_server):
    server = make_server(real_engine=True, MAX_CONCURRENT_TASKS=1, IMAGINED_DEVICE="cpu")
    server.wait_ready()
    shape = dict(width=128, height=64)
    low = server.submit(num_inference_steps=1000, n=2, priority="low", **shape)
    until(lambda: server.task(low)["progress"]["step"] >= 1)
    urgent = server.submit(num_inference_steps=300, priority="urgent", **shape)

    def both():
        """Figures of a time when one task was suspended and the other had its latent."""
        before, s, after = server.task(urgent), stats(server), server.task(urgent)
        return before["progress"]["step"] > 5 and after["status"] == "running" and server.task(low)["suspended"] and s

    ledger = until(both, 60)["vram"]["ledger"]
    assert ledger["latents"] > 2 * 128 * 64 * 3  # two tasks' pixels alone
    server.client.delete(f"/api/tasks/{urgent}")
    server.client.delete(f"/api/tasks/{low}")
    until(lambda: stats(server)["vram"]["ledger"]["latents"] == 0)


def test_prompts_are_counted(server):
    before = stats(server)["prompt_cache"]
    server.finish(server.submit())
    after = stats(server)["prompt_cache"]
    assert after["misses"] == before["misses"] + 1 and after["entries"] == before["entries"] + 1 and after["bytes"] > before["bytes"]
    server.post("/api/system/cleanup")
    assert stats(server)["prompt_cache"] | {"misses": 0} == {"hits": 0, "misses": 0, "entries": 0, "bytes": 0, "max_bytes": 0}


def test_an_engines_end_takes_its_figures_and_leaves_the_counters(make_server):
    server = make_server(MAX_MODELS_IN_MEMORY=1)
    server.wait_ready()
    add_models(server, "other")
    server.post("/api/system/models/demo/load"), server.post("/api/system/models/other/load")
    before = stats(server)
    assert before["models"]["cached_models"] == 1 and before["models"]["evictions"]["count"] == 1
    pid = before["engine"]["pid"]
    assert pid == server.engine_pid()
    os.kill(pid, signal.SIGKILL)
    s = until(lambda: (s := stats(server))["engine"]["pid"] != pid and s)
    assert s["models"]["cached_models"] == 0 and s["models"]["models"] == [] and s["models"]["cached_bytes"] == 0
    assert s["models"]["evictions"]["count"] == 1 and s["models"]["loads"] == 2
    assert s["vram"]["ledger"]["weights"] == 0 and s["optimizations"]["optimal_dtype"] == "torch.float32"


def test_a_stopped_engine_has_nothing(make_server):
    server = make_server(IMAGINED_ENGINE_IDLE_SECONDS=1)
    server.post("/api/system/models/demo/load")
    s = until(lambda: (s := stats(server))["engine"]["state"] == "stopped" and s["engine"]["pid"] is None and s)
    assert s["models"]["cached_models"] == 0 and s["engine"]["snapshot"] == 0 and s["engine"]["process"]["resident_bytes"] == 0
    assert stats(server)["engine"]["state"] == "stopped"  # nobody starts one to ask it


# --- whole devices ---

def test_a_gpus_memory_is_nvmls_of_now(make_server, tmp_path):
    gpu = Gpu(make_server, tmp_path / "gpus")
    assert gpu.vram() | {"ledger": 0} == {
        "device": "cuda", "total_vram_mb": 102400, "used_vram_mb": 0, "free_vram_mb": 102400, "utilization_percent": 0.0, "state": "low",
        "limited": False, "limit_mb": None, "source": "nvml", "ledger": 0}
    for used in (12 * GIB, 33 * GIB + 1, 7):
        gpu.set(used)
        v = gpu.vram()
        assert v["used_vram_mb"] == -(-used // (1 << 20)) and v["utilization_percent"] == round(used / GIB, 1)
        assert v["ledger"]["foreign"] == max(0, used - v["ledger"]["weights"] - v["ledger"]["compute"])
    device = stats(gpu.server)["devices"][0]
    assert device == {"device": "cuda", "name": "NVIDIA Made Up", "total_bytes": 100 * GIB, "free_bytes": 100 * GIB - 7, "used_bytes": 7,
                      "source": "nvml", "primary": True}


def test_states_and_their_hysteresis(make_server, tmp_path):
    gpu = Gpu(make_server, tmp_path / "gpus")
    for percent, state in ((49.9, "low"), (50, "moderate"), (74.9, "moderate"), (75, "high"), (90, "high"), (90.1, "critical"), (88.5, "critical"),
                           (88, "high"), (73.5, "high"), (72.9, "moderate"), (48.5, "moderate"), (47.9, "low"), (100, "critical"), (10, "low")):
        gpu.set(int(percent * GIB))
        assert gpu.vram()["state"] == state, percent


def test_several_gpus(make_server, tmp_path):
    lines = ("GPU-0|NVIDIA Other|1000|1000", "GPU-1|NVIDIA Made Up|2000|1500", "GPU-2|NVIDIA Made Up|{total}|{free}")
    gpu = Gpu(make_server, tmp_path / "gpus", lines, CUDA_VISIBLE_DEVICES="GPU-2")
    devices = stats(gpu.server)["devices"]
    assert [(d["device"], d["name"], d["primary"]) for d in devices] == [
        ("cuda", "NVIDIA Made Up", True), ("cpu", "", False), ("cuda", "NVIDIA Other", False), ("cuda", "NVIDIA Made Up", False)]
    assert [d["total_bytes"] for d in devices if d["device"] == "cuda"] == [100 * GIB, 1000, 2000]


def test_a_gpu_that_is_lost_is_told_as_the_engine_saw_it(make_server, tmp_path):
    gpu = Gpu(make_server, tmp_path / "gpus")
    assert gpu.vram()["source"] == "nvml"
    gpu.path.write_text("")
    v = gpu.vram()
    assert (v["source"], v["total_vram_mb"], v["state"]) == ("engine", 1024, "moderate")


def test_our_limit_is_the_bound_where_it_is_the_fuller_one(make_server, tmp_path):
    gpu = Gpu(make_server, tmp_path / "gpus", IMAGINED_VRAM_LIMIT_MB=1)
    gpu.server.post("/api/system/models/demo/load")
    v = gpu.vram()
    assert v["limited"] and (v["total_vram_mb"], v["limit_mb"]) == (1, 1) and v["utilization_percent"] == round(105000 / (1 << 20) * 100, 1)
    gpu.set(60 * GIB)
    v = gpu.vram()
    assert not v["limited"] and (v["total_vram_mb"], v["limit_mb"], v["state"]) == (102400, 1, "moderate")


def test_without_nvml_the_engine_tells(make_server):
    server = make_server(GRADIENT_DEVICE="cuda:NVIDIA Made Up", LD_LIBRARY_PATH=NVML)  # a library without a driver
    server.wait_ready()
    until(lambda: stats(server)["engine"]["snapshot"])
    v = stats(server)["vram"]
    assert (v["device"], v["source"], v["total_vram_mb"]) == ("cuda", "engine", 1024)


# --- the real engine ---

def allowed_memory():
    """Total and available bytes of main memory as the kernel tells them: /proc/meminfo, and each control group above this process."""
    lines = dict(line.split(":") for line in pathlib.Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(lines[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        old = "memory" in controllers.split(",")
        if not old and controllers:
            continue
        base = pathlib.Path("/sys/fs/cgroup/memory" if old else "/sys/fs/cgroup")
        folder = base / path.strip("/")
        for group in [folder, *folder.parents]:
            limit = group / ("memory.limit_in_bytes" if old else "memory.max")
            if not str(group).startswith(str(base)) or not limit.is_file() or limit.read_text().strip() == "max":
                continue
            use = int((group / ("memory.usage_in_bytes" if old else "memory.current")).read_text())
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            prefix = "total_" if old else ""
            cache = int(stat[prefix + "inactive_file"]) + int(stat[prefix + "active_file"])
            total = min(total, int(limit.read_text()))
            available = min(available, int(limit.read_text()) - max(0, use - cache))
    return total, available


@pytest.mark.parametrize("name", ["real", "gradients"])
def test_main_memory_is_the_kernels(make_server, name):
    server = make_server(real_engine=name == "real", **({} if name == "real" else {"GRADIENT_DEVICE": "cpu:some CPU"}))
    server.wait_ready()
    total, before = allowed_memory()
    s = stats(server)
    after = allowed_memory()[1]
    device = s["devices"][0]
    assert s["vram"]["device"] == device["device"] == "cpu" and len(s["devices"]) == 1 and s["vram"]["source"] == "cgroup"
    assert device["total_bytes"] == total and s["vram"]["total_vram_mb"] == total >> 20
    # Others use this machine as well: between what it was before and after, give or take what came and went meanwhile.
    assert min(before, after) - (256 << 20) <= device["free_bytes"] <= max(before, after) + (256 << 20)
    assert abs(s["vram"]["utilization_percent"] - 100 * device["used_bytes"] / total) <= 0.06


def test_the_engines_process_is_the_kernels(make_server):
    server = make_server(real_engine=True)
    server.wait_ready()
    server.finish(server.submit(num_inference_steps=1))
    s = stats(server)["engine"]
    status = pathlib.Path(f"/proc/{server.engine_pid()}/status").read_text()
    kernel = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(("Vm", "Rss"))}
    for ours, theirs in (("resident_bytes", "VmRSS"), ("anonymous_bytes", "RssAnon"), ("file_bytes", "RssFile"), ("peak_bytes", "VmHWM")):
        assert abs(s["process"][ours] - kernel[theirs]) < 4 << 20, (ours, s, kernel)
    assert 0 < s["process"]["private_dirty_bytes"] <= s["process"]["proportional_bytes"] <= s["process"]["resident_bytes"] + (1 << 20)
    assert s["pid"] == server.engine_pid() and s["device_name"] and s["threads"] > 0


def test_the_real_engines_models_and_cleanup(make_server):
    server = make_server(real_engine=True)
    server.wait_ready()
    loaded = server.post("/api/system/models/demo/load").json()
    s = stats(server)
    assert s["models"]["models"] == loaded["cached"] and s["models"]["cached_models"] == 1
    row = loaded["cached"][0]
    size = sum(p.stat().st_size for p in (ROOT / "demo" / "model").rglob("*.safetensors"))
    assert 0.9 * size < row["size_bytes"] <= size and row["mapped_bytes"] <= row["size_bytes"]
    assert s["models"]["cached_bytes"] == row["size_bytes"]
    task = server.submit(num_inference_steps=100, width=256, height=256)
    server.wait_status(task, "running")
    row = stats(server)["models"]["models"][0]
    assert (row["state"], row["leases"]) == ("in_use", 1)
    assert server.post("/api/system/cleanup").json()["skipped_leased"] == ["demo"]
    assert server.post("/api/system/models/demo/unload").status_code == 409
    server.client.delete(f"/api/tasks/{task}")
    server.finish(task)
    for _ in range(2):
        assert server.finish(server.submit(num_inference_steps=1))["status"] == "completed"
    s = stats(server)
    assert (s["prompt_cache"]["misses"], s["prompt_cache"]["hits"]) == (2, 1)  # the cleanup took the first prompt's
    assert s["prompt_cache"]["bytes"] == s["vram"]["ledger"]["cache"] > 0 and s["batching"]["steps"] > 0
    mapped = s["engine"]["process"]["file_bytes"]
    freed = server.post("/api/system/cleanup").json()
    after = stats(server)
    assert freed["models_unloaded"] == ["demo"] and freed["freed"]["ram_bytes"] > 0
    assert after["models"]["cached_models"] == 0 and after["models"]["evictions"]["manual"] == 1
    assert after["vram"]["ledger"]["weights"] == after["vram"]["ledger"]["cache"] == 0
    assert after["engine"]["process"]["file_bytes"] < mapped - size / 2  # the kernel's own word for it


def test_what_tasks_took_outlives_engine_and_server(make_server, tmp_path):
    server = make_server(STATE=tmp_path / "state")
    server.wait_ready()
    for width in (64, 32, 64):
        server.finish(server.submit(width=width, height=32))
    profiles = stats(server)["profiles"]
    assert [(p["model"], p["width"], p["height"], p["batch"], p["peak_bytes"]) for p in profiles] == [
        ("demo", 32, 32, 1, 7000), ("demo", 64, 32, 1, 7000)]
    assert profiles[0]["step_seconds"] == 0.125 and profiles[0]["guidance_pair"] is False and profiles[0]["text_tokens"] > 0
    assert server.get("/api/system/models").json()["models"][0]["profiles"] == profiles
    os.kill(server.engine_pid(), signal.SIGKILL)
    until(lambda: stats(server)["vram"]["ledger"]["pinned"] == 2)  # the new engine was told
    server.stop()
    again = make_server(STATE=tmp_path / "state")
    until(lambda: stats(again)["vram"]["ledger"]["pinned"] == 2)
    by_width = lambda p: p["width"]
    assert sorted(stats(again)["profiles"], key=by_width) == sorted(profiles, key=by_width)


@pytest.fixture
def server(make_server):
    server = make_server()
    server.wait_ready()
    return server
