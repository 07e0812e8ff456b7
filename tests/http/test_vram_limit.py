"""IMAGINED_VRAM_LIMIT_MB: what ggml takes of the device stays within it, counted where it allocates, and what fits makes the same picture."""
import subprocess

from conftest import BINARY, until
from vulkan import DeviceBytes

MIB = 1 << 20


def picture(server):
    name = server.submit("a fox on a blue background", seed=7, num_inference_steps=1, width=64, height=64)
    task = until(lambda: (t := server.task(name))["status"] in ("completed", "failed") and t, seconds=120)
    return task, server.image(task["images"][0]["id"]) if task["status"] == "completed" else None


def test_the_device_gives_no_more_than_the_limit(make_server, tmp_path):
    counter = DeviceBytes(tmp_path)
    free = make_server(real_engine=True, **counter.environment)
    task, whole = picture(free)
    assert task["status"] == "completed", task
    unlimited = counter.peak()
    assert unlimited > 4 * MIB
    assert 0 < counter.now() <= unlimited
    free.stop()

    enough = -(-unlimited // MIB)
    (tmp_path / "device_bytes").unlink()
    limited = make_server(real_engine=True, IMAGINED_VRAM_LIMIT_MB=enough, **counter.environment)
    task, same = picture(limited)
    assert task["status"] == "completed", task
    assert same == whole
    assert counter.peak() <= enough * MIB
    limited.stop()

    (tmp_path / "device_bytes").write_text("0 0")
    tight = make_server(real_engine=True, IMAGINED_VRAM_LIMIT_MB=1, **counter.environment)
    task, nothing = picture(tight)
    assert nothing is None
    assert task["status"] == "failed" and "MiB" in task["error"]["detail"], task
    assert counter.peak() <= MIB
    task, nothing = picture(tight)  # and the engine goes on
    assert task["status"] == "failed" and tight.engine_pid() is not None


def test_generate_keeps_to_the_limit_on_the_cpu_too(tmp_path):
    def generate(name, limit):
        return subprocess.run([BINARY, "generate", "a fox", "--seed", "1", "--steps", "1", "--device", "cpu", "--vram-limit-mb", str(limit),
                               "-o", tmp_path / name], capture_output=True, text=True, timeout=120)

    assert generate("free.png", 0).returncode == 0
    assert generate("roomy.png", 4096).returncode == 0
    assert (tmp_path / "free.png").read_bytes() == (tmp_path / "roomy.png").read_bytes()
    tight = generate("tight.png", 1)
    assert tight.returncode == 1 and "MiB" in tight.stderr and not (tmp_path / "tight.png").exists(), tight.stderr
