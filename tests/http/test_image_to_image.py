"""Pictures from pictures: what POST /api/tasks takes, what the real demo model makes of it, which files tasks hold, and that an engine's death changes
nothing. The gradient engine's colours depend on the bytes of the files that it gets."""
import io
import os
import signal
import subprocess

import numpy as np
import pytest
from conftest import BINARY, until
from PIL import Image
from pictures import psnr
from test_images import picture, upload


def pixels(server, image_id):
    return np.asarray(Image.open(io.BytesIO(server.image(image_id))).convert("RGB"))


def bring(server, image, format="PNG", **how):
    out = io.BytesIO()
    image.save(out, format, **how)
    answer = upload(server, out.getvalue())
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def bring_any(server, seed=0, **how):
    return upload(server, picture(seed=seed, **how)).json()["id"]


def file_of(server, input_id, state=None):
    [path] = (state or server.folder / "state").glob(f"inputs/{input_id}.*")
    return path


def make(server, prompt="a raccoon on a purple background", seconds=120, **fields):
    task = server.finish(server.submit(prompt, **{"seed": 3, "num_inference_steps": 10, **fields}), seconds)
    assert task["status"] == "completed", task["error"]
    return task, pixels(server, task["images"][0]["id"])


def pause(server):
    assert server.post("/api/system/queue/pause").status_code == 200


def resume(server):
    assert server.post("/api/system/queue/resume").status_code == 200


# --- the real model ---


@pytest.fixture(scope="module")
def fox(server):
    """A picture that the model made itself: (its id, its pixels)."""
    task, made = make(server, "a fox on a blue background", seed=1, num_inference_steps=8)
    return task["images"][0]["id"], made


def test_the_lower_the_strength_the_nearer_is_the_picture(server, fox):
    name, original = fox
    distances = []
    for strength in (0.05, 0.4, 1):
        task, made = make(server, image=name, strength=strength, num_inference_steps=20)
        assert (task["progress"]["step"], task["progress"]["steps"]) == (20, 20)
        assert task["request"]["strength"] == strength and len(task["request"]["image"]) == 64
        assert server.get("/api/images/" + task["request"]["image"]).content == server.image(name)
        distances.append(psnr(made, original))
    assert distances[0] > 22 and distances[0] > distances[1] + 3 and distances[1] > distances[2], distances
    _, noise = make(server, num_inference_steps=20)
    assert psnr(made, noise) > 40  # at 1 it begins from noise alone


def test_the_picture_says_how_it_was_made(server, fox):
    task, _ = make(server, image=fox[0])
    text = Image.open(io.BytesIO(server.image(task["images"][0]["id"]))).text["parameters"]
    assert text.endswith("Model: demo, Denoising strength: 0.6")
    assert task["request"]["strength"] == 0.6
    task, _ = make(server)
    assert "Denoising" not in Image.open(io.BytesIO(server.image(task["images"][0]["id"]))).text["parameters"]
    assert "strength" not in task["request"]


def test_a_mask_keeps_what_is_not_painted(server, fox):
    name, original = fox
    side = original.shape[0]
    white = Image.new("L", (side, side))
    white.paste(255, (0, 0, side // 2, side))
    clear = Image.new("RGBA", (side, side), (9, 9, 9, 255))
    clear.paste((9, 9, 9, 0), (0, 0, side // 2, side))
    small = white.resize((side // 4, side // 4), Image.NEAREST)
    made = []
    for mask, source in ((white, "light"), (clear, "alpha"), (small, None)):
        fields = {"mask_source": source} if source else {}
        task, painted = make(server, image=name, mask=bring(server, mask), strength=1, **fields)
        assert task["request"]["mask_source"] == (source or "light")
        assert psnr(painted[:, side // 2 + 16:], original[:, side // 2 + 16:]) > 25
        assert psnr(painted[:, : side // 2 - 16], original[:, : side // 2 - 16]) < 18
        made.append(painted)
    assert np.array_equal(made[0], made[1])
    assert psnr(made[0], made[2]) > 25


def test_any_format_and_size_is_stretched_and_laid_over_white(server):
    image = Image.new("RGBA", (300, 200), (0, 0, 0, 0))
    for format in ("PNG", "WEBP"):
        _, made = make(server, "white", image=bring(server, image, format, **({"lossless": True} if format == "WEBP" else {})), width=128, height=128, strength=0.1)
        assert made.mean() > 200
    _, made = make(server, "black", image=bring(server, image.convert("RGB"), "JPEG"), width=128, height=128, strength=0.1)
    assert made.mean() < 60


def test_several_images_begin_from_the_same_picture(server, fox):
    task, first = make(server, image=fox[0], strength=0.4, n=3)
    _, alone = make(server, image=fox[0], strength=0.4, seed=5)
    assert [i["seed"] for i in task["images"]] == [3, 4, 5]
    assert psnr(pixels(server, task["images"][2]["id"]), alone) > 40


def test_the_command_line_makes_the_same_bytes(server, fox, tmp_path):
    image, mask = tmp_path / "image.png", tmp_path / "mask.png"
    image.write_bytes(server.image(fox[0]))
    cells = Image.new("L", (64, 64))
    cells.paste(255, (8, 8, 40, 56))
    cells.save(mask)
    for masked in (False, True):
        fields = {"mask": bring(server, cells)} if masked else {}
        task, _ = make(server, image=fox[0], strength=0.7, **fields)
        run = subprocess.run([BINARY, "generate", "a raccoon on a purple background", "--image", image, *(["--mask", mask] if masked else []), "--strength", "0.7",
                              "--seed", "3", "--steps", "10", "-o", tmp_path / "made.png", "--quiet"], capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, run.stderr
        made = (tmp_path / "made.png").read_bytes()
        served = server.image(task["images"][0]["id"])
        assert Image.open(io.BytesIO(made)).text == Image.open(io.BytesIO(served)).text
        assert made == served


def test_a_killed_engine_makes_the_same_picture_again(make_server, fox, server):
    other = make_server(real_engine=True)
    other.wait_ready()
    image = upload(other, server.image(fox[0])).json()["id"]
    whole, _ = make(other, image=image, strength=0.9, num_inference_steps=60, width=256, height=256)
    task = other.submit("a raccoon on a purple background", image=image, strength=0.9, num_inference_steps=60, width=256, height=256, seed=3)
    until(lambda: other.task(task)["progress"]["step"] > 12)
    os.kill(other.engine_pid(), signal.SIGKILL)
    document = other.finish(task, 120)
    assert document["status"] == "completed", document["error"]
    assert other.image(document["images"][0]["id"]) == other.image(whole["images"][0]["id"])
    assert other.get("/metrics").text.count("imagined_engine_restarts_total 1\n") == 1


def test_memory_that_is_short_is_planned_for_encoding_too(make_server, server, fox):
    shape = dict(width=320, height=320, precision="f32", strength=0.3)
    free = make_server(real_engine=True, IMAGINED_DEVICE="cpu")
    image = upload(free, server.image(fox[0])).json()["id"]
    _, whole = make(free, image=image, **shape)
    free.stop()
    tight = make_server(real_engine=True, IMAGINED_DEVICE="cpu", IMAGINED_VRAM_LIMIT_MB=22)
    image = upload(tight, server.image(fox[0])).json()["id"]
    task, picture = make(tight, image=image, **shape)
    assert any(step.startswith("encode the picture in tiles of") for step in task["plan"]), task["plan"]
    assert task["metrics"]["device_peak"] <= 22 << 20
    assert psnr(picture, whole) >= 36  # tiles on the way in and on the way out: 40 dB and more each


# --- what is asked for ---


def refused(server, field, words, **fields):
    answer = server.post("/api/tasks", json={"prompt": "a fox", **fields})
    assert answer.status_code == 422, answer.text
    assert answer.json()["field"] == field and words in answer.json()["detail"], answer.json()


def test_what_makes_no_sense_is_refused(gradients):
    image = bring_any(gradients)
    refused(gradients, "mask", "needs an 'image'", mask=image)
    refused(gradients, "image", "names no image", image="0" * 64)
    refused(gradients, "mask", "names no image", image=image, mask="/api/images/" + "0" * 64)
    for name in ("", "fox", "../../etc/passwd", image.upper(), image + "0", "01M85RAHCXNV0FKR44ED86FNP7-0", "01M85RAHCXNV0FKR44ED86FNP7-00", "/api/images/", "x" * 300):
        refused(gradients, "image", "", image=name)
    refused(gradients, "image", "", image=7)
    for strength in (0, -0.1, 1.01, "half"):
        refused(gradients, "strength", "", image=image, strength=strength)
    refused(gradients, "mask_source", "light or alpha", image=image, mask=image, mask_source="red")
    failed = gradients.finish(gradients.submit("fail"))
    refused(gradients, "image", "names no image", image=failed["id"] + "-0")


def test_names_are_ids_or_addresses(gradients):
    image = bring_any(gradients, seed=11)
    made = gradients.finish(gradients.submit("x", seed=1))["images"][0]
    for name in (image, f"/api/images/{image}", f"{gradients.url}/api/images/{image}"):
        task = gradients.finish(gradients.submit("x", image=name))
        assert task["status"] == "completed" and task["request"]["image"] == image
    for name in (made["id"], made["url"], gradients.url + made["url"]):
        task = gradients.finish(gradients.submit("x", image=name, mask=name))
        assert task["status"] == "completed" and task["request"]["image"] == task["request"]["mask"]
    other = gradients.finish(gradients.submit("x", seed=2))["images"][0]
    task = gradients.finish(gradients.submit("x", image=made["id"], mask=other["id"]))
    assert task["status"] == "completed" and task["request"]["image"] != task["request"]["mask"]


def test_a_made_picture_may_go_once_a_task_has_it(make_server):
    server = make_server()
    made = server.finish(server.submit("x", seed=1))["images"][0]["id"]
    once = server.finish(server.submit("x", image=made, seed=2))
    pause(server)
    task = server.submit("x", image=made, seed=2)
    assert server.client.delete(f"/api/images/{made}").status_code == 204
    resume(server)
    again = server.finish(task)
    assert again["status"] == "completed", again["error"]
    assert np.array_equal(pixels(server, again["images"][0]["id"]), pixels(server, once["images"][0]["id"]))
    refused(server, "image", "names no image", image=made)


def test_a_repeated_request_with_a_made_picture_is_one_task(gradients):
    made = gradients.finish(gradients.submit("x", seed=3))["images"][0]["id"]
    body, headers = {"prompt": "x", "image": made}, {"idempotency-key": "made-picture"}
    first = gradients.post("/api/tasks", json=body, headers=headers).json()["id"]
    assert gradients.post("/api/tasks", json=body, headers=headers).json()["id"] == first
    assert gradients.post("/api/tasks", json={**body, "strength": 0.5}, headers=headers).status_code == 422


def test_the_size_is_the_pictures_unless_told(gradients):
    def size(**fields):
        r = gradients.finish(gradients.submit("x", **fields))["request"]
        return r["width"], r["height"]

    assert size() == (128, 128)
    assert size(image=bring_any(gradients, width=96, height=64)) == (96, 64)
    assert size(image=bring_any(gradients, width=90, height=71)) == (96, 64)
    assert size(image=bring_any(gradients, width=400, height=300)) == (144, 112)
    assert size(image=bring_any(gradients, width=400, height=300), width=64) == (64, 128)
    made = gradients.finish(gradients.submit("x", width=64, height=32))["images"][0]["id"]
    assert size(image=made) == (64, 32)


def test_progress_begins_where_the_steps_do(gradients):
    task = gradients.submit("slow", image=bring_any(gradients), strength=0.5, num_inference_steps=20)
    steps = set()

    def over():
        t = gradients.task(task)
        if t["progress"]["phase"] == "denoise":
            steps.add(t["progress"]["step"])
            assert t["progress"]["steps"] == 20
        return t["status"] == "completed"

    until(over)
    assert steps and min(steps) >= 10
    done = gradients.task(task)
    assert (done["progress"]["step"], done["progress"]["steps"]) == (20, 20)


# --- what tasks hold ---


def test_inputs_of_waiting_tasks_are_held(make_server, tmp_path):
    server = make_server(STATE=tmp_path)
    image, mask, other = (bring_any(server, seed=n) for n in range(3))
    pause(server)
    task = server.submit("x", image=image, mask=mask)
    for held in (image, mask):
        answer = server.client.delete(f"/api/images/{held}")
        assert answer.status_code == 409 and "not over" in answer.json()["detail"]
    assert server.client.delete(f"/api/images/{other}").status_code == 204
    server.stop()

    again = make_server(STATE=tmp_path)
    assert again.client.delete(f"/api/images/{image}").status_code == 409
    assert again.client.delete(f"/api/tasks/{task}").status_code == 200
    assert again.client.delete(f"/api/images/{image}").status_code == 204
    resume(again)
    done = again.finish(again.submit("x", image=mask))
    assert done["status"] == "completed" and again.client.delete(f"/api/images/{mask}").status_code == 204


def test_trimming_leaves_what_is_held(make_server, tmp_path):
    server = make_server(STATE=tmp_path)
    image, other = bring_any(server, seed=1), bring_any(server, seed=2)
    pause(server)
    task = server.submit("x", image=image)
    server.stop()
    again = make_server(STATE=tmp_path, IMAGINED_KEEP_IMAGES_DAYS=1 / 24 / 3600 / 1000)  # a millisecond
    until(lambda: again.get(f"/api/images/{other}").status_code == 404)
    assert again.get(f"/api/images/{image}").status_code == 200
    resume(again)
    assert again.finish(task)["status"] == "completed"
    again.stop()
    last = make_server(STATE=tmp_path, IMAGINED_KEEP_IMAGES_DAYS=1 / 24 / 3600 / 1000)
    until(lambda: last.get(f"/api/images/{image}").status_code == 404)


def test_a_picture_that_finds_no_room_beside_those_that_are_held(make_server):
    """It is small enough, so that it is taken later."""
    sizes = [len(picture(seed=n)) for n in range(2)]
    server = make_server(IMAGINED_KEEP_IMAGES_GB=(sum(sizes) - 1) / (1 << 30))
    image = bring_any(server, seed=0)
    pause(server)
    task = server.submit("x", image=image)
    answer = upload(server, picture(seed=1))
    assert answer.status_code == 429 and "come again" in answer.json()["detail"] and "retry-after" in answer.headers, answer.text
    resume(server)
    assert server.finish(task)["status"] == "completed"
    assert upload(server, picture(seed=1)).status_code == 201
    answer = upload(server, picture(200, 200, seed=2))
    assert answer.status_code == 422 and "alone" in answer.json()["detail"]


def test_a_file_that_went_or_was_damaged_fails_its_task_alone(make_server):
    server = make_server(real_engine=True)
    server.wait_ready()
    fields = dict(num_inference_steps=1, width=64, height=64)
    gone, cut, strange, good = (bring_any(server, seed=n) for n in range(4))
    pause(server)
    tasks = [server.submit("x", image=image, **fields) for image in (gone, cut, strange, good)]
    masked = server.submit("x", image=good, mask=cut, **fields)
    file_of(server, gone).unlink()
    path = file_of(server, cut)
    path.write_bytes(path.read_bytes()[:-100])
    file_of(server, strange).write_bytes(b"GIF89a")
    pid = server.engine_pid()
    resume(server)
    ends = [server.finish(t, 120) for t in tasks]
    assert [t["status"] for t in ends] == ["failed"] * 3 + ["completed"]
    details = [t["error"]["detail"] for t in ends[:3]]
    assert "the picture to begin from" in details[0] and gone in details[0]
    assert details[1].startswith("the picture to begin from: ") and "neither PNG" in details[2]
    assert server.finish(masked, 120)["error"]["detail"].startswith("the mask: ")
    assert server.engine_pid() == pid


def test_an_engine_that_died_gets_the_files_again(make_server):
    server = make_server()
    image, mask = bring_any(server, seed=1), bring_any(server, seed=2)
    whole = server.finish(server.submit("x", seed=5, image=image, mask=mask))
    again = server.finish(server.submit("kill<3 x", seed=5, image=image, mask=mask))
    assert again["status"] == "completed", again["error"]
    a, b = (pixels(server, t["images"][0]["id"]) for t in (whole, again))
    assert np.array_equal(a, b)
    other = server.finish(server.submit("x", seed=5, image=mask, mask=image))
    assert not np.array_equal(a, pixels(server, other["images"][0]["id"]))


def open_inputs(pid):
    """Descriptors of stored inputs that the process has open."""
    names = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            names.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            pass
    return [n for n in names if "/inputs/" in n]


def test_no_file_stays_open(make_server):
    server = make_server(real_engine=True)
    server.wait_ready()
    image = bring_any(server, seed=1)
    for _ in range(3):
        assert server.finish(server.submit("x", image=image, mask=image, num_inference_steps=1, width=64, height=64), 120)["status"] == "completed"
    for pid in (server.process.pid, server.engine_pid()):
        until(lambda: open_inputs(pid) == [])
