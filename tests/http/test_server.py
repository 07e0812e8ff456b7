"""The server's own life: starting, refusing to start, draining, ending; and clients that are slow or rude."""
import io
import os
import signal
import socket
import stat
import subprocess
import threading

import httpx
import pytest
from conftest import until
from PIL import Image


@pytest.fixture(scope="module")
def server(gradients):
    return gradients


def test_the_greeting_and_its_curl_line(make_server):
    server = make_server()
    assert "is listening on http://127.0.0.1:" in server.greeting
    server.process.stdout.readline()
    line = server.process.stdout.readline().decode().strip()
    assert line.startswith("curl")
    subprocess.run(["sh", "-c", line], cwd=server.folder, check=True)
    assert (server.folder / "fox.png").read_bytes().startswith(b"\x89PNG")


def test_a_port_in_use(make_server):
    first = make_server()
    second = make_server(listen=first.address, wait=False)
    assert second.process.wait(10) == 1
    text = second.log.read_text()
    assert first.address in text and "in use" in text and len(text.strip().splitlines()) == 1


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:x", ":", "::1:80", "[::1:80",
                                    "no.such.host.invalid:80"])
def test_addresses_that_are_none(make_server, listen):
    server = make_server(listen=listen, wait=False)
    assert server.process.wait(20) == 1
    assert listen in server.log.read_text()


def test_an_address_of_another_machine(make_server):
    server = make_server(listen="192.0.2.1:0", wait=False)
    assert server.process.wait(20) == 1
    assert "192.0.2.1:0: this machine has no such address" in server.log.read_text()


def test_models_that_are_not_there_are_told_at_the_start(make_server):
    server = make_server(IMAGINED_DEFAULT_MODEL="flux")
    server.get("/health")  # by its answer all is said
    text = server.log.read_text()
    assert "the default model (--default-model): there is no model 'flux'; there is demo" in text
    assert f"there is no models folder {server.folder}/models" in text


def test_ipv6_and_localhost(make_server):
    for listen in ("[::1]:0", "localhost:0"):
        assert make_server(listen=listen).client.get("/health").status_code == 200


def test_an_unusable_state_folder(make_server, tmp_path):
    (tmp_path / "file").write_text("")
    server = make_server(wait=False, STATE=tmp_path / "file" / "state")
    assert server.process.wait(10) == 1
    text = server.log.read_text()
    assert str(tmp_path / "file") in text and "--state" in text and len(text.strip().splitlines()) == 1


def test_the_state_folder_is_private(make_server):
    server = make_server()
    assert stat.S_IMODE((server.folder / "state").stat().st_mode) == 0o700


def test_a_drain_lets_running_tasks_end(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=1)
    running = server.submit("slow", num_inference_steps=20)
    server.wait_status(running, "running")
    queued = server.submit("x")
    answers = []
    url = server.url + "/v1/images/generations"
    waiting = threading.Thread(target=lambda: answers.append(httpx.post(url, json={"prompt": "x"}, timeout=20)))
    waiting.start()
    until(lambda: server.client.get("/health").json()["queued"] == 2)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: server.client.get("/health").json()["status"] == "draining")
    assert server.client.post("/api/tasks", json={"prompt": "x"}).status_code == 503
    assert server.client.post("/v1/images/generations", json={"prompt": "x"}).status_code == 503
    assert server.client.get("/health/ready").status_code == 503
    waiting.join()
    assert answers[0].status_code == 503, "one that waits for a queued task is told"
    assert server.task(queued)["status"] == "queued"
    assert server.process.wait(20) == 0
    assert (server.folder / "state" / "images" / f"{running}-0.png").exists()


def bytes_on_their_way(local, remote):
    """Of a connection's end at the first port, in the system's hands: those not yet taken by the other end, and those not yet read at this one."""
    for line in open("/proc/net/tcp").read().splitlines()[1:]:
        _, at, to, _, queues = line.split()[:5]
        if (at.split(":")[1], to.split(":")[1]) == (f"{local:04X}", f"{remote:04X}"):
            return [int(n, 16) for n in queues.split(":")]


def test_a_drain_answers_who_brings_a_picture(make_server):
    server = make_server()
    out = io.BytesIO()
    Image.effect_noise((3000, 3000), 90).convert("RGB").save(out, "PNG", compress_level=1)  # it takes the worker a while
    port = int(server.address.split(":")[1])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        own = client.getsockname()[1]
        client.sendall(b"POST /api/images HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % out.tell() + out.getvalue())
        until(lambda: bytes_on_their_way(own, port)[0] == 0 and bytes_on_their_way(port, own)[1] == 0)  # the server has all of it
        server.process.send_signal(signal.SIGTERM)
        assert client.recv(4096).startswith(b"HTTP/1.1 201 ")
    assert server.process.wait(20) == 0


def test_a_drain_ends_when_its_engine_dies(make_server):
    server = make_server()
    answers = []
    url = server.url + "/v1/images/generations"
    body = {"prompt": "slow", "num_inference_steps": 1000}
    waiting = threading.Thread(target=lambda: answers.append(httpx.post(url, json=body, timeout=20)))
    waiting.start()
    until(lambda: server.client.get("/health").json()["active"] == 1)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: server.client.get("/health").json()["status"] == "draining")
    os.kill(server.engine_pid(), signal.SIGKILL)
    waiting.join()
    assert answers[0].status_code == 503
    assert server.process.wait(20) == 0


def test_a_second_signal_ends_at_once(make_server):
    server = make_server()
    running = server.submit("slow", num_inference_steps=1000)
    server.wait_status(running, "running")
    engine = server.engine_pid()
    server.process.send_signal(signal.SIGINT)
    until(lambda: server.client.get("/health").json()["status"] == "draining")
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(5) == 0
    assert not os.path.exists(f"/proc/{engine}")


def test_a_killed_front_takes_its_engine_along(make_server):
    server = make_server()
    server.wait_ready()
    engine = server.engine_pid()
    server.process.kill()
    until(lambda: not os.path.exists(f"/proc/{engine}"))


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(make_server, tmp_path, abstract):
    path = f"@imagined-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + path[1:] if abstract else path)
        listener.settimeout(10)
        server = make_server(NOTIFY_SOCKET=path)
        assert listener.recv(100) == b"READY=1"
        assert server.stop() == 0
        assert listener.recv(100) == b"STOPPING=1"


# --- clients ---

def connect(server):
    host, port = server.address.rsplit(":", 1)
    s = socket.create_connection((host, int(port)), timeout=10)
    return s


def receive(s):
    data = b""
    try:
        while chunk := s.recv(65536):
            data += chunk
    except TimeoutError:
        pass
    return data


REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_requests_in_pieces_and_one_after_the_other(server):
    with connect(server) as s:
        for byte in REQUEST.replace(b"Connection: close\r\n", b""):
            s.sendall(bytes([byte]))
        s.sendall(REQUEST)
        assert receive(s).count(b"HTTP/1.1 200") == 2


def test_requests_sent_ahead(server):
    with connect(server) as s:
        s.sendall(REQUEST.replace(b"Connection: close\r\n", b"") * 5 + REQUEST)
        assert receive(s).count(b"HTTP/1.1 200") == 6


@pytest.mark.parametrize("request_bytes, status", [
    (b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\nhello", b" 400"),
    (b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n\r\nhello", b" 400"),
    (b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\nhello", b" 400"),
    (b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000000\r\n\r\nhello", b" 413"),
    (b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2 \t\r\n\r\n{}", b" 422"),
    (b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n", b" 400"),
    (b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", b" 400"),
    (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b" 414"),
    (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 100000 + b"\r\n\r\n", b""),
    (b"FOO / HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
    (b"\0\1\2\3\r\n\r\n", b""),
    (b"GET /api/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
    (b"GET /api/%ff%fe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b" 404"),
    (b"GET /health HTTP/1.0\r\n\r\n", b" 200"),
    (b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", b" 200"),
], ids=str)
def test_rude_requests(server, request_bytes, status):
    with connect(server) as s:
        s.settimeout(1)
        try:
            s.sendall(request_bytes)
            answer = receive(s)
        except ConnectionError:
            answer = b""
        assert status in answer[:40]
        assert b" 500" not in answer[:40]
    assert server.client.get("/health").status_code == 200


def test_an_upgrade_is_not_taken(server):
    with connect(server) as s:
        s.sendall(REQUEST.replace(b"Connection: close", b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"))
        s.settimeout(1)
        assert receive(s).startswith(b"HTTP/1.1 200")


def test_request_ids_are_echoed(server):
    assert server.client.get("/health", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
    for bad in ("a b", "a\"b", "x" * 100):
        assert server.client.get("/health", headers={"X-Request-Id": bad}).headers["x-request-id"].startswith("req_")


def test_a_client_that_does_not_read_holds_nobody_up(server):
    task = server.finish(server.submit("x", width=2048, height=2048))
    size = len(server.image(task["images"][0]["id"]))
    with connect(server) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall(f"GET {task['images'][0]['url']} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        for _ in range(20):
            assert server.client.get("/health", timeout=5).status_code == 200
        data = receive(s)
        assert len(data) - data.index(b"\r\n\r\n") - 4 == size


def test_clients_that_vanish(server):
    for _ in range(50):
        with connect(server) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closing resets
            s.sendall(b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    for _ in range(20):
        with connect(server) as s:
            s.sendall(b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n" + b'{"prompt": "x"}')
    assert server.client.get("/health").status_code == 200


def test_many_idle_connections(server):
    idle = [connect(server) for _ in range(300)]
    assert server.client.get("/health").status_code == 200
    for s in idle:
        s.close()
    until(lambda: len(os.listdir(f"/proc/{server.process.pid}/fd")) < 100)
