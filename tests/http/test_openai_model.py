"""OpenAI's Images API with the demo model itself: partial images come nearer to the picture, and edits keep what they are to keep."""
import base64
import io

import numpy as np
import openai
import pytest
from PIL import Image, ImageDraw


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as c:
        yield c


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), dtype=float)


def distance(a, b):
    return np.abs(a - b).mean()


def streamed(events, family):
    """The partial pictures and the final one. An engine shows at most so many a second, so a fast one leaves some out."""
    *partial, final = list(events)
    assert final.type == family + ".completed" and 1 <= len(partial) <= 3
    assert [(e.type, e.partial_image_index) for e in partial] == [(family + ".partial_image", i) for i in range(len(partial))]
    return [pixels(e.b64_json) for e in partial], pixels(final.b64_json)


def test_partial_images_come_nearer(client):
    partial, final = streamed(client.images.generate(prompt="a fox on a blue background", stream=True, partial_images=3,
                                                     extra_body={"seed": 7, "num_inference_steps": 50}), "image_generation")
    distances = [distance(p, final) for p in partial]
    assert distances[-1] < 30 and distances[-1] <= distances[0]


def test_edits(client):
    """A fox; with a mask, what is outside it stays; a small strength keeps more than a large one; a variation is near."""
    made = client.images.generate(prompt="a fox on a blue background", extra_body={"seed": 7}).data[0].b64_json
    fox, file = pixels(made), base64.b64decode(made)
    mask, out = Image.new("RGBA", (128, 128), (0, 0, 0, 255)), io.BytesIO()
    ImageDraw.Draw(mask).rectangle((24, 24, 103, 103), fill=(0, 0, 0, 0))
    mask.save(out, "PNG")

    apple = pixels(client.images.edit(image=file, mask=out.getvalue(), prompt="a red apple on a blue background", extra_body={"seed": 3}).data[0].b64_json)
    inside = np.zeros((128, 128), bool)
    inside[24:104, 24:104] = True
    assert distance(apple[~inside], fox[~inside]) < 5 and distance(apple[inside], fox[inside]) > 15

    little, much = (pixels(client.images.edit(image=file, prompt="a raccoon on a green background", extra_body={"seed": 3, "strength": s}).data[0].b64_json)
                    for s in (0.1, 0.9))
    assert 0 < distance(little, fox) < 0.75 * distance(much, fox)

    near = client.images.create_variation(image=file, n=2)
    assert all(0 < distance(pixels(d.b64_json), fox) < distance(much, fox) for d in near.data)
    assert near.data[0].b64_json != near.data[1].b64_json


def test_a_streamed_edit(client):
    made = base64.b64decode(client.images.generate(prompt="a fox on a blue background", extra_body={"seed": 7, "num_inference_steps": 4}).data[0].b64_json)
    streamed(client.images.edit(image=made, prompt="a raccoon", stream=True, partial_images=2, extra_body={"strength": 0.5, "num_inference_steps": 50}), "image_edit")
