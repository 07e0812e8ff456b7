"""Previews of running tasks: they come with the progress, are pictures, are gone with the task, and show what the picture becomes."""
import io
import json
import math
import os
import signal

import pytest
from conftest import until
from PIL import Image, ImageChops


@pytest.fixture
def slow(gradients):
    """A task of 500 steps of 50 ms that has a preview; cancelled after the test."""
    task = gradients.submit("slow", width=128, height=64, num_inference_steps=500)
    until(lambda: gradients.task(task)["preview"])
    yield task
    gradients.client.delete(f"/api/tasks/{task}")
    gradients.finish(task)


def preview(server, task, **query):
    return server.get(f"/api/tasks/{task}/preview", params=query)


def opened(answer):
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def events_of(server, task):
    """(event, data) until the task is over."""
    with server.client.stream("GET", f"/api/tasks/{task}/events") as answer:
        name = None
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                yield name, json.loads(line[6:])


# --- the file ---


def test_a_preview_is_a_small_jpeg(gradients, slow):
    document = gradients.task(slow)["preview"]
    assert (document["width"], document["height"], document["image"]) == (16, 8, 0)
    assert document["url"] == f"/api/tasks/{slow}/preview?step={document['step']}&image=0"
    answer = gradients.get(document["url"])
    assert answer.headers["content-type"] == "image/jpeg" and answer.headers["cache-control"] == "no-store"
    picture = opened(answer)
    assert picture.format == "JPEG" and picture.size == (16, 8)


def test_its_pixels_are_those_that_the_engine_sent(gradients, slow):
    answer = preview(gradients, slow, format="png")
    assert answer.headers["content-type"] == "image/png"
    step = int(answer.headers["etag"].split("-")[1])
    picture = opened(answer)
    assert picture.format == "PNG" and picture.mode == "RGB"
    assert [picture.getpixel((x, y)) for y in range(8) for x in range(16)] == [(x * 255 // 16, y * 255 // 8, step * 8 % 256) for y in range(8) for x in range(16)]


@pytest.mark.parametrize("side, size", [(4, (16, 8)), (16, (16, 8)), (100, (100, 50)), (1024, (1024, 512))])
@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_it_is_enlarged_on_request_and_never_made_smaller(gradients, slow, side, size, format):
    picture = opened(preview(gradients, slow, side=side, format=format))
    assert picture.size == size and picture.format == format.upper()
    left, right = (picture.convert("RGB").getpixel((x, 1))[0] for x in (1, size[0] - 2))
    assert left < 60 and right > 200  # red from left to right


@pytest.mark.parametrize("query", [{"side": 0}, {"side": 1025}, {"side": "-5"}, {"side": "5px"}, {"side": ""}, {"format": "gif"}])
def test_what_is_asked_for_wrongly_is_refused(gradients, slow, query):
    answer = preview(gradients, slow, **query)
    assert answer.status_code == 422 and answer.json()["field"] in query


def test_who_has_it_is_not_sent_it_again(gradients, slow):
    def again():
        tag = preview(gradients, slow).headers["etag"]
        answer = gradients.get(f"/api/tasks/{slow}/preview", headers={"If-None-Match": tag})
        assert answer.status_code == 304 or answer.headers["etag"] != tag  # the next step came meanwhile
        return answer.status_code == 304 and answer.content == b""

    until(again)


def test_there_is_none_before_and_after(gradients):
    task = gradients.submit("slow", num_inference_steps=500)
    until(lambda: preview(gradients, task).status_code == 200)
    waiting = [gradients.submit("slow", num_inference_steps=500) for _ in range(3)][-1]
    assert gradients.task(waiting)["preview"] is None
    assert preview(gradients, waiting).status_code == 204
    listed = {t["id"]: t["preview"] for t in gradients.get("/api/tasks").json()["tasks"]}
    assert listed[task]["url"].startswith(f"/api/tasks/{task}/preview?") and listed[waiting] is None
    for t in gradients.get("/api/tasks").json()["tasks"]:
        gradients.client.delete(f"/api/tasks/{t['id']}")
    assert gradients.finish(task)["preview"] is None
    answer = preview(gradients, task)
    assert answer.status_code == 204 and answer.content == b"" and answer.headers["cache-control"] == "no-store"
    assert preview(gradients, "01M85RAHCXNV0FKR44ED86FNP7").status_code == 404


def test_another_priority_leaves_it_and_another_engine_does_not(make_server):
    server = make_server()
    server.wait_ready()
    task = server.submit("slow", num_inference_steps=500)
    until(lambda: server.task(task)["preview"])
    assert server.client.patch(f"/api/tasks/{task}", json={"priority": "high"}).json()["preview"]
    assert server.task(task)["preview"]
    told = events_of(server, task)
    assert next(told)[1]["preview"]
    os.kill(server.engine_pid(), signal.SIGKILL)
    assert next(data for name, data in told if name == "queued")["preview"] is None
    progress = next(data for name, data in told if name == "progress" and data["phase"] == "denoise" and data["step"] == 0)
    assert "preview" not in progress
    told.close()


def test_many_ask_at_once_and_some_leave(gradients, slow):
    """Each is answered: with the picture, or that too many wait; who leaves leaves nothing behind that would hold the others."""
    import concurrent.futures

    import httpx

    def ask(n):
        try:
            return gradients.client.get(f"/api/tasks/{slow}/preview", params={"side": 1024}, timeout=0.01 if n % 4 == 0 else 30).status_code
        except httpx.TimeoutException:
            return None

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(120)))
    assert set(found) <= {200, 429, None} and found.count(200) >= 16
    assert preview(gradients, slow).status_code == 200


# --- events ---


def test_the_progress_after_a_step_tells_of_its_preview(gradients):
    task = gradients.submit("slow", width=64, height=32, num_inference_steps=4, n=2)
    progress = [d for name, d in events_of(gradients, task) if name == "progress" and d["phase"] in ("denoise", "decode")]
    assert {(d["image"], d["step"]) for d in progress} >= {(0, 1), (0, 3), (1, 1), (1, 3)}
    for d in progress:
        if (d["image"], d["step"]) == (0, 0):
            assert "preview" not in d
            continue
        image, step = (d["image"], d["step"]) if d["step"] > 0 else (0, 4)
        assert d["preview"] == {"url": f"/api/tasks/{task}/preview?step={step}&image={image}", "image": image, "step": step, "width": 8, "height": 4}


def test_previews_make_no_events_of_their_own(gradients):
    steps = 20
    task = gradients.submit("slow", num_inference_steps=steps)
    assert [name for name, _ in events_of(gradients, task)].count("progress") <= steps + 4


# --- what they show ---


def psnr(one, two):
    squares = ImageChops.difference(one, two).histogram()
    mean = sum(count * (value % 256) ** 2 for value, count in enumerate(squares)) / sum(squares)
    return 20 * math.log10(255) - 10 * math.log10(mean)


@pytest.mark.parametrize("prompt, fields", [("a fox on a blue background", {}), ("a raccoon on a purple background", {"width": 256}),
                                            ("a cat", {"negative_prompt": "blurry", "true_cfg_scale": 1.5})])
def test_they_show_what_the_picture_becomes(server, prompt, fields):
    """Each, also after the first step, when the latent itself is nearly all noise: so it is the predicted clean latent in the model's colours."""
    task = server.submit(prompt, seed=3, num_inference_steps=40, **fields)
    seen = {}
    for name, data in events_of(server, task):
        if name == "progress" and "preview" in data and data["preview"]["step"] not in seen:
            answer = server.get(data["preview"]["url"] + "&format=png")
            if answer.status_code == 200:
                seen[int(answer.headers["etag"].split("-")[1])] = opened(answer)
    picture = Image.open(io.BytesIO(server.image(server.finish(task)["images"][0]["id"])))
    small = picture.resize((picture.width // 8, picture.height // 8), Image.Resampling.BOX)
    assert seen
    for step, one in seen.items():
        assert one.size == small.size
        assert psnr(one, small) > 23, f"after step {step}"
