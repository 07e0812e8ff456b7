"""Pictures over HTTP: inputs that clients bring (raw or in a form, by real clients), the list of all pictures page by page, and deleting them."""
import hashlib
import io
import os
import socket
import threading
import time

import httpx
import pytest
from conftest import BUILD, until
from PIL import Image

FORMATS = {"png": ("PNG", "image/png", {}), "jpeg": ("JPEG", "image/jpeg", {"quality": 90}), "webp": ("WEBP", "image/webp", {"quality": 90})}


@pytest.fixture
def server(gradients):
    return gradients


def picture(width=64, height=48, format="png", mode="RGB", seed=0, **how):
    image = Image.new(mode, (width, height))
    image.putdata([tuple((x * 3 + y * 5 * c + seed * 17) % 256 for c in range(len(image.getbands()))) if len(image.getbands()) > 1 else (x + seed) % 2
                   for y in range(height) for x in range(width)])
    out = io.BytesIO()
    image.save(out, FORMATS[format][0], **{**FORMATS[format][2], **how})
    return out.getvalue()


def upload(server, data, **headers):
    return server.post("/api/images", content=data, headers={"content-type": "application/octet-stream", **headers})


def upload_apart(server, data):
    """What comes next is later for the list and for the file system, whose clock may tick each 10 ms only."""
    answer, came = upload(server, data), time.monotonic()
    until(lambda: time.monotonic() > came + 0.02)
    return answer


def listed(server, **query):
    answer = server.get("/api/images", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def inputs_on_disk(server):
    return sorted(p.name for p in (server.folder / "state" / "inputs").iterdir())


@pytest.mark.parametrize("format", FORMATS)
def test_an_input_is_kept_as_it_came(server, format):
    data = picture(61, 47, format)
    answer = upload(server, data)
    assert answer.status_code == 201, answer.text
    document = answer.json()
    name = hashlib.sha256(data).hexdigest()
    assert document["id"] == name and document["url"] == answer.headers["location"] == f"/api/images/{name}"
    assert (document["width"], document["height"], document["format"], document["bytes"]) == (61, 47, format, len(data))
    back = server.get(document["url"])
    assert back.content == data and back.headers["content-type"] == FORMATS[format][1] and back.headers["x-content-type-options"] == "nosniff"
    assert server.get(document["url"], headers={"if-none-match": back.headers["etag"]}).status_code == 304
    assert upload(server, data).json()["id"] == name
    assert len([n for n in inputs_on_disk(server) if n.startswith(name)]) == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_kind_of_png_is_taken(server, mode):
    image = Image.open(io.BytesIO(picture(20, 10, mode="RGBA")))
    image = Image.new("I;16", (20, 10), 30000) if mode == "I;16" else image.convert(mode)
    out = io.BytesIO()
    image.save(out, "PNG")
    assert upload(server, out.getvalue()).status_code == 201


def test_cmyk_and_progressive_jpegs_are_taken_and_orientation_counts(server):
    cmyk = picture(30, 20, "jpeg", mode="CMYK")
    assert upload(server, cmyk).status_code == 201
    assert upload(server, picture(30, 20, "jpeg", progressive=True)).status_code == 201
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = upload(server, picture(30, 20, "jpeg", exif=exif)).json()
    assert (turned["width"], turned["height"]) == (20, 30)


def test_a_form_brings_a_picture(server):
    data = picture(33, 22, "webp")
    for field in ("image", "file"):
        answer = server.post("/api/images", files={"other": (None, "text"), field: ("../../a \"picture\".webp", data, "image/webp")})
        assert answer.status_code == 201, answer.text
        assert answer.json()["id"] == hashlib.sha256(data).hexdigest()
    both = server.post("/api/images", files=[("mask", ("m.png", picture(), "image/png")), ("image", ("i.webp", data, "image/webp"))])
    assert both.json()["id"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("body, type, status, words", [
    (b"", "image/png", 422, "empty"),
    (b"GIF89a" + bytes(100), "image/gif", 422, "neither PNG"),
    (b"{}", "application/json", 422, "neither PNG"),
    (picture()[:-200], "image/png", 422, "damaged"),
    (picture(format="jpeg")[:400], "image/jpeg", 422, "damaged"),
    (picture(format="webp")[:-50], "image/webp", 422, "damaged"),
    (b"--x\r\n", "multipart/form-data", 422, "boundary"),
    (b"--y\r\n\r\n--y--", "multipart/form-data; boundary=x", 422, "boundary is nowhere"),
    (b"--x\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\ntext\r\n--x--\r\n", "multipart/form-data; boundary=x", 422, "'image'"),
    (b"--x\r\ncontent-disposition: form-data; name=\"image\"\r\n\r\n" + picture(), "multipart/form-data; boundary=x", 422, "ends before"),
])
def test_what_is_no_picture_is_refused(server, body, type, status, words):
    before = inputs_on_disk(server)
    answer = upload(server, body, **{"content-type": type})
    assert answer.status_code == status and words in answer.json()["detail"], answer.text
    assert inputs_on_disk(server) == before


def test_too_many_pixels_are_refused_by_the_head(server):
    out = io.BytesIO()
    Image.new("1", (16000, 16000)).save(out, "PNG")
    answer = upload(server, out.getvalue())
    assert answer.status_code == 422 and answer.json()["code"] == "too_large" and "16000" in answer.json()["detail"]


def test_large_bodies_are_for_pictures_only_and_have_a_cap(server):
    noise = Image.frombytes("RGB", (1500, 1200), os.urandom(1500 * 1200 * 3))
    out = io.BytesIO()
    noise.save(out, "PNG")
    data = out.getvalue()
    assert 5 << 20 < len(data) < 32 << 20
    answer = upload(server, data)
    assert answer.status_code == 201 and server.get(answer.json()["url"]).content == data
    form = server.post("/api/images", files={"image": ("a.png", data)})
    assert form.json()["id"] == answer.json()["id"]
    assert server.post("/api/tasks", content=data).status_code == 413
    for size in ((32 << 20) + 1, 40 << 20):
        refused = upload(server, data + bytes(size - len(data)))
        assert refused.status_code == 413, refused.text
    server.client.delete(answer.json()["url"])


def test_a_client_that_leaves_half_way_costs_nothing(server):
    before = inputs_on_disk(server)

    def half():
        yield bytes(1 << 20)
        raise RuntimeError("gone")

    for _ in range(6):  # more than there is room for at once
        with pytest.raises(RuntimeError):
            httpx.post(server.url + "/api/images", content=half(), headers={"content-length": str(30 << 20)})
    data = picture(40, 40, seed=3)
    assert until(lambda: upload(server, data + bytes((30 << 20) - len(data))).status_code == 201)
    assert len(inputs_on_disk(server)) == len(before) + 1


def test_large_bodies_share_a_bound_on_memory(make_server):
    server = make_server()
    head = f"POST /api/images HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\ncontent-length: {30 << 20}\r\n\r\n".encode()
    host, port = server.address.rsplit(":", 1)
    waiting = []
    for _ in range(4):
        s = socket.create_connection((host, int(port)))
        s.sendall(head + b"x" * 1000)
        waiting.append(s)
    data = picture()
    large = data + bytes((10 << 20) - len(data))
    refused = until(lambda: (a := upload(server, large)).status_code == 503 and a)
    assert refused.headers["retry-after"] and refused.json()["code"] == "invalid"
    assert upload(server, data).status_code == 201  # small ones go on
    for s in waiting:
        s.close()
    assert until(lambda: upload(server, large).status_code == 201)


def test_many_clients_at_once_store_each_picture_once(make_server):
    server = make_server()
    pictures = [picture(32, 32, seed=n) for n in range(8)]
    answers = []

    def bring(n):
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for k in range(8):
                answers.append(client.post("/api/images", content=pictures[(n + k) % 8]).status_code)

    threads = [threading.Thread(target=bring, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert answers == [201] * 64
    assert [n.split(".")[0] for n in inputs_on_disk(server)] == sorted(hashlib.sha256(p).hexdigest() for p in pictures)


def test_the_list_has_all_pictures_newest_first_page_by_page(make_server):
    server = make_server()
    made = []
    for n in range(3):
        task = server.finish(server.submit("a fox", n=2, seed=n))
        made += [i["id"] for i in task["images"]]
        made.append(upload_apart(server, picture(16, 16, seed=n)).json()["id"])
    expected = [made[i] for k in (6, 3, 0) for i in (k + 2, k + 1, k)]
    assert [i["id"] for i in listed(server)["images"]] == expected and listed(server)["next"] is None
    seen, cursor = [], {}
    while True:
        page = listed(server, limit=2, **cursor)
        seen += page["images"]
        if page["next"] is None:
            break
        assert len(page["images"]) == 2
        cursor = {"before": page["next"]}
    assert [i["id"] for i in seen] == expected
    assert [i["id"] for i in listed(server, kind="input")["images"]] == expected[::3]
    assert [i["kind"] for i in listed(server, kind="picture")["images"]] == ["picture"] * 6
    first = seen[2]
    assert first["prompt"] == "a fox" and first["seed"] == 2 and first["id"] == f"{first['task']}-0" and first["format"] == "png"
    content = server.get(first["url"]).content
    assert Image.open(io.BytesIO(content)).size == (first["width"], first["height"]) and len(content) == first["bytes"]
    for query in ({"limit": 0}, {"limit": "x"}, {"kind": "cat"}, {"before": "x"}, {"before": "1."}, {"before": "1.a b"}, {"before": "1." + "a" * 80}):
        assert server.get("/api/images", params=query).status_code == 422, query


def test_pictures_are_deleted_and_stay_so(make_server):
    server = make_server()
    task = server.finish(server.submit("a fox", n=3))
    brought = upload(server, picture()).json()
    for url in (task["images"][1]["url"], brought["url"]):
        assert server.client.delete(url).status_code == 204
        assert server.get(url).status_code == 404 and server.client.delete(url).status_code == 404
    left = [task["images"][2]["id"], task["images"][0]["id"]]
    server.stop()
    assert sorted(p.name for p in (server.folder / "state" / "images").iterdir()) == sorted(i + ".png" for i in left)
    assert inputs_on_disk(server) == []
    again = make_server(STATE=server.folder / "state")
    assert [i["id"] for i in listed(again)["images"]] == left
    assert [i["id"] for i in again.task(task["id"])["images"]] == left[::-1]
    for url in ("/api/images/x", "/api/images/" + "0" * 64, f"/api/images/{task['id']}-07", f"/api/images/{task['id']}-7", "/api/images/..%2f..%2fx"):
        assert again.client.delete(url).status_code == 404, url


def test_a_picture_of_a_running_task_is_not_deleted(make_server):
    server = make_server()
    task = server.submit("slow", n=2, num_inference_steps=50)
    document = until(lambda: (t := server.task(task))["images"] and t)
    assert document["status"] == "running" and len(document["images"]) == 1
    assert server.client.delete(document["images"][0]["url"]).status_code == 409
    assert server.get(document["images"][0]["url"]).status_code == 200
    server.client.delete(f"/api/tasks/{task}")


def test_inputs_outlive_the_server_and_half_written_ones_do_not(make_server):
    server = make_server()
    brought = [upload_apart(server, picture(10 + n, 20)).json() for n in range(3)]
    server.stop()
    folder = server.folder / "state" / "inputs"
    (folder / ("0" * 64 + ".10x10.png.123.tmp")).write_bytes(b"half")
    (folder / "notes.txt").write_bytes(b"mine")
    again = make_server(STATE=server.folder / "state")
    assert [i["id"] for i in listed(again)["images"]] == [b["id"] for b in brought[::-1]]
    assert [(i["width"], i["height"]) for i in listed(again)["images"]] == [(12, 20), (11, 20), (10, 20)]
    assert sorted(p.suffix for p in folder.iterdir()) == [".png", ".png", ".png", ".txt"]


def test_inputs_are_kept_within_the_limits(make_server):
    data = [picture(200, 200, seed=n) for n in range(4)]
    server = make_server(IMAGINED_KEEP_IMAGES_GB=(len(data[0]) * 2.5) / (1 << 30))
    names = [upload(server, d).json()["id"] for d in data]
    assert [i["id"] for i in listed(server)["images"]] == names[:1:-1]
    assert len(inputs_on_disk(server)) == 2
    server.stop()
    old = make_server(STATE=server.folder / "state", IMAGINED_KEEP_IMAGES_DAYS=1 / 24 / 3600 / 1000)
    until(lambda: listed(old)["images"] == [] and inputs_on_disk(server) == [])


def test_a_full_disk_is_said(make_server, tmp_path):
    flag = tmp_path / "is-full"
    state = tmp_path / "state"
    server = make_server(STATE=state, LD_PRELOAD=str(BUILD / "tests/http/libfull_disk.so"), FULL_DISK_FLAG=flag, FULL_DISK_FOLDER=state)
    flag.touch()
    answer = upload(server, picture())
    assert answer.status_code == 507 and answer.json()["code"] == "disk_full", answer.text
    assert list((state / "inputs").iterdir()) == []
    flag.unlink()
    assert upload(server, picture()).status_code == 201
