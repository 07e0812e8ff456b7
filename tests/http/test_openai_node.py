"""OpenAI's Images API with its clients from npm, unchanged: each a picture, and what an error becomes."""
import base64
import io

import pytest
from node_clients import run_client
from PIL import Image


@pytest.fixture
def server(gradients):
    return gradients


def opened(file):
    picture = Image.open(io.BytesIO(base64.b64decode(file)))
    picture.load()
    return picture


def test_npm_openai(server):
    got = run_client("openai_images", url=server.url)
    assert opened(got["file"]).size == (64, 48) and "demo" in got["models"]
    assert got["failure"] == {"name": "BadRequestError", "status": 400, "param": "size"}
