"""The page's files as HTTP gives them: compressed where that is understood, known again by their tags, under a strict policy."""
import gzip
import re

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def server(gradients):
    return gradients


def files(server):
    """The page, what it names, and what its first module imports; the deeper modules are named too, so that they load beside it."""
    named = re.findall(r'(?:src|href)="(/ui/[^"]+)"', server.get("/").text)
    return ["/"] + sorted({*named, *("/ui/" + name for name in re.findall(r'from "./([^"]+)"', server.get("/ui/app.js").text))})


def test_all_files_are_there_with_their_types(server):
    types = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
    paths = files(server)
    assert len(paths) == len(list((ROOT / "ui").iterdir()))
    for path in paths:
        name = path.rsplit("/", 1)[1] or "index.html"
        answer = server.get(path)
        assert answer.content == (ROOT / "ui" / name).read_bytes(), path
        assert answer.headers["content-type"] == types[name.rsplit(".", 1)[1]]
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy


def test_compressed_for_those_who_understand(server):
    request = server.client.build_request("GET", "/ui/base.css", headers={"accept-encoding": "br, gzip"})
    answer = server.client.send(request, stream=True)
    raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip" and answer.headers["vary"] == "accept-encoding"
    assert gzip.decompress(raw) == (ROOT / "ui" / "base.css").read_bytes() and len(raw) == int(answer.headers["content-length"])
    for encodings in ("identity", "gzip;q=0, br"):
        plain = server.get("/ui/base.css", headers={"accept-encoding": encodings})
        assert "content-encoding" not in plain.headers and int(plain.headers["content-length"]) == len(plain.content)


def test_what_a_browser_has_is_not_sent_again(server):
    tags = set()
    for path in files(server):
        first = server.get(path)
        tags.add(first.headers["etag"])
        again = server.get(path, headers={"if-none-match": first.headers["etag"]})
        assert again.status_code == 304 and again.content == b"" and again.headers["etag"] == first.headers["etag"]
        assert server.get(path, headers={"if-none-match": 'W/"other"'}).status_code == 200
    assert len(tags) == len(files(server))


def test_nothing_else_is_below_it(server):
    for path in ("/ui/", "/ui/nope.js", "/ui/..%2f..%2fetc%2fpasswd", "/ui/index", "/index.html"):
        answer = server.get(path)
        assert answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json", path
    assert server.client.post("/ui/app.js").status_code == 405
    assert server.client.head("/").status_code == 200
