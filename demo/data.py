"""The training set: Noto Color Emoji, named by Unicode's CLDR, on ten plain backgrounds.

Nothing is stored: the pictures are drawn from the installed font each time (a few seconds), so that the
set is the same for every script here. Run this file alone to look at it: `python data.py grid.png`.
"""

import random
import sys
import xml.etree.ElementTree as ET

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
NAMES = "/usr/share/unicode/cldr/common/annotations/en.xml"
SIZE = 128  # pixels a side
LOOKS = 2  # pictures of each subject on each background; the first one is the plain one
SIDED = ("left", "right", "first quarter", "last quarter", "waxing", "waning", "globe showing")  # wrong if mirrored
EMOJI = (108, 102)  # pixels the subject takes at scale 1; the font's bitmaps are 136 by 128

BACKGROUNDS = {
    "white": (255, 255, 255),
    "black": (20, 20, 20),
    "red": (214, 60, 60),
    "orange": (240, 150, 60),
    "yellow": (245, 215, 90),
    "green": (90, 180, 90),
    "blue": (80, 130, 220),
    "purple": (150, 100, 200),
    "pink": (245, 165, 195),
    "gray": (150, 150, 150),
}

# Things one can picture by name. Left out: people in their many variants, signs, flags, clocks, arrows.
RANGES = (
    (0x1F300, 0x1F32C),  # weather, globes, moons
    (0x1F32D, 0x1F37F),  # plants, food, drink
    (0x1F400, 0x1F43F),  # animals
    (0x1F493, 0x1F49F),  # hearts
    (0x1F600, 0x1F64F),  # faces
    (0x1F680, 0x1F6A4),  # vehicles
    (0x1F910, 0x1F92F),  # faces
    (0x1F950, 0x1F96F),  # food
    (0x1F980, 0x1F9CB),  # animals, food
    (0x1FAB0, 0x1FADF),  # animals, plants, food
)
HAIR = (0x1F9B0, 0x1F9B9)  # hair styles and body parts inside the last but one range


def _wanted(chars):
    code = ord(chars[0])
    return (
        len(chars) == 1
        and any(low <= code <= high for low, high in RANGES)
        and not HAIR[0] <= code <= HAIR[1]
    )


def subjects():
    """[(name, RGBA array of 128 rows and 136 columns)], in the order of the CLDR file."""
    font = ImageFont.truetype(FONT, 109)  # the one size that the bitmap font has
    found = []
    for note in ET.parse(NAMES).getroot().iter("annotation"):
        chars = note.get("cp")
        if note.get("type") != "tts" or not _wanted(chars):
            continue
        image = Image.new("RGBA", (136, 128))
        ImageDraw.Draw(image).text((0, 0), chars, font=font, embedded_color=True)
        rgba = np.array(image)
        if (rgba[..., 3] > 0).mean() < 0.08:  # the font has no picture for it
            continue
        found.append((note.text.lower(), rgba))
    return found


def compose(rgba, color, shift=(0, 0), scale=1.0, mirror=False):
    """One picture, uint8, rows x columns x 3."""
    emoji = Image.fromarray(rgba)
    if mirror:
        emoji = emoji.transpose(Image.FLIP_LEFT_RIGHT)
    width, height = round(EMOJI[0] * scale), round(EMOJI[1] * scale)
    emoji = emoji.resize((width, height), Image.LANCZOS)
    image = Image.new("RGB", (SIZE, SIZE), color)
    image.paste(emoji, ((SIZE - width) // 2 + shift[0], (SIZE - height) // 2 + shift[1]), emoji)
    return np.asarray(image)


def look(number, name):
    """How compose() places a subject in each of its LOOKS pictures: as it is, or mirrored where its name allows."""
    return {"mirror": number == 1 and not any(word in name for word in SIDED)}


def _article(word):
    return "an" if word[0] in "aeiou" else "a"


def caption(name, background, form):
    """A subject named alone stands on white, so that every caption means one picture."""
    if form == 0:
        return f"{_article(name)} {name} on {_article(background)} {background} background"
    if form == 1:
        return f"{name}, {background} background"
    if form == 2:
        return f"{_article(name)} {name} on {background}"
    return name


def typed(caption, way):
    """The same words as different people type them: the T5 tokenizer knows capitals and full stops."""
    if way in (1, 3):
        caption = caption[0].upper() + caption[1:]
    if way in (2, 3):
        caption += "."
    return caption.title() if way == 4 else caption.upper() if way == 5 else caption


WAYS = 6
FORMS = 4  # the last one names no background


def grid(pictures, columns):
    """Equal pictures (a list of uint8 arrays) as one image."""
    rows = [np.concatenate(pictures[i : i + columns], 1) for i in range(0, len(pictures), columns)]
    return Image.fromarray(np.concatenate(rows, 0))


if __name__ == "__main__":
    everything = subjects()
    colors = list(BACKGROUNDS.values())
    chosen = [everything[i * len(everything) // 72] for i in range(72)]
    grid([compose(rgba, colors[i % 10]) for i, (_, rgba) in enumerate(chosen)], 12).save(sys.argv[1])
    print(len(everything), "subjects:", ", ".join(name for name, _ in everything))
