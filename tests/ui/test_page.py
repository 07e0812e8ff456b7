"""What people do on the page."""
import io
import re
import signal

import pytest
from conftest import drop, generate, servers, tiles
from PIL import Image, PngImagePlugin
from playwright.sync_api import expect

def test_a_prompt_becomes_a_picture_with_its_progress_told(page):
    page.get_by_label("Steps", exact=True).fill("30")
    generate(page, "a slow fox")
    bar = page.get_by_role("progressbar", name="Progress: a slow fox")
    expect(bar).to_be_visible()
    expect(page.locator("#queue-body .fine")).to_have_text(re.compile(r"step \d+/30 · .*(s/it|it/s)"))
    expect(page).to_have_title(re.compile(r"^\d+ % · imagined"))
    first = int(bar.get_attribute("aria-valuenow"))
    # No wait_for_function: it evaluates text in the page, which the page's policy forbids.
    servers.until(lambda: page.evaluate("Number(document.querySelector('[role=progressbar]')?.ariaValueNow ?? 100)") > first + 10)
    expect(tiles(page)).to_have_count(1)
    expect(tiles(page).first).to_have_attribute("aria-label", re.compile("a slow fox"))
    expect(bar).to_have_count(0)
    expect(page.locator("#tiles img")).to_have_js_property("naturalWidth", 128)
    expect(page).to_have_title("imagined")


def test_what_is_asked_for_is_what_the_server_gets(page, server):
    page.get_by_label("4 to 3").check()
    page.get_by_label("Steps", exact=True).fill("5")
    page.get_by_label("Seed", exact=True).fill("18446744073709551615")
    page.get_by_label("One picture more").click()
    page.get_by_label("Priority", exact=True).select_option("high")
    page.get_by_text("Negative prompt").click()
    page.get_by_label("Negative prompt").fill("grey")
    page.get_by_label("Weight", exact=True).fill("2.5")
    generate(page, "a fox")
    expect(tiles(page)).to_have_count(2)
    task = server.get("/api/tasks").json()["tasks"][0]
    asked = task["request"]
    assert (asked["prompt"], asked["negative_prompt"], asked["true_cfg_scale"]) == ("a fox", "grey", 2.5)
    assert (asked["num_inference_steps"], asked["seed"], asked["n"], task["priority"]) == (5, "18446744073709551615", 2, "high")
    assert asked["width"] > asked["height"] and asked["width"] % 16 == asked["height"] % 16 == 0


def test_a_running_and_a_waiting_task_are_cancelled(make_server, pages):
    server = make_server(MAX_CONCURRENT_TASKS=1)
    page = pages.open(server)
    running = server.submit("a slow whale", num_inference_steps=1000)
    waiting = server.submit("a tiger")
    page.get_by_label("Cancel: a tiger").click()
    expect(page.get_by_label("Cancel: a tiger")).to_have_count(0)
    page.get_by_label("Cancel: a slow whale").click()
    expect(page.get_by_text("Nothing waits.")).to_be_visible()
    assert {server.finish(running)["status"], server.finish(waiting)["status"]} == {"cancelled"}


def test_a_restart_of_the_server_loses_neither_pictures_nor_what_was_typed(make_server, pages):
    server = make_server()
    page = pages.open(server)
    generate(page, "a fox to keep")
    expect(tiles(page)).to_have_count(1)
    page.get_by_label("Prompt", exact=True).fill("typed before the restart")
    server.stop(signal.SIGTERM)
    expect(page.locator("#state")).to_have_text("Reconnecting")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_have_text("The server cannot be reached. What you typed is kept.")
    page.get_by_label("Prompt", exact=True).fill("typed while it was away")
    make_server(folder=server.folder, listen=server.address)
    expect(page.locator("#state")).to_have_text("Ready")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("typed while it was away")
    generate(page, "a fox after it")
    expect(tiles(page)).to_have_count(2)
    page.get_by_label("Prompt", exact=True).fill("typed before the reload")
    page.reload()
    expect(tiles(page)).to_have_count(2)
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("typed before the reload")
    pages.complaints[:] = [c for c in pages.complaints if "ERR_CONNECTION" not in c and "ERR_INCOMPLETE" not in c]


def test_a_dropped_picture_gives_its_settings_back(page, server):
    done = server.finish(server.submit("a fox, „quoted”\nand a second line", negative_prompt="grey", true_cfg_scale=2, num_inference_steps=7, width=160, height=96, seed=2**64 - 1))
    drop(page, server.image(done["images"][0]["id"]))
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a fox, „quoted”\nand a second line")
    expect(page.locator("#negative_prompt")).to_have_value("grey")
    expect(page.get_by_label("Weight", exact=True)).to_have_value("2")
    expect(page.get_by_label("Steps", exact=True)).to_have_value("7")
    expect(page.get_by_label("Seed", exact=True)).to_have_value(str(2**64 - 1))
    expect(page.locator("#size-text")).to_have_text("160 × 96")
    expect(page.locator("#toasts")).to_contain_text("Settings taken over.")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("international", [False, True])
def test_other_programs_pictures_are_read(page, compressed, international):
    words = 'a caf\u00e9\nNegative prompt: rain\nand wind\nSteps: 31, Sampler: Euler a, CFG scale: 7.5, Seed: 99, Size: 512x768, Model: "a, b", Version: v1.9'
    info, out = PngImagePlugin.PngInfo(), io.BytesIO()
    (info.add_itxt if international else info.add_text)("parameters", words, zip=compressed)
    Image.new("RGB", (8, 8)).save(out, "PNG", pnginfo=info)
    drop(page, out.getvalue())
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a caf\u00e9")
    expect(page.locator("#negative_prompt")).to_have_value("rain\nand wind")
    expect(page.get_by_label("Steps", exact=True)).to_have_value("31")
    expect(page.locator("#size-text")).to_have_text("512 × 768")
    expect(page.locator("#toasts")).to_contain_text("there is no model 'a, b' here")


def test_pictures_without_settings_say_so(page):
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    page.get_by_label("Prompt", exact=True).fill("it stays")
    for data in (out.getvalue(), out.getvalue()[:30]):
        drop(page, data)
        expect(page.locator(".toast").last).to_contain_text("This picture carries no settings.")
    drop(page, b"GIF89a")
    expect(page.locator(".toast").last).to_contain_text("Only PNGs carry settings")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("it stays")


def test_who_goes_on_at_once_is_not_called_back(make_server, pages):
    """Closing a picture gives its tile the focus then, and not a moment later, when another may have it."""
    server = make_server()
    for prompt in ("first", "second", "third"):
        server.finish(server.submit(prompt))
    page = pages.open(server)
    expect(tiles(page)).to_have_count(3)
    tiles(page).first.click()
    expect(page.get_by_role("dialog", name="Picture")).to_be_visible()
    kept = page.evaluate("""async () => {
      document.querySelector("#viewer [aria-label=Close]").click();
      const opened = document.activeElement.matches("button.tile"), other = document.querySelectorAll("button.tile")[2];
      other.focus();
      await new Promise((go) => setTimeout(go, 200));
      return [opened, document.activeElement === other];
    }""")
    assert kept == [True, True]


def test_the_keyboard_is_enough(make_server, pages):
    server = make_server(MAX_CONCURRENT_TASKS=1)
    for prompt in ("first", "second", "third"):
        server.finish(server.submit(prompt))
    page = pages.open(server)
    expect(tiles(page)).to_have_count(3)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.type("a slow fourth")
    page.get_by_label("Steps", exact=True).fill("1000")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("progressbar")).to_be_visible()
    waiting = server.submit("a fifth")
    row = page.locator(f"li[data-id='{waiting}']")
    expect(row).to_be_visible()

    def tab_to(selector):
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("(s) => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"the Tab key never came to {selector}")

    tab_to("button.tile")
    page.keyboard.press("Enter")
    viewer = page.get_by_role("dialog", name="Picture")
    expect(viewer.locator(".prompt")).to_have_text("a slow fourth")
    expect(viewer.locator(".way")).to_contain_text(re.compile(r"step \d+/1000"))
    page.keyboard.press("Escape")
    expect(page.get_by_label("Watch: a slow fourth")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(viewer.locator(".prompt")).to_have_text("second")
    page.keyboard.press("ArrowRight")
    expect(viewer.locator(".prompt")).to_have_text("first")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(viewer.locator(".prompt")).to_have_text("third")
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(tiles(page).first).to_be_focused()
    page.keyboard.press("i")
    expect(page.locator("#input-shown img")).to_have_js_property("naturalWidth", 128)
    tab_to("li.task[tabindex]")
    page.keyboard.press("Alt+ArrowUp")
    servers.until(lambda: server.task(waiting)["priority"] == "high")
    expect(page.locator(".group[data-priority=high] li")).to_be_focused()
    page.keyboard.press("Delete")
    assert server.finish(waiting)["status"] == "cancelled"


def test_waiting_tasks_are_dragged_to_another_priority(page, server):
    server.post("/api/system/queue/pause")
    a, b = server.submit("a fox"), server.submit("an owl")
    row = page.locator(f"li[data-id='{b}']")
    expect(page.locator("#paused")).to_be_visible()  # the rows move no more
    handle = row.locator(".handle").bounding_box()
    page.mouse.move(handle["x"] + 5, handle["y"] + 5)
    page.mouse.down()
    low = page.locator(".group[data-priority=low]")
    expect(low).to_be_visible()
    box = low.bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 10, steps=5)
    page.mouse.move(box["x"] + 40, box["y"] + 15, steps=2)
    page.mouse.up()
    expect(page.locator(f".group[data-priority=low] li[data-id='{b}']")).to_be_visible()
    assert server.task(b)["priority"] == "low" and server.task(a)["priority"] == "normal"
    page.get_by_label("Priority of: a fox").select_option("urgent")
    expect(page.locator(f".group[data-priority=urgent] li[data-id='{a}']")).to_be_visible()


def test_the_queue_is_paused_and_goes_on(page, server):
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#paused")).to_contain_text("Paused: an operator paused it")
    generate(page, "a fox in waiting")
    expect(page.locator("li.task", has_text="a fox in waiting")).to_contain_text("next")
    page.get_by_role("button", name="Resume").click()
    expect(tiles(page)).to_have_count(1)
    expect(page.locator("#paused")).to_be_hidden()


def test_what_is_wrong_is_said_where_it_is(pages, page):
    page.keyboard.press("Control+Enter")
    expect(page.locator("#prompt-fault")).to_have_text("Say what the picture shows.")
    page.get_by_label("Any size").check()
    page.get_by_label("Width").fill("100")
    generate(page, "a fox")
    expect(page.locator("#width-fault")).to_contain_text("it must be a multiple of 16; the nearest are 96 and 112")
    expect(page.get_by_label("Width")).to_be_focused()
    page.get_by_label("Width").fill("112")
    expect(page.locator("#width-fault")).to_be_hidden()
    generate(page, "fail")
    failed = page.get_by_role("list", name="Failed")
    expect(failed).to_contain_text("told to fail")
    page.get_by_label("Dismiss: fail").click()
    expect(failed).to_have_count(0)
    page.reload()
    expect(page.locator("#state")).to_have_text("Ready")
    expect(failed).to_have_count(0)
    pages.complaints[:] = [c for c in pages.complaints if "422" not in c]


def test_pictures_are_searched_and_their_settings_used_again(page, server):
    for prompt, seed in (("a red fox", 5), ("a blue whale", 6)):
        server.finish(server.submit(prompt, seed=seed))
    expect(tiles(page)).to_have_count(2)
    page.keyboard.press("/")
    page.keyboard.type("WHALE blue")
    expect(tiles(page)).to_have_count(1)
    tiles(page).first.click()
    page.get_by_role("button", name="Use settings").click()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a blue whale")
    expect(page.get_by_label("Seed", exact=True)).to_have_value("6")
    page.locator("#search").fill("nothing of the kind")
    expect(page.get_by_text("No picture matches.")).to_be_visible()
    page.get_by_role("button", name="Random").click()
    expect(page.get_by_label("Seed", exact=True)).to_have_value("")
    page.get_by_role("button", name="Last used").click()
    expect(page.get_by_label("Seed", exact=True)).to_have_value("6")


def test_a_picture_is_deleted_after_it_was_asked_twice(page, server):
    made = [server.finish(server.submit(prompt))["images"][0]["id"] for prompt in ("to keep", "to delete")]
    expect(tiles(page)).to_have_count(2)
    tiles(page).first.click()
    viewer = page.get_by_role("dialog", name="Picture")
    viewer.get_by_role("button", name="Delete").click()
    assert server.get(f"/api/images/{made[1]}").status_code == 200
    viewer.get_by_role("button", name="Delete for good?").click()
    expect(viewer.locator(".prompt")).to_have_text("to keep")
    assert server.get(f"/api/images/{made[1]}").status_code == 404
    page.keyboard.press("Escape")
    expect(tiles(page)).to_have_count(1)
    page.reload()
    expect(tiles(page)).to_have_count(1)
    expect(tiles(page).first).to_have_attribute("aria-label", re.compile("to keep"))


def test_models_are_loaded_and_unloaded(page):
    row = page.locator("#models li", has_text="demo")
    expect(row).to_contain_text("not loaded")
    page.get_by_role("button", name="Load demo", exact=True).click()
    expect(row).to_contain_text("idle")
    expect(page.locator("#memory .legend")).to_contain_text("weights100 kB")
    page.get_by_role("button", name="Unload demo").click()
    expect(page.locator("#toasts")).to_contain_text("1 model unloaded")
    expect(row).to_contain_text("by hand")
    expect(page.locator("#evictions")).to_have_text("Let go so far: 1 by hand.")
    page.get_by_role("button", name="Free memory").click()
    expect(page.locator("#toasts")).to_contain_text("Nothing to free.")


def test_a_phone_shows_one_section_at_a_time(pages, server):
    page = pages.open(server, width=390, height=844, has_touch=True)
    generate(page, "a fox")
    expect(page.locator("#tiles")).to_be_hidden()
    page.get_by_role("button", name="Pictures").tap()
    expect(tiles(page)).to_have_count(1)
    expect(page.locator("#prompt")).to_be_hidden()
    tiles(page).first.tap()
    page.get_by_role("button", name="Use settings").tap()
    expect(page.locator("#prompt")).to_have_value("a fox")
    for name in ("Queue", "System", "Create"):
        page.get_by_role("button", name=name, exact=True).tap()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name


def test_the_theme_is_kept(page):
    def background():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = background()
    page.get_by_label("Theme: as the system").click()
    page.get_by_label("Theme: light").click()
    dark = background()
    assert dark != light
    page.reload()
    assert background() == dark
