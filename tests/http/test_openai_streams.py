"""OpenAI's streamed pictures with its official Python client, sync and async, and raw: partial images, the final one, errors in between, slow clients and such
that leave."""
import asyncio
import base64
import json
import signal
import socket

import httpx
import openai
import pytest
from conftest import until
from pictures import opened


@pytest.fixture(scope="module")
def server(gradients):
    return gradients


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as c:
        yield c


def asked(server, **fields):
    """The events of a stream as they came: (name, data), the last of which is no JSON."""
    with server.client.stream("POST", "/v1/images/generations", json={"prompt": "x", "size": "64x48", "stream": True, **fields}) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"] == "text/event-stream"
        text = "".join(answer.iter_text())
    events = []
    for block in text.split("\n\n")[:-1]:
        lines = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        events.append((lines.get("event"), lines["data"] if lines["data"] == "[DONE]" else json.loads(lines["data"])))
    return events


def task_of(server, prompt):
    return next(t for t in server.get("/api/tasks").json()["tasks"] if t["request"]["prompt"] == prompt)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_partial_images_and_the_final_one(client, format):
    events = list(client.images.generate(prompt="slow fox", size="96x64", output_format=format, output_compression=90, stream=True, partial_images=3,
                                         quality="low", extra_body={"num_inference_steps": 8}))
    kinds = [e.type for e in events]
    assert kinds == ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
    assert [e.partial_image_index for e in events[:-1]] == [0, 1, 2]
    for e in events:
        picture = opened(e.b64_json)
        assert (picture.format, picture.size) == (format.upper(), (96, 64))
        assert (e.size, e.output_format, e.quality, e.background) == ("96x64", format, "low", "opaque") and e.created_at > 0
    assert events[-1].usage.total_tokens == 0
    if format == "png":
        # The engine says with blue how many steps were done, times 8: they are spread over the eight.
        assert [round(opened(e.b64_json).getpixel((48, 32))[2] / 8) for e in events[:-1]] == [2, 4, 6]


def test_the_async_client(server):
    async def run():
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as client:
            stream = await client.images.generate(prompt="slow fox", size="64x64", stream=True, partial_images=1, extra_body={"num_inference_steps": 4})
            return [e async for e in stream]

    events = asyncio.run(run())
    assert [e.type for e in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert opened(events[-1].b64_json).size == (64, 64)


def test_none_is_sent_that_was_not_asked_for(server):
    assert [name for name, _ in asked(server)] == ["image_generation.completed", None]
    assert asked(server, partial_images=0)[-1] == (None, "[DONE]")


def test_the_final_picture_is_the_stored_one(server):
    streamed = asked(server, seed=4, num_inference_steps=2)[0][1]
    task = server.finish(server.submit("x", width=64, height=48, seed=4, num_inference_steps=2))
    assert base64.b64decode(streamed["b64_json"]) == server.image(task["images"][0]["id"])


@pytest.mark.parametrize("format", ["png", "webp"])
def test_several_pictures(server, format):
    events = asked(server, n=3, prompt="slow", output_format=format, partial_images=2, num_inference_steps=6)
    names = [name for name, _ in events]
    assert names == ["image_generation.partial_image"] * 2 + ["image_generation.completed"] * 3 + [None]
    assert len({data["b64_json"] for _, data in events[2:5]}) == 3


def test_what_is_wrong_from_the_beginning_is_no_stream(client):
    with pytest.raises(openai.BadRequestError) as e:
        client.images.generate(prompt="x", size="17x17", stream=True)
    assert e.value.param == "size"


def test_an_error_in_between(client, server):
    with pytest.raises(openai.APIError) as e:
        list(client.images.generate(prompt="fail", stream=True))
    assert "told to fail" in e.value.message and e.value.type == "server_error"
    name, data = asked(server, prompt="fail")[-1]
    assert name == "error" and set(data["error"]) == {"message", "type", "param", "code"}


def test_a_cancelled_task(server):
    with server.client.stream("POST", "/v1/images/generations", json={"prompt": "slow, cancelled", "num_inference_steps": 1000, "stream": True}) as answer:
        server.client.delete("/api/tasks/" + until(lambda: task_of(server, "slow, cancelled"))["id"])
        assert "event: error" in answer.read().decode()


def test_an_engine_that_dies_meanwhile(make_server):
    server = make_server()
    server.wait_ready()
    assert [name for name, _ in asked(server, prompt="kill<2")] == ["image_generation.completed", None]


@pytest.mark.parametrize("format", ["png", "jpeg"])
def test_pictures_larger_than_what_waits_for_a_client(server, format):
    """Each event has more bytes than the server keeps for a client that does not read, and this one reads slowly."""
    body = json.dumps({"prompt": "x", "size": "2048x2048", "output_format": format, "stream": True, "n": 2, "num_inference_steps": 1}).encode()
    host, port = server.address.rsplit(":", 1)
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(60)
        s.connect((host, int(port)))
        s.sendall(b"POST /v1/images/generations HTTP/1.0\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        got = bytearray()
        while piece := s.recv(65536):
            got += piece
    events = [b.split(b"data: ", 1)[1] for b in bytes(got).split(b"\r\n\r\n", 1)[1].split(b"\n\n")[:-1]]
    assert events[-1] == b"[DONE]" and len(events) == 3
    for event in events[:-1]:
        picture = opened(json.loads(event)["b64_json"])
        assert (picture.format, picture.size) == (format.upper(), (2048, 2048))
    if format == "jpeg":
        assert len(events[0]) > 1 << 20


def test_a_client_that_leaves_cancels_its_task(client, server):
    for event in client.images.generate(prompt="slow, left in a stream", stream=True, partial_images=3, extra_body={"num_inference_steps": 200}):
        assert event.type == "image_generation.partial_image"
        break
    client.close()
    server.wait_status(task_of(server, "slow, left in a stream")["id"], "cancelled")


def test_clients_that_leave_while_their_pictures_are_converted(server):
    body = json.dumps({"prompt": "x", "size": "2048x2048", "output_format": "webp", "stream": True, "num_inference_steps": 1})
    for stream in (True, False):
        for _ in range(5):
            with pytest.raises(httpx.ReadTimeout), httpx.stream("POST", server.url + "/v1/images/generations", timeout=0.2,
                                                                 content=body if stream else body.replace("true", "false")) as answer:
                answer.read()
    assert [name for name, _ in asked(server)] == ["image_generation.completed", None]


def test_a_server_that_stops_says_so(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=1)
    server.wait_ready()
    running, waiting = ({"prompt": f"slow {i}", "num_inference_steps": 20, "stream": True, "size": "64x48", "output_format": "webp"} for i in range(2))
    with httpx.stream("POST", server.url + "/v1/images/generations", json=running, timeout=30) as first, \
         httpx.stream("POST", server.url + "/v1/images/generations", json=waiting, timeout=30) as second:
        server.process.send_signal(signal.SIGTERM)
        assert "about to stop" in second.read().decode()
        assert "image_generation.completed" in first.read().decode()
    assert server.process.wait(40) == 0  # a second signal would end it at once
