"""MEMORY_EFFICIENT_LOADING: weight files are mapped, or read into memory and let go; the pictures are the same to the byte."""
import pathlib


def held_files(pid):
    """The weight files that a process has mapped, and those it has open."""
    maps = {line.split()[-1] for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines() if ".safetensors" in line}
    open_files = [str(link.readlink()) for link in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
    return maps, [name for name in open_files if ".safetensors" in name]


def picture(server):
    document = server.finish(server.submit("a fox on a blue background", seed=7, num_inference_steps=2, width=128, height=128), seconds=60)
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
