"""The page in Debian's Chromium, against the real binary with the engine that paints gradients ("slow" in a prompt: 50 ms a step)."""
import importlib.util
import os
import pathlib
import shutil
import signal

import pytest
from playwright.sync_api import expect, sync_playwright

ROOT = pathlib.Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("http_servers", ROOT / "tests" / "http" / "conftest.py")
servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(servers)
expect.set_options(timeout=15_000)  # a busy machine takes its time
CHROMIUM = os.environ.get("IMAGINED_TEST_CHROMIUM") or shutil.which("chromium")


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        with playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser:
            yield browser


@pytest.fixture
def make_server(tmp_path_factory):
    made = []

    def make(ready=True, **how):
        made.append(servers.Server(how.pop("folder", None) or tmp_path_factory.mktemp("server"), **how))
        if ready:
            made[-1].wait_ready()
        return made[-1]

    yield make
    for server in made:
        server.stop(signal.SIGKILL)


@pytest.fixture
def server(make_server):
    return make_server()


class Pages:
    """Opens pages and keeps what their consoles complained of and what they asked other machines for."""

    def __init__(self, browser):
        self.browser, self.contexts, self.complaints, self.foreign = browser, [], [], []

    def open(self, server, width=1280, height=900, wait=True, **how):
        context = self.browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce", **how)
        context.set_default_timeout(15000)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: self.complaints.append(str(e)))
        page.on("request", lambda r: None if r.url.startswith((server.url, "data:", "blob:")) else self.foreign.append(r.url))
        page.goto(server.url + "/")
        if wait:
            page.wait_for_selector("#state[data-kind=on], #state[data-kind=busy], #state[data-kind=pause]")
            expect(page.locator("#model")).not_to_have_value("…")
        return page


@pytest.fixture
def pages(browser, make_server):
    """Fails a test whose page said anything on its console; a test that provokes it empties `complaints`. Closed before the servers stop."""
    made = Pages(browser)
    yield made
    for context in made.contexts:
        context.close()
    assert made.complaints == []
    assert made.foreign == []


@pytest.fixture
def page(pages, server):
    return pages.open(server)


# --- what people do ---

DROP = """([bytes, x]) => {
    const transfer = new DataTransfer(), how = {dataTransfer: transfer, bubbles: true, cancelable: true, clientX: x, clientY: 300};
    transfer.items.add(new File([new Uint8Array(bytes)], "picture.png", {type: "image/png"}));
    for (const type of ["dragenter", "dragover", "drop"]) document.body.dispatchEvent(new DragEvent(type, how));
}"""


def drop(page, data, x=1):
    """A file dropped at `x`: the left half of the page takes its settings, the right half starts from it."""
    page.evaluate(DROP, [list(data), x])


def generate(page, prompt):
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.keyboard.press("Control+Enter")


def tiles(page):
    """Those of finished pictures."""
    return page.locator("#tiles li:not(.making) button.tile")
