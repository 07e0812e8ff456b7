"""What holds for the page as a whole: nothing serious for axe-core, its weight, where its bytes come from."""
import re

import pytest
from conftest import ROOT
from playwright.sync_api import expect

AXE = ROOT / ".deps" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
BYTES = 150_000  # of everything the page is made of, uncompressed


def serious(page):
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found["violations"] if v["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious(pages, make_server, theme, width):
    server = make_server(MAX_CONCURRENT_TASKS=1)
    page = pages.open(server, width=width, color_scheme=theme)

    def look(section):
        if width < 760:
            page.locator(f".tabs [data-view={section}]").click()
        assert serious(page) == []

    look("pictures")
    done = server.finish(server.submit("a fox"))
    server.finish(server.submit("fail"))
    server.submit("a slow whale", num_inference_steps=1000)
    server.submit("a tiger")
    server.post("/api/system/queue/pause")
    expect(page.locator("#tiles li:not(.making) button.tile")).to_have_count(1)
    expect(page.locator("#paused")).to_have_count(1)
    if width >= 760:
        page.locator("#negative-box summary").click()
        page.locator(".choices summary").click()
    for section in ("compose", "pictures", "queue", "system") if width < 760 else ("",):
        look(section)
    if width < 760:
        page.locator(".tabs [data-view=pictures]").click()
    for tile in ("#tiles li:not(.making) button.tile", "#tiles .making button.tile"):
        page.locator(tile).click()
        expect(page.locator("#viewer")).to_be_visible()
        assert serious(page) == []
        page.keyboard.press("Escape")
    page.locator("#image-file").set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": server.image(done["images"][0]["id"])})
    if width < 760:
        page.locator(".tabs [data-view=compose]").click()
    expect(page.locator("#input-shown img")).to_be_visible()
    assert serious(page) == []
    page.get_by_role("button", name="Paint a mask").click()
    expect(page.locator("#painter")).to_be_visible()
    assert serious(page) == []
    page.keyboard.press("Escape")
    page.evaluate("document.dispatchEvent(new CustomEvent('unauthorized', {detail: true}))")
    expect(page.locator("#key-fault")).to_be_visible()
    assert serious(page) == []


def test_the_page_is_light_and_its_own(server):
    page = server.get("/")
    files = sorted({*re.findall(r'(?:src|href)="(/ui/[^"]+)"', page.text), *("/ui/" + name for name in re.findall(r'from "./([^"]+)"', server.get("/ui/app.js").text))})
    assert {f.name for f in (ROOT / "ui").iterdir()} == {f.rsplit("/", 1)[1] for f in files} | {"index.html"}
    total = len(page.content)
    for path in files:
        answer = server.get(path)
        assert answer.status_code == 200 and answer.content == (ROOT / "ui" / path.rsplit("/", 1)[1]).read_bytes()
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        total += len(answer.content)
    assert total < BYTES, total
