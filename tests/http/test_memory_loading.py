"""MEMORY_EFFICIENT_LOADING: weight files are mapped, or read into memory and let go; the pictures are the same to the byte."""
import pathlib

import vulkan
from conftest import until


def held_files(pid):
    """The weight files that a process has mapped, and those it has open."""
    maps = {line.split()[-1] for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines() if ".safetensors" in line}
    open_files = [str(link.readlink()) for link in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
    return maps, [name for name in open_files if ".safetensors" in name]


def picture(server):
    task = server.submit("a fox on a blue background", seed=7, num_inference_steps=1, width=64, height=64)
    document = until(lambda: (t := server.task(task))["status"] in ("completed", "failed") and t, seconds=120)
    assert document["status"] == "completed", document
    return server.image(document["images"][0]["id"])


def test_weights_are_mapped_or_read_and_let_go(make_server):
    mapping = make_server(real_engine=True)
    mapped = picture(mapping)
    files, _ = held_files(mapping.engine_pid())
    assert len(files) == 4, files
    reading = make_server(real_engine=True, MEMORY_EFFICIENT_LOADING="false")
    assert picture(reading) == mapped
    assert held_files(reading.engine_pid()) == (set(), [])


def test_a_device_with_memory_of_its_own_holds_no_file_either(make_server):
    mapping = make_server(real_engine=True, **vulkan.ENVIRONMENT)
    mapped = picture(mapping)
    assert len(held_files(mapping.engine_pid())[0]) == 4
    reading = make_server(real_engine=True, MEMORY_EFFICIENT_LOADING="false", **vulkan.ENVIRONMENT)
    assert picture(reading) == mapped
    assert held_files(reading.engine_pid()) == (set(), [])
