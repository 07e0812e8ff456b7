"""ComfyUI's API with clients of it, unchanged: comfy-cli, comfy-api-simplified, @saintno/comfyui-sdk and @stable-canvas/comfyui-client."""
import base64
import json
import os
import subprocess
import sys

import pytest
from comfy import flux, image_to_image, text_to_image
from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper
from comfy_api_simplified.exceptions import ComfyApiError
from node_clients import run_client
from PIL import ImageChops, ImageStat
from pictures import opened

COMFY = os.path.join(os.path.dirname(sys.executable), "comfy")


# --- comfy-cli ---

@pytest.fixture
def comfy_run(tmp_path):
    """Runs `comfy run` and gives its exit status and the envelope that it prints."""
    def run(server, graph):
        host, port = server.address.rsplit(":", 1)
        workflow = tmp_path / "workflow.json"
        workflow.write_text(json.dumps(graph))
        done = subprocess.run(
            [COMFY, "--skip-prompt", "--no-enable-telemetry", "run", "--workflow", str(workflow), "--host", host, "--port", port, "--wait", "--timeout", "120"],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NO_COLOR": "1", "DO_NOT_TRACK": "1"}, capture_output=True, text=True, timeout=240)
        return done.returncode, json.loads(done.stdout.strip().splitlines()[-1])

    return run


def test_comfy_cli_makes_a_picture(server, comfy_run):
    status, told = comfy_run(server, text_to_image(width=128, height=128, prefix="cli"))
    assert status == 0 and told["data"]["status"] == "completed", told
    (url,) = told["data"]["outputs"]
    picture = opened(server.client.get(url).content)
    assert picture.size == (128, 128) and "a fox on a blue background" in picture.info["parameters"]
    assert told["data"]["executed_node_ids"] == ["4", "6", "7", "5", "3", "8", "9"]


def test_comfy_cli_takes_a_graph_of_flux(gradients, comfy_run):
    status, told = comfy_run(gradients, flux(model="demo.safetensors"))
    assert status == 0 and told["data"]["outputs_by_node"].keys() == {"9"}, told


def test_comfy_cli_hears_of_errors(gradients, comfy_run):
    status, told = comfy_run(gradients, text_to_image("fail", seed=3))
    assert status == 1 and told["error"]["code"] == "execution_error", told
    assert told["error"]["details"]["exception_message"] == "told to fail" and told["error"]["details"]["node_type"] == "KSampler"
    status, told = comfy_run(gradients, text_to_image(model="none.safetensors"))
    assert status == 1 and "demo.safetensors" in json.dumps(told["error"])


# --- comfy-api-simplified ---

def test_comfy_api_simplified(server, tmp_path):
    api = ComfyApiWrapper(server.url)
    workflow = ComfyWorkflowWrapper(text_to_image(width=128, height=128, seed=21))
    workflow.set_node_param("Save Image", "filename_prefix", "simplified")
    files = api.queue_and_wait_images(workflow, "Save Image")
    assert list(files) == ["simplified_00001_.png"]
    assert opened(files["simplified_00001_.png"]).size == (128, 128)
    assert api.get_queue() == {"queue_running": [], "queue_pending": []}

    brought = tmp_path / "brought.png"
    brought.write_bytes(files["simplified_00001_.png"])
    named = api.upload_image(brought, "from/here")
    assert named == {"name": "brought.png", "subfolder": "from/here", "type": "input"}
    assert api.get_image("brought.png", "from/here", "input") == brought.read_bytes()
    # The less is denoised, the more stays.
    before = opened(files["simplified_00001_.png"])
    change = []
    for denoise in (0.1, 1.0):
        graph = image_to_image("from/here/brought.png", denoise, seed=22, text="a red apple on a green background", prefix="changed")
        (changed,) = api.queue_and_wait_images(ComfyWorkflowWrapper(graph), "Save Image").values()
        change.append(sum(ImageStat.Stat(ImageChops.difference(opened(changed), before)).mean))
    assert change[0] < change[1] / 3, change
    assert "KSampler" in api.get_object_info() and api.get_embeddings() == [] and api.get_system_stats()["devices"]
    api.interrupt()


def test_comfy_api_simplified_hears_of_errors(gradients):
    api = ComfyApiWrapper(gradients.url)
    with pytest.raises(ComfyApiError, match="400"):
        api.queue_and_wait_images(ComfyWorkflowWrapper(text_to_image(model="none.safetensors")), "Save Image")
    with pytest.raises((ComfyApiError, KeyError)):  # KeyError where it connects after the end: history has no such output then
        api.queue_and_wait_images(ComfyWorkflowWrapper(text_to_image("fail slow", seed=4)), "Save Image")


# --- @saintno/comfyui-sdk ---

def test_saintno_sdk(server):
    # Long enough to be seen on its way: of a prompt that is done before it asks for the history, this client tells no start.
    graph = text_to_image(width=256, height=256, steps=30, prefix="sdk")
    failing = text_to_image(width=128, height=136)  # no multiple of 16
    got = run_client("comfy_saintno", url=server.url, graph=graph, from_picture=image_to_image("brought.png", prefix="sdk"),
                     wrong=text_to_image(model="none.safetensors"), failing=failing)
    assert got["first"]["started"] and got["first"]["progress"] == 30
    assert opened(base64.b64decode(got["first"]["files"][0])).size == (256, 256)
    assert got["again"]["images"] == got["first"]["images"] and not got["again"]["started"]  # nothing ran
    assert got["uploaded"] == {"name": "brought.png", "filename": "brought.png", "type": "input", "subfolder": ""}
    assert opened(base64.b64decode(got["changed"]["files"][0])).size == (256, 256)
    assert got["wrong"]["failures"][0]["name"] == "EnqueueFailedError"
    assert "value_not_in_list" in json.dumps(got["wrong"]["failures"]) and "multiple of 16" in json.dumps(got["failed"]["failures"])
    assert got["checkpoints"] == ["demo.safetensors"] and "checkpoints" in got["types"]
    assert got["samplers"][0] == "euler" or "euler" in json.dumps(got["samplers"])
    assert got["stats"]["devices"] and got["freed"] is True and got["queue"] == {"queue_running": [], "queue_pending": []} and got["history"] >= 3


# --- @stable-canvas/comfyui-client ---

def test_stable_canvas_client(server):
    got = run_client("comfy_stable_canvas", address=server.address, side=128, steps=4)
    assert got["steps"] == [1, 2, 3, 4]
    assert [len(got[name]) for name in ("made", "polled", "again", "piped")] == [1, 1, 1, 1]
    assert got["models"] == ["demo.safetensors"] and "euler" in got["samplers"] and got["history"] >= 4
    assert got["wrong"]["status"] == 400
    assert [e["type"] for e in got["wrong"]["answer"]["node_errors"]["1"]["errors"]] == ["value_not_in_list"]
