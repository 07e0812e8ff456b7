"""Webhooks: who asked to be told is told, signed as PyPI's standardwebhooks verifies it, at least once whatever dies in between; what must not be sent to is not."""
import base64
import contextlib
import http.server
import random
import sqlite3
import ssl
import threading
import time

import pytest
import trustme
from conftest import until
from standardwebhooks import Webhook, WebhookVerificationError
from test_full_disk import Preloaded
from test_metrics import Metrics

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"x" * 24).decode()


class Receiver:
    """Somebody's server: keeps what it is sent, and answers what `answer(path, number of the request)` says: a status, or (status, headers)."""

    def __init__(self, answer=lambda path, number: 200, port=0, tls=None):
        self.got, self.answer, self.lock = [], answer, threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                with outer.lock:
                    outer.got.append((self.path, dict(self.headers), body))
                    number = len(outer.got)
                answer = outer.answer(self.path, number)
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", "0")
                    self.end_headers()

            do_GET = do_POST

            def log_message(self, *_):
                pass

        class Threads(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Threads(("127.0.0.1", port), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def messages(self, secret=SECRET):
        """All that came, each verified."""
        with self.lock:
            return [Webhook(secret).verify(body, {k.lower(): v for k, v in headers.items()}) for _, headers, body in self.got]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receive():
    made = []

    def make(*args, **how):
        made.append(Receiver(*args, **how))
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


@pytest.fixture
def start(make_server, tmp_path):
    """On one state folder, again and again."""

    def make(**how):
        how = {"IMAGINED_WEBHOOK_ALLOW": "127.0.0.0/8", "IMAGINED_WEBHOOK_SECRET": SECRET, "STATE": tmp_path / "state"} | how
        return make_server(**{k: v for k, v in how.items() if v is not None})

    return make


@pytest.fixture
def server(start):
    return start()


def database(tmp_path, sql, *values):
    """The server must be gone."""
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "imagined.db")) as db, db:
        return db.execute(sql, values).fetchall()


def settled(server, task_id):
    """The task's webhook once nothing of it waits."""
    def through():
        w = server.task(task_id)["webhook"]
        return w["delivered"] + w["given_up"] > 0 and w
    return until(through)


def test_an_end_is_told_and_verified(server, receive):
    receiver = receive()
    task_id = server.submit("a fox", webhook=receiver.url + "?token=1")
    task = server.finish(task_id)
    until(lambda: receiver.got)
    path, headers, body = receiver.got[0]
    headers = {k.lower(): v for k, v in headers.items()}
    assert path == "/hook?token=1" and headers["content-type"] == "application/json"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 120 and task_id in headers["webhook-id"]
    message = Webhook(SECRET).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace(b"fox", b"dog"), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER_SECRET).verify(body, headers)
    assert message["type"] == "task.completed" and message["timestamp"] == task["finished_at"]
    assert "webhook" not in message["data"] and message["data"] == {k: v for k, v in task.items() if k != "webhook"}
    assert settled(server, task_id) == {"url": receiver.url + "?token=1", "events_filter": ["completed"], "attempts": 1, "delivered": 1, "given_up": 0,
                                        "last_error": None}
    assert server.get("/api/images/" + message["data"]["images"][0]["id"]).status_code == 200
    assert len(receiver.got) == 1


def test_start_and_progress(server, receive):
    receiver = receive()
    task_id = server.submit("slow", num_inference_steps=40, webhook=receiver.url, webhook_events_filter=["completed", "start", "progress", "start"])
    server.finish(task_id)
    messages = until(lambda: (m := receiver.messages()) and m[-1]["type"] == "task.completed" and m)
    kinds = [m["type"] for m in messages]
    assert kinds.count("task.started") == 1 and kinds.count("task.completed") == 1 and kinds.count("task.progress") >= 2
    assert {m["data"]["id"] for m in messages} == {task_id}
    steps = [m["data"]["progress"]["step"] for m in messages if m["type"] == "task.progress"]
    assert steps == sorted(steps) and len(set(steps)) == len(steps), "each tells something newer"
    ids = [headers["webhook-id"] for _, headers, _ in receiver.got]
    assert len(set(ids)) == len(ids)
    started = next(m for m in messages if m["type"] == "task.started")
    assert started["data"]["status"] == "loading" and started["timestamp"] == started["data"]["started_at"]


@pytest.mark.parametrize("wanted", [["start"], ["progress"]])
def test_only_what_was_asked_for(server, receive, wanted):
    receiver = receive()
    told = server.submit("slow", num_inference_steps=4, webhook=receiver.url, webhook_events_filter=wanted)
    end = server.submit("last", webhook=receiver.url)
    until(lambda: any(m["data"]["id"] == end for m in receiver.messages()))
    kinds = {m["type"] for m in receiver.messages() if m["data"]["id"] == told}
    assert kinds == {{"start": "task.started", "progress": "task.progress"}[wanted[0]]}


def test_failures_and_cancellations_are_ends_too(server, receive):
    receiver = receive()
    failed, cancelled = server.submit("fail", webhook=receiver.url), server.submit("slow", num_inference_steps=1000, webhook=receiver.url)
    server.wait_status(cancelled, "running")
    server.client.delete(f"/api/tasks/{cancelled}")
    until(lambda: len(receiver.got) == 2)
    by_id = {m["data"]["id"]: m for m in receiver.messages()}
    assert {m["type"] for m in by_id.values()} == {"task.completed"}
    assert by_id[failed]["data"]["status"] == "failed" and by_id[failed]["data"]["error"]["detail"] == "told to fail"
    assert by_id[cancelled]["data"]["status"] == "cancelled" and by_id[cancelled]["data"]["images"] == []


def test_what_failed_is_tried_again_as_it_was(server, receive):
    gate = threading.Event()
    receiver = receive(lambda path, number: 500 if number == 1 else (gate.wait(30), 204)[1])
    task_id = server.submit(webhook=receiver.url)
    until(lambda: server.task(task_id)["webhook"]["last_error"] == "answered 500")
    gate.set()
    w = settled(server, task_id)
    assert (w["attempts"], w["delivered"], w["last_error"]) == (2, 1, None)
    (_, first, one), (_, second, two) = receiver.got
    assert one == two and first["webhook-id"] == second["webhook-id"] and first["webhook-timestamp"] < second["webhook-timestamp"]
    assert len(receiver.messages()) == 2
    m = Metrics(server)
    assert m.by("webhooks_total", "result") == {"delivered": 1, "failed": 1, "given_up": 0, "gone": 0} and m.of("webhooks_pending") == 0


def test_gone_means_gone_over_restarts_too(start, receive):
    receiver = receive(lambda path, number: 410)
    server = start()
    first = server.submit(webhook=receiver.url)
    assert "410" in settled(server, first)["last_error"]
    second = server.submit(webhook=receiver.url)
    w = settled(server, second)
    assert w["given_up"] == 1 and w["attempts"] == 0 and "410" in w["last_error"]
    assert Metrics(server).by("webhooks_total", "result")["gone"] == 1
    server.stop()
    server = start()
    assert settled(server, server.submit(webhook=receiver.url, webhook_events_filter=["start", "progress", "completed"]))["attempts"] == 0
    other = server.submit(webhook=receiver.url + "/2")
    assert settled(server, other)["attempts"] == 1 and len(receiver.got) == 2
    assert server.task(first)["webhook"]["given_up"] == 1, "how it went is kept"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server, receive, status):
    other = receive()
    receiver = receive(lambda path, number: (status, {"location": other.url}) if number == 1 else 200)
    task_id = server.submit(webhook=receiver.url)
    until(lambda: server.task(task_id)["webhook"]["last_error"] == f"answered {status}: redirects are not followed")
    assert not other.got and [path for path, _, _ in receiver.got] == ["/hook"]


@pytest.mark.parametrize("url", [
    "http://127.0.0.1:9/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://%31%32%37.0.0.1/", "http://[::1]/",
    "http://[::ffff:127.0.0.1]/", "http://10.0.0.1/", "https://192.168.1.1/", "http://172.31.255.255/", "http://169.254.169.254/latest/meta-data/",
    "http://100.64.0.1/", "http://0.0.0.0/", "http://[fe80::1]/", "http://[fe80::1%25lo]/", "http://[fd00::1]/", "http://224.0.0.1/", "http://255.255.255.255/",
    "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://user@example.com/", "http://u:p@example.com/", "ftp://example.com/", "file:///etc/passwd",
    "gopher://example.com/", "example.com", "", "http://", "http://a b/", "http://example.com/#x", "http://exämple.com/", "http:\\\\example.com",
    "http://1.2.3.400/", "http://example.com:99999/", "http://example.com/" + "x" * 2048, 7, ["http://example.com/"],
])
def test_what_must_not_be_sent_to_is_refused(gradients, url):
    answer = gradients.post("/api/tasks", json={"prompt": "x", "webhook": url})
    assert answer.status_code == 422 and answer.json()["field"] == "webhook", answer.text
    if isinstance(url, str) and "p@" in url:
        assert "u:p" not in answer.text


@pytest.mark.parametrize("fields", [{"webhook_events_filter": "completed"}, {"webhook_events_filter": []}, {"webhook_events_filter": ["ended"]},
                                    {"webhook_events_filter": [1]}, {"webhook_events_filter": ["start", None]}])
def test_filters_that_are_none(gradients, fields):
    answer = gradients.post("/api/tasks", json={"prompt": "x", "webhook": "https://example.com/"} | fields)
    assert answer.status_code == 422 and answer.json()["field"] == "webhook_events_filter"


def test_a_name_is_judged_by_what_it_resolves_to(start, receive):
    """localhost passes at submission, as any name does."""
    receiver = receive()
    server = start(IMAGINED_WEBHOOK_ALLOW="10.0.0.0/8")
    task_id = server.submit(webhook=f"http://localhost:{receiver.port}/")
    error = until(lambda: server.task(task_id)["webhook"]["last_error"])
    assert "is no public address" in error and ("127.0.0.1" in error or "::1" in error)
    assert not receiver.got


def test_a_name_can_be_allowed(start, receive):
    receiver = receive()
    server = start(IMAGINED_WEBHOOK_ALLOW="LocalHost")
    assert server.post("/api/tasks", json={"prompt": "x", "webhook": receiver.url}).status_code == 422, "the name, not its address"
    task_id = server.submit(webhook=f"http://LOCALHOST:{receiver.port}/")
    assert settled(server, task_id)["delivered"] == 1


def test_proxies_of_the_environment_are_not_asked(start, receive):
    """One would be connected to in the receiver's place, and the receiver's address judged by nobody."""
    proxy, receiver = receive(), receive()
    server = start(http_proxy=f"http://127.0.0.1:{proxy.port}", ALL_PROXY=f"http://127.0.0.1:{proxy.port}")
    assert settled(server, server.submit(webhook=receiver.url))["delivered"] == 1
    assert not proxy.got and len(receiver.got) == 1


def test_kill_9_between_end_and_delivery_loses_nothing(start, receive):
    hold = threading.Event()
    receiver = receive(lambda path, number: (hold.wait(30), 200)[1])
    server = start()
    task_id = server.submit(webhook=receiver.url)
    server.finish(task_id)
    until(lambda: receiver.got)  # and no answer yet
    server.process.kill()
    server.process.wait()
    hold.set()
    before = len(receiver.got)
    server = start()
    until(lambda: len(receiver.got) > before)
    assert settled(server, task_id)["delivered"] == 1
    assert len({headers["webhook-id"] for _, headers, _ in receiver.got}) == 1 and len({body for _, _, body in receiver.got}) == 1
    assert {m["data"]["id"] for m in receiver.messages()} == {task_id}


def test_kill_9_at_any_time_loses_no_end(start, receive):
    """Six kills at random instants among tasks that end all the time."""
    receiver = receive()
    draw = random.Random(7)
    promised = []
    server = start(MAX_CONCURRENT_TASKS=3)
    for _ in range(6):
        for _ in range(8):
            promised.append(server.submit("x", width=64, height=64, num_inference_steps=1, webhook=receiver.url, webhook_events_filter=["start", "completed"]))
        time.sleep(draw.uniform(0, 0.15))
        server.process.kill()
        server.process.wait()
        server = start(MAX_CONCURRENT_TASKS=3)

    def missing(kind):
        return set(promised) - {m["data"]["id"] for m in receiver.messages() if m["type"] == kind}

    until(lambda: not missing("task.completed"), 60)
    until(lambda: not missing("task.started"), 60)
    assert {m["data"]["status"] for m in receiver.messages() if m["type"] == "task.completed"} == {"completed"}


def test_stopping_waits_a_little_and_keeps_the_rest(start, receive, tmp_path):
    release = threading.Event()
    quick, stuck = receive(lambda path, number: (time.sleep(0.5), 200)[1]), receive(lambda path, number: (release.wait(60), 200)[1])
    server = start()
    tasks = [server.submit(webhook=r.url) for r in (quick, stuck)]
    for task_id in tasks:
        server.finish(task_id)
    until(lambda: quick.got and stuck.got)
    assert server.stop() == 0
    assert [row[0] for row in database(tmp_path, "SELECT task FROM webhooks")] == [tasks[1]], "one was delivered, one is kept"
    release.set()
    server = start()
    assert settled(server, tasks[1])["delivered"] == 1 and server.task(tasks[0])["webhook"]["delivered"] == 1


def test_a_slow_receiver_holds_nobody_else(server, receive):
    release = threading.Event()
    slow, quick = receive(lambda path, number: (release.wait(60), 200)[1]), receive()
    held = [server.submit(webhook=slow.url) for _ in range(40)]
    for task_id in held:
        server.finish(task_id)
    until(lambda: len(slow.got) == 2)
    told = server.submit(webhook=quick.url)
    until(lambda: quick.got)
    assert settled(server, told)["delivered"] == 1 and len(slow.got) == 2, "two at a time to one host"
    assert Metrics(server).of("webhooks_pending") == 40
    release.set()
    until(lambda: len(slow.got) == 40)
    for task_id in held:
        assert settled(server, task_id)["delivered"] == 1


def test_retry_after_is_kept_to(start, receive, tmp_path):
    answers = {"/long": (503, {"retry-after": "9999999"}), "/some": (429, {"retry-after": "3600"}), "/other": (500, {"retry-after": "3600"}), "/bad": (503, {"retry-after": "soon"})}
    receiver = receive(lambda path, number: answers[path.removeprefix("/hook")])
    server = start()
    tasks = {server.submit(webhook=receiver.url + path): path for path in answers}
    for task_id in tasks:
        until(lambda: server.task(task_id)["webhook"]["attempts"] == 1)
    server.stop()
    waits = {tasks[task]: due / 1000 - time.time() for task, due in database(tmp_path, "SELECT task, due_ms FROM webhooks")}
    assert 5 * 3600 < waits["/long"] <= 6 * 3600 and 3000 < waits["/some"] <= 3600 and waits["/other"] < 10 and waits["/bad"] < 10


def test_the_tenth_failure_is_the_last(start, receive, tmp_path):
    receiver = receive(lambda path, number: 500)
    server = start()
    task_id = server.submit(webhook=receiver.url)
    until(lambda: server.task(task_id)["webhook"]["attempts"] == 1)
    server.stop()
    database(tmp_path, "UPDATE webhooks SET attempts = 8, due_ms = 0")
    server = start()
    until(lambda: server.task(task_id)["webhook"]["attempts"] == 2)
    assert server.task(task_id)["webhook"]["given_up"] == 0
    server.stop()
    [(attempts, due)] = database(tmp_path, "SELECT attempts, due_ms FROM webhooks")
    assert attempts == 9 and 0.89 * 24 * 3600 < due / 1000 - time.time() < 1.11 * 24 * 3600
    database(tmp_path, "UPDATE webhooks SET due_ms = 0")
    server = start()
    assert settled(server, task_id)["given_up"] == 1
    assert Metrics(server).by("webhooks_total", "result")["given_up"] == 1
    server.stop()
    assert database(tmp_path, "SELECT * FROM webhooks") == []


def test_a_forgotten_task_is_still_told_of(start, receive, tmp_path):
    receiver = receive(lambda path, number: 500 if number == 1 else 200)
    server = start(IMAGINED_KEEP_TASKS=1)
    task_id = server.submit(webhook=receiver.url)
    until(lambda: server.task(task_id)["webhook"]["attempts"] == 1)
    server.finish(server.submit())
    assert server.get(f"/api/tasks/{task_id}").status_code == 404
    until(lambda: len(receiver.got) == 2)
    assert receiver.messages()[1]["data"]["id"] == task_id
    until(lambda: Metrics(server).of("webhooks_pending") == 0)


def test_a_secret_is_made_and_kept(start, receive, tmp_path):
    receiver = receive()
    server = start(IMAGINED_WEBHOOK_SECRET=None)
    path = tmp_path / "state" / "webhook_secret"
    secret = path.read_text().strip()
    assert path.stat().st_mode & 0o777 == 0o600 and secret.startswith("whsec_") and len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert str(path) in server.log.read_text() and secret not in server.log.read_text()
    settled(server, server.submit(webhook=receiver.url))
    server.stop()
    server = start(IMAGINED_WEBHOOK_SECRET=None)
    settled(server, server.submit(webhook=receiver.url))
    assert path.read_text().strip() == secret and len(receiver.messages(secret)) == 2


def test_a_secret_that_found_no_space_is_made_later(start, receive, tmp_path):
    receiver, path, disk = receive(), tmp_path / "state" / "webhook_secret", Preloaded(tmp_path / "state")
    start(IMAGINED_WEBHOOK_SECRET=None).stop()
    path.unlink()
    disk.fill()
    server = start(IMAGINED_WEBHOOK_SECRET=None, **disk.environment)
    assert "webhooks have no secret yet" in server.log.read_text() and not path.exists()
    disk.free()
    assert settled(server, server.submit(webhook=receiver.url))["delivered"] == 1
    assert receiver.messages(path.read_text().strip())


def test_several_secrets_sign_together(start, receive):
    receiver = receive()
    server = start(IMAGINED_WEBHOOK_SECRET=f"{SECRET}, {OTHER_SECRET}")
    settled(server, server.submit(webhook=receiver.url))
    assert receiver.messages(SECRET) == receiver.messages(OTHER_SECRET)


@pytest.mark.parametrize("setting", [{"IMAGINED_WEBHOOK_SECRET": "hunter2"}, {"IMAGINED_WEBHOOK_SECRET": "whsec_AAAA"}, {"IMAGINED_WEBHOOK_ALLOW": "10.0.0.0/33"},
                                     {"IMAGINED_WEBHOOK_ALLOW": "10.0.0"}])
def test_settings_that_mean_nothing_keep_it_from_starting(start, setting):
    server = start(wait=False, **setting)
    assert server.process.wait(20) == 1
    log = server.log.read_text()
    assert next(iter(setting)) in log and "hunter2" not in log


def test_tls_is_verified(start, receive, tmp_path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    receiver = receive(tls=context)
    wrong = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example").configure_cert(wrong)
    other = receive(tls=wrong)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = start()
    task_id = server.submit(webhook=receiver.url)
    assert "certificate" in until(lambda: server.task(task_id)["webhook"]["last_error"]) and not receiver.got
    server.stop()
    server = start(IMAGINED_WEBHOOK_CA_FILE=tmp_path / "ca.pem")
    assert settled(server, server.submit(webhook=receiver.url))["last_error"] is None and receiver.messages()
    misnamed = server.submit(webhook=other.url)
    assert "certificate" in until(lambda: server.task(misnamed)["webhook"]["last_error"]) and not other.got


def test_authorities_that_cannot_be_read_are_told_at_the_start(make_server, tmp_path):
    server = make_server(wait=False, IMAGINED_WEBHOOK_CA_FILE=tmp_path / "none.pem")
    assert server.process.wait(20) == 1
    assert f"IMAGINED_WEBHOOK_CA_FILE: cannot read {tmp_path}/none.pem" in server.log.read_text()


def test_nobody_listens(server, receive):
    receiver = receive()
    receiver.close()
    task_id = server.submit(webhook=receiver.url)
    assert "connect" in until(lambda: server.task(task_id)["webhook"]["last_error"])


def test_urls_are_in_no_log(server, receive):
    receiver = receive(lambda path, number: 500)
    task_id = server.submit(webhook=receiver.url + "?token=geheim")
    until(lambda: server.task(task_id)["webhook"]["last_error"])
    assert "geheim" not in server.log.read_text()
