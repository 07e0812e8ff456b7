"""Server-Sent Events: what a task's stream and the stream of all tasks say, coming back to them, and clients that read slowly or not at all."""
import json
import pathlib
import re
import signal
import socket

import pytest
from conftest import until

LONG = "a fox " * 1300  # a prompt of 7,800 bytes makes documents that fill buffers soon


@pytest.fixture(scope="module")
def server(gradients):
    return gradients


def parse(text):
    """[(id, event, data)] of complete blocks; comments and `retry` are left out."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if re.match("(id|event|data): ", line))
        if "event" in fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


def events_of(server, task, **headers):
    """All events of a task, to the stream's end."""
    answer = server.client.get(f"/api/tasks/{task}/events", headers={k.replace("_", "-"): v for k, v in headers.items()})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream" and answer.headers["cache-control"] == "no-cache"
    return parse(answer.text)


class Listener:
    """A client of /api/events or a task's stream that reads when it is told to."""

    def __init__(self, server, path="/api/events", receive_bytes=None, last=None):
        host, port = server.address.rsplit(":", 1)
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.connect((host, int(port)))
        self.socket.settimeout(20)
        resume = f"Last-Event-ID: {last}\r\n" if last else ""
        # HTTP/1.0: the body comes as it is, without chunks.
        self.socket.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n{resume}\r\n".encode())
        self.head, self.rest, self.events, self.beats = b"", b"", [], 0

    def read(self):
        """One piece; what it completes is in `events`."""
        piece = self.socket.recv(1 << 16)
        self.rest += piece
        if not self.head and b"\r\n\r\n" in self.rest:
            self.head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        if self.head:
            whole, found, rest = self.rest.rpartition(b"\n\n")
            self.rest = rest if found else self.rest
            self.events += parse(whole.decode())
            self.beats += whole.split(b"\n\n").count(b":")
        return piece

    def until(self, condition):
        """Reads until an event fulfils the condition; all events so far."""
        checked = 0
        while not any(condition(*e) for e in self.events[checked:]):
            checked = len(self.events)
            assert self.read(), "the stream ended"
        return self.events

    def read_to_end(self):
        while self.read():
            pass
        return self.events

    def close(self):
        self.socket.close()


@pytest.fixture
def listen(server):
    made = []

    def make(*how, on=None, **options):
        made.append(Listener(on or server, *how, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def ended(task):
    return lambda _, name, data: name in ("completed", "failed", "cancelled") and data["id"] == task


def test_a_task_from_its_beginning_to_its_end(server):
    task = server.submit("slow fox", num_inference_steps=4, n=2, width=64, height=32)
    told = events_of(server, task)
    ids, names = [e[0] for e in told], [e[1] for e in told]
    assert ids == sorted(set(ids))
    assert names[0] in ("queued", "started") and names[-1] == "completed" and "progress" in names
    assert all(data["id"] == task for _, _, data in told)
    denoise = [(d["image"], d["step"]) for _, name, d in told if name == "progress" and d["phase"] == "denoise"]
    assert denoise == sorted(set(denoise)) and (1, 3) in denoise  # 50 ms a step: none is missed by who reads
    progress = {d["phase"]: set(d) for _, name, d in told if name == "progress"}
    assert progress["denoise"] == {"id", "status", "phase", "step", "steps", "image", "n", "preview"}
    assert told[-1][2] == server.task(task)


def test_loading_tells_its_bytes(make_server, listen):
    server = make_server()
    listener = listen(on=server)
    listener.until(lambda _, name, __: name == "state")
    task = server.submit()
    told = [d for _, name, d in listener.until(ended(task)) if name == "progress" and d["phase"] == "load"]
    assert [(d["bytes"], d["bytes_total"]) for d in told] == [(0, 1000000), (1000000, 1000000)]


def test_a_task_that_is_over_tells_its_end_only_and_is_not_asked_again(server):
    task = server.submit()
    server.finish(task)
    told = events_of(server, task)
    assert [e[1] for e in told] == ["completed"]
    assert server.client.get(f"/api/tasks/{task}/events", headers={"Last-Event-ID": str(told[-1][0])}).status_code == 204


@pytest.mark.parametrize("prompt, end", [("please fail", "failed"), ("skip it", "failed")])
def test_a_failure_is_an_event_with_its_reason(server, prompt, end):
    told = events_of(server, server.submit(prompt))
    assert told[-1][1] == end and told[-1][2]["error"]["detail"]


def test_cancelled(server, listen):
    listener = listen()
    listener.until(lambda _, name, __: name == "state")
    task = server.submit("slow", num_inference_steps=500)
    listener.until(lambda _, name, data: name == "progress" and data["id"] == task)
    server.client.delete(f"/api/tasks/{task}")
    told = [e for e in listener.until(ended(task)) if e[2].get("id") == task]
    assert [name for _, name, _ in told if name != "progress"] == ["queued", "started", "cancelled"]


def test_a_task_whose_engine_dies_is_queued_again(make_server):
    server = make_server()
    server.wait_ready()
    listener = Listener(server)
    listener.until(lambda _, name, __: name == "state")
    task = server.submit("kill<2")
    told = [e for e in listener.until(ended(task)) if e[2].get("id") == task]
    assert [name for _, name, _ in told if name != "progress"] == ["queued", "started", "queued", "started", "completed"]
    listener.close()


def test_a_new_priority_is_told(server, listen):
    blockers = [server.submit("slow", num_inference_steps=500) for _ in range(2)]
    task = server.submit("a fox", priority="low")
    listener = listen(f"/api/tasks/{task}/events")
    listener.until(lambda _, name, __: name == "queued")
    assert server.client.patch(f"/api/tasks/{task}", json={"priority": "high"}).status_code == 200
    listener.until(lambda _, name, data: name == "queued" and data["priority"] == "high")
    for one in blockers:
        server.client.delete(f"/api/tasks/{one}")
    listener.until(ended(task))


def test_all_tasks_begin_with_those_that_are_not_over(server, listen):
    tasks = [server.submit("slow", num_inference_steps=500) for _ in range(4)]
    for one in tasks[:2]:
        server.wait_status(one, "running")
    _, name, data = listen().until(lambda _, name, __: name == "state")[0]
    assert name == "state" and data["complete"]
    assert {t["id"]: t["status"] for t in data["tasks"]} == {tasks[0]: "running", tasks[1]: "running", tasks[2]: "queued", tasks[3]: "queued"}
    for one in tasks:
        server.client.delete(f"/api/tasks/{one}")
    for one in tasks:
        server.finish(one)


def test_what_happened_meanwhile_comes_after_coming_back(server, listen):
    first = listen()
    first.until(lambda _, name, __: name == "state")
    task = server.submit("slow", num_inference_steps=8)
    seen = first.until(lambda _, name, data: name == "progress" and data["id"] == task)[-1][0]
    first.close()
    other = server.submit()
    server.finish(task), server.finish(other)
    for path, last in (("/api/events", seen), (f"/api/events?last_event_id={seen}", None)):
        told = listen(path, last=last).until(ended(other))
        assert all(i > seen for i, _, _ in told) and "state" not in [name for _, name, _ in told]
        assert [name for _, name, d in told if d["id"] == other and name != "progress"] == ["queued", "started", "completed"]
        assert [name for _, name, d in told if d["id"] == task and name != "progress"] == ["completed"]
        assert len([1 for _, name, d in told if d["id"] == task and name == "progress"]) <= 1  # the newest
    told = events_of(server, task, last_event_id=str(seen))
    assert told[-1][1] == "completed" and len(told) <= 2


@pytest.mark.parametrize("last", ["abc", "0", "-1", "7", "99999999999999999999999", "9" * 19, "1;2", "18446744073709551615", "x" * 511])
def test_an_id_that_means_nothing_begins_with_the_present(server, listen, last):
    task = server.submit()
    server.finish(task)
    assert [name for _, name, _ in events_of(server, task, last_event_id=last)] == ["completed"]
    assert listen(f"/api/events?last_event_id={last.strip()}").until(lambda *_: True)[0][1] == "state"


def test_an_id_that_is_too_long(server):
    assert server.client.get("/api/events", headers={"Last-Event-ID": "1" * 512}).status_code == 431


def test_ids_rise_over_restarts(make_server):
    server = make_server()
    task = server.submit()
    last = events_of(server, task)[-1][0]
    server.stop()
    again = make_server()
    task = again.submit()
    assert events_of(again, task, last_event_id=str(last))[-1][0] > last


def test_what_is_refused(server):
    assert server.client.get("/api/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV/events").status_code == 404
    assert server.client.get("/api/tasks/nonsense/events").headers["content-type"] == "application/problem+json"
    assert server.client.post("/api/events").status_code == 405


def test_head_has_no_body_and_ends(server):
    for path in ("/api/events", f"/api/tasks/{server.submit()}/events"):
        answer = server.client.head(path)
        assert answer.status_code == 200 and answer.headers["content-type"] == "text/event-stream" and answer.content == b""
    assert server.client.get("/health").status_code == 200


def test_the_connection_serves_on_after_a_stream(server):
    task = server.submit()
    server.finish(task)
    host, port = server.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as s:
        both = b""
        for path in (f"/api/tasks/{task}/events", "/health"):
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            until_bytes = b"0\r\n\r\n" if "events" in path else b'"active"'
            while until_bytes not in both:
                piece = s.recv(1 << 16)
                assert piece, both
                both += piece
        assert both.count(b"HTTP/1.1 200") == 2 and b"transfer-encoding: chunked" in both.lower()


def test_an_idle_stream_is_kept_alive(server, listen):
    listener = listen()
    listener.until(lambda _, name, __: name == "state")
    while not listener.beats:
        assert listener.read()


def test_who_reads_late_misses_progress_only(make_server):
    """The documents are far more than the system holds for a client, and fewer than the server keeps."""
    server = make_server(MAX_CONCURRENT_TASKS=16)
    server.wait_ready()
    slow = Listener(server, receive_bytes=4096)
    slow.until(lambda _, name, __: name == "state")
    tasks = [server.submit(LONG, num_inference_steps=50, width=16, height=16) for _ in range(150)]
    for one in tasks:
        server.finish(one)
    for one in tasks:
        slow.until(ended(one))
    ids = [i for i, _, _ in slow.events]
    assert ids == sorted(set(ids))
    for one in tasks:
        told = [name for _, name, data in slow.events if data.get("id") == one]
        assert [name for name in told if name != "progress"] == ["queued", "started", "completed"]
    assert [name for _, name, _ in slow.events].count("progress") < len(tasks) * 50 / 2
    slow.close()


def test_who_never_reads_is_ended_and_the_memory_is_bounded(make_server):
    server = make_server(MAX_CONCURRENT_TASKS=16)
    server.wait_ready()
    server.finish(server.submit(LONG))
    idle = [Listener(server, receive_bytes=4096) for _ in range(20)]
    for one in idle:
        one.until(lambda _, name, __: name == "state")
    before = resident_kb(server)
    tasks = [server.submit(LONG, num_inference_steps=1, width=16, height=16) for _ in range(500)]  # 12 MB of events
    for one in tasks:
        server.finish(one)
    assert resident_kb(server) - before < 30000  # 8 MB of events, the tasks themselves, but not twenty times either
    for one in idle:
        assert len({d["id"] for _, name, d in one.read_to_end() if name == "completed"}) < 500
    state = Listener(server, last=idle[0].events[-1][0])
    assert state.until(lambda *_: True)[0][1] == "state"  # it comes back too late for what it missed
    state.close()


def resident_kb(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


def descriptors(server):
    return len(list(pathlib.Path(f"/proc/{server.process.pid}/fd").iterdir()))


def test_two_hundred_streams(make_server):
    server = make_server()
    server.wait_ready()
    server.finish(server.submit())
    free = descriptors(server)
    before = resident_kb(server)
    task = server.submit("slow", num_inference_steps=20)
    listeners = [Listener(server, "/api/events" if i % 2 else f"/api/tasks/{task}/events") for i in range(200)]
    for one in listeners:
        one.until(lambda *_: True)
    assert server.client.get("/health").status_code == 200
    assert resident_kb(server) - before < 200 * 64
    all_told = [[e for e in one.until(ended(task)) if e[2].get("id") == task] for one in listeners]
    assert len({one[-1][0] for one in all_told}) == 1 and {one[-1][1] for one in all_told} == {"completed"}
    for one in listeners:
        one.close()
    until(lambda: descriptors(server) <= free)


def test_clients_that_come_and_go(server):
    tasks = [server.submit("slow", num_inference_steps=10) for _ in range(3)]
    for i in range(100):
        one = Listener(server, "/api/events" if i % 3 else f"/api/tasks/{tasks[i % 2]}/events")
        if i % 2:
            one.read()
        one.close()
    for one in tasks:
        assert server.finish(one)["status"] == "completed"


def test_stopping_ends_streams(make_server):
    server = make_server()
    server.wait_ready()
    listener = Listener(server)
    listener.until(lambda _, name, __: name == "state")
    task = server.submit("slow", num_inference_steps=10)
    listener.until(lambda _, name, data: name == "progress" and data["id"] == task)
    server.process.send_signal(signal.SIGTERM)
    assert listener.read_to_end()[-1][1] == "completed"
    assert server.process.wait(40) == 0  # a second signal would end it at once
