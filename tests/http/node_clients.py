"""Clients from npm (tests/npm.txt), run unchanged by node: small scripts in tests/http/clients.

A script is an ES module that gets one JSON object and prints one:

    import OpenAI from "openai";
    const given = JSON.parse(process.argv.at(-1));
    …
    console.log(JSON.stringify({ answer }));

Node looks for a module's imports beside its file, where there are none of ours. One that comes by standard input belongs to the working folder, so the
scripts are fed to a node that runs in .deps/npm, beside node_modules.
"""
import json
import os
import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
NPM = HERE.parents[1] / ".deps" / "npm"


def run_client(script, seconds=120, **given):
    """What clients/<script>.mjs prints, as an object. A script that throws fails the test with what it says."""
    source = (HERE / "clients" / f"{script}.mjs").read_text()
    node = shutil.which("node")
    assert node and (NPM / "node_modules").is_dir(), "node and the packages of tests/npm.txt are needed: scripts/setup test fetches both"
    done = subprocess.run([node, "--input-type=module", "-", json.dumps(given)], input=source, cwd=NPM, timeout=seconds, capture_output=True, text=True,
                          env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, f"{script}.mjs failed:\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout.strip().splitlines()[-1])
