"""A server that wants a key: the page asks for it, keeps it, and sends it with everything, events and pictures too."""
import subprocess

import pytest
from conftest import generate, servers, tiles
from playwright.sync_api import expect


@pytest.fixture
def guarded(make_server, tmp_path):
    path = tmp_path / "keys"
    made = [subprocess.run([servers.BINARY, "keys", "add", name, "--api-keys-file", str(path)], capture_output=True, text=True, check=True) for name in ("anna", "ben")]
    server = make_server(IMAGINED_API_KEYS_FILE=path, IMAGINED_LOOPBACK_NEEDS_KEY="true")
    server.anna, server.ben = (m.stdout.strip() for m in made)
    server.client.headers["Authorization"] = f"Bearer {server.anna}"
    return server


def forgive(pages):
    """A browser complains of each 401 by itself."""
    pages.complaints[:] = [c for c in pages.complaints if "401" not in c]


def enter(page, key):
    page.get_by_label("API key", exact=True).and_(page.locator("input")).fill(key)
    page.keyboard.press("Enter")


def test_the_key_is_asked_for_kept_and_forgotten(guarded, pages):
    dialogs = []
    page = pages.open(guarded, wait=False)
    page.on("dialog", lambda d: dialogs.append(d))
    asked = page.get_by_role("dialog", name="API key")
    expect(asked).to_be_visible()
    expect(page.locator("#state")).to_have_text("Key needed")
    enter(page, "wrong")
    expect(asked).to_contain_text("The server does not know this key.")
    enter(page, guarded.anna)
    expect(page.locator("#state")).to_have_text("Ready")
    expect(asked).to_be_hidden()
    forgive(pages)

    page.get_by_label("Steps", exact=True).fill("40")
    generate(page, "a slow fox")
    expect(page.locator("#tiles .making img")).to_have_js_property("naturalWidth", 16)
    expect(tiles(page)).to_have_count(1)
    expect(page.locator("#tiles img")).to_have_js_property("naturalWidth", 128)
    tiles(page).click()
    viewer = page.get_by_role("dialog", name="Picture")
    expect(viewer.locator(".stage img")).to_have_js_property("naturalWidth", 128)
    with page.expect_download() as saved:
        viewer.get_by_role("button", name="Save").click()
    picture = guarded.get("/api/tasks").json()["tasks"][0]["images"][0]["id"]
    assert saved.value.path().read_bytes() == guarded.image(picture)
    viewer.get_by_role("button", name="Start from this picture").click()
    expect(page.locator("#input-shown img")).to_have_js_property("naturalWidth", 128)

    page.reload()
    expect(tiles(page)).to_have_count(1)
    expect(page.locator("#tiles img")).to_have_js_property("naturalWidth", 128)
    page.locator("#key").click()
    enter(page, guarded.ben)
    expect(page.locator("#state")).to_have_text("Ready")
    expect(tiles(page)).to_have_count(0)  # anna's are hers
    page.locator("#key").click()
    page.get_by_role("button", name="Forget it").click()
    expect(asked).to_be_visible()
    assert "imagined.key" not in page.evaluate("Object.entries(localStorage).filter(([k, v]) => v !== 'null').map(([k]) => k)")
    assert dialogs == []
    forgive(pages)


def test_what_was_typed_waits_for_the_key(guarded, pages):
    page = pages.open(guarded, wait=False)
    page.get_by_role("button", name="Not now").click()
    generate(page, "typed before the key")
    expect(page.get_by_role("dialog", name="API key")).to_be_visible()
    enter(page, guarded.anna)
    expect(page.locator("#state")).to_have_text("Ready")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("typed before the key")
    page.get_by_role("button", name="Generate").click()
    expect(tiles(page)).to_have_count(1)
    forgive(pages)
