"""A hundred pictures leave no trace in memory or descriptors, neither in the front nor in the engine."""
import pathlib


def resident_kb(pid):
    return int(next(line.split()[1] for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")))


def descriptors(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))


def make(server, count, first_seed):
    for i in range(count):
        # Two shapes in turn: graphs are rebuilt, not only run.
        size = "128x128" if i % 2 else "96x160"
        answer = server.post("/v1/images/generations", json={"prompt": f"a fox {i % 7}", "seed": first_seed + i, "size": size,
                                                             "num_inference_steps": 2})
        assert answer.status_code == 200, answer.text


def test_a_hundred_pictures_leak_nothing(server):
    engine, front = server.engine_pid(), server.process.pid
    make(server, 30, 0)
    before = resident_kb(engine), resident_kb(front), descriptors(engine), descriptors(front)
    make(server, 100, 1000)
    after = resident_kb(engine), resident_kb(front), descriptors(engine), descriptors(front)
    assert server.engine_pid() == engine
    assert after[0] - before[0] < 3000, (before, after)
    assert after[1] - before[1] < 1500, (before, after)  # the documents of a hundred tasks are kept
    assert after[2:] == before[2:]
