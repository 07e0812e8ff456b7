"""The command line: help that helps, one clear sentence for each mistake, and nothing half-written."""
import os
import pathlib
import pty
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "build/imagined"


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
    (["generate", "a", "--width", "100"], "multiples of 16"),
    (["generate", "a", "--width", "-16"], "--width"),
    (["generate", "a", "--guidance", "nan"], "--guidance"),
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
    (["-o", "/nowhere/a.png"], "/nowhere/a.png"),
])
def test_what_cannot_be_had_is_refused_with_a_reason(arguments, words, tmp_path):
    answer = run("generate", "a fox", "--steps", "1", *arguments, cwd=tmp_path)
    assert answer.returncode == 1
    assert words in answer.stderr, answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_models_lists_the_demo():
    answer = run("models")
    assert answer.returncode == 0
    assert "demo" in answer.stdout and "128x128" in answer.stdout


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
