"""ComfyUI's API: the order of its events, its cache, queue, history and files, the shape of its errors, and what is kept over a restart."""
import io
import json
import subprocess
import uuid

import pytest
from comfy import Listener, flux, image_to_image, submit, text_to_image, titled
from conftest import until
from PIL import Image, PngImagePlugin
from sd_parsers import ParserManager
from test_auth import add_key


@pytest.fixture
def server(gradients):
    return gradients


seeds = iter(range(1000, 100000))


def fresh(text="a fox", **how):
    """A graph that was not run before."""
    return text_to_image(text, **{"seed": next(seeds)} | how)


def finish(server, prompt_id):
    return until(lambda: server.get(f"/history/{prompt_id}").json().get(prompt_id))


def run(server, graph, **more):
    return finish(server, submit(server, graph, **more))


def outputs(entry):
    return [image for output in entry["outputs"].values() for image in output["images"]]


def view(server, image):
    return server.get("/view", params=image)


def kinds(heard, prompt_id):
    return [kind for kind, data in heard if data.get("prompt_id") == prompt_id]


def png(width=64, height=48, colour=(200, 30, 30, 255)):
    out = io.BytesIO()
    Image.new("RGBA", (width, height), colour).save(out, "PNG")
    return out.getvalue()


def upload(server, name="brought.png", data=None, path="/upload/image", **fields):
    return server.post(path, files={"image": (name, data or png(), "image/png")}, data=fields)


# --- events ---

def test_events_come_in_comfyuis_order(make_server):
    server = make_server()  # whose nodes nobody has run before
    with Listener(server) as client:
        assert client.next()[0] == "status"
        graph = fresh()
        prompt_id = submit(server, graph, client)
        heard = client.until_done(prompt_id)
        assert server.get(f"/history/{prompt_id}").json()[prompt_id]["status"]["completed"]  # it was there before the last word
    told = [(kind, data) for kind, data in heard if kind != "status"]
    assert [kind for kind, _ in told] == (["execution_start", "execution_cached"] + ["executing"] * 5 + ["progress"] * 4 + ["executing"] * 2 +
                                          ["executed", "execution_success", "executing"])
    assert [data["node"] for kind, data in told if kind == "executing"] == ["4", "6", "7", "5", "3", "8", "9", None]
    assert [(data["value"], data["max"], data["node"]) for kind, data in told if kind == "progress"] == [(i, 4, "3") for i in (1, 2, 3, 4)]
    (executed,) = [data for kind, data in told if kind == "executed"]
    assert executed["node"] == executed["display_node"] == "9"
    (image,) = executed["output"]["images"]
    assert image["filename"].startswith("ComfyUI_") and image["filename"].endswith("_.png") and image["subfolder"] == "" and image["type"] == "output"
    assert isinstance(told[0][1]["timestamp"], int) and told[-2][1].keys() == {"prompt_id", "timestamp"}
    states = [data["status"]["exec_info"]["queue_remaining"] for kind, data in heard if kind == "status"]
    assert states[-1] == 0 and max(states) == 1
    assert [kind for kind, _ in heard[-2:]] == ["status", "executing"]


def test_others_hear_of_the_queue_alone(server):
    with Listener(server) as one, Listener(server) as other:
        one.next(), other.next()
        prompt_id = submit(server, fresh(), one)
        one.until_done(prompt_id)
        last = submit(server, fresh(), other)
        heard = other.until_done(last)
        assert {data.get("prompt_id") for kind, data in heard if kind != "status"} == {last}


def test_a_client_that_comes_again_hears_where_its_prompt_is(server):
    with Listener(server) as client:
        prompt_id = submit(server, fresh("slow", steps=60), client)
        while client.next()[0] != "progress":
            pass
        with Listener(server, name=client.id) as again:
            assert again.next()[0] == "status"
            assert again.next() == ("executing", {"node": "3", "display_node": "3", "prompt_id": prompt_id})
            server.post("/interrupt", json={"prompt_id": prompt_id})
            heard = again.until_done(prompt_id)
            assert "execution_interrupted" in kinds(heard, prompt_id)


def test_a_failure_is_told_with_its_node(server):
    with Listener(server) as client:
        prompt_id = submit(server, fresh("fail"), client)
        heard = client.until_done(prompt_id)
    (failure,) = [data for kind, data in heard if kind == "execution_error"]
    assert failure["node_id"] == "3" and failure["node_type"] == "KSampler" and failure["exception_message"] == "told to fail"
    assert failure["executed"] == ["4", "6", "7", "5"] and failure["traceback"] == []
    entry = server.get(f"/history/{prompt_id}").json()[prompt_id]
    assert entry["status"]["status_str"] == "error" and not entry["status"]["completed"] and entry["outputs"] == {}
    assert entry["status"]["messages"][-1] == ["execution_error", failure]


@pytest.mark.parametrize("asked", [{}, {"preview_method": "none"}, {"preview_method": "default"}])
def test_no_previews_come_unasked(server, asked):
    with Listener(server) as client:
        heard = client.until_done(submit(server, fresh("slow", steps=5), client, extra_data=asked))
    assert not any(kind == "preview" for kind, _ in heard)


def test_previews_are_jpegs(server):
    with Listener(server) as client:
        prompt_id = submit(server, fresh("slow", steps=8, width=64, height=128), client, extra_data={"preview_method": "auto"})
        frames = [data for kind, data in client.until_done(prompt_id) if kind == "preview"]
    assert frames and all(frame[:8] == bytes([0, 0, 0, 1, 0, 0, 0, 1]) for frame in frames)
    picture = Image.open(io.BytesIO(frames[-1][8:]))
    assert picture.format == "JPEG" and picture.size == (128, 256)


def test_previews_say_whose_they_are_to_those_who_understand(server):
    with Listener(server) as client:
        client.next()
        client.socket.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
        assert client.next()[0] == "feature_flags"
        prompt_id = submit(server, fresh("slow", steps=8), client, extra_data={"preview_method": "latent2rgb"})
        frames = [data for kind, data in client.until_done(prompt_id) if kind == "preview"]
    assert frames
    size = int.from_bytes(frames[0][4:8], "big")
    assert frames[0][:4] == bytes([0, 0, 0, 4])
    about = json.loads(frames[0][8:8 + size])
    assert about["prompt_id"] == prompt_id and about["node_id"] == "3" and about["image_type"] == "image/jpeg"
    assert Image.open(io.BytesIO(frames[0][8 + size:])).format == "JPEG"


# --- the cache ---

def test_the_same_prompt_runs_nothing(server):
    graph = fresh(prefix="again")
    with Listener(server) as client:
        first = submit(server, graph, client)
        client.until_done(first)
        tasks = len(server.get("/api/tasks?limit=1000").json()["tasks"])
        second = submit(server, graph, client)
        assert server.get(f"/history/{second}").json()[second]["status"]["completed"]  # at once
        heard = client.until_done(second)
    assert len(server.get("/api/tasks?limit=1000").json()["tasks"]) == tasks
    (cached,) = [data["nodes"] for kind, data in heard if kind == "execution_cached"]
    assert sorted(cached) == sorted(graph)
    assert kinds(heard, second) == ["execution_start", "execution_cached", "executed", "execution_success", "executing"]
    entries = [server.get(f"/history/{i}").json()[i] for i in (first, second)]
    assert outputs(entries[0]) == outputs(entries[1]) and entries[1]["prompt"][1] == second
    assert run(server, titled(fresh(prefix="again")))["prompt"][1] not in (first, second)


def test_what_did_not_change_is_told_as_cached(server):
    graph = fresh()
    with Listener(server) as client:
        client.until_done(submit(server, graph, client))
        graph["3"]["inputs"]["seed"] = next(seeds)
        heard = client.until_done(submit(server, graph, client))
    (cached,) = [data["nodes"] for kind, data in heard if kind == "execution_cached"]
    assert sorted(cached) == ["4", "5", "6", "7"]
    assert [data["node"] for kind, data in heard if kind == "executing"] == ["3", "8", "9", None]


def test_a_deleted_picture_is_made_again(server):
    graph = fresh()
    first = run(server, graph)
    task = server.get("/api/tasks?limit=1").json()["tasks"][0]
    assert server.client.delete(task["images"][0]["url"]).status_code == 204
    second = run(server, graph)
    assert outputs(first) != outputs(second)
    assert view(server, outputs(first)[0]).status_code == 404 and view(server, outputs(second)[0]).status_code == 200


# --- translation, seen from the queue ---

def request_of(server, graph):
    submit(server, graph)
    return server.get("/api/tasks?limit=1").json()["tasks"][0]["request"]


def test_graphs_become_requests(server):
    seed = next(seeds)
    got = request_of(server, text_to_image("a fox", seed=seed, steps=3, width=64, height=48, batch=2, cfg=4.5, negative="blurry"))
    assert got | {"prompt": "a fox", "negative_prompt": "blurry", "true_cfg_scale": 4.5, "num_inference_steps": 3, "width": 64, "height": 48, "seed": seed, "n": 2} == got
    got = request_of(server, flux("a fox", seed=2**64 - 5, guidance=2.5))
    assert got["guidance_scale"] == 2.5 and got["seed"] == str(2**64 - 5) and got["true_cfg_scale"] == 1


def test_a_text_that_is_null_is_empty(server):
    """Open WebUI sends its negative prompt so where there is none."""
    graph = fresh(cfg=2.5)
    graph["7"]["inputs"]["text"] = None
    got = request_of(server, graph)
    assert got["prompt"] == "a fox" and not got.get("negative_prompt") and got["true_cfg_scale"] == 1


def test_front_overtakes(server):
    assert server.post("/api/system/queue/pause").status_code == 200
    try:
        ids = [submit(server, fresh()), submit(server, fresh(), front=True)]
        pending = {item[1]: item for item in server.get("/queue").json()["queue_pending"]}
        assert pending[ids[1]][0] < 0 < pending[ids[0]][0]
        tasks = server.get("/api/tasks?limit=2").json()["tasks"]
        assert [t["priority"] for t in tasks] == ["high", "normal"] and tasks[0]["position"] < tasks[1]["position"]
        server.post("/queue", json={"clear": True})
    finally:
        server.post("/api/system/queue/resume")


def test_a_batch_is_one_prompt_with_numbered_files(server):
    prefix = f"batch-{uuid.uuid4().hex[:8]}"
    first = run(server, fresh(batch=3, prefix=prefix))
    assert [i["filename"] for i in outputs(first)] == [f"{prefix}_0000{n}_.png" for n in (1, 2, 3)]
    second = run(server, fresh(prefix=prefix))
    assert [i["filename"] for i in outputs(second)] == [f"{prefix}_00004_.png"]
    assert len({view(server, i).content for i in outputs(first)}) == 3


def test_a_picture_may_be_saved_and_previewed_at_once(server):
    graph = fresh(prefix="cats/%width%x%height%")
    graph["10"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    entry = run(server, graph)
    saved, shown = entry["outputs"]["9"]["images"][0], entry["outputs"]["10"]["images"][0]
    assert saved["subfolder"] == "cats" and saved["filename"].startswith("64x64_") and shown["type"] == "temp"
    assert view(server, saved).content == view(server, shown).content
    assert view(server, saved | {"type": "temp"}).status_code == 404
    assert entry["meta"]["9"]["node_id"] == "9" and entry["prompt"][4] == ["9", "10"]


# --- queue, interrupt, history ---

def test_waiting_prompts_are_listed_and_deleted(server):
    server.post("/api/system/queue/pause")
    try:
        with Listener(server) as client:
            ids = [submit(server, fresh(), client, extra_data={"extra_pnginfo": {"workflow": {"nodes": []}}, "api_key_comfy_org": "secret"}) for _ in range(3)]
            pending = server.get("/queue").json()["queue_pending"]
            assert [item[1] for item in pending] == ids and pending[0][4] == ["9"]
            assert pending[0][3] == {"extra_pnginfo": {"workflow": {"nodes": []}}, "client_id": client.id}  # and no secrets
            assert server.get("/prompt").json() == {"exec_info": {"queue_remaining": 3}}
            assert server.post("/queue", json={"delete": [ids[1], "none"]}).status_code == 200
            assert [item[1] for item in server.get("/api/queue").json()["queue_pending"]] == [ids[0], ids[2]]
            assert server.post("/interrupt").status_code == 200  # nothing runs: nothing happens
            assert server.post("/queue", json={"clear": True}).status_code == 200
            until(lambda: server.get("/queue").json() == {"queue_running": [], "queue_pending": []})
            assert not any(i in server.get("/history").json() for i in ids)  # as in ComfyUI: what never ran is not there
    finally:
        server.post("/api/system/queue/resume")


def test_interrupt_ends_what_runs(server):
    for body in ({}, {"json": {}}, {"json": {"prompt_id": ""}}, {"content": b"no JSON"}, "its own id"):
        with Listener(server) as client:
            prompt_id = submit(server, fresh("slow", steps=200), client)
            while client.next()[0] != "progress":
                pass
            assert [item[1] for item in server.get("/queue").json()["queue_running"]] == [prompt_id]
            server.post("/interrupt", json={"prompt_id": "another"})
            assert server.post("/interrupt", **({"json": {"prompt_id": prompt_id}} if body == "its own id" else body)).status_code == 200
            heard = client.until_done(prompt_id)
            assert "execution_interrupted" in kinds(heard, prompt_id)
        entry = server.get(f"/history/{prompt_id}").json()[prompt_id]
        (told,) = [data for kind, data in heard if kind == "execution_interrupted"]
        assert entry["status"]["status_str"] == "error" and entry["status"]["messages"][-1] == ["execution_interrupted", told]
        assert told["node_id"] == "3" and told["node_type"] == "KSampler"


def test_history_is_bounded_and_can_be_deleted(make_server):
    server = make_server()
    ids = [run(server, fresh())["prompt"][1] for _ in range(4)]
    assert list(server.get("/history").json()) == ids
    assert list(server.get("/history?max_items=2").json()) == ids[2:]
    assert list(server.get("/history?max_items=2&offset=0").json()) == ids[:2]  # an offset counts from the oldest
    assert list(server.get("/history?max_items=2&offset=1").json()) == ids[1:3]
    assert list(server.get("/history?offset=3").json()) == ids[3:]
    assert list(server.get("/history?max_items=2&offset=-1").json()) == ids[2:]
    server.post("/history", json={"delete": [ids[1]]})
    assert list(server.get("/history").json()) == [ids[0], ids[2], ids[3]] and server.get(f"/history/{ids[1]}").json() == {}
    image = {"filename": "ComfyUI_00002_.png", "type": "output"}
    assert view(server, image).status_code == 200  # its picture stays
    server.post("/history", json={"clear": True})
    assert server.get("/history").json() == {}


@pytest.mark.parametrize("path", ["/queue", "/history"])
def test_one_request_deletes_so_many_at_most(server, path):
    """Each name is looked for among all prompts, while everybody else waits."""
    assert server.post(path, json={"delete": ["none"] * 1000}).status_code == 200
    answer = server.post(path, json={"delete": ["none"] * 1001})
    assert answer.status_code == 400 and answer.json()["error"]["message"] == "'delete' names 1001 prompts: at most 1000 are taken at once"


def test_a_client_may_choose_its_prompts_id(server):
    chosen = str(uuid.uuid4())
    assert submit(server, fresh(), prompt_id=chosen) == chosen
    finish(server, chosen)
    for wrong in (chosen, "", "a/b", "x" * 80):
        answer = server.post("/prompt", json={"prompt": fresh(), "prompt_id": wrong})
        assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_prompt_id"


def test_all_of_it_outlives_a_restart(make_server, tmp_path):
    state = tmp_path / "state"
    server = make_server(STATE=state)
    graph = fresh(prefix="kept", batch=2)
    upload(server, "kept.png", subfolder="a/b")
    entry = run(server, graph, extra_data={"extra_pnginfo": {"workflow": {"id": "x"}}})
    gone = run(server, fresh())["prompt"][1]
    server.post("/history", json={"delete": [gone]})
    failed = run(server, fresh("fail"))
    server.post("/api/system/queue/pause")
    waiting = submit(server, fresh(prefix="waits"))
    files = [view(server, i).content for i in outputs(entry)]
    server.stop(9)
    server = make_server(STATE=state)
    again = server.get("/history").json()
    assert list(again) == [entry["prompt"][1], failed["prompt"][1]] and again[failed["prompt"][1]]["status"]["messages"][-1] == failed["status"]["messages"][-1]
    assert again[entry["prompt"][1]]["prompt"] == entry["prompt"]
    assert outputs(again[entry["prompt"][1]]) == outputs(entry) and [view(server, i).content for i in outputs(entry)] == files
    assert [item[1] for item in server.get("/queue").json()["queue_pending"]] == [waiting]
    server.post("/api/system/queue/resume")
    assert outputs(finish(server, waiting))[0]["filename"] == "waits_00001_.png"
    repeated = submit(server, graph)
    assert outputs(finish(server, repeated)) == outputs(entry)  # still known
    assert outputs(run(server, fresh(prefix="kept")))[0]["filename"] == "kept_00003_.png"
    assert server.get("/view", params={"filename": "kept.png", "subfolder": "a/b", "type": "input"}).content == png()


# --- errors ---

def refused(server, graph, **more):
    answer = server.post("/prompt", json={"prompt": graph, **more})
    assert answer.status_code == 400, answer.text
    document = answer.json()
    assert document["error"].keys() == {"type", "message", "details", "extra_info"} and "node_errors" in document
    return document


def test_what_is_no_prompt(server):
    assert server.post("/prompt", json={}).json() == {
        "error": {"type": "no_prompt", "message": "No prompt provided", "details": "No prompt provided", "extra_info": {}}, "node_errors": {}}
    assert refused(server, {})["error"]["type"] == "prompt_no_outputs"
    assert refused(server, [])["error"]["type"] == "invalid_prompt"
    assert refused(server, fresh(), extra_data=[])["error"]["type"] == "invalid_prompt"
    assert server.post("/prompt", content=b"{").status_code == server.post("/prompt", content=b"[]").status_code == 400
    graph = fresh()
    del graph["9"]
    assert refused(server, graph)["error"] == {"type": "prompt_no_outputs", "message": "Prompt has no outputs", "details": "", "extra_info": {}}
    assert refused(server, fresh("x" * 300_000))["error"]["message"] == "The prompt is too large"
    assert "prompt" in refused(server, fresh("x" * 9000))["error"]["details"]
    assert refused(server, fresh(), extra_data={"much": "x" * 600_000})["error"]["message"] == "The prompt is too large"


def test_unknown_nodes(server):
    graph = fresh()
    graph["20"] = {"class_type": "LoraLoader", "inputs": {}, "_meta": {"title": "My LoRA"}}
    error = refused(server, graph)["error"]
    assert error["type"] == "missing_node_type" and error["details"] == "Node ID '#20'" and "My LoRA" in error["message"]
    assert error["extra_info"] == {"node_id": "20", "class_type": "LoraLoader", "node_title": "My LoRA"}
    del graph["20"]["class_type"]
    assert refused(server, graph)["error"]["extra_info"]["class_type"] is None


@pytest.mark.parametrize("node, name, value, kind, details", [
    ("4", "ckpt_name", "none.safetensors", "value_not_in_list", "ckpt_name: 'none.safetensors' not in ['demo.safetensors']"),
    ("3", "sampler_name", "magic", "value_not_in_list", None),
    ("3", "steps", 0, "value_smaller_than_min", "steps"),
    ("3", "cfg", 101, "value_bigger_than_max", "cfg"),
    ("3", "seed", -1, "value_smaller_than_min", "seed"),
    ("3", "steps", "many", "invalid_input_type", "steps, many"),
    ("3", "steps", None, "invalid_input_type", None),
    ("6", "text", 7, "invalid_input_type", "text"),
    ("3", "model", ["6", 0], "return_type_mismatch", "model, received_type(CONDITIONING) mismatch input_type(MODEL)"),
    ("3", "model", ["44", 0], "bad_linked_input", "model"),
    ("3", "model", ["4", 3], "bad_linked_input", "model"),
    ("3", "model", ["4"], "bad_linked_input", "model"),
    ("3", "model", "demo", "bad_linked_input", "model"),
    ("3", "steps", ["6", 0], "return_type_mismatch", None),
    ("5", "width", 100, None, None),
    ("9", "filename_prefix", "../out", "custom_validation_failed", None),
    ("9", "filename_prefix", "/etc/out", "custom_validation_failed", None),
])
def test_what_is_wrong_in_a_node_is_told_there(server, node, name, value, kind, details):
    graph = fresh()
    graph[node]["inputs"][name] = value
    document = refused(server, graph)
    assert document["error"]["type"] == "prompt_outputs_failed_validation"
    at = node if kind else "3"
    (problem,) = document["node_errors"][at]["errors"]
    assert problem["type"] == (kind or "custom_validation_failed") and (details is None or problem["details"] == details)
    assert document["node_errors"][at]["class_type"] == graph[at]["class_type"] and document["node_errors"][at]["dependent_outputs"]
    if kind == "return_type_mismatch":
        told = problem["extra_info"]
        assert told.keys() == {"input_name", "input_config", "received_type", "linked_node"} and told["received_type"] == "CONDITIONING" and told["linked_node"] == value
    if kind == "value_not_in_list":
        assert problem["extra_info"]["received_value"] == value and problem["extra_info"]["input_name"] == name and problem["extra_info"]["input_config"]


@pytest.mark.parametrize("name", ["exp_heun_2_x0", "exp_heun_2_x0_sde", "dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu", "uni_pc_bh2"])
def test_samplers_of_comfyui_are_known_by_name(server, name):
    graph = fresh()
    graph["3"]["inputs"]["sampler_name"] = name
    assert outputs(run(server, graph))


def test_missing_inputs_are_all_told(server):
    graph = fresh()
    del graph["3"]["inputs"]["seed"], graph["3"]["inputs"]["model"], graph["6"]["inputs"]
    errors = refused(server, graph)["node_errors"]
    assert [(e["type"], e["extra_info"], e["details"]) for e in errors["6"]["errors"]] == [
        ("required_input_missing", {"input_name": name}, name) for name in ("text", "clip")]
    assert {e["details"] for e in errors["3"]["errors"]} == {"seed", "model"}


def test_graphs_that_this_server_cannot_run(server):
    two = fresh()
    two["13"] = two["3"] | {"inputs": two["3"]["inputs"] | {"seed": 3}}
    two["18"] = {"class_type": "VAEDecode", "inputs": {"samples": ["13", 0], "vae": ["4", 2]}}
    two["19"] = {"class_type": "SaveImage", "inputs": {"filename_prefix": "x", "images": ["18", 0]}}
    chained = fresh()
    chained["13"] = chained["3"] | {"inputs": chained["3"]["inputs"] | {"latent_image": ["3", 0]}}
    chained["8"]["inputs"]["samples"] = ["13", 0]
    scaled = fresh()
    scaled["13"] = {"class_type": "ImageScaleBy", "inputs": {"image": ["8", 0], "upscale_method": "area", "scale_by": 2}}
    scaled["9"]["inputs"]["images"] = ["13", 0]
    for graph, said in ((two, "one sampler"), (chained, "second sampler"), (scaled, "VAEDecode"), (fresh(batch=17), "16")):
        document = refused(server, graph)
        (entry,) = document["node_errors"].values()
        assert entry["errors"][0]["type"] == "unsupported_graph" and said in entry["errors"][0]["details"]


def test_a_circle_is_refused(server):
    graph = flux()
    graph["26"]["inputs"]["conditioning"] = ["26", 0]
    assert "dependency_cycle" in json.dumps(refused(server, graph)["node_errors"])
    graph = fresh()
    graph["20"] = {"class_type": "Reroute", "inputs": {"": ["21", 0]}}
    graph["21"] = {"class_type": "Reroute", "inputs": {"": ["20", 0]}}
    graph["3"]["inputs"]["model"] = ["20", 0]
    assert "dependency_cycle" in json.dumps(refused(server, graph)["node_errors"])


def test_the_queues_limit_is_told(make_server):
    server = make_server(IMAGINED_MAX_QUEUED=1)
    server.post("/api/system/queue/pause")
    submit(server, fresh())
    answer = server.post("/prompt", json={"prompt": fresh()})
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1 and answer.json()["error"]["type"] == "busy"


def test_native_paths_are_native(server):
    assert server.get("/api/nothing").headers["content-type"] == "application/problem+json"
    assert server.get("/api/tasks/none").headers["content-type"] == "application/problem+json"
    answer = server.client.delete("/api/prompt")
    assert answer.status_code == 405 and answer.headers["allow"] == "GET, HEAD, POST" and "error" in answer.json()


# --- pictures ---

def test_uploads_have_names(server):
    name = f"{uuid.uuid4().hex}.png"
    first = upload(server, name, png(colour=(1, 2, 3, 255)))
    assert first.json() == {"name": name, "subfolder": "", "type": "input"}
    assert upload(server, name, png(colour=(1, 2, 3, 255))).json()["name"] == name  # the same once more
    assert upload(server, name, png(colour=(9, 9, 9, 255))).json()["name"] == name.replace(".png", " (1).png")
    assert upload(server, name, png(colour=(5, 5, 5, 255)), overwrite="true").json()["name"] == name
    got = server.get("/view", params={"filename": name, "type": "input"})
    assert got.content == png(colour=(5, 5, 5, 255)) and got.headers["content-type"] == "image/png"
    assert upload(server, name, subfolder="deep/er").json() == {"name": name, "subfolder": "deep/er", "type": "input"}
    assert f"deep/er/{name}" in server.get("/object_info/LoadImage").json()["LoadImage"]["input"]["required"]["image"][0]


def test_names_and_pictures_are_each_keys_own(make_server, tmp_path):
    keys = tmp_path / "keys"
    made = {name: {"Authorization": f"Bearer {add_key(keys, name)}"} for name in ("ann", "bob")}
    server = make_server(IMAGINED_API_KEYS_FILE=keys, IMAGINED_LOOPBACK_NEEDS_KEY="true")
    pictures = {"ann": png(colour=(255, 0, 0, 255)), "bob": png(colour=(0, 255, 0, 255))}
    for name in made:
        server.client.headers = made[name]
        assert upload(server, "mine.png", pictures[name]).json()["name"] == "mine.png"
    for name in made:
        server.client.headers = made[name]
        assert server.get("/view", params={"filename": "mine.png", "type": "input"}).content == pictures[name]
    (stored,) = server.get("/api/images?kind=input").json()["images"]
    graph = image_to_image(stored["id"], seed=1)  # Bob's own, by its id
    (image,) = outputs(run(server, graph))
    server.client.headers = made["ann"]
    assert refused(server, graph)["node_errors"]["10"]["errors"][0]["type"] == "custom_validation_failed"
    assert view(server, image).status_code == 404 and server.get("/history").json() == {}


@pytest.mark.parametrize("how, status", [
    ({"data": b"no picture"}, 400), ({"subfolder": "../up"}, 400), ({"subfolder": "a//b"}, 400), ({"type": "output"}, 400), ({"name": ".."}, 400),
    ({"subfolder": "x" * 300}, 400), ({"path": "/upload/mask", "original_ref": json.dumps({"filename": "none.png"})}, 404), ({"path": "/upload/mask", "original_ref": "{"}, 400),
])
def test_uploads_that_are_refused(server, how, status):
    answer = upload(server, **how)
    assert answer.status_code == status and answer.json()["error"]["message"]


def test_an_upload_without_a_form_is_refused(server):
    assert server.post("/upload/image", content=png()).status_code == 400
    assert server.post("/upload/image", files={"other": ("a.png", png())}).status_code == 400


def test_pictures_that_are_not_there(server):
    assert server.get("/view").status_code == 400
    for wrong in ({"type": "model"}, {"filename": "../x.png"}, {"subfolder": ".."}):
        assert server.get("/view", params={"filename": "x_00001_.png"} | wrong).status_code == 400
    for wrong in ("x_00001_.png", "x.png", "_00001_.png", "x_99999999999999999999_.png", "x_-0001_.png"):
        assert server.get("/view", params={"filename": wrong}).status_code == 404


@pytest.mark.parametrize("preview, kind", [("webp;90", "WEBP"), ("jpeg;50", "JPEG"), ("jpeg", "JPEG"), ("webp;0", "WEBP"), ("png;80", "WEBP"), ("jpeg;999", "JPEG"), (";", "WEBP")])
def test_pictures_are_shown_smaller(server, preview, kind):
    (image,) = outputs(run(server, text_to_image(seed=5)))
    got = view(server, image | {"preview": preview})
    picture = Image.open(io.BytesIO(got.content))
    assert got.status_code == 200 and picture.format == kind and picture.size == (64, 64) and got.headers["content-type"] == f"image/{kind.lower()}"
    assert view(server, {"filename": "none_00001_.png", "preview": preview}).status_code == 404


def test_a_picture_can_begin_from_one_that_was_brought(server):
    name = f"{uuid.uuid4().hex}.png"
    upload(server, name, png(96, 80))
    graph = image_to_image(name, denoise=0.5, seed=next(seeds), steps=4)
    with Listener(server) as client:
        prompt_id = submit(server, graph, client)
        heard = client.until_done(prompt_id)
    assert max(data["value"] for kind, data in heard if kind == "progress") == max(data["max"] for kind, data in heard if kind == "progress") == 4
    (image,) = outputs(server.get(f"/history/{prompt_id}").json()[prompt_id])
    assert Image.open(io.BytesIO(view(server, image).content)).size == (96, 80)
    graph["10"]["inputs"]["image"] = "none.png"
    (problem,) = refused(server, graph)["node_errors"]["10"]["errors"]
    assert problem["type"] == "custom_validation_failed" and problem["details"] == "image - Invalid image file: none.png"


def test_pictures_and_masks_reach_the_engine(server):
    """The gradients' colours depend on every byte of what they are given."""
    red, blue, holes = (f"{uuid.uuid4().hex}.png" for _ in range(3))
    upload(server, red, png(64, 64, (255, 0, 0, 255)))
    upload(server, blue, png(64, 64, (0, 0, 255, 255)))
    masked = upload(server, holes, png(64, 64, (0, 0, 0, 0)), "/upload/mask", original_ref=json.dumps({"filename": red, "type": "input"})).json()
    assert masked == {"name": holes, "subfolder": "", "type": "input"}
    assert server.get("/view", params={"filename": holes, "type": "input"}).content == png(64, 64, (255, 0, 0, 255))  # the original
    seed, made = next(seeds), []
    for graph in (text_to_image(seed=seed), image_to_image(red, seed=seed), image_to_image(blue, seed=seed), image_to_image(red, mask=True, seed=seed),
                  image_to_image(holes, mask=True, seed=seed)):
        (image,) = outputs(run(server, graph))
        made.append(Image.open(io.BytesIO(view(server, image).content)).tobytes())
    assert len(set(made)) == 5
    request = server.get("/api/tasks?limit=1").json()["tasks"][0]["request"]
    assert request["strength"] == 0.5 and request["num_inference_steps"] == 8 and request["mask"] != request["image"] and request["mask_source"] == "alpha"


def test_the_same_name_for_another_picture_runs_again(server):
    name = f"{uuid.uuid4().hex}.png"
    upload(server, name, png(colour=(255, 0, 0, 255)))
    graph = image_to_image(name, seed=next(seeds))
    first = run(server, graph)
    assert outputs(run(server, graph)) == outputs(first)
    upload(server, name, png(colour=(0, 255, 0, 255)), overwrite="1")
    assert outputs(run(server, graph)) != outputs(first)


def ui_workflow(server, graph):
    """What ComfyUI's page would send along with the graph: boxes and wires, as far as a reader needs them."""
    nodes, links = server.get("/object_info").json(), []
    for name, node in graph.items():
        for slot, value in enumerate(node["inputs"].values()):
            if isinstance(value, list):
                links.append([len(links) + 1, int(value[0]), value[1], int(name), slot, nodes[graph[value[0]]["class_type"]]["output"][value[1]]])
    return {"nodes": [{"id": int(name), "type": node["class_type"]} for name, node in graph.items()], "links": links, "version": 0.4}


def test_pictures_carry_their_graph(server, tmp_path):
    graph = fresh("ein Fuchs, größer", negative="blurry", cfg=3)
    workflow = ui_workflow(server, graph)
    (image,) = outputs(run(server, graph, extra_data={"extra_pnginfo": {"workflow": workflow}}))
    file = tmp_path / "picture.png"
    file.write_bytes(view(server, image).content)
    texts = Image.open(file).text
    assert json.loads(texts["prompt"]) == graph and json.loads(texts["workflow"]) == workflow and texts["parameters"].startswith("ein Fuchs, größer")
    # Of a picture with both, sd-parsers reads A1111's settings first; of the graph's own chunks alone, the graph.
    info = PngImagePlugin.PngInfo()
    for key in ("prompt", "workflow"):
        info.add_itxt(key, texts[key])
    bare = tmp_path / "bare.png"
    Image.open(file).save(bare, pnginfo=info)
    read = ParserManager().parse(bare)
    assert read.generator.value == "ComfyUI"
    assert [p.value for p in read.prompts] == ["ein Fuchs, größer"] and [p.value for p in read.negative_prompts] == ["blurry"]
    (sampler,) = read.samplers
    assert sampler.name == "euler" and sampler.parameters["steps"] == 4 and sampler.parameters["seed"] == graph["3"]["inputs"]["seed"]
    both = ParserManager().parse(file)
    assert both is not None and [p.value for p in both.prompts] == ["ein Fuchs, größer"]
    (plain,) = outputs(run(server, fresh()))
    assert "workflow" not in Image.open(io.BytesIO(view(server, plain).content)).text


# --- what the server says of itself ---

def test_nodes_are_told_in_comfyuis_form(server):
    everything = server.get("/object_info").json()
    assert len(everything) > 40 and everything == server.get("/api/object_info").json()
    for name, node in everything.items():
        assert node["name"] == name and len(node["output"]) == len(node["output_name"]) == len(node["output_is_list"])
        assert node.keys() == {"input", "input_order", "output", "output_is_list", "output_name", "name", "display_name", "description", "python_module", "category", "output_node"}
        for place, inputs in node["input"].items():
            assert place == "hidden" or list(inputs) == node["input_order"][place]
    sampler = server.get("/object_info/KSampler").json()["KSampler"]
    assert sampler["input"]["required"]["seed"][1]["max"] == 2**64 - 1 and sampler["input"]["required"]["sampler_name"][0][0] == "euler"
    assert everything["SaveImage"]["output_node"] and not sampler["output_node"] and sampler["output"] == ["LATENT"]
    assert server.get("/object_info/None").json() == {}


def test_models_and_memory(server):
    assert server.get("/models/checkpoints").json() == ["demo.safetensors"] and server.get("/models/loras").json() == []
    assert server.get("/models/none").status_code == 404 and "checkpoints" in server.get("/api/models").json()
    stats = server.get("/system_stats").json()
    assert stats["devices"][0]["vram_total"] > 0 and stats["system"]["ram_total"] > 0
    assert server.get("/embeddings").json() == server.get("/extensions").json() == []
    assert server.get("/features").json()["supports_preview_metadata"] is True
    run(server, fresh())
    assert server.get("/api/system/stats").json()["models"]["cached_models"] == 1
    assert server.post("/free", json={}).status_code == 200
    assert server.post("/free", json={"unload_models": True, "free_memory": True}).status_code == 200
    until(lambda: server.get("/api/system/stats").json()["models"]["cached_models"] == 0)


def test_exiftool_reads_the_graph(server, tmp_path):
    graph = fresh()
    (image,) = outputs(run(server, graph))
    file = tmp_path / "picture.png"
    file.write_bytes(view(server, image).content)
    (told,) = json.loads(subprocess.run(["exiftool", "-json", str(file)], capture_output=True, text=True, check=True).stdout)
    assert json.loads(told["Prompt"]) == graph and told["Parameters"].startswith("a fox")
