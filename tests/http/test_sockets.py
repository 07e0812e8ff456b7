"""WebSockets: who may open one, what they take, and what becomes of clients that vanish, flood or do not read."""
import json
import socket
import uuid

import pytest
from comfy import Listener, submit, text_to_image
from conftest import until
from test_auth import add_key
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
UPGRADE = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" + KEY


@pytest.fixture
def server(gradients):
    return gradients


def raw(server, head, path="/ws"):
    """A socket to which a request for `path` with these headers was written."""
    host, port = server.address.rsplit(":", 1)
    made = socket.create_connection((host, int(port)), timeout=60)
    made.sendall(f"GET {path} HTTP/1.1\r\nHost: {server.address}\r\n{head}\r\n".encode())
    return made


def read_head(made):
    data = b""
    while b"\r\n\r\n" not in data:
        piece = made.recv(1)
        assert piece, data
        data += piece
    return data.decode()


def read_exactly(made, size):
    data = b""
    while len(data) < size:
        piece = made.recv(size - len(data))
        assert piece, data
        data += piece
    return data


def read_frame(made):
    """(kind, bytes) of a whole message: the server sends none in fragments."""
    first, size = read_exactly(made, 2)
    if size == 126:
        size = int.from_bytes(read_exactly(made, 2), "big")
    elif size == 127:
        size = int.from_bytes(read_exactly(made, 8), "big")
    assert first & 0x80
    return first & 0x0F, read_exactly(made, size)


def refused_with(server, **how):
    with pytest.raises(InvalidStatus) as refusal, connect(f"ws://{server.address}/ws", **how):
        pass
    return refusal.value.response


def test_a_socket_opens_at_both_addresses(server):
    for path in ("/ws", "/api/ws"):
        with Listener(server, path) as client:
            assert client.next() == ("status", {"status": {"exec_info": {"queue_remaining": 0}}, "sid": client.id})


def test_a_client_without_a_name_gets_one(server):
    with connect(f"ws://{server.address}/ws") as client:
        assert len(json.loads(client.recv(timeout=30))["data"]["sid"]) >= 16


def test_long_names_come_through_whole(server):
    """Values over 255 bytes used to be lost without a word."""
    answer = server.get("/view", params={"filename": "x" * 140 + "_00001_.png", "subfolder": "y" * 150, "type": "output"})
    assert answer.status_code == 404 and "y" * 150 in answer.text
    assert server.get("/api/tasks", params={"status": "z" * 2000}).status_code == 422


@pytest.mark.parametrize("head", [
    UPGRADE.replace("13", "8"),
    UPGRADE.replace(KEY, ""),
    UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"),
    UPGRADE.replace("Connection: keep-alive, Upgrade", "Connection: keep-alive"),
    UPGRADE + "Sec-WebSocket-Protocol: watch\r\n",  # the name of a part of the server's inside
    UPGRADE + "Sec-WebSocket-Protocol: http\r\n",
    "",
])
def test_what_is_no_proper_wish_is_answered_as_a_request(server, head):
    made = raw(server, head)
    assert read_head(made).startswith("HTTP/1.1 426 ")
    made.close()


def test_where_there_is_no_socket_the_wish_is_ignored(server):
    made = raw(server, UPGRADE, "/health")
    assert read_head(made).startswith("HTTP/1.1 200 ")
    made.close()
    made = raw(server, UPGRADE, "/nothing")
    assert read_head(made).startswith("HTTP/1.1 404 ")
    made.close()


def test_a_connection_lives_on_after_a_refused_wish(server):
    made = raw(server, UPGRADE, "/health/nothing")
    head = read_head(made)
    assert head.startswith("HTTP/1.1 404 ")
    length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
    while length > 0:
        length -= len(made.recv(length))
    made.sendall(f"GET /health HTTP/1.1\r\nHost: {server.address}\r\n\r\n".encode())
    assert read_head(made).startswith("HTTP/1.1 200 ")
    made.close()


def test_pages_of_other_sites_get_no_socket(server):
    response = refused_with(server, origin="http://evil.example")
    assert response.status_code == 403 and b"IMAGINED_ALLOWED_ORIGINS" in response.body
    with connect(f"ws://{server.address}/ws", origin=f"http://{server.address}") as client:
        client.recv(timeout=30)
    assert refused_with(server, additional_headers={"Host": "evil.example"}).status_code == 421


def test_a_socket_needs_a_key_where_requests_do(make_server, tmp_path):
    keys = tmp_path / "keys"
    made = {name: add_key(keys, name) for name in ("ann", "bob")}
    server = make_server(IMAGINED_API_KEYS_FILE=keys, IMAGINED_LOOPBACK_NEEDS_KEY="true")
    assert refused_with(server).status_code == 401
    headers = {name: {"Authorization": f"Bearer {key}"} for name, key in made.items()}
    with Listener(server, additional_headers=headers["ann"]) as ann, Listener(server, additional_headers=headers["bob"]) as bob:
        assert ann.next()[0] == bob.next()[0] == "status"
        # Bob names Ann's socket as his client: she must not hear of his prompt, nor he of hers.
        server.client.headers = headers["bob"]
        submit(server, text_to_image(), ann)
        theirs = submit(server, text_to_image(seed=8), bob)
        heard = bob.until_done(theirs)
        assert max(data["status"]["exec_info"]["queue_remaining"] for kind, data in heard if kind == "status") >= 1
        server.client.headers = headers["ann"]
        mine = submit(server, text_to_image(seed=9), ann)
        heard = ann.until_done(mine)
        assert {data["prompt_id"] for kind, data in heard if kind != "status"} == {mine}
        assert list(server.get("/history").json()) == [mine]


@pytest.mark.parametrize("message, code", [("x" * 70_000, 1009), (b"x" * 70_000, 1009)])
def test_too_long_a_message_ends_the_socket(server, message, code):
    with connect(f"ws://{server.address}/ws") as client:
        client.send(message)
        with pytest.raises(ConnectionClosed) as end:
            while True:
                client.recv(timeout=30)
        assert end.value.rcvd.code == code
    assert server.get("/health").status_code == 200


def test_what_makes_no_sense_is_ignored(server):
    with Listener(server) as client:
        client.next()
        for message in ("", "{", "[]", '{"type": 3}', b"\x00\xff", '{"type": "feature_flags"}', '"x"'):
            client.socket.send(message)
        assert client.next()[0] == "feature_flags"
        client.socket.send(iter(['{"type": "fea', 'ture_flags", "data": {"supports_preview_metadata": true}}']))  # in fragments
        assert client.next() == ("feature_flags", server.get("/features").json())


def test_a_silent_client_is_pinged(server):
    made = raw(server, UPGRADE)
    assert read_head(made).startswith("HTTP/1.1 101 ")
    while True:
        kind, size = made.recv(2)
        if kind == 0x89:  # a ping
            break
        assert size < 126
        made.recv(size)
    made.close()


def test_a_server_that_stops_says_goodbye(make_server):
    server = make_server()
    with Listener(server) as client:
        client.next()
        assert server.stop() == 0
        with pytest.raises(ConnectionClosed) as end:
            client.socket.recv(timeout=30)
        assert end.value.rcvd.code == 1001


def test_clients_that_vanish_cost_nothing(server):
    for _ in range(50):
        made = raw(server, UPGRADE)
        read_head(made)
        made.close()
    with Listener(server) as client:
        client.next()
        client.until_done(submit(server, text_to_image(seed=77), client))


def test_a_client_that_reads_late_misses_previews_and_nothing_else(server):
    """Two sockets of one client: the one that does not read while the picture is made hears every word of it later, but sees fewer of its previews than the other."""
    name = str(uuid.uuid4())
    late = socket.socket()
    late.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = server.address.rsplit(":", 1)
    late.connect((host, int(port)))
    late.settimeout(60)
    late.sendall(f"GET /ws?clientId={name} HTTP/1.1\r\nHost: {server.address}\r\n{UPGRADE}\r\n".encode())
    read_head(late)
    with Listener(server, name=name) as soon:
        soon.next()
        prompt_id = submit(server, text_to_image("slow", seed=4712, steps=150), soon, extra_data={"preview_method": "auto"})
        heard = soon.until_done(prompt_id)
    texts, previews = [], 0
    while not texts or texts[-1][0] != "executing" or texts[-1][1]["node"] is not None:
        kind, message = read_frame(late)
        if kind == 2:
            previews += 1
        else:
            texts.append((json.loads(message)["type"], json.loads(message)["data"]))
    late.close()
    own = [entry for entry in heard if entry[0] not in ("preview", "status")]
    assert [entry for entry in texts if entry[0] != "status"] == own
    assert 0 < previews < len([entry for entry in heard if entry[0] == "preview"])


def test_a_client_that_does_not_read_is_given_up(server):
    """It hears of prompts that tell of 250 nodes each, over and over, and takes nothing of it."""
    graph = text_to_image(seed=4711)
    last = "6"
    for i in range(240):
        name = f"{i:03d}" + "n" * 60
        graph[name] = {"class_type": "FluxGuidance", "inputs": {"conditioning": [last, 0], "guidance": 3.5}}
        last = name
    graph["3"]["inputs"]["positive"] = [last, 0]
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = server.address.rsplit(":", 1)
    slow.connect((host, int(port)))
    name = str(uuid.uuid4())
    slow.sendall(f"GET /ws?clientId={name} HTTP/1.1\r\nHost: {server.address}\r\n{UPGRADE}\r\n".encode())
    slow.settimeout(30)
    read_head(slow)
    with Listener(server) as fast:
        fast.until_done(submit(server, graph, fast))

        def flood():
            submit(server, graph, client=type("Slow", (), {"id": name}))
            return gone()

        def gone():
            """Whether the server has closed: then what it did not send is lost, and the connection ends early."""
            slow.setblocking(False)
            try:
                return slow.send(b"\x8a\x80aaaa") < 0  # a pong
            except BlockingIOError:
                return False
            except OSError:
                return True

        until(flood, 60)
        fast.until_done(submit(server, graph, fast))
    slow.close()
    assert server.get("/health").status_code == 200
