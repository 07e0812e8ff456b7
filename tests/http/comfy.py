"""ComfyUI graphs for the tests, a client of its events, and what else the tests of its API share."""
import io
import json
import uuid

from conftest import until
from PIL import Image
from websockets.sync.client import connect

seeds = iter(range(1000, 100000))


def titled(graph):
    """As ComfyUI exports it: each node with the title that its box has."""
    return {name: node | {"_meta": {"title": "Save Image" if node["class_type"] == "SaveImage" else node["class_type"]}} for name, node in graph.items()}


def text_to_image(text="a fox on a blue background", model="demo.safetensors", seed=7, steps=4, width=64, height=64, batch=1, cfg=1.0, negative="", prefix="ComfyUI"):
    """The default workflow of ComfyUI, in its API form, with its node ids."""
    return titled({
        "3": {"class_type": "KSampler", "inputs": {
            "seed": seed, "steps": steps, "cfg": cfg, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
            "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": model}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": width, "height": height, "batch_size": batch}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": negative, "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": prefix, "images": ["8", 0]}},
    })


def flux(text="a fox on a blue background", model="demo", seed=7, steps=4, width=64, height=64, guidance=3.5):
    """The usual workflow of Flux, with its loaders apart and SamplerCustomAdvanced."""
    return {
        "5": {"class_type": "EmptySD3LatentImage", "inputs": {"width": width, "height": height, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["11", 0]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["13", 0], "vae": ["10", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "flux/fox", "images": ["8", 0]}},
        "10": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}},
        "11": {"class_type": "DualCLIPLoader", "inputs": {"clip_name1": "t5xxl_fp16.safetensors", "clip_name2": "clip_l.safetensors", "type": "flux"}},
        "12": {"class_type": "UNETLoader", "inputs": {"unet_name": model, "weight_dtype": "default"}},
        "13": {"class_type": "SamplerCustomAdvanced", "inputs": {
            "noise": ["25", 0], "guider": ["22", 0], "sampler": ["16", 0], "sigmas": ["17", 0], "latent_image": ["5", 0]}},
        "16": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "17": {"class_type": "BasicScheduler", "inputs": {"model": ["30", 0], "scheduler": "simple", "steps": steps, "denoise": 1.0}},
        "22": {"class_type": "BasicGuider", "inputs": {"model": ["30", 0], "conditioning": ["26", 0]}},
        "25": {"class_type": "RandomNoise", "inputs": {"noise_seed": seed}},
        "26": {"class_type": "FluxGuidance", "inputs": {"conditioning": ["6", 0], "guidance": guidance}},
        "30": {"class_type": "ModelSamplingFlux", "inputs": {"model": ["12", 0], "max_shift": 1.15, "base_shift": 0.5, "width": width, "height": height}},
    }


def image_to_image(name, denoise=0.5, mask=False, **how):
    """The default workflow with a picture encoded in place of the empty latent."""
    graph = text_to_image(**how)
    graph["3"]["inputs"] |= {"denoise": denoise, "latent_image": ["12", 0] if mask else ["11", 0]}
    graph["10"] = {"class_type": "LoadImage", "inputs": {"image": name}}
    graph["11"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    del graph["5"]
    if mask:
        graph["12"] = {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["11", 0], "mask": ["10", 1]}}
    return titled(graph)


class Listener:
    """A client of /ws."""

    def __init__(self, server, path="/ws", name=None, **how):
        self.id = name or str(uuid.uuid4())
        self.opening = connect(f"ws://{server.address}{path}?clientId={self.id}", **how)

    def __enter__(self):
        self.socket = self.opening.__enter__()
        return self

    def __exit__(self, *_):
        self.opening.__exit__(None, None, None)

    def next(self, seconds=30):
        """(type, data) of the next text, ("preview", bytes) of the next bytes."""
        message = self.socket.recv(timeout=seconds)
        if isinstance(message, bytes):
            return "preview", message
        message = json.loads(message)
        return message["type"], message["data"]

    def until_done(self, prompt_id):
        """What it hears until executing tells that this prompt is done; that included."""
        heard = []
        while True:
            heard.append(self.next())
            kind, data = heard[-1]
            if kind == "executing" and data["node"] is None and data["prompt_id"] == prompt_id:
                return heard


def submit(server, graph, client=None, path="/prompt", **more):
    answer = server.post(path, json={"prompt": graph, "client_id": client.id if client else "nobody", **more})
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["node_errors"] == {}
    return document["prompt_id"]


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


def refused(server, graph, **more):
    answer = server.post("/prompt", json={"prompt": graph, **more})
    assert answer.status_code == 400, answer.text
    document = answer.json()
    assert document["error"].keys() == {"type", "message", "details", "extra_info"} and "node_errors" in document
    return document
