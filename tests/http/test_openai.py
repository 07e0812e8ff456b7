"""OpenAI's Images API with its official Python client, unchanged: generations, what they are answered with, and what an error becomes. Streams and edits have
files of their own."""
import base64
import io
import time

import httpx
import openai
import pytest
from PIL import Image
from pictures import opened


@pytest.fixture(scope="module")
def server(gradients):
    return gradients


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as c:
        yield c


def settings(picture):
    """The text that image tools read, wherever the format has it."""
    if "parameters" in picture.info:
        return picture.info["parameters"]
    comment = picture.getexif().get_ifd(0x8769)[0x9286]
    assert comment.startswith(b"UNICODE\0")
    return comment[8:].decode("utf-16-be")


def test_a_picture(client):
    answer = client.images.generate(model="gpt-image-1", prompt="a raccoon", size="64x48")
    assert opened(answer.data[0].b64_json).size == (64, 48)
    assert abs(answer.created - time.time()) < 60


def test_an_answer_says_what_its_pictures_are(client):
    answer = client.images.generate(prompt="a raccoon", size="64x48", quality="low", output_format="webp")
    assert (answer.size, answer.quality, answer.output_format, answer.background) == ("64x48", "low", "webp", "opaque")
    usage = answer.usage
    assert (usage.total_tokens, usage.input_tokens, usage.output_tokens, usage.input_tokens_details.text_tokens) == (0, 0, 0, 0)
    assert client.images.generate(prompt="a raccoon", size="64x48", quality="hd").quality == "high"


def test_several_pictures_and_our_own_fields(client, server):
    answer = client.images.generate(prompt="a raccoon", n=3, extra_body={"seed": 5, "num_inference_steps": 2, "width": 32, "height": 32})
    files = [base64.b64decode(d.b64_json) for d in answer.data]
    assert len(set(files)) == 3
    task = server.finish(server.submit("a raccoon", n=3, seed=5, num_inference_steps=2, width=32, height=32))
    assert [server.image(i["id"]) for i in task["images"]] == files


@pytest.mark.parametrize("model", ["gpt-image-1", "gpt-image-1-mini", "dall-e-2", "dall-e-3", "demo", None])
def test_names_for_the_default_model(client, model):
    assert client.images.generate(prompt="x", response_format="b64_json", **({"model": model} if model else {})).data[0].b64_json


def test_empty_words_stand_for_their_defaults(server):
    """LibreChat and others send settings that nobody has filled in so."""
    answer = server.client.post("/v1/images/generations", json={"prompt": "a fox", "model": "", "size": "", "quality": "", "output_format": "",
                                                                "response_format": "", "style": "", "user": ""})
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"][0]["b64_json"] and answer.json()["output_format"] == "png" and answer.json()["quality"] == "high"


@pytest.mark.parametrize("prompt, kept", [("a fox " * 5333, ("a fox " * 5333)[:8192]), ("é" * 32000, "é" * 4096), ("x" + "é" * 5000, "x" + "é" * 4095)], ids=len)
def test_a_prompt_as_long_as_openai_takes_it(client, server, prompt, kept):
    """No model reads that far: what stands behind the first 8 KiB is cut off, between two characters."""
    assert client.images.generate(prompt=prompt).data[0].b64_json
    assert server.get("/api/tasks?limit=1").json()["tasks"][0]["request"]["prompt"] == kept
    picture = io.BytesIO()
    Image.new("RGB", (64, 64)).save(picture, "PNG")
    assert client.images.edit(image=("a.png", picture.getvalue()), prompt=prompt).data[0].b64_json
    assert server.get("/api/tasks?limit=1").json()["tasks"][0]["request"]["prompt"] == kept


def test_who_asks_for_dall_e_gets_an_address_unless_told(client, server):
    """As OpenAI answers for these models: LibreChat's and LangChain's tools read `url` alone, and say nothing of it."""
    for model, address in (("dall-e-2", True), ("dall-e-3", True), ("gpt-image-1", False), ("demo", False)):
        picture = client.images.generate(prompt="x", model=model).data[0]
        assert (picture.url is not None, picture.b64_json is None) == (address, address)
    assert client.images.generate(prompt="x", model="dall-e-3", response_format="b64_json").data[0].url is None
    assert server.post("/v1/images/generations", json={"prompt": "x", "model": "dall-e-3", "response_format": None}).json()["data"][0]["url"]


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_formats(client, format):
    answer = client.images.generate(prompt="a raccoon", n=2, size="96x64", output_format=format, output_compression=80)
    for d in answer.data:
        picture = opened(d.b64_json)
        assert (picture.format, picture.size) == (format.upper(), (96, 64))
        assert "a raccoon" in settings(picture) and "Steps:" in settings(picture)
    assert len({d.b64_json for d in answer.data}) == 2


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_compression_is_the_quality(client, format):
    sizes = [len(client.images.generate(prompt="x", size="256x256", output_format=format, output_compression=c, extra_body={"seed": 1}).data[0].b64_json)
             for c in (0, 50, 95)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_the_format_changes_nothing_of_the_picture(client):
    """Without loss, WebP has the very pixels of the PNG."""
    png, webp = (opened(client.images.generate(prompt="x", size="64x64", output_format=f, extra_body={"seed": 3}).data[0].b64_json) for f in ("png", "webp"))
    assert png.convert("RGB").tobytes() == webp.convert("RGB").tobytes()


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_urls(client, server, format):
    answer = client.images.generate(prompt="x", response_format="url", n=2, size="64x48", output_format=format)
    for d in answer.data:
        assert d.b64_json is None and d.url.startswith(server.url + "/api/images/")
        got = httpx.get(d.url)
        assert got.headers["content-type"] == f"image/{format}"
        assert (opened(got.content).format, opened(got.content).size) == (format.upper(), (64, 48))
        assert httpx.get(d.url, headers={"if-none-match": got.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("told, scheme", [("https", "https"), ("HTTPS", "https"), ("http", "http"), ("javascript", "http")])
def test_urls_have_the_scheme_that_a_proxy_speaks(server, told, scheme):
    answer = server.post("/v1/images/generations", json={"prompt": "x", "response_format": "url"}, headers={"X-Forwarded-Proto": told})
    assert answer.json()["data"][0]["url"].startswith(f"{scheme}://{server.address}/api/images/")


def test_stored_pictures_in_other_formats(server):
    image = server.finish(server.submit("x", width=64, height=48))["images"][0]
    plain = server.get(image["url"])
    assert server.get(image["url"] + "?format=png").content == plain.content
    rough, fine = (server.get(image["url"], params={"format": "jpg", "quality": q}) for q in (10, 95))
    assert opened(rough.content).format == opened(fine.content).format == "JPEG" and len(rough.content) < len(fine.content)
    assert len({a.headers["etag"] for a in (plain, rough, fine)}) == 3
    for query in ("format=gif", "quality=0", "quality=x", "format=jpeg&quality=101", "quality="):
        answer = server.get(f"{image['url']}?{query}")
        assert answer.status_code == 422 and answer.json()["field"] in query
    assert server.get("/api/images/01ARZ3NDEKTSV4RRFFQ69G5FAV-0?format=webp").status_code == 404


def test_errors_are_the_clients_own(client):
    with pytest.raises(openai.BadRequestError) as e:
        client.images.generate(prompt="x", size="17x17")
    assert e.value.param == "size" and e.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError) as e:
        client.images.generate(prompt="x", model="flux")
    assert e.value.code == "model_not_found" and e.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        client.files.list()


@pytest.mark.parametrize("wrong", [{"output_format": "gif"}, {"output_compression": 101}, {"output_compression": "high"}, {"partial_images": 4}, {"n": 11},
                                   {"response_format": "file"}, {"size": "large"}, {"stream": "yes"}, {"quality": 1}])
def test_wrong_fields_are_named(server, wrong):
    answer = server.post("/v1/images/generations", json={"prompt": "x", **wrong})
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"} and answer.json()["error"]["param"] == list(wrong)[0]


def test_other_fields_are_ignored(client):
    assert client.images.generate(prompt="x", background="transparent", moderation="low", style="vivid", user="me", extra_body={"novel": [1]}).data


def test_a_failure_is_told_once(client, server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=2) as retrying:
        before = len(server.client.get("/api/tasks?status=failed").json()["tasks"])
        with pytest.raises(openai.APIStatusError) as e:
            retrying.images.generate(prompt="fail")
        assert e.value.status_code == 503 and "told to fail" in str(e.value)
        assert len(server.client.get("/api/tasks?status=failed").json()["tasks"]) == before + 1


def test_a_full_queue_says_when_to_come_again(make_server):
    server = make_server(IMAGINED_MAX_QUEUED=1, MAX_CONCURRENT_TASKS=1)
    server.wait_ready()
    server.post("/api/system/queue/pause")
    server.submit("waits")
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as client, pytest.raises(openai.RateLimitError) as e:
        client.images.generate(prompt="x")
    assert e.value.code == "rate_limit_exceeded" and 1 <= int(e.value.response.headers["retry-after"]) <= 120
    assert e.value.request_id


def test_models(client, server):
    listed = {m.id: m for m in client.models.list()}
    assert "demo" in listed and 0 < listed["demo"].created <= time.time()
    assert client.models.retrieve("demo") == listed["demo"]
    assert client.models.retrieve("gpt-image-1").id == "gpt-image-1"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("flux")


def test_a_client_that_leaves_cancels_its_task(server):
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.url + "/v1/images/generations", json={"prompt": "slow, left behind", "num_inference_steps": 1000}, timeout=0.5)
    tasks = server.client.get("/api/tasks").json()["tasks"]
    task = next(t for t in tasks if t["request"]["prompt"] == "slow, left behind")
    server.wait_status(task["id"], "cancelled")
