"""The gate: names, pages, keys, and whose tasks are whose. A request "from elsewhere" is one that a proxy says it passes on."""
import io
import os
import pty
import re
import signal
import socket
import stat
import subprocess

import httpx
import openai
import pytest
from PIL import Image

from conftest import BINARY, until

AWAY = {"X-Forwarded-For": "203.0.113.9"}


def add_key(path, name):
    made = subprocess.run([BINARY, "keys", "add", name, "--api-keys-file", str(path)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def bearer(key, **more):
    return {**AWAY, "Authorization": f"Bearer {key}", **more}


@pytest.fixture
def guarded(make_server, tmp_path):
    """A server with keys of anna and ben."""
    path = tmp_path / "keys"
    anna, ben = add_key(path, "anna"), add_key(path, "ben")

    def make(**environment):
        server = make_server(IMAGINED_API_KEYS_FILE=path, **environment)
        server.keys_file, server.anna, server.ben = path, anna, ben
        return server

    return make


def raw(server, text):
    """The status line's number: of requests that no client library would send."""
    host, port = server.address.rsplit(":", 1)
    with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as s:
        s.sendall(text.replace("\n", "\r\n").encode())
        return int(s.recv(4096).split()[1])


# --- keys ---


def test_from_elsewhere_a_key_is_needed_and_health_is_open(guarded):
    server = guarded()
    for headers in (AWAY, {"Forwarded": "for=203.0.113.9"}, {"X-Real-IP": "203.0.113.9"}, bearer("wrong"), {**AWAY, "Authorization": "Basic !"}):
        answer = server.get("/api/tasks", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "unauthorized" and answer.json()["status"] == 401
        assert "Bearer" in answer.headers["www-authenticate"] and "Basic" in answer.headers["www-authenticate"]
    for path in ("/api/system/stats", "/nothing", "/metrics", "/uix", "/api/ui/app.js"):
        assert server.get(path, headers=AWAY).status_code == 401
    assert server.post("/api/tasks", json={"prompt": "x"}, headers=AWAY).status_code == 401
    assert server.post("/api/system/cleanup", headers=AWAY).status_code == 401
    assert server.get("/health", headers=AWAY).status_code == 200
    assert server.get("/health/ready", headers=AWAY).status_code in (200, 503)
    assert server.get("/health/", headers=AWAY).status_code == 401
    # The page's files are open, and nothing else that is named like them.
    assert server.get("/", headers=AWAY).status_code == server.get("/ui/app.js", headers=AWAY).status_code == 200
    assert server.get("/ui/../api/tasks", headers=AWAY).status_code in (401, 404)
    assert server.post("/", headers=AWAY).status_code == 401
    assert server.get("/api/tasks", headers=bearer(server.anna)).status_code == 200


def test_below_v1_the_refusal_has_openais_shape(guarded):
    server = guarded()
    answer = server.get("/v1/models", headers=AWAY)
    assert answer.status_code == 401 and "www-authenticate" in answer.headers
    assert answer.json()["error"]["code"] == "invalid_api_key"
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="wrong", default_headers=AWAY, max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        client.models.list()
    client = openai.OpenAI(base_url=server.url + "/v1", api_key=server.ben, default_headers=AWAY, max_retries=0)
    assert "demo" in [m.id for m in client.models.list()]


def test_the_key_may_be_basics_password_or_its_name_alone(guarded):
    server = guarded()
    assert server.get("/api/tasks", headers=AWAY, auth=("anyone", server.anna)).status_code == 200
    assert server.get("/api/tasks", headers=AWAY, auth=("", server.anna)).status_code == 200
    assert server.get("/api/tasks", headers=AWAY, auth=(server.anna, "")).status_code == 200
    for name, password in (("anna", "wrong"), ("anna", ""), ("", ""), (server.anna, "wrong")):
        assert server.get("/api/tasks", headers=AWAY, auth=(name, password)).status_code == 401, (name, password)


def test_the_key_may_come_as_azures_clients_send_it(guarded):
    server = guarded()
    task = server.post("/api/tasks", json={"prompt": "x"}, headers={**AWAY, "api-key": server.anna}).json()
    assert server.get(f"/api/tasks/{task['id']}", headers=bearer(server.anna)).status_code == 200
    assert server.get(f"/api/tasks/{task['id']}", headers={**AWAY, "Api-Key": server.ben}).status_code == 404
    assert server.get("/api/tasks", headers={**AWAY, "api-key": "wrong"}).status_code == 401
    assert server.get("/api/tasks", headers={**AWAY, "api-key": ""}).status_code == 401
    assert server.get("/api/tasks", headers=bearer("none", **{"api-key": server.ben})).status_code == 200


@pytest.mark.parametrize("length", ["Content-Length: 30000000", "Transfer-Encoding: chunked"])
def test_who_asks_before_sending_hears_that_a_key_is_needed(guarded, length):
    """And need not send a picture of 30 MB to learn it."""
    server = guarded()
    head = f"POST /api/images HTTP/1.1\nHost: {server.address}\nX-Real-IP: 203.0.113.9\n{length}\nExpect: 100-continue\n"
    assert raw(server, head + "\n") == 401
    assert raw(server, head + f"Authorization: Bearer {server.anna}\n\n") == 100


def test_this_machine_needs_none_unless_told_so(guarded):
    assert guarded().get("/api/tasks").status_code == 200
    server = guarded(IMAGINED_LOOPBACK_NEEDS_KEY="true")
    assert server.get("/api/tasks").status_code == 401
    assert server.get("/health").status_code == 200
    assert server.get("/api/tasks", headers={"Authorization": f"Bearer {server.anna}"}).status_code == 200


def test_a_server_that_is_open_to_all_says_so(make_server, guarded):
    servers = (make_server(listen="0.0.0.0:0"), make_server(), make_server(listen="[::1]:0"), guarded(listen="0.0.0.0:0"))
    for server in servers:
        server.get("/health")  # by its answer all is said
    assert ["whoever reaches 0.0.0.0:" in server.log.read_text() for server in servers] == [True, False, False, False]


def test_another_address_of_this_machine_is_not_loopback(guarded):
    """A connection to this machine's own outer address comes from that address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but the loopback's")
        outer = s.getsockname()[0]
    server = guarded(listen="0.0.0.0:0")
    port = server.address.rsplit(":", 1)[1]
    assert httpx.get(f"http://{outer}:{port}/api/tasks").status_code == 401
    assert httpx.get(f"http://{outer}:{port}/api/tasks", headers={"Authorization": f"Bearer {server.anna}"}).status_code == 200
    assert httpx.get(f"http://127.0.0.1:{port}/api/tasks").status_code == 200


def test_without_keys_any_authorization_is_taken(gradients):
    for headers in (AWAY, bearer("none"), {**AWAY, "Authorization": "nonsense"}):
        assert gradients.get("/api/tasks", headers=headers).status_code == 200


def test_tasks_and_images_are_their_keys_own(guarded):
    server = guarded()
    anna, ben = bearer(server.anna), bearer(server.ben)
    made = server.post("/api/tasks", json={"prompt": "a fox"}, headers={**anna, "Prefer": "wait=30"}).json()
    assert made["status"] == "completed"
    bens = server.post("/api/tasks", json={"prompt": "a hen"}, headers={**ben, "Prefer": "wait=30"}).json()
    alone = server.finish(server.submit("an owl"))
    image = made["images"][0]["url"]
    assert server.get(image, headers=anna).status_code == 200
    assert server.get(f"/api/tasks/{made['id']}", headers=anna).status_code == 200
    for how, path in (("GET", image), ("GET", f"/api/tasks/{made['id']}"), ("DELETE", f"/api/tasks/{made['id']}"),
                      ("GET", f"/api/tasks/{made['id']}/events"), ("GET", alone["images"][0]["url"]), ("GET", f"/api/tasks/{alone['id']}")):
        assert server.client.request(how, path, headers=ben).status_code == 404, path
    foreign = server.client.patch(f"/api/tasks/{made['id']}", json={"priority": "high"}, headers=ben)
    none = server.client.patch("/api/tasks/01M85RAHCXNV0FKR44ED86FNP7", json={"priority": "high"}, headers=ben)
    assert foreign.status_code == none.status_code == 404
    assert foreign.json()["detail"].replace(made["id"], "") == none.json()["detail"].replace("01M85RAHCXNV0FKR44ED86FNP7", "")

    # A preview too, while there is one.
    running = server.post("/api/tasks", json={"prompt": "slow", "num_inference_steps": 500}, headers=anna).json()["id"]
    until(lambda: server.get(f"/api/tasks/{running}/preview", headers=anna).status_code == 200)
    assert server.get(f"/api/tasks/{running}/preview", headers=ben).status_code == 404
    assert server.get(f"/api/tasks/{running}/preview").status_code == 200
    assert server.client.delete(f"/api/tasks/{running}", headers=anna).status_code in (200, 202)
    server.finish(running)

    def listed(headers):
        return [t["id"] for t in server.get("/api/tasks", headers=headers).json()["tasks"]]

    assert listed(anna) == [running, made["id"]] and listed(ben) == [bens["id"]]
    assert listed({}) == [running, alone["id"], bens["id"], made["id"]]
    assert server.get(image).status_code == 200

    def pictures(headers):
        return [i["task"] for i in server.get("/api/images?kind=picture", headers=headers).json()["images"]]

    assert pictures(anna) == [made["id"]] and pictures(ben) == [bens["id"]]
    assert pictures({}) == [alone["id"], bens["id"], made["id"]]
    uploaded = server.post("/api/images", content=server.get(image).content, headers=anna).json()["url"]
    assert server.client.delete(uploaded, headers=ben).status_code == 404
    assert [i["kind"] for i in server.get("/api/images", headers=ben).json()["images"]] == ["picture"]
    assert server.get(uploaded, headers=AWAY).status_code == 401
    assert server.get(uploaded, headers=anna).status_code == 200
    assert server.client.delete(image, headers=ben).status_code == 404
    for headers, status in ((ben, 422), (anna, 202), ({}, 202)):  # as the beginning of another
        assert server.post("/api/tasks", json={"prompt": "a fox", "image": image}, headers=headers).status_code == status
    foreign = server.post("/api/tasks", json={"prompt": "a fox", "image": image}, headers=ben)
    none = server.post("/api/tasks", json={"prompt": "a fox", "image": "/api/images/01M85RAHCXNV0FKR44ED86FNP7-0"}, headers=ben)
    assert foreign.json() == none.json()
    assert server.client.delete(image, headers=anna).status_code == 204


def test_keys_own_their_tasks_after_a_restart(guarded, tmp_path):
    state = tmp_path / "state"
    first = guarded(STATE=state)
    made = first.post("/api/tasks", json={"prompt": "a fox"}, headers={**bearer(first.anna), "Prefer": "wait=30"}).json()
    assert first.stop() == 0
    again = guarded(STATE=state)
    path = f"/api/tasks/{made['id']}"
    assert again.get(path, headers=bearer(again.anna)).json()["status"] == "completed"
    assert again.get(path, headers=bearer(again.ben)).status_code == 404


def test_events_tell_a_key_of_its_own_tasks_only(guarded):
    server = guarded()
    with server.client.stream("GET", "/api/events", headers=bearer(server.ben)) as stream:
        lines = stream.iter_lines()
        while next(lines) != "event: state":
            pass
        annas = server.post("/api/tasks", json={"prompt": "a fox"}, headers={**bearer(server.anna), "Prefer": "wait=30"}).json()["id"]
        bens = server.post("/api/tasks", json={"prompt": "a hen"}, headers=bearer(server.ben)).json()["id"]
        seen = []
        for line in lines:
            seen.append(line)
            if line == "event: completed":
                seen.append(next(lines))
                break
    assert any(bens in line for line in seen) and not any(annas in line for line in seen)


def test_idempotency_keys_of_others_mean_nothing(guarded):
    server = guarded()
    body = {"prompt": "a fox"}
    ids = {name: server.post("/api/tasks", json=body, headers=bearer(key, **{"Idempotency-Key": "same"})).json()["id"]
           for name, key in (("anna", server.anna), ("ben", server.ben))}
    assert ids["anna"] != ids["ben"]
    again = server.post("/api/tasks", json=body, headers=bearer(server.anna, **{"Idempotency-Key": "same"}))
    assert again.json()["id"] == ids["anna"]


def test_keys_are_read_again_on_sighup(guarded):
    server = guarded()
    cora = add_key(server.keys_file, "cora")
    assert server.get("/api/tasks", headers=bearer(cora)).status_code == 401
    server.process.send_signal(signal.SIGHUP)
    until(lambda: server.get("/api/tasks", headers=bearer(cora)).status_code == 200)
    kept = server.keys_file.read_text()
    server.keys_file.write_text("nonsense\n")
    server.process.send_signal(signal.SIGHUP)
    until(lambda: "the API keys stay as they were" in server.log.read_text())
    assert server.get("/api/tasks", headers=bearer(cora)).status_code == 200
    server.keys_file.write_text("".join(line for line in kept.splitlines(True) if not line.startswith("anna:")))
    server.process.send_signal(signal.SIGHUP)
    until(lambda: server.get("/api/tasks", headers=bearer(server.anna)).status_code == 401)
    assert server.get("/api/tasks", headers=bearer(cora)).status_code == 200


def test_sighup_ends_no_daemon_without_keys(make_server):
    """As one that has nothing to read again: a service manager would take its end for a clean one and leave it at that."""
    server = make_server()
    server.process.send_signal(signal.SIGHUP)
    until(lambda: "no file of API keys" in server.log.read_text())
    assert server.get("/health").status_code == 200


def test_sighup_ends_a_server_without_keys_whose_terminal_is_closed(tmp_path):
    parent, child = pty.openpty()
    process = subprocess.Popen([BINARY, "serve", "--listen", "127.0.0.1:0", "--state", tmp_path / "state"], stdin=child, stdout=child, stderr=child,
                               preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))  # ignored where the tests run under nohup
    os.close(child)
    said = b""
    while b"is listening" not in said:
        said += os.read(parent, 4096)
    process.send_signal(signal.SIGHUP)
    assert process.wait(20) == -signal.SIGHUP
    os.close(parent)


def test_sighup_ends_no_server_with_keys_whose_terminal_is_closed(tmp_path):
    add_key(tmp_path / "keys", "anna")
    parent, child = pty.openpty()
    process = subprocess.Popen([BINARY, "serve", "--listen", "127.0.0.1:0", "--state", tmp_path / "state", "--api-keys-file", tmp_path / "keys"],
                               stdin=child, stdout=child, stderr=child)
    os.close(child)
    said = b""
    while not (found := re.search(rb"is listening on (http://[0-9.:]+)\s", said)):
        said += os.read(parent, 4096)
    address = found[1].decode()
    os.close(parent)
    ben = add_key(tmp_path / "keys", "ben")
    process.send_signal(signal.SIGHUP)
    try:
        # From elsewhere, which needs a key: the new one is known.
        until(lambda: httpx.get(address + "/api/tasks", headers=bearer(ben)).status_code == 200)
    finally:
        process.terminate()
        assert process.wait(40) == 0


def test_a_file_that_cannot_be_read_opens_no_door(make_server, tmp_path):
    bad = tmp_path / "bad"
    bad.write_text("anna\n")
    for environment, said in (({"IMAGINED_API_KEYS_FILE": tmp_path / "none"}, "imagined keys add"), ({"IMAGINED_API_KEYS_FILE": bad}, "bad:1:"),
                              ({"IMAGINED_LOOPBACK_NEEDS_KEY": "true"}, "IMAGINED_API_KEYS_FILE"), ({"IMAGINED_ALLOWED_HOSTS": "*"}, "IMAGINED_ALLOWED_HOSTS"),
                              ({"IMAGINED_ALLOWED_ORIGINS": "null"}, "IMAGINED_ALLOWED_ORIGINS")):
        server = make_server(wait=False, **environment)
        assert server.process.wait(20) == 1
        assert said in server.log.read_text()
    (tmp_path / "empty").write_text("# nobody yet\n")
    server = make_server(IMAGINED_API_KEYS_FILE=tmp_path / "empty")
    assert server.get("/api/tasks", headers=AWAY).status_code == 401


def test_keys_add_prints_the_key_and_stores_its_hash(tmp_path):
    path = tmp_path / "keys"
    key = add_key(path, "anna")
    assert key not in path.read_text() and path.read_text().startswith("anna:")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(tmp_path) == ["keys"]
    for arguments in (["add", "anna", "--api-keys-file", path], ["add", "a:b", "--api-keys-file", path], ["add", "ben"], ["drop", "anna", "--api-keys-file", path], ["add"]):
        refused = subprocess.run([BINARY, "keys", *map(str, arguments)], capture_output=True, text=True)
        assert refused.returncode == 2 and refused.stdout == "" and refused.stderr, arguments
    assert len(path.read_text().splitlines()) == 1


# --- names and pages ---


def test_names_that_are_not_the_servers_are_refused(make_server):
    server = make_server(IMAGINED_ALLOWED_HOSTS="pictures.example, other.example:8080")
    for host, status in (("127.0.0.1", 200), ("[::1]:7860", 200), ("LOCALHOST:1", 200), ("Pictures.Example", 200), ("pictures.example.:99", 200), ("other.example:8080", 200),
                         ("other.example", 421), ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("localhost.evil.example:7860", 421), ("a b", 421)):
        assert raw(server, f"GET /health HTTP/1.1\nHost: {host}\n\n") == status, host
        assert raw(server, f"GET /v1/models HTTP/1.1\nHost: {host}\n\n") == status, host
    answer = server.get("/api/tasks", headers={"Host": "evil.example"})
    assert answer.status_code == 421 and answer.json()["code"] == "forbidden" and "IMAGINED_ALLOWED_HOSTS" in answer.json()["detail"]
    assert "error" in server.get("/v1/models", headers={"Host": "evil.example"}).json()


def test_pages_of_others_change_nothing(make_server):
    server = make_server(IMAGINED_ALLOWED_ORIGINS="https://pictures.example")
    for origin in ("https://evil.example", "null", "http://pictures.example", "http://127.0.0.1:1", f"http://{server.address}.evil.example"):
        answer = server.post("/api/tasks", json={"prompt": "x"}, headers={"Origin": origin})
        assert answer.status_code == 403 and answer.json()["code"] == "forbidden", origin
        assert server.post("/v1/images/generations", json={"prompt": "x"}, headers={"Origin": origin}).json()["error"]["code"] == "forbidden"
        assert server.client.delete("/api/tasks/01M85RAHCXNV0FKR44ED86FNP7", headers={"Origin": origin}).status_code == 403
        read = server.get("/api/tasks", headers={"Origin": origin})
        assert read.status_code == 200 and "access-control-allow-origin" not in read.headers and read.headers["vary"] == "Origin"
    for origin in (server.url, f"http://{server.address}".upper(), "https://pictures.example", "https://PICTURES.example:443"):
        assert server.post("/api/tasks", json={"prompt": "x"}, headers={"Origin": origin}).status_code == 202, origin


def test_allowed_pages_get_their_headers_and_preflights(guarded):
    server = guarded(IMAGINED_ALLOWED_ORIGINS="https://pictures.example")
    asked = {**AWAY, "Origin": "https://pictures.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    answer = server.client.options("/api/tasks", headers=asked)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "https://pictures.example"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    refused = server.client.options("/api/tasks", headers={**asked, "Origin": "https://evil.example"})
    assert refused.status_code == 403 and not [h for h in refused.headers if h.startswith("access-control")]
    # A page may read why it was refused.
    no_key = server.get("/api/tasks", headers={**AWAY, "Origin": "https://pictures.example"})
    assert no_key.status_code == 401 and no_key.headers["access-control-allow-origin"] == "https://pictures.example"
    good = server.post("/api/tasks", json={"prompt": "x"}, headers=bearer(server.anna, Origin="https://pictures.example"))
    assert good.status_code == 202 and good.headers["access-control-allow-origin"] == "https://pictures.example"
    assert "location" in good.headers["access-control-expose-headers"]


def png(shade):
    out = io.BytesIO()
    Image.new("RGB", (16, 16), (shade, 0, 0)).save(out, "PNG")
    return out.getvalue()


def test_inputs_are_those_of_the_key_that_brought_them(guarded, make_server, tmp_path):
    """Anna's inputs are not there for Ben: not to see, list, delete or begin from; the same bytes are an input of each. After a restart it is still so."""
    state = tmp_path / "state"
    server = guarded(STATE=state)
    anna, ben = bearer(server.anna), bearer(server.ben)
    hers = server.post("/api/images", content=png(1), headers=anna).json()["id"]
    both = server.post("/api/images", content=png(2), headers=anna).json()["id"]
    assert server.post("/api/images", content=png(2), headers=ben).json()["id"] == both
    nobodys = server.post("/api/images", content=png(3)).json()["id"]

    def listed(headers):
        return {i["id"] for i in server.get("/api/images?kind=input", headers=headers).json()["images"]}

    def check():
        assert listed(anna) == {hers, both} and listed(ben) == {both} and listed({}) == {hers, both, nobodys}
        assert server.get(f"/api/images/{hers}", headers=anna).status_code == 200
        assert server.get(f"/api/images/{hers}").status_code == 200  # this machine sees all
        for image in (hers, nobodys):
            assert server.get(f"/api/images/{image}", headers=ben).status_code == 404
            assert server.client.delete(f"/api/images/{image}", headers=ben).status_code == 404
            refused = server.post("/api/tasks", json={"prompt": "x", "image": image}, headers=ben)
            assert refused.status_code == 422 and refused.json()["field"] == "image"
        assert server.get(f"/api/images/{both}", headers=ben).status_code == 200

    check()
    assert server.stop() == 0
    server = make_server(IMAGINED_API_KEYS_FILE=server.keys_file, STATE=state)
    check()
    assert server.client.delete(f"/api/images/{both}", headers=ben).status_code == 204
    assert server.get(f"/api/images/{both}", headers=ben).status_code == 404
    assert server.get(f"/api/images/{both}", headers=anna).status_code == 200


# --- bodies ---


def resident(server):
    """The front's own memory, file pages left out."""
    return int(re.search(r"RssAnon:\s+(\d+)", open(f"/proc/{server.process.pid}/status").read())[1]) * 1024


def test_nothing_is_kept_of_what_a_stranger_sends(guarded):
    """A body of 30 MB without a key is read past, not into memory, and refused as what it is: without a key, not too large."""
    server = guarded()
    before = resident(server)
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port))) as s:
        size = 30 << 20
        s.sendall(f"POST /api/images HTTP/1.1\r\nHost: {server.address}\r\nX-Forwarded-For: 203.0.113.7\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(29):
            s.sendall(bytes(1 << 20))
        held = resident(server)
        s.sendall(bytes(1 << 20))
        answer = s.recv(4096).decode()
    assert answer.startswith("HTTP/1.1 401") and "www-authenticate" in answer.lower(), answer
    assert held - before < 8 << 20
    # One that would go on for ever hears it at once.
    with socket.create_connection((host, int(port))) as s:
        s.sendall(f"POST /v1/images/generations HTTP/1.1\r\nHost: {server.address}\r\nX-Forwarded-For: 203.0.113.7\r\nContent-Length: {1 << 40}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: s.recv(4096), b"")).decode()
    assert answer.startswith("HTTP/1.1 401") and "invalid_api_key" in answer, answer
