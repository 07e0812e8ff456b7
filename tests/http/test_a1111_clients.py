"""A1111's API with three of its client packages, unchanged, and the real engine: webuiapi, sd-backend-client and image-generation-mcp's provider."""
import asyncio
import io

import numpy as np
import pytest
import webuiapi
from image_generation_mcp.providers.sd_webui import SdWebuiImageProvider
from image_generation_mcp.providers.types import ImageProviderError, InputImage
from PIL import Image, ImageOps
from sd_backend_client import A1111Webservice
from sd_backend_client.api.shared_data.diffusion_params import DiffusionParams
from sd_backend_client.api.shared_data.generation_handle import GenerationError, GenerationStatus
from sd_backend_client.errors import AuthError, ServerError

from conftest import until
from test_auth import add_key

FOX, FROG = "a fox on a blue background", "a frog on a red background"


@pytest.fixture(scope="module")
def fox(server):
    """The picture as the native API makes it."""
    task = server.finish(server.submit(FOX, seed=7), 120)
    return Image.open(io.BytesIO(server.image(task["images"][0]["id"])))


def difference(a, b, box=None):
    """The mean difference of two pictures' bytes, 0 to 255; of a part of them where a box is given."""
    parts = [np.asarray((p.crop(box) if box else p).convert("RGB"), np.float32) for p in (a, b)]
    return float(np.abs(parts[0] - parts[1]).mean())


def half_mask(painted="right", size=(128, 128)):
    mask = Image.new("L", size, 0)
    mask.paste(255, (size[0] // 2, 0, *size) if painted == "right" else (0, 0, size[0] // 2, size[1]))
    return mask


LEFT, RIGHT = (0, 0, 56, 128), (72, 0, 128, 128)  # without the cells at the mask's edge


# --- webuiapi ---


@pytest.fixture
def webui(server):
    host, port = server.address.rsplit(":", 1)
    return webuiapi.WebUIApi(host=host, port=int(port), steps=12)


def test_webuiapi_makes_the_same_picture(webui, fox):
    result = webui.txt2img(prompt=FOX, seed=7, width=128, height=128)
    assert difference(result.image, fox) == 0
    assert result.info["seed"] == 7 and result.info["extra_generation_params"]["Sampler asked for"] == "Euler a"
    assert result.parameters["prompt"] == FOX and webui.png_info(result.image).info == result.info["infotexts"][0]


def test_webuiapis_defaults_make_a_good_picture(webui, fox):
    """cfg_scale 7 with a negative prompt, as its users send it: still that fox."""
    result = webui.txt2img(prompt=FOX, negative_prompt="blurry, ugly", seed=7, width=128, height=128)
    assert difference(result.image, fox) < 25
    assert result.info["cfg_scale"] == 3.5 and result.info["extra_generation_params"]["CFG scale asked for"] == 7


def test_webuiapi_begins_from_a_picture(webui, fox):
    near, far = (webui.img2img(images=[ImageOps.flip(fox)], prompt=FOX, seed=3, width=128, height=128, steps=50, denoising_strength=strength).image
                 for strength in (0.02, 1.0))
    assert difference(near, ImageOps.flip(fox)) < 10 < difference(near, fox)
    assert difference(far, fox) < 10 < difference(far, ImageOps.flip(fox))


@pytest.mark.parametrize("invert", [0, 1])
def test_webuiapi_paints_within_a_mask(webui, fox, invert):
    result = webui.img2img(images=[fox], mask_image=half_mask(), inpainting_mask_invert=invert, prompt=FROG, seed=3, width=128, height=128,
                           denoising_strength=1.0).image
    kept, painted = (RIGHT, LEFT) if invert else (LEFT, RIGHT)
    assert difference(result, fox, kept) < 12 and difference(result, fox, painted) > 30


def test_webuiapis_questions(webui):
    assert webui.util_get_model_names() == ["demo"] and webui.util_get_current_model() == "demo" and webui.util_get_sampler_names() == ["Euler"]
    assert "automatic" in webui.util_get_scheduler_names() and webui.get_scripts() == {"txt2img": [], "img2img": []}
    for ask in (webui.get_loras, webui.get_sd_vae, webui.get_upscalers, webui.get_latent_upscale_modes, webui.get_hypernetworks, webui.get_face_restorers,
                webui.get_realesrgan_models, webui.get_prompt_styles, webui.get_embeddings, webui.get_cmd_flags):
        assert ask() is not None
    assert webui.get_memory()["ram"]["total"] > 0
    webui.util_set_model("DEMO")
    options = webui.get_options()
    webui.set_options(options)
    assert webui.get_options() == options
    assert webui.refresh_checkpoints() is None and webui.interrupt() == {} and webui.skip() is None
    webui.util_wait_for_ready(check_interval=0.1)


def test_webuiapi_hears_errors(webui):
    with pytest.raises(RuntimeError) as e:
        webui.txt2img(prompt=FOX, steps=-1)
    assert e.value.args[0] == 422 and "steps" in e.value.args[1]
    with pytest.raises(RuntimeError) as e:
        webui.interrogate(Image.new("RGB", (8, 8)))
    assert e.value.args[0] == 404


# --- sd-backend-client ---


@pytest.fixture
def backend(server):
    client = A1111Webservice(server.url)
    yield client
    client.disconnect()


def params(**more):
    return DiffusionParams(**{"prompt": FOX, "seed": 7, "width": 128, "height": 128, "steps": 12, **more})


def test_sd_backend_client_makes_the_same_picture(backend, fox):
    result = backend.submit_txt2img(params(batch_size=2)).wait(120)
    assert result.seeds == [7, 8] and difference(result.images[0], fox) == 0 and result.raw_info.sampler_name == "Euler"


def test_sd_backend_client_begins_from_a_picture_and_paints_within_a_mask(backend, fox):
    turned = ImageOps.flip(fox)
    near = backend.submit_img2img(params(init_images=[turned], steps=50, denoising_strength=0.02)).wait(120).images[0]
    assert difference(near, turned) < 10 < difference(near, fox)
    painted = backend.submit_inpaint(params(init_images=[fox], mask=half_mask(), prompt=FROG, denoising_strength=1.0)).wait(120).images[0]
    assert difference(painted, fox, LEFT) < 12 and difference(painted, fox, RIGHT) > 30


def test_sd_backend_client_watches_and_cancels(backend, server):
    handle = backend.submit_txt2img(params(steps=1000, batch_size=8))
    seen = until(lambda: (p := handle.poll()).status == GenerationStatus.ACTIVE and p.preview and p, 60)
    assert 0 < seen.progress < 1 and max(seen.preview.size) == 384
    assert handle.cancel()
    with pytest.raises(GenerationError) as e:
        handle.wait(60)
    assert e.value.status == GenerationStatus.CANCELLED
    until(lambda: server.get("/api/system/stats").json()["queue"]["active"] == 0)
    idle = backend.progress_check()
    assert idle.progress == 0 and idle.state.job_count == 0


def test_sd_backend_clients_questions(backend):
    assert [o.name for o in backend.list_checkpoints()] == ["demo"] and [o.name for o in backend.list_samplers()] == ["euler"]
    assert backend.list_schedulers() and backend.list_vaes() == backend.list_loras() == backend.list_hypernetworks() == backend.list_upscalers() == []
    assert backend.list_controlnet_models() == [] and backend.get_styles() == [] and backend.get_latent_upscale_modes() == []
    can = backend.get_capabilities()
    assert can.scheduler and not (can.controlnet or can.ultimate_upscale or can.soft_inpainting or can.interrogate)
    backend.set_config(backend.get_config())
    for refresh in (backend.refresh_checkpoints, backend.refresh_vae, backend.refresh_loras):
        assert refresh().status_code == 200


def test_sd_backend_client_hears_errors_and_logs_in(backend, make_server, tmp_path):
    with pytest.raises(ServerError) as e:
        backend.txt2img(params(steps=4000))
    assert e.value.status_code == 422
    key = add_key(tmp_path / "keys", "anna")
    guarded = make_server(IMAGINED_API_KEYS_FILE=tmp_path / "keys", IMAGINED_LOOPBACK_NEEDS_KEY="true")
    with pytest.raises(AuthError):
        A1111Webservice(guarded.url, credentials_provider=lambda: ("anna", "wrong")).progress_check()
    client = A1111Webservice(guarded.url, credentials_provider=lambda: ("anna", key))
    assert client.progress_check().state.job_count == 0


# --- image-generation-mcp ---


def provide(server, call, model="demo"):
    async def run():
        provider = SdWebuiImageProvider(server.url, model=model)
        try:
            return await call(provider)
        finally:
            await provider.aclose()

    return asyncio.run(run())


def test_image_generation_mcp_makes_a_picture_and_edits_it(server):
    told = []
    made = provide(server, lambda p: p.generate(FOX, aspect_ratio="3:2", progress_callback=lambda fraction, message: told.append(fraction)))
    picture = Image.open(io.BytesIO(made.image_data))
    assert picture.size == (768, 512) and made.provider_metadata["model"] == "demo" and told and all(0 <= f <= 1 for f in told)
    edited = provide(server, lambda p: p.generate(FROG, aspect_ratio="3:2", reference_images=[InputImage(made.image_data, "image/png")], strength=0.03))
    assert edited.provider_metadata["edited"] and difference(Image.open(io.BytesIO(edited.image_data)), picture) < 12


def test_image_generation_mcp_discovers_models_and_hears_errors(server):
    found = provide(server, lambda p: p.discover_capabilities())
    assert [(m.model_id, m.display_name) for m in found.models] == [("demo", "demo")] and not found.degraded
    with pytest.raises(ImageProviderError) as e:
        provide(server, lambda p: p.generate("x" * 9000))
    assert "422" in str(e.value) and "prompt" in str(e.value)
