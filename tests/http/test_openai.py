"""OpenAI's Images API with its official Python client, unchanged."""
import base64
import io
import time

import httpx
import openai
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def server(gradients):
    return gradients


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as c:
        yield c


def test_a_picture(client):
    answer = client.images.generate(model="gpt-image-1", prompt="a raccoon", size="64x48")
    picture = Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json)))
    assert picture.size == (64, 48)
    assert abs(answer.created - time.time()) < 60


def test_several_pictures_and_our_own_fields(client, server):
    answer = client.images.generate(prompt="a raccoon", n=3, extra_body={"seed": 5, "num_inference_steps": 2, "width": 32, "height": 32})
    files = [base64.b64decode(d.b64_json) for d in answer.data]
    assert len(set(files)) == 3
    task = server.finish(server.submit("a raccoon", n=3, seed=5, num_inference_steps=2, width=32, height=32))
    assert [server.image(i["id"]) for i in task["images"]] == files


@pytest.mark.parametrize("model", ["gpt-image-1", "gpt-image-1-mini", "dall-e-2", "dall-e-3", "demo", None])
def test_names_for_the_default_model(client, model):
    assert client.images.generate(prompt="x", **({"model": model} if model else {})).data[0].b64_json


def test_urls(client, server):
    answer = client.images.generate(prompt="x", response_format="url", n=2)
    for d in answer.data:
        assert d.b64_json is None and d.url.startswith(server.url + "/api/images/")
        assert httpx.get(d.url).content.startswith(b"\x89PNG")


def test_errors_are_the_clients_own(client):
    with pytest.raises(openai.BadRequestError) as e:
        client.images.generate(prompt="x", size="17x17")
    assert e.value.param == "size"
    with pytest.raises(openai.NotFoundError) as e:
        client.images.generate(prompt="x", model="flux")
    assert e.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.files.list()


def test_a_failure_is_told_once(client, server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=2) as retrying:
        before = len(server.client.get("/api/tasks?status=failed").json()["tasks"])
        with pytest.raises(openai.APIStatusError) as e:
            retrying.images.generate(prompt="fail")
        assert e.value.status_code == 503 and "told to fail" in str(e.value)
        assert len(server.client.get("/api/tasks?status=failed").json()["tasks"]) == before + 1


def test_models(client):
    assert "demo" in [m.id for m in client.models.list()]
    assert client.models.retrieve("demo").id == "demo"
    assert client.models.retrieve("gpt-image-1").id == "gpt-image-1"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("flux")


def test_a_client_that_leaves_cancels_its_task(server):
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.url + "/v1/images/generations", json={"prompt": "slow, left behind", "num_inference_steps": 1000}, timeout=0.5)
    tasks = server.client.get("/api/tasks").json()["tasks"]
    task = next(t for t in tasks if t["request"]["prompt"] == "slow, left behind")
    server.wait_status(task["id"], "cancelled")
