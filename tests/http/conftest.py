"""Servers for the tests: the real binary with a state folder of its own, either with its real engine or with one that paints gradients and
fails on request (gradient_engine.c says which words in a prompt do what)."""
import os
import pathlib
import re
import signal
import subprocess
import time

import httpx
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("IMAGINED_BUILD", ROOT / "build"))
BINARY = os.environ.get("IMAGINED_BINARY", str(BUILD / "imagined"))
GRADIENTS = str(BUILD / "tests" / "http" / "gradient_engine")


class Server:
    """One running server. `client` speaks to it."""

    def __init__(self, folder, real_engine=False, listen="127.0.0.1:0", wait=True, **environment):
        self.folder = folder
        self.log = folder / "log"
        env = {k: v for k, v in os.environ.items() if not k.startswith("IMAGINED_") and k != "NOTIFY_SOCKET"}
        if not real_engine:
            env["IMAGINED_ENGINE_EXECUTABLE"] = GRADIENTS
        env.update({k: str(v) for k, v in environment.items()})
        state = env.pop("STATE", str(folder / "state"))
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [BINARY, "serve", "--listen", listen, "--state", state, "--models", str(folder / "models")],
                env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        self.url = None
        if wait:
            self.greeting = self.process.stdout.readline().decode()
            found = re.search(r"http://(\S+)", self.greeting)
            assert found, self.log.read_text()
            self.address = found[1]
            self.url = "http://" + found[1]
            self.client = httpx.Client(base_url=self.url, timeout=30)

    def engine_pid(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else None

    def wait_ready(self):
        until(lambda: self.client.get("/health/ready").status_code == 200)

    def post(self, path, **how):
        return self.client.post(path, **how)

    def get(self, path, **how):
        return self.client.get(path, **how)

    def submit(self, prompt="a fox", **fields):
        answer = self.client.post("/api/tasks", json={"prompt": prompt, **fields})
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def task(self, task_id):
        return self.client.get(f"/api/tasks/{task_id}").json()

    def finish(self, task_id, seconds=30):
        answer = self.client.get(f"/api/tasks/{task_id}", headers={"Prefer": f"wait={seconds}"}, timeout=seconds + 30)
        document = answer.json()
        assert document["status"] in ("completed", "failed", "cancelled"), document
        return document

    def wait_status(self, task_id, *statuses):
        return until(lambda: (t := self.task(task_id))["status"] in statuses and t)

    def image(self, image_id):
        return self.client.get(f"/api/images/{image_id}").content

    def stop(self, signal_number=signal.SIGTERM, seconds=40):
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        try:
            return self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.process.stdout.close()
            if self.url:
                self.client.close()


def until(condition, seconds=20):
    """The condition's first true value; fails when there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


@pytest.fixture
def make_server(tmp_path_factory):
    """Starts servers that are stopped after the test."""
    made = []

    def make(**how):
        """As Server's; environment variables are keywords too."""
        made.append(Server(tmp_path_factory.mktemp("server"), **how))
        return made[-1]

    yield make
    for server in made:
        server.stop(signal.SIGKILL)


def shared(tmp_path_factory, **how):
    one = Server(tmp_path_factory.mktemp("shared"), **how)
    one.wait_ready()
    yield one
    assert one.process.poll() is None, one.log.read_text()
    assert one.stop() == 0


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server with its real engine, shared by tests that leave it as they found it."""
    yield from shared(tmp_path_factory, real_engine=True)


@pytest.fixture(scope="session")
def gradients(tmp_path_factory):
    """The same with gradients. Modules that need nothing else call it `server`."""
    yield from shared(tmp_path_factory)
