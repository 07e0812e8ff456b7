"""Bad requests: each is refused with a status, a sentence and the field at fault, in each API's own shape; nothing is queued and the server
goes on."""
import json
import re
import socket
import time

import pytest


@pytest.fixture(scope="module")
def server(gradients):
    return gradients

LONG = "x" * 8193
FIELDS = [
    # field, value
    ("prompt", None), ("prompt", 5), ("prompt", ["a"]), ("prompt", LONG), ("prompt", "é" * 4097), ("prompt", "a\0b"),
    ("negative_prompt", LONG), ("negative_prompt", {}),
    ("width", 0), ("width", -16), ("width", 17), ("width", 2**31), ("width", 2**63), ("width", 2**70), ("width", "64"), ("width", 64.5),
    ("width", [64]),
    ("width", True), ("width", 16400), ("height", 0), ("height", 1), ("height", -2**31),
    ("num_inference_steps", 0), ("num_inference_steps", 1001), ("num_inference_steps", -1), ("num_inference_steps", "8"),
    ("guidance_scale", -0.1), ("guidance_scale", 100.1), ("guidance_scale", "x"), ("guidance_scale", 1e300),
    ("true_cfg_scale", -1), ("true_cfg_scale", False),
    ("max_sequence_length", 0), ("max_sequence_length", 513), ("max_sequence_length", 2**31),
    ("precision", "int8"), ("precision", "fp32"), ("precision", ""), ("precision", 32),
    ("seed", -2), ("seed", 2**64), ("seed", 1.5), ("seed", "0x10"), ("seed", ""), ("seed", "1 "), ("seed", str(2**64)), ("seed", {}),
    ("n", 0), ("n", 17), ("n", -1), ("n", "2"),
    ("model", 7), ("model", "x" * 1000),
]
NATIVE = FIELDS + [
    ("model", "no-such-model"), ("priority", "soon"), ("priority", 4), ("priority", -1), ("priority", 1.5),
    ("webhook", "http://127.0.0.1/"), ("webhook", "example.org"), ("webhook", 7), ("webhook_events_filter", "start"), ("webhook_events_filter", []),
    ("steps", 8), ("promt", "typo"), ("size", "64x64"),
]
OPENAI = [(field, value) for field, value in FIELDS if field != "prompt" or value not in (LONG, "é" * 4097)] + [
    ("prompt", "x" * 32001), ("prompt", "é" * 40000),
    ("size", "64"), ("size", "64x"), ("size", "x64"), ("size", "64x64x64"), ("size", "-64x64"), ("size", "0x0"), ("size", "17x64"),
    ("size", 64),
    ("size", "99999999x64"), ("n", 11), ("response_format", "png"), ("output_format", "gif"), ("output_compression", 101), ("partial_images", 4), ("stream", "yes"),
]


def label(value):
    text = repr(value)
    return text if len(text) < 30 else text[:27] + "..."


@pytest.fixture
def unchanged(server):
    """Nothing was queued by what the test did."""
    before = server.client.get("/api/tasks?limit=1").json()["tasks"]
    yield
    after = server.client.get("/api/tasks?limit=1").json()["tasks"]
    assert [t["id"] for t in before] == [t["id"] for t in after]


@pytest.mark.parametrize("field, value", NATIVE, ids=label)
def test_native_fields(server, unchanged, field, value):
    body = {"prompt": "a fox", field: value}
    answer = server.client.post("/api/tasks", content=json.dumps(body))
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["field"] == field and problem["status"] == 422 and field in problem["detail"]


@pytest.mark.parametrize("field, value", OPENAI, ids=label)
def test_openai_fields(server, unchanged, field, value):
    body = {"prompt": "a fox", field: value}
    answer = server.client.post("/v1/images/generations", content=json.dumps(body))
    if (field, value) == ("model", "x" * 1000):
        assert answer.status_code == 400
        return
    assert answer.status_code == 400, answer.text
    problem = answer.json()["error"]
    assert problem["param"] == field and problem["type"] == "invalid_request_error" and field in problem["message"]


def test_a_model_that_is_not_there(server, unchanged):
    answer = server.client.post("/api/tasks", json={"prompt": "x", "model": "flux"})
    assert "flux" in answer.json()["detail"] and "demo" in answer.json()["detail"]
    answer = server.client.post("/v1/images/generations", json={"prompt": "x", "model": "flux"})
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "model_not_found" and answer.json()["error"]["param"] == "model"


def test_sizes_say_what_would_do(server, unchanged):
    detail = server.client.post("/api/tasks", json={"prompt": "x", "width": 100}).json()["detail"]
    assert "100" in detail and "16" in detail and "96" in detail and "112" in detail


def test_a_mistyped_field_names_its_neighbour(server, unchanged):
    detail = server.client.post("/api/tasks", json={"promt": "x"}).json()["detail"]
    assert "'promt': did you mean 'prompt'?" in detail
    assert "did you mean" not in server.client.post("/api/tasks", json={"prompt": "x", "wholly_else": 1}).json()["detail"]


def test_too_many_pixels(server, unchanged):
    answer = server.client.post("/api/tasks", json={"prompt": "x", "width": 16384, "height": 16384})
    assert answer.status_code == 422 and "pixels" in answer.json()["detail"]


BODIES = {
    "nothing": b"", "half": b'{"prompt": "a', "no JSON": b"prompt=a", "NaN": b'{"prompt": "a", "guidance_scale": NaN}',
    "infinity": b'{"prompt": "a", "guidance_scale": 1e999}', "invalid UTF-8": b'{"prompt": "a\xff"}',
    "overlong UTF-8": b'{"prompt": "\xc0\x80"}',
    "half a surrogate pair": b'{"prompt": "\\ud800"}', "two documents": b'{"prompt": "a"}{}', "a comment": b'{"prompt": "a" /* fox */}',
    "deep": b"[" * 500000, "deep object": b'{"a":' * 100000,
}


@pytest.mark.parametrize("path", ["/api/tasks", "/v1/images/generations"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_bodies_that_are_no_json(server, unchanged, path, body):
    answer = server.client.post(path, content=body)
    assert answer.status_code == 400, answer.text
    detail = answer.json()["detail"] if path.startswith("/api") else answer.json()["error"]["message"]
    assert "JSON" in detail and "at byte" in detail


@pytest.mark.parametrize("body", [b"[]", b'"a fox"', b"5", b"null", b"true"])
def test_bodies_that_are_no_object(server, unchanged, body):
    assert server.client.post("/api/tasks", content=body).status_code == 422
    assert server.client.post("/v1/images/generations", content=body).status_code == 400


def test_the_last_of_two_equal_keys_or_the_first_but_no_crash(server):
    answer = server.client.post("/api/tasks", content=b'{"prompt": "a", "prompt": "b"}')
    assert answer.status_code == 202


def test_the_longest_prompt_is_taken(server):
    for prompt in ("x" * 8192, "é" * 4096, "", "\U0001f98a" * 2048):
        assert server.finish(server.submit(prompt))["request"]["prompt"] == prompt


@pytest.mark.parametrize("path", ["/api/tasks", "/v1/images/generations"])
def test_bodies_over_the_cap(server, unchanged, path):
    answer = server.client.post(path, content=b'{"prompt": "' + b"x" * (1 << 20) + b'"}')
    assert answer.status_code == 413 and "1048576" in answer.text
    answer = server.client.post(path, content=b" " * (8 << 20))
    assert answer.status_code == 413


def raw(server, head, body=b""):
    """The answer to bytes that no client library would send."""
    host, port = server.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as s:
        s.sendall(f"{head}\r\nHost: {server.address}\r\n\r\n".encode() + body)
        return b"".join(iter(lambda: s.recv(65536), b"")).decode()


def test_bodies_in_chunks(server):
    """As .NET's PostAsJsonAsync sends each, and others what they read from a stream."""
    answer = server.client.post("/api/tasks", content=iter([b'{"prompt"', b': "in chu', b'nks"}']))
    assert answer.status_code == 202 and answer.headers["connection"] == "close"
    assert server.finish(answer.json()["id"])["request"]["prompt"] == "in chunks"
    answer = server.client.post("/v1/images/generations", content=iter([b'{"prompt": "x"', b"}"]))
    assert answer.status_code == 200 and answer.json()["data"][0]["b64_json"]


def test_chunks_byte_by_byte_with_extensions_and_a_trailer(server):
    """However they are cut on the way."""
    host, port = server.address.rsplit(":", 1)
    text = b'E;a="b"\r\n{"prompt": "a \r\n00c\r\nbyte each" }\r\n0\r\nX-Checksum: 1\r\n\r\n'
    with socket.create_connection((host, int(port)), timeout=20) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.sendall(f"POST /api/tasks HTTP/1.1\r\nHost: {server.address}\r\nTransfer-Encoding: Chunked\r\n\r\n".encode())
        for i in range(len(text)):
            s.sendall(text[i:i + 1])
            time.sleep(0.001)
        assert b" 202 " in s.recv(4096)


@pytest.mark.parametrize("path", ["/api/tasks", "/v1/images/generations"])
def test_chunks_over_the_cap(server, unchanged, path):
    answer = server.client.post(path, content=(b" " * 65536 for _ in range(17)))
    assert answer.status_code == 413 and "1048576" in answer.text


def test_large_bodies_in_chunks_share_the_room_there_is(server, unchanged):
    """Each keeps about what it has, not all that it might become; and gives it back."""
    head = f"POST /v1/images/edits HTTP/1.1\r\nHost: {server.address}\r\nContent-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n"
    host, port = server.address.rsplit(":", 1)
    for _ in range(4):
        stalled = [socket.create_connection((host, int(port)), timeout=20) for _ in range(8)]
        for s in stalled:
            s.sendall(head.encode() + b"400000\r\n" + b"x" * 3_000_000)
        answer = server.client.post("/v1/images/edits", content=iter([b"x" * 3_000_000]), headers={"Content-Type": "multipart/form-data; boundary=b"})
        assert answer.status_code == 400 and "boundary" in answer.text
        for s in stalled:
            s.close()


@pytest.mark.parametrize("head, body, status", [
    ("POST /api/tasks HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", b"0\r\n\r\n", 400),
    ("POST /api/tasks HTTP/1.1\r\nTransfer-Encoding: gzip, chunked", b"0\r\n\r\n", 411),
    ("POST /api/tasks HTTP/1.0\r\nTransfer-Encoding: chunked", b"0\r\n\r\n", 411),
    ("GET /api/tasks HTTP/1.1\r\nTransfer-Encoding: chunked", b"0\r\n\r\n", 411),
    ("POST /api/tasks HTTP/1.1\r\nTransfer-Encoding: chunked", b"x\r\n", 400),
    ("POST /api/tasks HTTP/1.1\r\nTransfer-Encoding: chunked", b"-1\r\n", 400),
    ("POST /api/tasks HTTP/1.1\r\nTransfer-Encoding: chunked", b"1\r\nab\r\n", 400),
    ("POST /api/tasks HTTP/1.1\r\nTransfer-Encoding: chunked", b"ffffffffffffffffff\r\n", 400),
    ("POST /api/tasks HTTP/1.1\r\nTransfer-Encoding: chunked", b"1;" + b"a" * 2000, 400),
    ("POST /api/tasks HTTP/1.1\r\nTransfer-Encoding: chunked", b"0\r\n\r\n", 400),
    ("POST /api/tasks HTTP/1.1\r\nTransfer-Encoding: chunked", b"2\r\n[]\r\n0\r\n\r\n", 422),
])
def test_chunks_that_make_no_sense(server, unchanged, head, body, status):
    assert raw(server, head, body).split()[1] == str(status)


def test_nothing_behind_the_last_chunk_is_a_request(server, unchanged):
    """The connection closes instead: no proxy and no server can take the rest for different requests."""
    answer = raw(server, "POST /api/tasks HTTP/1.1\r\nTransfer-Encoding: chunked", b"2\r\n{}\r\n0\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.count("HTTP/1.1 ") == 1 and " 422 " in answer.split("\r\n")[0] and "connection: close" in answer.lower()


def asked(server, lines, bodies):
    """A head that ends with `Expect`; then what the server says, a body, what it says …; and at last all else."""
    host, port = server.address.rsplit(":", 1)
    heard = []
    with socket.create_connection((host, int(port)), timeout=20) as s:
        s.sendall(f"{lines}\r\nHost: {server.address}\r\nExpect: 100-Continue\r\n\r\n".encode())
        for body in bodies:
            heard.append(s.recv(4096).decode())
            s.sendall(body)
        heard.append(b"".join(iter(lambda: s.recv(65536), b"")).decode())
    return heard


@pytest.mark.parametrize("length, body", [("Content-Length: 2", b"{}"), ("Transfer-Encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n")])
def test_who_asks_first_is_told_to_go_on(server, unchanged, length, body):
    """curl does so with every body over a megabyte, and waits a second for the word. The answer itself comes after it."""
    first, second = asked(server, f"POST /api/tasks HTTP/1.1\r\n{length}\r\nConnection: close", [body])
    assert first == "HTTP/1.1 100 Continue\r\n\r\n"
    assert second.startswith("HTTP/1.1 422 ")


def test_who_asks_first_need_not_send_what_is_refused(server, unchanged):
    answer, = asked(server, f"POST /api/tasks HTTP/1.1\r\nContent-Length: {2 << 20}", [])
    assert answer.startswith("HTTP/1.1 413 ") and "100 Continue" not in answer and "1048576" in answer


@pytest.mark.parametrize("head, status", [("POST /api/tasks HTTP/1.0\r\nContent-Length: 2", 422),
                                          ("POST /api/tasks HTTP/1.1\r\nContent-Length: 0\r\nConnection: close", 400),
                                          ("GET /health HTTP/1.1\r\nConnection: close", 200)])
def test_nobody_else_hears_of_it(server, unchanged, head, status):
    """HTTP/1.0 knows no answer before the answer, and what has no body needs none."""
    answer = raw(server, head + "\r\nExpect: 100-continue", b"{}" if "Length: 2" in head else b"")
    assert re.match(r"HTTP/1\.[01] (\d+) ", answer)[1] == str(status) and answer.count("HTTP/1.") == 1, answer


def test_each_status_has_its_phrase(server, unchanged):
    """Clients show it as the reason: aiohttp, and with it Open WebUI, has no other."""
    answers = [server.client.post("/api/tasks", json={"prompt": 5}), server.get("/health", headers={"Host": "elsewhere.example"}),
               server.client.options("/api/tasks"), server.get("/health"), server.get("/nowhere")]
    assert [(a.status_code, a.reason_phrase) for a in answers] == [
        (422, "Unprocessable Content"), (421, "Misdirected Request"), (204, "No Content"), (200, "OK"), (404, "Not Found")]


def test_other_fields_of_openai_are_ignored(server):
    body = {"prompt": "x", "quality": "high", "style": "vivid", "background": "auto", "user": "me", "moderation": "low", "n": None,
            "some_future_field": {"a": 1}}
    answer = server.client.post("/v1/images/generations", json=body)
    assert answer.status_code == 200
