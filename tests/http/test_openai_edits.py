"""OpenAI's edits and variations with its official Python client: the form's fields become what a generation's would be, and what is no edit is named. (What an
edit does to a picture: test_openai_model.py.)"""
import hashlib
import io
import json
import socket

import httpx
import openai
import pytest
from conftest import until
from PIL import Image
from pictures import opened


@pytest.fixture(scope="module")
def server(gradients):
    return gradients


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as c:
        yield c


def file(width=96, height=64, mode="RGB", format="PNG", colour=0):
    out = io.BytesIO()
    Image.new(mode, (width, height), (colour, 10, 20, 0)[:len(mode)]).save(out, format)
    return out.getvalue()


def newest(server):
    return server.get("/api/tasks?limit=1").json()["tasks"][0]["request"]


def post(server, path="/v1/images/edits", files=None, **fields):
    return server.client.post(path, data={"prompt": "x", **fields}, files=[("image", ("a.png", file(), "image/png"))] if files is None else files)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_an_edit(client, server, format):
    answer = client.images.edit(image=file(format=format), prompt="a fox", model="gpt-image-1", size="64x48", n=2, output_format="jpeg", output_compression=70,
                                extra_body={"seed": 7, "num_inference_steps": 3, "guidance_scale": 2.5})
    assert len(answer.data) == 2
    for d in answer.data:
        assert (opened(d.b64_json).format, opened(d.b64_json).size) == ("JPEG", (64, 48))
    request = newest(server)
    assert (request["prompt"], request["n"], request["seed"], request["num_inference_steps"], request["guidance_scale"]) == ("a fox", 2, 7, 3, 2.5)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_the_picture_is_kept_as_an_input(client, server):
    data = file(colour=99)
    client.images.edit(image=data, prompt="a fox", size="64x48")
    request = newest(server)
    assert (request["image"], request.get("mask"), request["strength"]) == (sha256(data), None, 0.75)
    assert server.image(sha256(data)) == data


def test_a_mask_and_a_list_of_one(client, server):
    data, mask = file(), file(mode="RGBA")
    answer = client.images.edit(image=[data], mask=mask, prompt="a fox", size="64x48")
    assert opened(answer.data[0].b64_json).size == (64, 48)
    request = newest(server)
    assert (request["image"], request["mask"], request["mask_source"], request["strength"]) == (sha256(data), sha256(mask), "alpha", 1.0)


def test_our_own_strength(client, server):
    client.images.edit(image=file(), prompt="a fox", extra_body={"strength": 0.4})
    assert newest(server)["strength"] == 0.4


@pytest.mark.parametrize("shape,size", [((128, 128), "128x128"), ((1024, 1024), "128x128"), ((32, 32), "128x128"), ((300, 150), "176x96"), ((64, 128), "96x176"),
                                        ((2000, 3), "3312x16")])
@pytest.mark.parametrize("asked", [{}, {"size": "auto"}])
def test_the_size_by_itself_has_the_pictures_shape(client, shape, size, asked):
    """As many pixels as the model (128 × 128) makes by itself, in the input's shape, in multiples of 16."""
    answer = client.images.edit(image=file(*shape), prompt="x", extra_body={"num_inference_steps": 1}, **asked)
    assert answer.size == size and "%dx%d" % opened(answer.data[0].b64_json).size == size


def test_a_streamed_edit(client):
    events = list(client.images.edit(image=file(), prompt="slow", size="64x48", stream=True, partial_images=2, output_format="webp",
                                     extra_body={"num_inference_steps": 6}))
    assert [e.type for e in events] == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]
    assert all((opened(e.b64_json).format, opened(e.b64_json).size) == ("WEBP", (64, 48)) for e in events)


def test_an_address(client, server):
    answer = client.images.edit(image=file(), prompt="x", response_format="url")
    assert httpx.get(answer.data[0].url).status_code == 200


def test_a_variation(client, server):
    answer = client.images.create_variation(image=file(), n=2, size="64x48")
    assert len(answer.data) == 2 and opened(answer.data[0].b64_json).size == (64, 48)
    assert (newest(server)["prompt"], newest(server)["strength"]) == ("", 0.3)


def test_several_pictures_are_refused(client):
    with pytest.raises(openai.BadRequestError) as e:
        client.images.edit(image=[file(), file(colour=3)], prompt="x")
    assert e.value.param == "image" and "one picture" in e.value.message


@pytest.mark.parametrize("field,files", [
    ("image", []),
    ("image", [("image", ("a.png", b"", "image/png"))]),
    ("image", [("image", ("a.png", b"no picture", "image/png"))]),
    ("image", [("photo", ("a.png", file(), "image/png"))]),
    ("mask", [("image", ("a.png", file(), "image/png")), ("mask", ("b.png", b"no picture", "image/png"))]),
    ("mask", [("image", ("a.png", file(), "image/png")), ("mask", ("b.png", file(), "image/png"))]),
])
def test_what_is_no_picture_is_named(server, field, files):
    answer = post(server, files=files or [("other", ("a.txt", b"x", "text/plain"))])
    assert answer.status_code == 400 and answer.json()["error"]["param"] == field


def test_a_damaged_picture_is_refused(server):
    answer = post(server, files=[("image", ("a.png", file()[:-20], "image/png"))])
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("wrong", [{"n": "two"}, {"n": "0"}, {"size": "large"}, {"size": "17x17"}, {"strength": "1.5"}, {"strength": "0"}, {"stream": "perhaps"}, {"seed": "one"},
                                   {"output_compression": "-1"}, {"num_inference_steps": "2.5"}, {"prompt": b"\xff"}, {"output_format": "bmp"}])
def test_wrong_fields_are_named(server, wrong):
    answer = post(server, **wrong)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == list(wrong)[0], answer.text


def test_a_model_that_is_not_there(client):
    with pytest.raises(openai.NotFoundError) as e:
        client.images.edit(image=file(), prompt="x", model="flux")
    assert e.value.code == "model_not_found"


def test_empty_fields_are_absent(server):
    assert post(server, n="", size="", seed="null", stream="", model="", strength="", output_format="").status_code == 200


def test_numbers_and_truths_in_other_words(server):
    answer = post(server, n="2.0", seed="18446744073709551615", stream="False", strength="1e-1", unknown="7")
    assert answer.status_code == 200 and len(answer.json()["data"]) == 2
    assert newest(server)["seed"] == "18446744073709551615"


def test_without_a_prompt_there_is_no_edit(server):
    answer = server.client.post("/v1/images/edits", files=[("image", ("a.png", file(), "image/png"))])
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "prompt"


@pytest.mark.parametrize("content,kind", [(json.dumps({"prompt": "x"}), "application/json"), (b"--b\r\n\r\nx", "multipart/form-data; boundary=b"),
                                          (b"", "multipart/form-data")])
def test_what_is_no_form_is_refused(server, content, kind):
    answer = server.client.post("/v1/images/edits", content=content, headers={"content-type": kind})
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"


def test_a_body_that_is_too_large_is_refused(server):
    host, port = server.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=30) as s:
        s.sendall(b"POST /v1/images/edits HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: multipart/form-data; boundary=b\r\n"
                  b"content-length: %d\r\n\r\n" % ((64 << 20) + 1))
        answer = b""
        while piece := s.recv(4096):
            answer += piece
    assert answer.split()[1] == b"413" and "error" in json.loads(answer.split(b"\r\n\r\n", 1)[1])


def test_a_client_that_leaves_cancels_its_edit(server):
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.url + "/v1/images/edits", data={"prompt": "slow edit, left behind", "num_inference_steps": "1000"},
                   files=[("image", ("a.png", file(), "image/png"))], timeout=0.5)
    task = until(lambda: next((t for t in server.get("/api/tasks").json()["tasks"] if t["request"]["prompt"] == "slow edit, left behind"), None))
    server.wait_status(task["id"], "cancelled")
