"""ComfyUI's API: its queue and history, what is kept over a restart, and what it says of itself."""
import uuid

import pytest
from comfy import Listener, finish, fresh, kinds, outputs, png, run, submit, upload, view
from conftest import until


@pytest.fixture
def server(gradients):
    return gradients


# --- queue, interrupt, history ---

def test_front_overtakes(server):
    assert server.post("/api/system/queue/pause").status_code == 200
    try:
        ids = [submit(server, fresh()), submit(server, fresh(), front=True)]
        pending = {item[1]: item for item in server.get("/queue").json()["queue_pending"]}
        assert pending[ids[1]][0] < 0 <= pending[ids[0]][0]  # the first of a server is 0
        tasks = server.get("/api/tasks?limit=2").json()["tasks"]
        assert [t["priority"] for t in tasks] == ["high", "normal"] and tasks[0]["position"] < tasks[1]["position"]
        server.post("/queue", json={"clear": True})
    finally:
        server.post("/api/system/queue/resume")


def test_waiting_prompts_are_listed_and_deleted(server):
    server.post("/api/system/queue/pause")
    try:
        with Listener(server) as client:
            ids = [submit(server, fresh(), client, extra_data={"extra_pnginfo": {"workflow": {"nodes": []}}, "api_key_comfy_org": "secret"}) for _ in range(3)]
            pending = server.get("/queue").json()["queue_pending"]
            assert [item[1] for item in pending] == ids and pending[0][4] == ["9"]
            assert pending[0][3] == {"extra_pnginfo": {"workflow": {"nodes": []}}, "client_id": client.id}  # and no secrets
            assert server.get("/prompt").json() == {"exec_info": {"queue_remaining": 3}}
            assert server.post("/queue", json={"delete": [ids[1], "none"]}).status_code == 200
            assert [item[1] for item in server.get("/api/queue").json()["queue_pending"]] == [ids[0], ids[2]]
            assert server.post("/interrupt").status_code == 200  # nothing runs: nothing happens
            assert server.post("/queue", json={"clear": True}).status_code == 200
            until(lambda: server.get("/queue").json() == {"queue_running": [], "queue_pending": []})
            assert not any(i in server.get("/history").json() for i in ids)  # as in ComfyUI: what never ran is not there
    finally:
        server.post("/api/system/queue/resume")


def test_interrupt_ends_what_runs(server):
    for body in ({}, {"json": {}}, {"json": {"prompt_id": ""}}, {"content": b"no JSON"}, "its own id"):
        with Listener(server) as client:
            prompt_id = submit(server, fresh("slow", steps=200), client)
            while client.next()[0] != "progress":
                pass
            assert [item[1] for item in server.get("/queue").json()["queue_running"]] == [prompt_id]
            server.post("/interrupt", json={"prompt_id": "another"})
            assert server.post("/interrupt", **({"json": {"prompt_id": prompt_id}} if body == "its own id" else body)).status_code == 200
            heard = client.until_done(prompt_id)
            assert "execution_interrupted" in kinds(heard, prompt_id)
        entry = server.get(f"/history/{prompt_id}").json()[prompt_id]
        (told,) = [data for kind, data in heard if kind == "execution_interrupted"]
        assert entry["status"]["status_str"] == "error" and entry["status"]["messages"][-1] == ["execution_interrupted", told]
        assert told["node_id"] == "3" and told["node_type"] == "KSampler"


def test_history_is_bounded_and_can_be_deleted(make_server):
    server = make_server()
    ids = [run(server, fresh())["prompt"][1] for _ in range(4)]
    assert list(server.get("/history").json()) == ids
    assert list(server.get("/history?max_items=2").json()) == ids[2:]
    assert list(server.get("/history?max_items=2&offset=0").json()) == ids[:2]  # an offset counts from the oldest
    assert list(server.get("/history?max_items=2&offset=1").json()) == ids[1:3]
    assert list(server.get("/history?offset=3").json()) == ids[3:]
    assert list(server.get("/history?max_items=2&offset=-1").json()) == ids[2:]
    server.post("/history", json={"delete": [ids[1]]})
    assert list(server.get("/history").json()) == [ids[0], ids[2], ids[3]] and server.get(f"/history/{ids[1]}").json() == {}
    image = {"filename": "ComfyUI_00002_.png", "type": "output"}
    assert view(server, image).status_code == 200  # its picture stays
    server.post("/history", json={"clear": True})
    assert server.get("/history").json() == {}


@pytest.mark.parametrize("path", ["/queue", "/history"])
def test_one_request_deletes_so_many_at_most(server, path):
    """Each name is looked for among all prompts, while everybody else waits."""
    assert server.post(path, json={"delete": ["none"] * 1000}).status_code == 200
    answer = server.post(path, json={"delete": ["none"] * 1001})
    assert answer.status_code == 400 and answer.json()["error"]["message"] == "'delete' names 1001 prompts: at most 1000 are taken at once"


def test_a_client_may_choose_its_prompts_id(server):
    chosen = str(uuid.uuid4())
    assert submit(server, fresh(), prompt_id=chosen) == chosen
    finish(server, chosen)
    for wrong in (chosen, "", "a/b", "x" * 80):
        answer = server.post("/prompt", json={"prompt": fresh(), "prompt_id": wrong})
        assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_prompt_id"


def test_all_of_it_outlives_a_restart(make_server, tmp_path):
    state = tmp_path / "state"
    server = make_server(STATE=state)
    graph = fresh(prefix="kept", batch=2)
    upload(server, "kept.png", subfolder="a/b")
    entry = run(server, graph, extra_data={"extra_pnginfo": {"workflow": {"id": "x"}}})
    gone = run(server, fresh())["prompt"][1]
    server.post("/history", json={"delete": [gone]})
    failed = run(server, fresh("fail"))
    server.post("/api/system/queue/pause")
    waiting = submit(server, fresh(prefix="waits"))
    files = [view(server, i).content for i in outputs(entry)]
    server.stop(9)
    server = make_server(STATE=state)
    again = server.get("/history").json()
    assert list(again) == [entry["prompt"][1], failed["prompt"][1]] and again[failed["prompt"][1]]["status"]["messages"][-1] == failed["status"]["messages"][-1]
    assert again[entry["prompt"][1]]["prompt"] == entry["prompt"]
    assert outputs(again[entry["prompt"][1]]) == outputs(entry) and [view(server, i).content for i in outputs(entry)] == files
    assert [item[1] for item in server.get("/queue").json()["queue_pending"]] == [waiting]
    server.post("/api/system/queue/resume")
    assert outputs(finish(server, waiting))[0]["filename"] == "waits_00001_.png"
    repeated = submit(server, graph)
    assert outputs(finish(server, repeated)) == outputs(entry)  # still known
    assert outputs(run(server, fresh(prefix="kept")))[0]["filename"] == "kept_00003_.png"
    assert server.get("/view", params={"filename": "kept.png", "subfolder": "a/b", "type": "input"}).content == png()


def test_the_queues_limit_is_told(make_server):
    server = make_server(IMAGINED_MAX_QUEUED=1)
    server.post("/api/system/queue/pause")
    submit(server, fresh())
    answer = server.post("/prompt", json={"prompt": fresh()})
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1 and answer.json()["error"]["type"] == "busy"

# --- what the server says of itself ---

def test_nodes_are_told_in_comfyuis_form(server):
    everything = server.get("/object_info").json()
    assert len(everything) > 40 and everything == server.get("/api/object_info").json()
    for name, node in everything.items():
        assert node["name"] == name and len(node["output"]) == len(node["output_name"]) == len(node["output_is_list"])
        assert node.keys() == {"input", "input_order", "output", "output_is_list", "output_name", "name", "display_name", "description", "python_module", "category", "output_node"}
        for place, inputs in node["input"].items():
            assert place == "hidden" or list(inputs) == node["input_order"][place]
    sampler = server.get("/object_info/KSampler").json()["KSampler"]
    assert sampler["input"]["required"]["seed"][1]["max"] == 2**64 - 1 and sampler["input"]["required"]["sampler_name"][0][0] == "euler"
    assert everything["SaveImage"]["output_node"] and not sampler["output_node"] and sampler["output"] == ["LATENT"]
    assert server.get("/object_info/None").json() == {}


def test_models_and_memory(server):
    assert server.get("/models/checkpoints").json() == ["demo.safetensors"] and server.get("/models/loras").json() == []
    assert server.get("/models/none").status_code == 404 and "checkpoints" in server.get("/api/models").json()
    stats = server.get("/system_stats").json()
    assert stats["devices"][0]["vram_total"] > 0 and stats["system"]["ram_total"] > 0
    assert server.get("/embeddings").json() == server.get("/extensions").json() == []
    assert server.get("/features").json()["supports_preview_metadata"] is True
    run(server, fresh())
    assert server.get("/api/system/stats").json()["models"]["cached_models"] == 1
    assert server.post("/free", json={}).status_code == 200
    assert server.post("/free", json={"unload_models": True, "free_memory": True}).status_code == 200
    until(lambda: server.get("/api/system/stats").json()["models"]["cached_models"] == 0)


def test_native_paths_are_native(server):
    assert server.get("/api/nothing").headers["content-type"] == "application/problem+json"
    assert server.get("/api/tasks/none").headers["content-type"] == "application/problem+json"
    answer = server.client.delete("/api/prompt")
    assert answer.status_code == 405 and answer.headers["allow"] == "GET, HEAD, POST" and "error" in answer.json()
