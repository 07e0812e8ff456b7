"""The command line: help that helps, one clear sentence for each mistake, and nothing half-written."""
import os
import pty
import subprocess

import pytest

from conftest import BINARY, BUILD, until


@pytest.fixture(autouse=True)
def no_variables_of_the_tests(monkeypatch):
    """Some are set for a run of the tests (IMAGINED_BUILD, IMAGINED_KILLS …), and the program says of each that it means nothing."""
    for name in [*filter(lambda name: name.startswith("IMAGINED_"), os.environ), "NOTIFY_SOCKET"]:
        monkeypatch.delenv(name, raising=False)


def run(*arguments, cwd=None, **environment):
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=120, cwd=cwd, env={**os.environ, **environment})


@pytest.mark.parametrize("command", [[], ["serve"], ["generate"], ["models"], ["quantize"], ["bench"]], ids=" ".join)
def test_help_fits_a_terminal(command):
    answer = run(*command, "--help")
    assert answer.returncode == 0 and "Usage: imagined" in answer.stdout
    assert max(map(len, answer.stdout.splitlines())) <= 100


@pytest.mark.parametrize("arguments, words", [
    (["generat"], "did you mean 'generate'"),
    (["generate"], "PROMPT"),
    (["generate", "a", "b"], "b"),
    (["generate", "a", "--stepz", "4"], "--steps"),
    (["generate", "a", "--steps", "many"], "--steps"),
    (["generate", "a", "--steps", "-1"], "--steps"),
    (["generate", "a", "--steps", "0"], "--steps"),
    (["generate", "a", "--steps", "1", "-o", "."], ". is a folder"),
    (["generate", "a", "--steps", "2147483648"], "--steps"),
    (["generate", "a", "--width", "100"], "width is 100: it must be a multiple of 16; the nearest are 96 and 112"),
    (["generate", "a", "--width", "-16"], "--width"),
    (["generate", "a", "--guidance", "nan"], "from 0 to 100"),
    (["generate", "a", "--guidance", "-1"], "from 0 to 100"),
    (["generate", "a", "--seed", "18446744073709551616"], "seed"),
    (["generate", "a", "--seed", "-2"], "seed"),
    (["generate", "a", "--seed", "1x"], "seed"),
    (["generate", "a", "--precision", "f64"], "precision"),
    (["generate", "a", "--max-sequence-length", "513"], "--max-sequence-length"),
    (["generate", "x" * 8193], "8192"),
    (["generate", b"caf\xe9"], "UTF-8"),
    (["serve", "--listen", "nowhere"], "listen"),
    (["serve", "--config", "/nowhere/imagined.conf"], "/nowhere/imagined.conf"),
])
def test_a_mistake_is_named_and_changes_nothing(arguments, words, tmp_path):
    answer = run(*arguments, cwd=tmp_path)
    assert answer.returncode in (1, 2)
    assert words in answer.stderr, answer.stderr
    assert "Traceback" not in answer.stderr and len(answer.stderr) < 1000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments, words", [
    (["--model", "nothing"], "there is no model 'nothing'"),
    (["--model", "./nothing"], "nothing"),
    (["--precision", "int8"], "not available yet"),
    (["--device", "abacus"], "abacus"),
    (["-o", "/nowhere/a.png"], "there is no folder /nowhere: make it first"),
    (["-o", "/proc/version/a.png"], "/proc/version is no folder"),
    (["--model", "/proc"], "is no model folder"),
])
def test_what_cannot_be_had_is_refused_with_a_reason(arguments, words, tmp_path):
    answer = run("generate", "a fox", "--steps", "1", *arguments, cwd=tmp_path)
    assert answer.returncode == 1
    assert words in answer.stderr, answer.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments, words", [
    (["--negative-prompt", "fog"], ["--negative-prompt means nothing without --true-cfg above 1"]),
    (["--true-cfg", "2"], ["--true-cfg means nothing without --negative-prompt"]),
    (["--guidance", "3", "--strength", "0.5"], ["--guidance means nothing to this model", "--strength means nothing without --image"]),
    (["--negative-prompt", "fog", "--true-cfg", "2"], []),
    (["--negative-prompt", "fog", "-q"], []),
])
def test_what_changes_nothing_of_the_picture_is_told(arguments, words, tmp_path):
    answer = run("generate", "a fox", "--steps", "1", *arguments, cwd=tmp_path)
    assert answer.returncode == 0
    assert all(w in answer.stderr for w in words) and answer.stderr.count("means nothing") == len(words)


def test_models_lists_the_demo():
    answer = run("models")
    assert answer.returncode == 0
    assert "demo" in answer.stdout and "128x128" in answer.stdout


def test_a_variable_or_folder_that_is_mistyped_is_told(tmp_path):
    answer = run("models", "--models", tmp_path / "nowhere", IMAGINED_LISTN="127.0.0.1:1")
    assert answer.returncode == 0 and "demo" in answer.stdout
    assert "IMAGINED_LISTN in the environment means nothing: did you mean IMAGINED_LISTEN?" in answer.stderr
    assert f"there is no models folder {tmp_path}/nowhere" in answer.stderr
    assert run("models").stderr == ""


def test_without_a_home_the_systems_word_for_it_counts(tmp_path):
    """And never /tmp, where anybody could have put a folder of the name. The system's word is this test's (another_home.c): the real home may
    have such a folder."""
    env = {"LD_PRELOAD": BUILD / "tests/http/libanother_home.so", "ANOTHER_HOME": tmp_path / "home"}
    process = subprocess.Popen([BINARY, "serve", "--listen", "127.0.0.1:0", "--state", tmp_path / "state"], env=env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        line = next(line for line in process.stderr if "models folder" in line or "is ready" in line)
        assert f"there is no models folder {tmp_path}/home/.local/share/imagined/models" in line
    finally:
        process.terminate()
        process.communicate(timeout=40)


def test_quantize_says_that_it_is_to_come():
    answer = run("quantize", "demo")
    assert answer.returncode == 1 and "not available yet" in answer.stderr


def test_the_binary_works_from_any_folder(tmp_path):
    answer = run("generate", "a fox on a blue background", "-o", "fox.png", "--seed", "3", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "fox.png").read_bytes().startswith(b"\x89PNG")
    assert "\r" not in answer.stderr  # no terminal, no bar


def test_the_same_seed_gives_the_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        assert run("generate", "a fox", "-o", name, "--seed", "3", cwd=tmp_path).returncode == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("ending, first", [("png", b"\x89PNG"), ("JPG", b"\xff\xd8\xff"), ("jpeg", b"\xff\xd8\xff"), ("webp", b"RIFF"), ("v2", b"\x89PNG")])
def test_the_name_of_a_file_says_its_format(ending, first, tmp_path):
    path = tmp_path / f"fox.{ending}"
    assert run("generate", "a fox", "-o", path, "--steps", "1").returncode == 0
    assert path.read_bytes().startswith(first)


def test_a_picture_goes_down_a_pipe_and_leaves_it_there(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        answer = run("generate", "a fox", "-o", pipe, "--steps", "1")
        assert answer.returncode == 0, answer.stderr
        assert pipe.is_fifo()
        assert reader.stdout.read().startswith(b"\x89PNG")


def test_a_dash_is_the_standard_output(tmp_path):
    answer = subprocess.run([BINARY, "generate", "a fox", "--steps", "1", "-o", "-"], capture_output=True, timeout=120, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(b"\x89PNG") and answer.stdout.endswith(b"IEND\xaeB`\x82")
    assert list(tmp_path.iterdir()) == []


def test_what_the_standard_output_does_not_take_is_a_failure():
    with open("/dev/full", "wb") as full:
        for arguments in (["generate", "a fox", "--steps", "1", "-o", "-"], ["models"], ["--help"], ["serve", "--help"]):
            answer = subprocess.run([BINARY, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
            assert answer.returncode == 1 and "standard output" in answer.stderr and "No space left" in answer.stderr, arguments


def test_what_was_lost_on_the_way_is_a_failure_although_the_end_arrives():
    """As of what is flushed line by line (`imagined bench`): nothing is left at the end that could fail."""
    with open("/dev/full", "wb") as full:
        answer = subprocess.run(["stdbuf", "-oL", BINARY, "models"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert answer.returncode == 1 and "standard output" in answer.stderr, answer.stderr


def test_a_greeting_that_nobody_takes_is_no_failure_of_the_server(tmp_path):
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen([BINARY, "serve", "--listen", "127.0.0.1:0", "--state", tmp_path], stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, text=True)
    try:
        assert any("is ready" in line for line in process.stderr)
    finally:
        process.terminate()
        process.communicate(timeout=40)
    assert process.returncode == 0


def test_closed_streams_stay_closed(tmp_path):
    """No file that is opened takes their place: what is printed would end up in it."""
    closed = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh"]
    assert subprocess.run([*closed, BINARY, "models"], timeout=60).returncode == 0
    assert subprocess.run([*closed, "stdbuf", "-oL", BINARY, "models"], timeout=60).returncode == 0
    assert subprocess.run([*closed, BINARY, "generate", "a fox", "--steps", "1", "-o", tmp_path / "a.png"], timeout=120).returncode == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    process = subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", BINARY, "serve", "--listen", "127.0.0.1:0", "--state", tmp_path / "state"])
    try:
        until((tmp_path / "state/imagined.db").exists)
        assert [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    finally:
        process.terminate()
        assert process.wait(40) == 0


def test_a_terminal_is_no_place_for_a_picture():
    parent, child = pty.openpty()
    answer = subprocess.run([BINARY, "generate", "a fox", "-o", "-"], stdout=child, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(child)
    os.close(parent)
    assert answer.returncode == 2 and "name a file" in answer.stderr


def test_a_picture_through_a_link_leaves_the_link(tmp_path):
    (tmp_path / "real.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to("real.png")
    assert run("generate", "a fox", "-o", "link.png", "--steps", "1", cwd=tmp_path).returncode == 0
    assert (tmp_path / "link.png").is_symlink() and (tmp_path / "real.png").read_bytes().startswith(b"\x89PNG")


def test_a_link_to_a_picture_that_is_not_there_yet_stays(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.png").symlink_to("there/real.png")
    assert run("generate", "a fox", "-o", "link.png", "--steps", "1", cwd=tmp_path).returncode == 0
    assert (tmp_path / "link.png").is_symlink() and (tmp_path / "there/real.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("target, words", [("nowhere/a.png", "make that folder"), ("link.png", "cannot be followed"), ("/proc/version/a.png", "cannot be followed")])
def test_a_link_that_leads_nowhere_is_told_before_the_work(target, words, tmp_path):
    """So early that nobody has looked yet for the model, which is not there either."""
    (tmp_path / "link.png").symlink_to(target)
    answer = run("generate", "a fox", "-o", "link.png", "--model", "nothing", cwd=tmp_path)
    assert answer.returncode == 1 and "link.png" in answer.stderr and words in answer.stderr and "nothing" not in answer.stderr, answer.stderr
    assert (tmp_path / "link.png").is_symlink() and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["/dev/fd/1", "/proc/self/fd/1", "out.png", "link.png"])
def test_a_file_that_is_the_standard_output_is_written_to_as_that(name, tmp_path):
    """Whoever opened it, and may have begun it, finds the picture in the file that it has open, which is not replaced."""
    (tmp_path / "link.png").symlink_to("out.png")
    with open(tmp_path / "out.png", "wb+") as out:
        out.write(b"before")
        out.flush()
        answer = subprocess.run([BINARY, "generate", "a fox", "--steps", "1", "-o", name], stdout=out, stderr=subprocess.PIPE, text=True, timeout=120, cwd=tmp_path)
        assert answer.returncode == 0 and "the standard output: 128x128" in answer.stderr, answer.stderr
        out.seek(0)
        assert out.read().startswith(b"before\x89PNG")
        assert os.path.samestat(os.fstat(out.fileno()), os.stat(tmp_path / "out.png"))


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_standard_output_that_is_closed_is_told_by_any_name(name, tmp_path):
    answer = subprocess.run(["sh", "-c", '"$@" >&-', "sh", BINARY, "generate", "a fox", "--steps", "1", "-o", name], stderr=subprocess.PIPE, text=True, timeout=120)
    assert answer.returncode == 1 and "the standard output is closed" in answer.stderr


def test_a_terminal_sees_a_progress_bar(tmp_path):
    parent, child = pty.openpty()
    process = subprocess.Popen([BINARY, "generate", "a fox", "-o", tmp_path / "a.png"], stderr=child, stdout=subprocess.DEVNULL)
    os.close(child)
    seen = b""
    while True:
        try:
            chunk = os.read(parent, 65536)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    assert process.wait(timeout=120) == 0
    text = seen.decode()
    assert "█" in text and "s/it" in text and "left" in text
