"""A1111's API as it is spoken on the wire: what each field becomes, what info says, jobs, settings, errors. Its clients are in test_a1111_clients.py."""
import base64
import io
import json
import shutil
import threading

import httpx
import pytest
from PIL import Image

import models
from conftest import until
from test_auth import AWAY, add_key

PLAIN = {"prompt": "a fox", "width": 32, "height": 32, "steps": 2, "seed": 5}


@pytest.fixture(scope="module")
def server(gradients):
    return gradients


def png(size=(32, 32), color=(10, 20, 30), mode="RGB", **how):
    out = io.BytesIO()
    Image.new(mode, size, color).save(out, "PNG", **how)
    return out.getvalue()


def b64(data):
    return base64.b64encode(data).decode()


def make(server, path="txt2img", **fields):
    """The answer with its pictures and its info unpacked, and the task behind it."""
    answer = server.post(f"/sdapi/v1/{path}", json={**PLAIN, **fields})
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert set(document) == {"images", "parameters", "info"}
    task = next(t for t in server.get("/api/tasks").json()["tasks"] if t["status"] == "completed")
    return [base64.b64decode(i, validate=True) for i in document["images"]], json.loads(document["info"]), document["parameters"], task


def refused(answer, status, field=None):
    """The complaint's text."""
    assert answer.status_code == status, answer.text
    if status != 422:
        assert set(answer.json()) == {"error", "detail", "body", "errors"}
        return answer.json()["detail"]
    (detail,) = answer.json()["detail"]
    assert detail["loc"] == (["body", field] if field else ["body"]) and detail["type"]
    return detail["msg"]


def background(call):
    """Runs the call in a thread; .result() waits for what it returned."""
    done = []
    thread = threading.Thread(target=lambda: done.append(call()))
    thread.start()

    def result():
        thread.join(60)
        return done[0]

    thread.result = result
    return thread


def progress(server, **headers):
    return server.get("/sdapi/v1/progress?skip_current_image=true", headers=headers).json()


def at_work(server):
    """The progress of a job that has begun its steps."""
    return until(lambda: (p := progress(server))["state"]["sampling_step"] > 0 and p)


# --- txt2img ---


def test_a_picture_and_what_is_said_of_it(server):
    (picture,), info, parameters, task = make(server, negative_prompt="")
    assert picture == server.image(server.finish(server.submit("a fox", width=32, height=32, num_inference_steps=2, seed=5))["images"][0]["id"])
    assert info["prompt"] == "a fox" and info["all_prompts"] == ["a fox"] and info["negative_prompt"] == "" and info["all_negative_prompts"] == [""]
    assert info["seed"] == 5 and info["all_seeds"] == [5] and (info["width"], info["height"], info["steps"]) == (32, 32, 2)
    assert info["sampler_name"] == "Euler" and info["sd_model_name"] == "demo" and info["batch_size"] == 1 and info["denoising_strength"] is None
    assert info["infotexts"] == [Image.open(io.BytesIO(picture)).info["parameters"]]
    assert len(info["job_timestamp"]) == 14 and info["job_timestamp"].isdigit()
    for key, kind in {"subseed": int, "all_subseeds": list, "subseed_strength": float, "cfg_scale": float, "restore_faces": bool, "sd_model_hash": str,
                      "seed_resize_from_w": int, "seed_resize_from_h": int, "extra_generation_params": dict, "index_of_first_image": int, "styles": list,
                      "clip_skip": int, "is_using_inpainting_conditioning": bool, "version": str}.items():
        assert type(info[key]) is kind, key
    assert {"face_restoration_model", "sd_vae_name", "sd_vae_hash"} <= set(info)
    assert info["extra_generation_params"] == {}
    assert parameters == {**PLAIN, "negative_prompt": ""}


def test_batches_are_images_of_one_task(server):
    pictures, info, _, task = make(server, batch_size=3, n_iter=2)
    assert len(set(pictures)) == 6 and info["all_seeds"] == [5, 6, 7, 8, 9, 10] and len(info["infotexts"]) == 6 and info["batch_size"] == 3
    assert [server.image(i["id"]) for i in task["images"]] == pictures
    assert "16" in refused(server.post("/sdapi/v1/txt2img", json={**PLAIN, "batch_size": 4, "n_iter": 5}), 422, "n_iter")


@pytest.mark.parametrize("asked,made", [((513, 100), (512, 96)), ((1, 9), (16, 16)), ((24, 23), (32, 16)), ((912, 512), (912, 512))])
def test_sizes_are_rounded_to_the_models_multiple(server, asked, made):
    (picture,), info, _, _ = make(server, width=asked[0], height=asked[1])
    assert Image.open(io.BytesIO(picture)).size == made == (info["width"], info["height"])
    assert info["extra_generation_params"] == ({} if asked == made else {"Size asked for": f"{asked[0]}x{asked[1]}"})


def test_absent_and_null_are_the_models_defaults(server):
    for body in ({"prompt": "x"}, {"prompt": "x", "steps": None, "width": None, "cfg_scale": None, "seed": None, "negative_prompt": None, "override_settings": None}):
        answer = server.post("/sdapi/v1/txt2img", json=body).json()
        info = json.loads(answer["info"])
        assert (info["width"], info["height"], info["steps"], info["cfg_scale"]) == (128, 128, 12, 1.0)
    assert server.post("/sdapi/v1/txt2img", json={"steps": 1}).status_code == 200  # an empty prompt is one


def test_other_samplers_run_euler_and_info_says_so(server):
    _, info, _, _ = make(server, sampler_name="DPM++ 2M", scheduler="Karras")
    assert info["sampler_name"] == "Euler"
    assert info["extra_generation_params"] == {"Sampler asked for": "DPM++ 2M", "Scheduler asked for": "Karras"}
    for fields in ({"sampler_name": "euler", "scheduler": "Simple"}, {"sampler_index": "Euler"}, {"sampler_index": 0}):
        assert make(server, **fields)[1]["extra_generation_params"] == {}
    assert make(server, sampler_index="Euler a")[1]["extra_generation_params"] == {"Sampler asked for": "Euler a"}


def test_seeds(server):
    seeds = {make(server, seed=seed)[1]["seed"] for seed in (-1, None, -7, -1)}
    assert len(seeds) == 4 and all(0 <= seed < 2**31 for seed in seeds)
    assert make(server, seed=2**32 + 1)[1]["seed"] == 2**32 + 1
    assert make(server, seed=2**64 - 1)[3]["request"]["seed"] == str(2**64 - 1)
    assert make(server, seed="12")[1]["seed"] == 12


def test_numbers_as_pydantic_takes_them(server):
    _, info, _, _ = make(server, steps="3", width=48.0, batch_size="2", cfg_scale="1.5", send_images=1, nobody_knows={"x": [1]})
    assert (info["steps"], info["width"], info["batch_size"]) == (3, 48, 2)


def test_what_is_not_applied_is_named(server):
    _, info, _, _ = make(server, enable_hr=True, restore_faces=True, tiling=False, styles=["x"], alwayson_scripts={"ControlNet": {"args": [{"image": "A" * 3000000}]}},
                         subseed_strength=0.0, script_name=None, script_args=[])
    assert info["extra_generation_params"] == {"Not applied": "enable_hr, restore_faces, styles, alwayson_scripts"}


def test_the_echo_is_small(server):
    _, _, parameters, task = make(server, alwayson_scripts={"x": {"args": ["A" * 100000]}}, a="B" * 20000, deep=[[[[1]]]], list=[["b" * 200] * 200])
    assert parameters == {**PLAIN, "alwayson_scripts": None, "a": None, "deep": [[[[1]]]], "list": None}
    _, _, parameters, _ = make(server, **{f"key{i}": "x" * 8000 for i in range(20)})
    assert len(json.dumps(parameters)) < 70000 and parameters["prompt"] == "a fox"


def test_images_need_not_be_sent(server):
    pictures, info, _, task = make(server, send_images=False)
    assert pictures == [] and len(info["infotexts"]) == 1 and server.image(task["images"][0]["id"])


# --- guidance ---


@pytest.fixture(scope="module")
def embedded(server):
    """The name of a model with embedded guidance; these engines need no weights."""
    folder = server.folder / "models" / "Dev Model"
    for path, content in {"model_index.json": {"_class_name": "FluxPipeline"}, "vae/config.json": {"block_out_channels": [1, 1, 1, 1]},
                          "transformer/config.json": {"guidance_embeds": True}}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(content))
    assert server.post("/sdapi/v1/refresh-checkpoints").json() is None
    assert [m["title"] for m in server.get("/sdapi/v1/sd-models").json()] == ["demo", "Dev Model"]
    yield folder.name
    shutil.rmtree(folder)  # others use the server, too
    server.post("/sdapi/v1/refresh-checkpoints")


def guidance(server, **fields):
    _, info, _, task = make(server, **fields)
    return task["request"]["guidance_scale"], task["request"]["true_cfg_scale"], info["cfg_scale"], info["extra_generation_params"]


def test_cfg_scale_without_embedded_guidance_weighs_the_negative_prompt(server):
    assert guidance(server, cfg_scale=1) == (1, 1, 1, {})
    assert guidance(server, cfg_scale=7) == (1, 1, 1, {"CFG scale asked for": 7})
    assert guidance(server, cfg_scale=2.5, negative_prompt="blurry") == (1, 2.5, 2.5, {})
    assert guidance(server, cfg_scale=7, negative_prompt="blurry") == (1, 3.5, 3.5, {"CFG scale asked for": 7})
    assert guidance(server, cfg_scale=1, negative_prompt="blurry") == (1, 1, 1, {"Not applied": "negative_prompt"})
    assert guidance(server, cfg_scale=1, distilled_cfg_scale=3) == (1, 1, 1, {})


def test_cfg_scale_is_embedded_guidance_and_distilled_cfg_scale_overrides_it(server, embedded):
    def on(**fields):
        return guidance(server, override_settings={"sd_model_checkpoint": embedded}, **fields)

    assert on() == (3.5, 1, 3.5, {})
    assert on(cfg_scale=7) == (7, 1, 7, {})
    assert on(cfg_scale=7, negative_prompt="blurry") == (7, 1, 7, {"Not applied": "negative_prompt"})
    assert on(cfg_scale=1, distilled_cfg_scale=4) == (4, 1, 4, {})
    assert on(cfg_scale=2, distilled_cfg_scale=4, negative_prompt="blurry") == (4, 2, 2, {})


# --- models and settings ---


def test_models_by_any_of_their_names(server, embedded):
    for name in ("Dev Model", "dev model", "Dev Model.safetensors", "Dev Model [0a1b2c3d4e]", "dev model.ckpt [0A1B]"):
        assert make(server, override_settings={"sd_model_checkpoint": name})[1]["sd_model_name"] == "Dev Model"
    _, info, _, _ = make(server, override_settings={"sd_model_checkpoint": "v1-5-pruned.ckpt"})
    assert info["sd_model_name"] == "demo" and info["extra_generation_params"] == {"Model asked for": "v1-5-pruned.ckpt"}


def test_options_can_be_sent_back_and_the_model_outlives_the_server(make_server, tmp_path):
    models.copy(tmp_path / "Other")
    server = make_server(STATE=tmp_path / "state")
    models.copy(server.folder / "models" / "Other")
    server.post("/sdapi/v1/refresh-checkpoints")
    options = server.get("/sdapi/v1/options").json()
    assert options["sd_model_checkpoint"] == "demo"
    assert server.post("/sdapi/v1/options", json={**options, "sd_model_checkpoint": "other.safetensors", "no_such_option": 3}).json() is None
    changed = server.get("/sdapi/v1/options").json()
    assert changed == {**options, "sd_model_checkpoint": "Other"}
    assert server.post("/sdapi/v1/options", json=changed).status_code == 200
    assert server.post("/sdapi/v1/options", json={"sd_model_checkpoint": None}).status_code == 200
    assert "sd-models" in refused(server.post("/sdapi/v1/options", json={"sd_model_checkpoint": "nothing"}), 422, "sd_model_checkpoint")
    refused(server.post("/sdapi/v1/options", json={"sd_model_checkpoint": 3}), 422, "sd_model_checkpoint")
    assert make(server)[1]["sd_model_name"] == "Other"
    assert server.finish(server.submit(width=32, height=32))["model"] == "demo"  # other APIs keep their default
    assert server.stop() == 0
    again = make_server(STATE=tmp_path / "state")
    assert again.get("/sdapi/v1/options").json()["sd_model_checkpoint"] == "demo"  # its model is not there now
    models.copy(again.folder / "models" / "Other")
    again.post("/sdapi/v1/refresh-checkpoints")
    assert again.get("/sdapi/v1/options").json()["sd_model_checkpoint"] == "Other"


def test_models_are_unloaded_and_loaded(server):
    make(server)
    assert server.post("/sdapi/v1/unload-checkpoint").json() == {}
    assert server.get("/api/system/stats").json()["models"]["cached_models"] == 0
    assert server.post("/sdapi/v1/reload-checkpoint").json() == {}
    assert [m["id"] for m in server.get("/api/system/stats").json()["models"]["models"]] == ["demo"]


@pytest.mark.parametrize("path,kind", [(p, list) for p in ("sd-models", "samplers", "schedulers", "sd-vae", "sd-modules", "loras", "hypernetworks", "upscalers",
                         "latent-upscale-modes", "face-restorers", "realesrgan-models", "prompt-styles", "script-info", "extensions")] +
                         [(p, dict) for p in ("embeddings", "scripts", "cmd-flags", "memory", "options")])
def test_lists(server, path, kind):
    answer = server.get(f"/sdapi/v1/{path}")
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json" and type(answer.json()) is kind


def test_memory_of_a_device_and_of_none(server, make_server):
    ram = server.get("/sdapi/v1/memory").json()["ram"]
    assert ram["free"] + ram["used"] == ram["total"] > 0
    gpu = make_server(GRADIENT_DEVICE="vulkan:Some GPU")
    gpu.wait_ready()
    cuda = gpu.get("/sdapi/v1/memory").json()["cuda"]
    assert cuda["system"]["free"] + cuda["system"]["used"] == cuda["system"]["total"] == 1 << 30
    assert set(cuda["allocated"]) == {"current", "peak"} and set(cuda["events"]) == {"retries", "oom"}


def test_what_other_paths_answer(server):
    assert server.get("/internal/ping").json() == {}
    refused(server.get("/sdapi/v1/interrogate"), 404)
    refused(server.get("/sdapi/v1/txt2img"), 405)
    for path in ("refresh-vae", "refresh-loras", "refresh-embeddings", "skip"):
        assert server.post(f"/sdapi/v1/{path}").json() is None
    assert server.post("/sdapi/v1/interrupt", json={}).json() == {}


# --- jobs ---


def test_idle_is_exactly_so(server):
    idle = server.get("/sdapi/v1/progress").json()
    assert idle["progress"] == 0 and idle["eta_relative"] == 0 and idle["current_image"] is None and idle["textinfo"] is None
    assert {k: v for k, v in idle["state"].items() if k != "job_timestamp"} == {
        "skipped": False, "interrupted": False, "stopping_generation": False, "job": "", "job_count": 0, "job_no": 0, "sampling_step": 0, "sampling_steps": 0}


def test_the_preview_of_the_job_at_hand(server):
    job = background(lambda: server.post("/sdapi/v1/txt2img", json={**PLAIN, "prompt": "slow", "steps": 1000, "width": 64}))
    shown = until(lambda: (p := server.get("/sdapi/v1/progress").json())["current_image"] and p)
    preview = Image.open(io.BytesIO(base64.b64decode(shown["current_image"])))
    assert preview.format == "JPEG" and preview.size == (384, 192)
    assert server.get("/sdapi/v1/progress?skip_current_image=false").json()["current_image"]
    for skip in ("true", "True", "1"):
        assert server.get(f"/sdapi/v1/progress?skip_current_image={skip}").json()["current_image"] is None
    server.post("/sdapi/v1/interrupt")
    assert job.result().status_code == 200


@pytest.mark.parametrize("how", ["interrupt", "skip"])
def test_progress_and_an_interrupted_job(server, how):
    job = background(lambda: server.post("/sdapi/v1/txt2img", json={**PLAIN, "prompt": "slow", "steps": 1000, "n_iter": 2}))
    seen = at_work(server)
    assert 0 < seen["progress"] < 1 and seen["state"]["job_count"] == 2 and seen["state"]["job_no"] == 0 and seen["state"]["sampling_steps"] == 1000
    assert seen["eta_relative"] >= 0 and not seen["state"]["interrupted"]
    assert server.post(f"/sdapi/v1/{how}").status_code == 200
    answer = job.result()
    assert answer.status_code == 200 and answer.json()["images"] == []
    info = json.loads(answer.json()["info"])
    assert info["prompt"] == "slow" and info["infotexts"] == [] and len(info["all_seeds"]) == 2
    assert progress(server)["state"]["job_count"] == 0


def test_an_interrupted_job_gives_what_it_had_made(server):
    job = background(lambda: server.post("/sdapi/v1/txt2img", json={**PLAIN, "prompt": "slow", "steps": 40, "n_iter": 2}))
    until(lambda: progress(server)["state"]["job_no"] == 1)
    until(lambda: len(server.get("/api/tasks?limit=1").json()["tasks"][0]["images"]) == 1)
    server.post("/sdapi/v1/interrupt")
    answer = job.result()
    assert answer.status_code == 200 and len(answer.json()["images"]) == 1 and len(json.loads(answer.json()["info"])["infotexts"]) == 1


def test_interrupt_leaves_what_waits_and_what_others_made(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=1)
    native = server.submit("slow", width=32, height=32, num_inference_steps=1000)
    server.wait_status(native, "running")
    first = background(lambda: server.post("/sdapi/v1/txt2img", json={**PLAIN, "prompt": "slow first", "steps": 1000}))
    waiting = until(lambda: (p := progress(server))["state"]["job_count"] == 1 and p)
    assert 0 < waiting["progress"] < 0.05 and waiting["textinfo"] is not None
    server.client.delete(f"/api/tasks/{native}")
    at_work(server)
    second = background(lambda: server.post("/sdapi/v1/txt2img", json={**PLAIN, "prompt": "second"}))
    until(lambda: len(server.get("/api/tasks?status=queued").json()["tasks"]) == 1)
    third = server.submit("slow", width=32, height=32, num_inference_steps=1000)
    server.post("/sdapi/v1/interrupt")
    assert first.result().json()["images"] == []
    assert len(second.result().json()["images"]) == 1
    # None of the jobs runs: the one that waits longest is at hand.
    server.wait_status(third, "running")
    fourth = background(lambda: server.post("/sdapi/v1/txt2img", json={**PLAIN, "prompt": "fourth"}))
    until(lambda: progress(server)["state"]["job_count"] == 1)
    server.post("/sdapi/v1/interrupt")
    assert fourth.result().json()["images"] == [] and server.task(third)["status"] == "running"


def test_a_client_that_leaves_cancels_its_task(server):
    for path, more in (("txt2img", {}), ("img2img", {"init_images": [b64(png())]})):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(server.url + f"/sdapi/v1/{path}", json={**PLAIN, "prompt": f"slow {path} left behind", "steps": 1000, **more}, timeout=0.7)
        task = next(t for t in server.get("/api/tasks").json()["tasks"] if t["request"]["prompt"] == f"slow {path} left behind")
        server.wait_status(task["id"], "cancelled")


# --- img2img ---


def inputs_of(server, task):
    return [server.image(task["request"][key]) for key in ("image", "mask") if key in task["request"]]


@pytest.mark.parametrize("form", ["plain", "data url", "lines"])
def test_the_picture_is_stored_as_it_came(server, form):
    picture = png((40, 24), (1, 2, len(form)))
    text = {"plain": b64(picture), "data url": "data:image/png;base64," + b64(picture), "lines": base64.encodebytes(picture).decode()}[form]
    _, info, parameters, task = make(server, "img2img", init_images=[text], denoising_strength=0.6)
    assert inputs_of(server, task) == [picture]
    assert task["request"]["strength"] == info["denoising_strength"] == 0.6 and "mask" not in task["request"]
    assert parameters == {**PLAIN, "init_images": None, "denoising_strength": 0.6}


def test_strength_has_a_default_and_a_least(server):
    assert make(server, "img2img", init_images=[b64(png())])[3]["request"]["strength"] == 0.75
    assert make(server, "img2img", init_images=[b64(png())], denoising_strength=0)[3]["request"]["strength"] == 0.5  # of two steps, one
    refused(server.post("/sdapi/v1/img2img", json={**PLAIN, "init_images": [b64(png())], "denoising_strength": 1.5}), 422, "denoising_strength")


@pytest.mark.parametrize("size,made", [((64, 40), (64, 48)), ((1024, 512), (176, 96))])
def test_without_a_size_the_pictures_own_is_taken(server, size, made):
    _, info, _, _ = make(server, "img2img", init_images=[b64(png(size))], width=None, height=None)
    assert (info["width"], info["height"]) == made


def left_and_right(mode, left, right):
    image = Image.new(mode, (32, 16), left)
    image.paste(right, (16, 0, 32, 16))
    out = io.BytesIO()
    image.save(out, "PNG")
    return b64(out.getvalue())


@pytest.mark.parametrize("mask", [left_and_right("L", 255, 0), left_and_right("RGB", (255, 255, 255), (0, 0, 0)), left_and_right("1", 1, 0),
                                  left_and_right("RGBA", (0, 0, 0, 255), (255, 255, 255, 0)), left_and_right("RGBA", (255, 255, 255, 255), (0, 0, 0, 255))],
                         ids=["grey", "colours", "bits", "by alpha", "opaque"])
@pytest.mark.parametrize("invert", [None, 1])
def test_masks_are_white_where_it_is_painted(server, mask, invert):
    _, info, _, task = make(server, "img2img", init_images=[b64(png((32, 16)))], mask=mask, inpainting_mask_invert=invert, inpainting_fill=1)
    stored = Image.open(io.BytesIO(inputs_of(server, task)[1]))
    assert stored.size == (32, 16) and stored.mode == "RGB"
    white, black = (255,) * 3, (0,) * 3
    assert [stored.getpixel((2, 8)), stored.getpixel((30, 8))] == ([black, white] if invert else [white, black])
    assert info["extra_generation_params"] == {}


def test_what_of_img2img_is_not_applied_is_named(server):
    _, info, _, _ = make(server, "img2img", init_images=[b64(png()), b64(png())], mask=left_and_right("L", 0, 255), mask_blur=4, inpainting_fill=0, inpaint_full_res=True,
                         resize_mode=1)
    assert info["extra_generation_params"] == {"Not applied": "resize_mode, mask_blur, inpaint_full_res, inpainting_fill, init_images after the first"}
    _, info, _, task = make(server, "img2img", init_images=[b64(png())], mask="", mask_blur=4, inpainting_fill=0, inpaint_full_res=True, resize_mode=0)
    assert info["extra_generation_params"] == {} and "mask" not in task["request"]


@pytest.mark.parametrize("body,status,field", [
    ({}, 404, None), ({"init_images": []}, 404, None), ({"init_images": [None]}, 404, None), ({"init_images": "x"}, 422, "init_images"), ({"init_images": [3]}, 422, "init_images"),
    ({"init_images": ["http://127.0.0.1/x.png"]}, 422, "init_images"), ({"init_images": ["!"]}, 422, None), ({"init_images": [b64(b"no picture")]}, 422, None),
    ({"init_images": [b64(png())[:-40]]}, 422, None), ({"init_images": ["data:image/png,abc"]}, 422, None), ({"init_images": [""]}, 422, None),
    ({"init_images": [b64(png())], "mask": 3}, 422, "mask"), ({"init_images": [b64(png())], "mask": b64(b"x")}, 422, None),
    ({"init_images": [b64(png())], "inpainting_mask_invert": 2}, 422, "inpainting_mask_invert")])
def test_pictures_that_are_none(server, body, status, field):
    refused(server.post("/sdapi/v1/img2img", json={**PLAIN, **body}), status, field)


# --- png-info ---


def info_of(server, data):
    answer = server.post("/sdapi/v1/png-info", json={"image": data})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_png_info_reads_our_own_pictures(server):
    (picture,), info, _, _ = make(server, prompt="a fox: red,\nsitting", negative_prompt="blurry, \"ugly\"", cfg_scale=2, width=48)
    read = info_of(server, "data:image/png;base64," + b64(picture))
    assert read["info"] == info["infotexts"][0] and read["items"] == {"parameters": read["info"]}
    assert read["parameters"] == {"Prompt": "a fox: red,\nsitting", "Negative prompt": "blurry, \"ugly\"", "Steps": "2", "Sampler": "Euler", "CFG scale": "1",
                                  "True CFG scale": "2", "Seed": "5", "Size-1": "48", "Size-2": "32", "Model": "demo"}


def with_text(text):
    from PIL.PngImagePlugin import PngInfo
    chunk = PngInfo()
    chunk.add_text("parameters", text)
    return b64(png(pnginfo=chunk))


@pytest.mark.parametrize("text,parameters", [
    ("just words", {"Prompt": "just words", "Negative prompt": ""}),
    ("a\nb\nNegative prompt: c\nd\nSteps: 20, Sampler: DPM++ 2M, Lora hashes: \"x: 1, \\\"y\\\": 2\\n\", Size: 8x9, Hires: on\n",
     {"Prompt": "a\nb", "Negative prompt": "c\nd", "Steps": "20", "Sampler": "DPM++ 2M", "Lora hashes": "x: 1, \"y\": 2\n", "Size-1": "8", "Size-2": "9", "Hires": "on"}),
    ("Negative prompt: c", {"Prompt": "", "Negative prompt": "c"}),
    ("Steps: 4, Seed: \"un", {"Prompt": "", "Negative prompt": "", "Steps": "4", "Seed": "un"})])
def test_png_info_reads_others_pictures(server, text, parameters):
    assert info_of(server, with_text(text))["parameters"] == parameters


def test_png_info_without_settings_and_without_a_picture(server):
    assert info_of(server, b64(png())) == {"info": "", "items": {}, "parameters": {}}
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "JPEG")
    assert info_of(server, b64(out.getvalue()))["info"] == ""
    for body, field in (({}, "image"), ({"image": 3}, "image"), ({"image": "%"}, None), ({"image": b64(b"none")}, None), ({"image": ""}, None)):
        refused(server.post("/sdapi/v1/png-info", json=body), 422, field)


# --- errors ---


@pytest.mark.parametrize("body,field", [
    ({"steps": "x"}, "steps"), ({"steps": 0}, "steps"), ({"steps": 1001}, "steps"), ({"steps": 2.5}, "steps"), ({"width": 0}, "width"), ({"height": 20000}, "height"),
    ({"width": 16384, "height": 16384}, "width"), ({"batch_size": 0}, "batch_size"), ({"prompt": 3}, "prompt"), ({"prompt": "x" * 9000}, "prompt"), ({"cfg_scale": "1e999"}, "cfg_scale"),
    ({"cfg_scale": -1}, "cfg_scale"), ({"seed": "x"}, "seed"), ({"seed": 1.5}, "seed"), ({"override_settings": []}, "override_settings"), ({"send_images": "no"}, "send_images"),
    ({"sampler_name": 3}, "sampler_name"), ({"script_name": "X/Y/Z plot"}, "script_name"), ({"n_iter": {}}, "n_iter")])
def test_what_is_wrong_is_named(server, body, field):
    message = refused(server.post("/sdapi/v1/txt2img", json={**PLAIN, **body}), 422, field)
    assert field in message


def test_bodies_that_are_none(server):
    for content in (b"", b"{", b"[]", b"null", b"\xff"):
        refused(server.post("/sdapi/v1/txt2img", content=content), 422)
    head = {"content-length": str((64 << 20) + 1)}
    with httpx.stream("POST", server.url + "/sdapi/v1/img2img", headers=head, content=(b"x" * (1 << 20) for _ in range(65)), timeout=60) as answer:
        answer.read()
        refused(answer, 413)


def test_failures(server, make_server):
    answer = server.post("/sdapi/v1/txt2img", json={**PLAIN, "prompt": "fail"})
    assert "told to fail" in refused(answer, 503) and answer.json()["error"] == "OutOfMemoryError"
    full = make_server(IMAGINED_MAX_QUEUED=1, MAX_CONCURRENT_TASKS=1)
    running = full.submit("slow", width=32, height=32, num_inference_steps=1000)
    full.wait_status(running, "running")
    full.submit("slow", width=32, height=32)
    answer = full.post("/sdapi/v1/txt2img", json=PLAIN)
    refused(answer, 429)
    assert 1 <= int(answer.headers["retry-after"]) <= 120


# --- keys ---


def test_jobs_belong_to_keys(make_server, tmp_path):
    anna, ben = add_key(tmp_path / "keys", "anna"), add_key(tmp_path / "keys", "ben")
    server = make_server(IMAGINED_API_KEYS_FILE=tmp_path / "keys")
    answer = server.get("/sdapi/v1/progress", headers=AWAY)
    refused(answer, 401)
    assert "Basic" in answer.headers["www-authenticate"]
    as_anna, as_ben = ({"headers": AWAY, "auth": who} for who in (("anna", anna), (ben, "")))  # the key as password, or as user
    job = background(lambda: server.post("/sdapi/v1/txt2img", json={**PLAIN, "prompt": "slow", "steps": 1000}, **as_anna))
    until(lambda: server.get("/sdapi/v1/progress", **as_anna).json()["state"]["job_count"] == 1)
    idle = server.get("/sdapi/v1/progress", **as_ben).json()
    assert idle["progress"] == 0 and idle["state"]["job_count"] == 0
    assert server.post("/sdapi/v1/interrupt", **as_ben).status_code == 200
    assert server.get("/sdapi/v1/progress", **as_anna).json()["state"]["interrupted"] is False
    server.post("/sdapi/v1/interrupt", **as_anna)
    assert job.result().json()["images"] == []
