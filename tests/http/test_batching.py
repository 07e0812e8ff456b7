"""Continuous batching on the real engine: tasks submitted apart share denoising steps at step indices of their own, and their pictures are those of
single runs; a cancel takes effect within a step, an urgent task overtakes; a prompt that comes again skips its encoders."""
import io

import numpy as np
import pytest
from PIL import Image

from conftest import until
from pictures import psnr

SIZE = {"width": 64, "height": 64, "precision": "f32"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Up to four images share a step, whatever that takes on this machine."""
    yield from serve(tmp_path_factory, IMAGINED_BATCH_IMAGES=4, MAX_CONCURRENT_TASKS=4)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    yield from serve(tmp_path_factory, IMAGINED_BATCH_IMAGES=1)


def serve(tmp_path_factory, **environment):
    from conftest import Server
    server = Server(tmp_path_factory.mktemp("batching"), real_engine=True, **environment)
    server.wait_ready()
    yield server
    assert server.stop() == 0


def pictures(server, task):
    return [np.asarray(Image.open(io.BytesIO(server.image(i["id"]))).convert("RGB"), np.float64) for i in task["images"]]


def made(server, **fields):
    task = server.finish(server.submit(**SIZE, **fields), 60)
    assert task["status"] == "completed", task
    return task


def same(server, task, single, **fields):
    """The task's pictures against those of the same request run with nobody beside it."""
    alone = made(single, **fields)
    assert alone["metrics"]["largest_batch"] == 1
    for a, b in zip(pictures(server, task), pictures(single, alone), strict=True):
        assert psnr(a, b) >= 45


def past_step(server, task_id, step):
    until(lambda: server.task(task_id)["progress"]["step"] > step or server.task(task_id)["status"] != "running" and server.task(task_id)["started_at"])


def test_tasks_submitted_apart_share_steps(shared, single):
    asked = [dict(prompt="a fox on a blue background", seed=1, num_inference_steps=300),
             dict(prompt="a raccoon on a purple background", seed=2, num_inference_steps=60),
             dict(prompt="a cat on a red background", seed=3, num_inference_steps=40)]
    ids = []
    for request in asked:
        ids.append(shared.submit(**SIZE, **request))
        past_step(shared, ids[-1], 2)
    tasks = [shared.finish(i, 60) for i in ids]
    assert [t["status"] for t in tasks] == ["completed"] * 3
    assert all(t["metrics"]["largest_batch"] > 1 for t in tasks), tasks
    assert max(t["metrics"]["largest_batch"] for t in tasks) == 3
    assert 1 < tasks[0]["metrics"]["mean_batch"] < 3
    for task, request in zip(tasks, asked):
        same(shared, task, single, **request)


def test_the_images_of_a_task_go_side_by_side(shared, single):
    request = dict(prompt="a fox on a blue background", seed=5, num_inference_steps=8, n=6)
    task = made(shared, **request)
    assert task["metrics"]["largest_batch"] == 4
    same(shared, task, single, **request)


def test_guidance_pairs_share_among_themselves(shared, single):
    pair = dict(negative_prompt="dark", true_cfg_scale=3, num_inference_steps=100)
    asked = [dict(prompt="a fox on a blue background", seed=7, **pair), dict(prompt="a cat on a red background", seed=8, **pair),
             dict(prompt="a dog on a green background", seed=9, num_inference_steps=100)]
    ids = [shared.submit(**SIZE, **request) for request in asked]
    tasks = [shared.finish(i, 60) for i in ids]
    assert [t["metrics"]["largest_batch"] for t in tasks] == [2, 2, 1], tasks
    for task, request in zip(tasks, asked):
        same(shared, task, single, **request)


def test_other_shapes_do_not_join(shared):
    ids = [shared.submit("a fox", width=64, height=64, num_inference_steps=60), shared.submit("a fox", width=64, height=96, num_inference_steps=60),
           shared.submit("a fox", width=64, height=64, max_sequence_length=16, num_inference_steps=60)]
    assert [shared.finish(i, 60)["metrics"]["largest_batch"] for i in ids] == [1, 1, 1]


def test_a_cancel_leaves_who_shared_alone(shared, single):
    request = dict(prompt="a fox on a blue background", seed=11, num_inference_steps=300)
    keep = shared.submit(**SIZE, **request)
    drop = shared.submit("a cat", **SIZE, num_inference_steps=1000)
    past_step(shared, keep, 2)
    past_step(shared, drop, 2)
    assert shared.client.delete(f"/api/tasks/{drop}").status_code == 202
    cancelled = shared.finish(drop, 20)
    assert cancelled["status"] == "cancelled" and cancelled["progress"]["step"] < 1000
    kept = shared.finish(keep, 60)
    assert kept["status"] == "completed" and kept["metrics"]["largest_batch"] == 2
    same(shared, kept, single, **request)


def test_an_urgent_task_overtakes(shared):
    slow = shared.submit("a fox", **SIZE, num_inference_steps=1000)
    past_step(shared, slow, 2)
    urgent = shared.submit("a cat", **SIZE, num_inference_steps=200, priority="urgent")
    seen = set()
    while True:
        both = {t["id"]: t for t in shared.get("/api/tasks").json()["tasks"] if t["id"] in (slow, urgent)}
        if both[urgent]["status"] == "completed":
            break
        progress = both[urgent]["progress"]
        if progress["phase"] == "denoise" and 0 < progress["step"]:
            seen.add(both[slow]["progress"]["step"])
    assert both[slow]["status"] == "running"
    assert len(seen) == 1, seen  # while the urgent one has steps to go, the other has none
    assert both[urgent]["metrics"]["largest_batch"] == 1
    shared.client.delete(f"/api/tasks/{slow}")
    assert shared.finish(slow)["status"] == "cancelled"


def test_how_many_share_is_learnt(make_server):
    """Without a fixed number, what is measured decides; whatever it decides, everything is finished and right."""
    server = make_server(real_engine=True, MAX_CONCURRENT_TASKS=4)
    ids = [server.submit("a fox on a blue background", **SIZE, num_inference_steps=60, seed=20 + i) for i in range(6)]
    tasks = [server.finish(i, 60) for i in ids]
    assert [t["status"] for t in tasks] == ["completed"] * 6
    assert all(1 <= t["metrics"]["largest_batch"] <= 4 for t in tasks)
    assert any(t["metrics"]["largest_batch"] >= 2 for t in tasks)  # two were tried at least once


def test_a_prompt_that_comes_again_is_not_encoded_again(make_server):
    server = make_server(real_engine=True)
    fields = dict(num_inference_steps=2, **SIZE)
    first, again = (server.finish(server.submit("a fox", seed=1, **fields)) for _ in range(2))
    assert not first["metrics"]["encode_cached"] and again["metrics"]["encode_cached"]
    assert server.image(first["images"][0]["id"]) == server.image(again["images"][0]["id"])
    other = server.finish(server.submit("a fox", seed=1, **fields, negative_prompt="dark", true_cfg_scale=2))
    assert not other["metrics"]["encode_cached"]  # one of its two prompts was new
    assert server.post("/api/system/cleanup").status_code == 200
    assert not server.finish(server.submit("a fox", seed=1, **fields))["metrics"]["encode_cached"]
    off = make_server(real_engine=True, IMAGINED_PROMPT_CACHE_MB=0)
    for _ in range(2):
        assert not off.finish(off.submit("a fox", seed=1, **fields))["metrics"]["encode_cached"]
