"""OpenAI's Images API with the demo model itself: partial images come nearer to the picture."""
import base64
import io

import numpy as np
import openai
import pytest
from PIL import Image


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


def test_a_streamed_edit(client):
    made = base64.b64decode(client.images.generate(prompt="a fox on a blue background", extra_body={"seed": 7, "num_inference_steps": 4}).data[0].b64_json)
    streamed(client.images.edit(image=made, prompt="a raccoon", stream=True, partial_images=2, extra_body={"strength": 0.5, "num_inference_steps": 50}), "image_edit")
