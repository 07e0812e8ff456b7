"""ComfyUI's API: graphs become requests, or are refused in the shape of its errors."""
import json

import pytest
from comfy import flux, fresh, outputs, refused, run, seeds, submit, text_to_image


@pytest.fixture
def server(gradients):
    return gradients


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


@pytest.mark.parametrize("name", ["exp_heun_2_x0", "exp_heun_2_x0_sde", "dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu", "uni_pc_bh2"])
def test_samplers_of_comfyui_are_known_by_name(server, name):
    graph = fresh()
    graph["3"]["inputs"]["sampler_name"] = name
    assert outputs(run(server, graph))

# --- errors ---

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
