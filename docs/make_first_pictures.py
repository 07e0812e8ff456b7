"""The README's picture: twelve prompts, seeds 1 to 12, the demo model, exactly as `imagined generate` makes them; none was picked by hand.

Usage: .deps/venv/bin/python docs/make_first_pictures.py
"""
import pathlib
import subprocess
import tempfile

from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROMPTS = [
    "a raccoon on a purple background", "a fox on a blue background", "a cactus on an orange background", "a pizza on a green background",
    "an owl on a pink background", "a whale on a yellow background", "a tractor on a white background", "a strawberry on a gray background",
    "a rocket on a black background", "a red heart on a white background", "an octopus on a green background", "a sunflower on a blue background",
]
COLUMNS = 6

rows = -(-len(PROMPTS) // COLUMNS)
grid = Image.new("RGB", (128 * COLUMNS, 128 * rows))
with tempfile.TemporaryDirectory() as folder:
    for i, prompt in enumerate(PROMPTS):
        path = pathlib.Path(folder) / f"{i}.png"
        subprocess.run([ROOT / "build/imagined", "generate", prompt, "--seed", str(i + 1), "-o", path, "-q"], check=True)
        grid.paste(Image.open(path), (128 * (i % COLUMNS), 128 * (i // COLUMNS)))
grid.save(ROOT / "docs/first-pictures.png", optimize=True)
