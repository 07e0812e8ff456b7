"""ComfyUI's API: its events and their order, and what its cache spares."""
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from comfy import Listener, fresh, kinds, outputs, run, seeds, submit, titled, view
from PIL import Image


@pytest.fixture
def server(gradients):
    return gradients


# --- events ---

def test_events_come_in_comfyuis_order(make_server):
    server = make_server()  # whose nodes nobody has run before
    with Listener(server) as client:
        assert client.next()[0] == "status"
        graph = fresh()
        prompt_id = submit(server, graph, client)
        heard = client.until_done(prompt_id)
        assert server.get(f"/history/{prompt_id}").json()[prompt_id]["status"]["completed"]  # it was there before the last word
    told = [(kind, data) for kind, data in heard if kind != "status"]
    assert [kind for kind, _ in told] == (["execution_start", "execution_cached"] + ["executing"] * 5 + ["progress"] * 4 + ["executing"] * 2 +
                                          ["executed", "execution_success", "executing"])
    assert [data["node"] for kind, data in told if kind == "executing"] == ["4", "6", "7", "5", "3", "8", "9", None]
    assert [(data["value"], data["max"], data["node"]) for kind, data in told if kind == "progress"] == [(i, 4, "3") for i in (1, 2, 3, 4)]
    (executed,) = [data for kind, data in told if kind == "executed"]
    assert executed["node"] == executed["display_node"] == "9"
    (image,) = executed["output"]["images"]
    assert image["filename"].startswith("ComfyUI_") and image["filename"].endswith("_.png") and image["subfolder"] == "" and image["type"] == "output"
    assert isinstance(told[0][1]["timestamp"], int) and told[-2][1].keys() == {"prompt_id", "timestamp"}
    states = [data["status"]["exec_info"]["queue_remaining"] for kind, data in heard if kind == "status"]
    assert states[-1] == 0 and max(states) == 1
    assert [kind for kind, _ in heard[-2:]] == ["status", "executing"]


def test_prompts_that_follow_do_not_hold_back_for_ever_what_the_first_has_to_tell(server):
    """A client hears of a prompt a moment after it has sent it; each that follows meanwhile puts that off."""
    with Listener(server, close_timeout=0.1) as client, ThreadPoolExecutor(1) as listening:
        started = listening.submit(lambda: any(client.next()[0] == "execution_start" for _ in range(100)))
        for _ in range(60):
            submit(server, fresh(steps=1), client)
            time.sleep(0.04)
            if started.done():
                break
        assert started.done() and started.result()


def test_others_hear_of_the_queue_alone(server):
    with Listener(server) as one, Listener(server) as other:
        one.next(), other.next()
        prompt_id = submit(server, fresh(), one)
        one.until_done(prompt_id)
        last = submit(server, fresh(), other)
        heard = other.until_done(last)
        assert {data.get("prompt_id") for kind, data in heard if kind != "status"} == {last}


def test_a_client_that_comes_again_hears_where_its_prompt_is(server):
    with Listener(server) as client:
        prompt_id = submit(server, fresh("slow", steps=60), client)
        while client.next()[0] != "progress":
            pass
        with Listener(server, name=client.id) as again:
            assert again.next()[0] == "status"
            assert again.next() == ("executing", {"node": "3", "display_node": "3", "prompt_id": prompt_id})
            server.post("/interrupt", json={"prompt_id": prompt_id})
            heard = again.until_done(prompt_id)
            assert "execution_interrupted" in kinds(heard, prompt_id)


def test_a_failure_is_told_with_its_node(server):
    with Listener(server) as client:
        prompt_id = submit(server, fresh("fail"), client)
        heard = client.until_done(prompt_id)
    (failure,) = [data for kind, data in heard if kind == "execution_error"]
    assert failure["node_id"] == "3" and failure["node_type"] == "KSampler" and failure["exception_message"] == "told to fail"
    assert failure["executed"] == ["4", "6", "7", "5"] and failure["traceback"] == []
    entry = server.get(f"/history/{prompt_id}").json()[prompt_id]
    assert entry["status"]["status_str"] == "error" and not entry["status"]["completed"] and entry["outputs"] == {}
    assert entry["status"]["messages"][-1] == ["execution_error", failure]


@pytest.mark.parametrize("asked", [{}, {"preview_method": "none"}, {"preview_method": "default"}])
def test_no_previews_come_unasked(server, asked):
    with Listener(server) as client:
        heard = client.until_done(submit(server, fresh("slow", steps=5), client, extra_data=asked))
    assert not any(kind == "preview" for kind, _ in heard)


def test_previews_are_jpegs(server):
    with Listener(server) as client:
        prompt_id = submit(server, fresh("slow", steps=8, width=64, height=128), client, extra_data={"preview_method": "auto"})
        frames = [data for kind, data in client.until_done(prompt_id) if kind == "preview"]
    assert frames and all(frame[:8] == bytes([0, 0, 0, 1, 0, 0, 0, 1]) for frame in frames)
    picture = Image.open(io.BytesIO(frames[-1][8:]))
    assert picture.format == "JPEG" and picture.size == (128, 256)


def test_previews_say_whose_they_are_to_those_who_understand(server):
    with Listener(server) as client:
        client.next()
        client.socket.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
        assert client.next()[0] == "feature_flags"
        prompt_id = submit(server, fresh("slow", steps=8), client, extra_data={"preview_method": "latent2rgb"})
        frames = [data for kind, data in client.until_done(prompt_id) if kind == "preview"]
    assert frames
    size = int.from_bytes(frames[0][4:8], "big")
    assert frames[0][:4] == bytes([0, 0, 0, 4])
    about = json.loads(frames[0][8:8 + size])
    assert about["prompt_id"] == prompt_id and about["node_id"] == "3" and about["image_type"] == "image/jpeg"
    assert Image.open(io.BytesIO(frames[0][8 + size:])).format == "JPEG"

# --- the cache ---

def test_the_same_prompt_runs_nothing(server):
    graph = fresh(prefix="again")
    with Listener(server) as client:
        first = submit(server, graph, client)
        client.until_done(first)
        tasks = len(server.get("/api/tasks?limit=1000").json()["tasks"])
        second = submit(server, graph, client)
        assert server.get(f"/history/{second}").json()[second]["status"]["completed"]  # at once
        heard = client.until_done(second)
    assert len(server.get("/api/tasks?limit=1000").json()["tasks"]) == tasks
    (cached,) = [data["nodes"] for kind, data in heard if kind == "execution_cached"]
    assert sorted(cached) == sorted(graph)
    assert kinds(heard, second) == ["execution_start", "execution_cached", "executed", "execution_success", "executing"]
    entries = [server.get(f"/history/{i}").json()[i] for i in (first, second)]
    assert outputs(entries[0]) == outputs(entries[1]) and entries[1]["prompt"][1] == second
    assert run(server, titled(fresh(prefix="again")))["prompt"][1] not in (first, second)


def test_what_did_not_change_is_told_as_cached(server):
    graph = fresh()
    with Listener(server) as client:
        client.until_done(submit(server, graph, client))
        graph["3"]["inputs"]["seed"] = next(seeds)
        heard = client.until_done(submit(server, graph, client))
    (cached,) = [data["nodes"] for kind, data in heard if kind == "execution_cached"]
    assert sorted(cached) == ["4", "5", "6", "7"]
    assert [data["node"] for kind, data in heard if kind == "executing"] == ["3", "8", "9", None]


def test_a_deleted_picture_is_made_again(server):
    graph = fresh()
    first = run(server, graph)
    task = server.get("/api/tasks?limit=1").json()["tasks"][0]
    assert server.client.delete(task["images"][0]["url"]).status_code == 204
    second = run(server, graph)
    assert outputs(first) != outputs(second)
    assert view(server, outputs(first)[0]).status_code == 404 and view(server, outputs(second)[0]).status_code == 200
