"""Pictures in the making are seen, and those that are made stay: previews, the viewer, a gallery larger than one page of the server's list."""
import re
import signal

from conftest import generate, servers, tiles
from playwright.sync_api import expect


def step_shown(image):
    found = re.search(r"/preview\?step=(\d+)", image.get_attribute("data-url") or "")
    return int(found[1]) if found else None


def test_a_picture_is_seen_while_it_is_made(page):
    page.get_by_label("Steps", exact=True).fill("60")
    generate(page, "a slow fox")
    image = page.locator("#tiles .making img")
    expect(image).to_be_visible()
    expect(image).to_have_js_property("naturalWidth", 16)  # a pixel for each cell of the latent
    first = step_shown(image)
    assert first is not None
    servers.until(lambda: (step_shown(image) or 0) > first)
    expect(page.locator("#queue-body .glance")).to_be_visible()
    page.get_by_label("Watch: a slow fox").click()
    viewer = page.get_by_role("dialog", name="Picture")
    expect(viewer.locator(".stage img")).to_have_js_property("naturalWidth", 512)
    expect(viewer.locator(".way")).to_contain_text(re.compile(r"step \d+/60 · .*(s/it|it/s) · .* left"))
    # What is looked at becomes the picture once it is one.
    expect(viewer.locator(".stage img")).to_have_attribute("src", re.compile("^/api/images/"))
    expect(viewer.locator("dl")).to_contain_text("Seed")
    expect(viewer.get_by_role("button", name="Start from this picture")).to_be_visible()
    expect(viewer.locator(".way")).to_be_hidden()


def test_it_is_cancelled_where_it_is_watched(page, server):
    task = server.submit("a slow whale", num_inference_steps=1000)
    page.get_by_label("Watch: a slow whale").click()
    page.get_by_role("button", name="Cancel this picture").click()
    expect(page.get_by_role("dialog", name="Picture")).to_be_hidden()
    assert server.finish(task)["status"] == "cancelled"
    expect(page.locator("#tiles .making")).to_have_count(0)


def test_more_pictures_than_a_page_of_the_list_are_scrolled_searched_and_outlive_the_server(make_server, pages):
    server = make_server()
    server.finish(server.submit("the very first owl", num_inference_steps=1))
    for _ in range(8):
        server.finish(server.submit("a fox", n=16, num_inference_steps=1, width=64, height=64), 60)
    server.stop(signal.SIGTERM)
    server = make_server(folder=server.folder, listen=server.address)
    page = pages.open(server)
    expect(page.locator("#picture-count")).to_have_text("100+")
    expect(tiles(page)).to_have_count(100)
    page.locator("#tiles li").last.scroll_into_view_if_needed()
    expect(page.locator("#picture-count")).to_have_text("129")
    page.get_by_role("button", name="Show older").scroll_into_view_if_needed()
    expect(tiles(page)).to_have_count(129)
    expect(tiles(pages.open(server, width=3000, height=2600))).to_have_count(129)  # a screen that a page of the list does not fill
    page.reload()
    expect(page.locator("#picture-count")).to_have_text("100+")
    page.keyboard.press("/")
    page.keyboard.type("owl")
    expect(tiles(page)).to_have_count(1)
    tiles(page).click()
    viewer = page.get_by_role("dialog", name="Picture")
    expect(viewer.locator(".place")).to_have_text("1 of 1")
    expect(viewer.locator("dl")).to_contain_text("Steps1")


def test_settings_are_copied_as_they_stand_in_the_file(pages, server):
    done = server.finish(server.submit("a fox, „quoted”", num_inference_steps=3, seed=7))
    page = pages.open(server, permissions=["clipboard-read", "clipboard-write"])
    tiles(page).click()
    page.get_by_role("button", name="Copy settings").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("a fox, „quoted”\nSteps: 3, ") and "Seed: 7" in copied
    assert server.image(done["images"][0]["id"]).find(copied.encode()) > 0


def test_a_dead_engine_is_told(make_server, pages):
    server = make_server(ready=False, IMAGINED_ENGINE_EXECUTABLE="/bin/false")
    page = pages.open(server, wait=False)
    expect(page.locator("#trouble")).to_contain_text("The engine died: ")
    expect(page.locator("#state")).to_have_text("Engine fails")
