"""OpenAI's Images API with its clients from npm, unchanged: openai, and ai with @ai-sdk/openai-compatible."""
import base64
import io

import pytest
from node_clients import run_client
from PIL import Image


@pytest.fixture
def server(gradients):
    return gradients


@pytest.fixture
def picture():
    out = io.BytesIO()
    Image.new("RGBA", (96, 64), (200, 10, 20, 0)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def kind(file):
    picture = Image.open(io.BytesIO(base64.b64decode(file)))
    picture.load()
    return picture.format, picture.size


def test_openai(server, picture):
    got = run_client("openai_images", url=server.url, picture=picture)
    assert [kind(f) for f in got["files"]] == [("JPEG", (64, 48))] * 2 and "demo" in got["models"]
    assert [e["type"] for e in got["events"]] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert all(kind(e["b64_json"]) == ("PNG", (64, 48)) for e in got["events"])
    assert kind(got["edited"]) == ("PNG", (64, 48)) and kind(got["listed"]) == ("WEBP", (64, 48)) and got["edits"] == ["image_edit.completed"]
    assert got["wrong"]["name"] == "BadRequestError" and got["wrong"]["status"] == 400 and got["wrong"]["param"] == "size"
    assert got["failed"]["name"] == "APIError" and "told to fail" in got["failed"]["message"]


def test_ai_sdk(server, picture):
    got = run_client("ai_sdk_images", url=server.url, picture=picture)
    assert [(f["type"], *kind(f["data"])) for f in got["files"]] == [("image/webp", "WEBP", (64, 48))] * 2
    assert kind(got["edited"]) == ("PNG", (64, 48))
    assert got["failure"]["name"] == "AI_APICallError" and got["failure"]["status"] == 400 and "multiple of 16" in got["failure"]["message"]
