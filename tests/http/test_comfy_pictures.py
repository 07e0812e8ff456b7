"""ComfyUI's API: the files that it makes and takes."""
import io
import json
import subprocess
import uuid

import pytest
from comfy import Listener, fresh, image_to_image, outputs, png, refused, run, seeds, submit, text_to_image, upload, view
from PIL import Image, PngImagePlugin
from sd_parsers import ParserManager
from test_auth import add_key


@pytest.fixture
def server(gradients):
    return gradients


# --- made ---

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


def test_exiftool_reads_the_graph(server, tmp_path):
    graph = fresh()
    (image,) = outputs(run(server, graph))
    file = tmp_path / "picture.png"
    file.write_bytes(view(server, image).content)
    (told,) = json.loads(subprocess.run(["exiftool", "-json", str(file)], capture_output=True, text=True, check=True).stdout)
    assert json.loads(told["Prompt"]) == graph and told["Parameters"].startswith("a fox")

# --- brought ---

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
