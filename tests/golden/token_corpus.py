"""The strings that make_tokens.py gives to the reference's tokenizers: the same ones each time."""
import random

PROMPTS = [
    "a fox on a blue background",
    "A photo of an astronaut riding a horse on Mars, 8k, highly detailed, trending on ArtStation!!",
    "masterpiece, best quality, (ultra-detailed:1.3), [bad hands], <lora:thing:0.8>, 1girl, solo",
    "  leading, trailing   and   inner  spaces  ",
    "tabs\tand\nnew lines\r\nand\vvertical\fones",
    "it's they're we've I'm you'll he'd don't IT'S THEY'RE 'sign 'tis rock'n'roll ''s 's's",
    "1234567890 3.14159 1,000,000 16:9 f/1.8 ISO-100 50mm 2ⁿᵈ ½ ⅔ Ⅷ ٣٤٥ ४५६ ๑๒๓ 一二三 ①②③",
    "price: $9.99 / €8,50 / £7 / ¥1000 / ₹20 #hashtag @user https://example.com/a?b=c&d=e%20f",
    "ﬁne ﬂow oﬃce ﬅ Ǆ ǆ ㎏ ㏒ ℡ ™ © ® № ℵ Å Å Å ﷺ",
    "ｆｕｌｌｗｉｄｔｈ　ＡＢＣ　１２３！？　ﾊﾝｶｸ ｶﾞ ﾊﾟ",
    "Größe STRASSE straße ẞ Ĳssel ŉ İstanbul ıI ΌΔΟΣ ὈΔΥΣΣΕΎΣ ς Σ",
    "e\u0301 é e\u0301\u0323 ẹ\u0301 a\u030a\u0301 q\u0307\u0323 \u0301lone \u0323\u0307",
    "中文 一只在蓝色背景上的狐狸，高清。日本語 きつね キツネ がか\u3099 한국어 여우 \u1112\u1161\u11ab\u1100\u1173\u11af",
    "العَرَبِيَّة ثعلب עִבְרִית שועל \u200fRTL\u200e mixed \u202eabc\u202c فارسی\u200cها",
    "हिन्दी लोमड़ी क्षत्रिय ไทย สุนัขจิ้งจอก தமிழ் ខ្មែរ မြန်မာ བོད་ཡིག",
    "Привет, мир! ЁЖ Ґанок Ελληνικά Հայերեն ქართული Ქართული አማርኛ ᏣᎳᎩ ꮳꮃꭹ 𐐀𐐨 𞤀𞤢",
    "😀 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇯🇵🇺 ❤️ ☺ ☺︎ 1️⃣ 🧑🏿‍🚀 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "nul\0inside \0 \x01\x02\x1f\x7f\x80\x9f end",
    "\ufeffbom zero\u200bwidth\u2060joiner soft\u00adhyphen no\u00a0break thin\u2009space line\u2028sep para\u2029sep nel\u0085 ogham\u1680mongol\u180e",
    "▁ ▁a a▁ a▁b ▁▁ a ▁ b ▁▁▁x",
    "“quotes” ‘single’ «guillemets» — en–dash … ellipsis ‽ ⁇ ⁈ ！",
    "\U0001d573\U0001d58a\U0001d591\U0001d591\U0001d594 𝟘𝟙𝟚 𝒻ℴ𝓍 \U0010ffff \ufffd \ufffe \ue000 \U000e0001",
    "young marks a\u1df9\u0301 e\u0301\u07fd\u0323\u0334 \U00011935\U00011930 \U00011938 \u0c15\u0c3c\u0c4d \ub6d4\u11a7 \u1100\u1161\u11a7\u11a8",
    "FOX fox foxes a_fox fox1 cat, cats cat. CAT \u00c9T\u00c9 \u00e9t\u00e9s \u24d0cat \u0301cat <cat-toy> <CAT-TOY>  <cat-toy>  x",
]
SPECIALS = ["<|startoftext|>", "<|endoftext|>", "</s>", "<pad>", "<unk>", "<extra_id_0>", "<extra_id_7>", "<extra_id_99>", "<extra_id_100>", "<s>", "</w>", "[PAD]",
            "<|startoftext|", "<|endoftext", "<extra_id_", "</", "<", "|>"]
WORDS = """a an the of in on with and fox cat dog house tree mountain river city castle robot dragon portrait painting photo photograph digital art oil
watercolor sketch detailed highly intricate cinematic lighting sunset night morning blue red green golden small huge ancient futuristic style by
background 4k 8k hdr octane render unreal engine studio ghibli Van Gogh smiling woman man child wearing hat holding sword under water above clouds""".split()
RANGES = [(0x20, 0x7E), (0xA0, 0x17F), (0x180, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x58F), (0x590, 0x5FF), (0x600, 0x6FF),
          (0x900, 0x97F), (0x980, 0x9FF), (0xB80, 0xBFF), (0xE00, 0xE7F), (0xF00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F),
          (0x13A0, 0x13FF), (0x1780, 0x17FF), (0x1C80, 0x1CBF), (0x1D00, 0x1DBF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x209F),
          (0x20A0, 0x20FF), (0x2100, 0x218F), (0x2190, 0x22FF), (0x2460, 0x24FF), (0x2500, 0x27BF), (0x2C00, 0x2DFF), (0x2E80, 0x2FDF), (0x3000, 0x30FF),
          (0x3130, 0x33FF), (0x4E00, 0x9FFF), (0xA640, 0xA7FF), (0xAB30, 0xABBF), (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFB00, 0xFB4F), (0xFE00, 0xFE6F),
          (0xFF00, 0xFFEF), (0x10400, 0x104FF), (0x118A0, 0x118DF), (0x16E40, 0x16E9A), (0x1D400, 0x1D7FF), (0x1E900, 0x1E95F), (0x1F1E6, 0x1F1FF), (0x1F300, 0x1F6FF),
          (0x1F900, 0x1F9FF), (0x20000, 0x2A6DF), (0x2F800, 0x2FA1F), (0xE0020, 0xE007F)]
SPACES = [" ", "  ", "\t", "\n", "\u00a0", "\u3000", "\u2003", "\u200b", "\u0085", "\u1680"]
MODIFIERS = ["\u0301", "\u0308", "\u0323", "\u200d", "\ufe0f", "\u0345", "\u094d", "\u3099", "\u1161", "\u11ab", "\U0001f3fd", "\u20e3"]


def scalar(rng):
    """Any code point but surrogates, low ones more often."""
    while True:
        c = rng.randrange(rng.choice([0x80, 0x800, 0x3000, 0x10000, 0x110000]))
        if not 0xD800 <= c <= 0xDFFF:
            return chr(c)


def prompt(rng):
    words = [rng.choice(WORDS) for _ in range(rng.randrange(1, 14))]
    words = [w.upper() if rng.random() < 0.08 else w.title() if rng.random() < 0.1 else w for w in words]
    return "".join(w + rng.choice([" ", " ", " ", " ", ", ", ". ", "-", "'s ", "  "]) for w in words)


def script(rng):
    first, last = rng.choice(RANGES)
    text = ""
    for _ in range(rng.randrange(1, 24)):
        text += chr(rng.randint(first, last))
        if rng.random() < 0.12:
            text += rng.choice(SPACES)
        if rng.random() < 0.12:
            text += rng.choice(MODIFIERS)
    return text


def special(rng):
    text = ""
    for _ in range(rng.randrange(1, 6)):
        token = rng.choice(SPECIALS)
        token = rng.choice([token, token, token.upper(), token.title(), token.replace("<", "< "), token.replace("s", "ſ").replace("k", "K")])
        text += rng.choice(["", " ", "  ", "a ", "\n", "\u3000", "word", "É "]) + token + rng.choice(["", " ", "   ", " b", "\t", ".", "'s"])
    return text


def soup(rng):
    return "".join(scalar(rng) for _ in range(rng.randrange(1, 20)))


def mixture(rng):
    parts = [prompt, script, special, soup]
    return rng.choice(SPACES + ["", "", ""]).join(rng.choice(parts)(rng) for _ in range(rng.randrange(2, 4)))


def corpus():
    rng = random.Random(20240607)
    texts = ["", " ", "   ", "\t\n", "\u3000", "\0", "\0\0", "a", "é", "x" * 10000, " " * 10000, "word " * 2000, ", ".join(PROMPTS) * 3, "🦊" * 700, "狐狸 " * 900]
    texts += PROMPTS + SPECIALS + [c for c in SPACES + MODIFIERS] + [chr(c) for c in range(0x180)]
    texts += [" ".join(rng.choice(WORDS) for _ in range(n)) for n in (28, 29, 30, 31, 32, 73, 74, 75, 76, 77, 78, 120, 509, 510, 511, 512, 513, 700)]
    for make, count in [(prompt, 300), (script, 600), (special, 250), (soup, 450), (mixture, 200)]:
        texts += [make(rng) for _ in range(count)]
    texts += ["".join(scalar(rng) for _ in range(400)), "".join(script(rng) for _ in range(60))]
    return list(dict.fromkeys(texts))
