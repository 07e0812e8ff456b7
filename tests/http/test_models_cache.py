"""The cache of models over HTTP, on the real engine: who leaves when, what is in memory once, and what a cached model costs, as the kernel counts
it."""
import collections
import io
import os
import pathlib
import re
import shutil

import pytest
from PIL import Image

import models
import vulkan
from conftest import until

SMALL = {"width": 64, "height": 64, "num_inference_steps": 1, "seed": 7}
MB = 1000 * 1000


def folder_of(server, name):
    return server.folder / "models" / name


def add_copies(server, *names):
    for name in names:
        models.copy(folder_of(server, name))


def add_linked(server, name, linked):
    """A copy of the demo model; the weights of the parts in `linked` are hard links of one file."""
    folder = models.copy(folder_of(server, name))
    for path in models.weight_files(folder):
        first = server.folder / f"{path.parent.name}.weights"
        if path.parent.name in linked:
            if not first.exists():
                shutil.copy(path, first)
            path.unlink()
            os.link(first, path)


def grow(folder, size):
    """Makes the model's weights `size` bytes: with a tensor in the transformer's file that nobody takes, and that has no room on disk."""
    path = folder / "transformer/diffusion_pytorch_model.safetensors"
    tensors = models.read(path)
    more = size - sum(p.stat().st_size for p in models.weight_files(folder))
    models.write(path, tensors | {"zz.unused": ("BF16", [more // 2], b"")}, holes={"zz.unused": more // 2 * 2})


def wait_for_models(server):
    """Until the engine is ready and the front has seen every folder."""
    server.wait_ready()
    names = {path.name for path in (server.folder / "models").iterdir()}
    until(lambda: names <= {m["id"] for m in server.get("/api/system/models").json()["models"]})


def pixels(server, document):
    """Of the finished task's picture; its file names the model too."""
    assert document["status"] == "completed", document
    with Image.open(io.BytesIO(server.image(document["images"][0]["id"]))) as image:
        return image.convert("RGB").tobytes()


def paint(server, model, **fields):
    document = server.finish(server.submit("a fox on a blue background", model=model, **(SMALL | fields)), seconds=120)
    return pixels(server, document)


def rows(server):
    """Cached models by name, their one row each."""
    listed = server.get("/api/system/models").json()["models"]
    return {m["id"]: m["cached"][0] for m in listed if m["cached"]}


def cached(server):
    """Their names, last used first."""
    return sorted(rows(server), key=lambda name: rows(server)[name]["last_used"], reverse=True)


def stats(server):
    return server.get("/api/system/stats").json()["models"]


def evictions(server):
    """What the log tells: (model, cause), in order; the statistics must have counted the same."""
    def told():
        told = re.findall(r"unloading (\S+), \w+ \((\w+)\)", server.log.read_text())
        counted = {cause: n for cause, n in stats(server)["evictions"].items() if n > 0}
        return [told] if counted == collections.Counter(cause for _, cause in told) else None
    return until(told)[0]


def mappings(pid):
    """{inode: [{"path", "Size", "Rss", "Shared_Clean", …}, …]} of the weight files that a process has mapped; bytes."""
    found = {}
    for block in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", pathlib.Path(f"/proc/{pid}/smaps").read_text()):
        head = block.split("\n", 1)[0].split(None, 5)
        if len(head) == 6 and (head[5].endswith(".safetensors") or head[5].endswith(".weights")):
            figures = {k: int(v) * 1024 for k, v in re.findall(r"(?m)^(\w+): +(\d+) kB", block)}
            found.setdefault(int(head[4]), []).append(figures | {"path": head[5]})
    return found


def anonymous(pid):
    """Resident bytes that are no file's."""
    return int(re.search(r"(?m)^Anonymous: +(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text())[1]) * 1024


def make(make_server, *names, **how):
    server = make_server(real_engine=True, **how)
    add_copies(server, *names)
    wait_for_models(server)
    return server


def test_the_least_recently_used_leaves_by_count(make_server):
    server = make(make_server, "a", "b", "c", MAX_MODELS_IN_MEMORY=2)
    for name in "aba":
        paint(server, name)
    assert cached(server) == ["a", "b"] and evictions(server) == []
    assert rows(server)["a"]["loads"] == 1
    paint(server, "c")
    assert cached(server) == ["c", "a"] and evictions(server) == [("b", "count")]
    paint(server, "b")
    assert cached(server) == ["b", "c"] and evictions(server) == [("b", "count"), ("a", "count")]
    assert rows(server)["b"]["loads"] == 2
    assert server.post("/api/system/models/c/unload").json()["models_unloaded"] == ["c"]
    assert cached(server) == ["b"] and evictions(server)[-1] == ("c", "manual")


def test_the_least_recently_used_leaves_by_bytes(make_server):
    """0.25 GB hold 100 and 150 MB, not 100 and 200; and what is larger than all is loaded alone."""
    server = make_server(real_engine=True, MAX_MODELS_IN_MEMORY=8, MAX_CACHE_SIZE_GB=0.25)
    for name, size in {"small": 100, "medium": 150, "large": 200, "huge": 700}.items():
        grow(models.copy(folder_of(server, name)), size * MB)
    wait_for_models(server)
    paint(server, "small")
    paint(server, "medium")
    assert cached(server) == ["medium", "small"] and evictions(server) == []
    assert abs(rows(server)["medium"]["size_bytes"] - 150 * MB) < 10000
    paint(server, "large")
    assert cached(server) == ["large"] and evictions(server) == [("small", "bytes"), ("medium", "bytes")]
    paint(server, "huge")
    assert cached(server) == ["huge"]
    paint(server, "huge")
    assert rows(server)["huge"]["loads"] == 1, "one model alone stays, whatever its size"
    paint(server, "small")
    assert cached(server) == ["small"] and evictions(server)[2:] == [("large", "bytes"), ("huge", "bytes")]


def test_a_model_in_use_stays_while_others_come_and_go(make_server):
    server = make(make_server, "a", "b", MAX_MODELS_IN_MEMORY=1, MAX_CONCURRENT_TASKS=2)
    long = {"width": 128, "height": 128, "num_inference_steps": 100}
    alone = paint(server, "a", **long)
    task = server.submit("a fox on a blue background", model="a", **(SMALL | long))
    server.wait_status(task, "running")
    paint(server, "b")
    seen = rows(server)
    assert server.task(task)["status"] == "running"
    assert seen["a"]["state"] == "in_use" and seen["a"]["leases"] == 1
    assert evictions(server) == [("b", "count")], "the idle one is beyond the limit"
    assert pixels(server, server.finish(task, seconds=120)) == alone
    until(lambda: rows(server)["a"]["leases"] == 0)
    assert cached(server) == ["a"] and rows(server)["a"]["loads"] == 1
    assert evictions(server) == [("b", "count")]


def test_what_models_share_is_in_memory_once(make_server):
    server = make_server(real_engine=True, MAX_MODELS_IN_MEMORY=3)
    shared = ["text_encoder", "text_encoder_2", "vae"]
    for name in "abc":
        add_linked(server, name, shared)
    wait_for_models(server)
    pictures = {paint(server, name) for name in "abca"}
    assert len(pictures) == 1
    found = mappings(server.engine_pid())
    for part in shared:
        weights = server.folder / f"{part}.weights"
        assert weights.stat().st_nlink == 4
        [one] = found.pop(weights.stat().st_ino)
        assert weights.stat().st_size <= one["Size"] < weights.stat().st_size + 4096
    assert len(found) == 3, "three transformers of their own"
    files = [p for name in "abc" for p in models.weight_files(folder_of(server, name))]
    sizes = {p.stat().st_ino: p.stat().st_size for p in files}
    assert len(sizes) == 3 + 3 and stats(server)["cached_bytes"] == sum(sizes.values())
    assert stats(server)["cached_models"] == 3
    # A row has what its model uses; one model's end takes nothing from the others.
    assert len({row["mapped_bytes"] for row in rows(server).values()}) == 1
    server.post("/api/system/models/a/unload")
    assert paint(server, "b") in pictures
    assert len(mappings(server.engine_pid())) == 3 + 2
    server.post("/api/system/cleanup")
    assert mappings(server.engine_pid()) == {}


def test_the_devices_memory_makes_models_leave(make_server):
    """On a device with memory of its own (llvmpipe), bounded to two and a half models; and by a model in use."""
    first = make(make_server, "a", **vulkan.ENVIRONMENT)
    assert first.post("/api/system/models/a/load").status_code == 200
    one = rows(first)["a"]["vram_bytes"]
    assert one > 10 * MB
    server = make(make_server, "a", "b", "c", MAX_MODELS_IN_MEMORY=8, IMAGINED_VRAM_LIMIT_MB=int(2.5 * one) >> 20, **vulkan.ENVIRONMENT)
    for name in "abac":
        assert server.post(f"/api/system/models/{name}/load").status_code == 200
    assert cached(server) == ["c", "a"] and evictions(server) == [("b", "vram")]
    paint(server, "c")
    assert paint(server, "a") == paint(first, "a")
    assert {cause for _, cause in evictions(server)} == {"vram"}


def test_sharing_makes_room(make_server):
    """Three models of 150 MB that share all but 22 MB fit in 0.25 GB."""
    server = make_server(real_engine=True, MAX_MODELS_IN_MEMORY=8, MAX_CACHE_SIZE_GB=0.25)
    for name in "abc":
        models.copy(folder_of(server, name))
    grow(folder_of(server, "a"), 150 * MB)
    for name in "bc":
        path = folder_of(server, name) / "transformer/diffusion_pytorch_model.safetensors"
        path.unlink()
        os.link(folder_of(server, "a") / path.relative_to(folder_of(server, name)), path)
    wait_for_models(server)
    for name in "abc":
        paint(server, name)
    assert cached(server) == ["c", "b", "a"] and evictions(server) == []


def test_a_cached_model_costs_little_beyond_its_pages(make_server):
    """At most 10 MB of memory that is no file's, whatever it has painted."""
    names = [f"m{i}" for i in range(5)]
    server = make(make_server, *names, MAX_MODELS_IN_MEMORY=8)
    paint(server, "demo", width=512, height=512)  # what the process itself needs
    pid = server.engine_pid()
    before = at_first = anonymous(pid)
    for name in names:
        paint(server, name, width=512, height=512)
        now = anonymous(pid)
        print(f"{name}: {(now - before) / MB:.2f} MB")
        assert now - before <= 10 * MB, name
        before = now
        row = rows(server)[name]
        assert row["private_bytes"] + row["compute_bytes"] <= 10 * MB, row
        assert row["mapped_bytes"] == row["size_bytes"] == sum(p.stat().st_size for p in models.weight_files(folder_of(server, name)))
    for name in names:  # used once more, they take no more
        paint(server, name)
    assert anonymous(pid) - at_first <= 10 * MB * len(names)
    freed = server.post("/api/system/cleanup").json()
    assert sorted(freed["models_unloaded"]) == sorted(names + ["demo"])
    assert freed["freed"]["ram_bytes"] > 0
    assert anonymous(pid) - at_first <= 10 * MB


def test_engines_share_their_pages(make_server):
    first, second = make_server(real_engine=True), make_server(real_engine=True)
    add_copies(first, "m")
    (second.folder / "models").mkdir(exist_ok=True)
    folder_of(second, "m").symlink_to(folder_of(first, "m"))
    inodes = {p.stat().st_ino for p in models.weight_files(folder_of(first, "m"))}

    def pages(server, kind):
        found = mappings(server.engine_pid())
        assert inodes <= set(found)
        return sum(one[f"{kind}_Clean"] + one[f"{kind}_Dirty"] for inode in inodes for one in found[inode])

    for server in (first, second):
        wait_for_models(server)
    picture = paint(first, "m")
    alone = pages(first, "Private")
    assert alone > 10 * MB and pages(first, "Shared") == 0
    assert paint(second, "m") == picture
    assert pages(first, "Shared") >= 0.9 * alone and pages(second, "Shared") >= 0.9 * alone
    assert pages(first, "Private") <= 0.1 * alone


def test_a_model_that_changed_on_disk_is_loaded_anew(make_server):
    server = make(make_server, "m")
    weights = folder_of(server, "m") / "vae/diffusion_pytorch_model.safetensors"
    picture = paint(server, "m")
    tensors = models.read(weights)
    dtype, shape, data = tensors["decoder.conv_out.bias"]
    new = weights.with_suffix(".new")
    models.write(new, tensors | {"decoder.conv_out.bias": (dtype, shape, b"\x00\x3f" * (len(data) // 2))})  # 0.5
    shutil.copy(weights, weights.with_suffix(".old"))
    new.rename(weights)
    assert paint(server, "m") != picture
    assert rows(server)["m"]["loads"] == 2 and cached(server) == ["m"]
    weights.with_suffix(".old").rename(weights)
    assert paint(server, "m") == picture
    assert evictions(server) == [], "nobody was in the way"
    assert "vae/diffusion_pytorch_model.safetensors changed" in server.log.read_text()


@pytest.mark.parametrize("value", ["-1", "much", "nan", "inf"])
def test_sizes_that_are_none(make_server, value):
    server = make_server(wait=False, MAX_CACHE_SIZE_GB=value)
    assert server.process.wait(10) == 2
    assert "MAX_CACHE_SIZE_GB" in server.log.read_text()
