"""Make the sample gallery from Debian's CLDR and Noto Color Emoji.

    apt-get install fonts-noto-color-emoji unicode-cldr-core wordnet-base
    python scripts/build_emoji_gallery.py

Writes `assets/emoji.zip`, a gallery of every emoji that CLDR names in English and the font draws in colour (skin
tones apart; those that it draws alike are one image), and `assets/emoji_queries.jsonl`, the queries held out of it: for
every image with at least `ENOUGH_CAPTIONS` captions, one keyword that stands in no caption of any image of the zip.
What people type every day is not held out: no training would ever see it, and the sample gallery not know it.
"""

import argparse
import io
import json
import random
import re
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from wordnet import WordNet

CLDR = Path("/usr/share/unicode/cldr/common")
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
FONT_SIZE = 109  # the one bitmap strike that the font has
LOCALES = ("en", "en_001", "en_GB", "en_AU", "en_CA", "en_IN")
SKIN_TONES = frozenset(map(chr, range(0x1F3FB, 0x1F400)))
INHERITED = "↑↑↑"
REGIONAL_A = 0x1F1E6
ENOUGH_CAPTIONS = 6
INFORMAL = Path(__file__).parent / "informal.txt"
"""How people talk and type: words and phrases between commas, which WordNet mostly lacks."""
COMMON = 5
"""Uses in WordNet's concordance that make a word a common one."""
ZIP_TIME = (2026, 1, 1, 0, 0, 0)  # a fixed time makes the same archive byte for byte


def words(caption: str) -> tuple[str, ...]:
    """The lower-cased words of a caption: what two captions are compared by."""
    return tuple(re.findall(r"[^\W_]+", re.sub("['’]", "", caption.lower())))


def read_captions() -> dict[str, list[str]]:
    """CLDR's English captions by emoji: the name first, then the keywords, without repeats."""
    names: dict[str, str] = {}
    keywords: dict[str, list[str]] = {}
    for locale in LOCALES:
        for folder in ("annotations", "annotationsDerived"):
            file = CLDR / folder / f"{locale}.xml"
            if not file.exists():
                continue
            for annotation in ElementTree.parse(file).iter("annotation"):
                emoji, text = annotation.attrib["cp"], annotation.text or ""
                if annotation.get("type") == "tts":
                    names.setdefault(emoji, text)
                    text = names[emoji] if locale == "en" else text
                keywords.setdefault(emoji, []).extend(part.strip() for part in text.split("|"))
    captions = {}
    for emoji, name in names.items():
        if not SKIN_TONES & set(emoji):
            distinct: dict[str, str] = {}
            for caption in (name, *keywords[emoji]):
                distinct.setdefault(caption.lower(), caption)
            distinct.pop(INHERITED, None)
            captions[emoji] = list(distinct.values())
    return captions


def draw(emoji: str, font: ImageFont.FreeTypeFont) -> bytes | None:
    """The emoji as a PNG of 136 × 136 pixels on a transparent ground; None where the font has no colour glyph."""
    left, top, right, bottom = map(int, font.getbbox("😀"))
    if font.getlength(emoji) != font.getlength("😀"):
        return None
    side = max(right - left, bottom - top)
    image = Image.new("RGBA", (side, side))
    offset = ((side - right + left) // 2 - left, (side - bottom + top) // 2 - top)
    ImageDraw.Draw(image).text(offset, emoji, font=font, embedded_color=True)
    if image.getbbox() is None:
        return None
    out = io.BytesIO()
    image.quantize(256, method=Image.Quantize.FASTOCTREE).save(out, "PNG", optimize=True)
    return out.getvalue()


def merge(pictures: dict[str, bytes]) -> dict[str, list[str]]:
    """Emoji → the others that have the same picture: flags of islands that fly a country's, the family as such.

    The one with the shortest sequence names the picture, among flags the region where most people live.
    """
    people = {
        territory.attrib["type"]: int(territory.attrib["population"])
        for territory in ElementTree.parse(CLDR / "supplemental" / "supplementalData.xml").iter("territory")
    }
    alike: dict[bytes, list[str]] = {}
    for emoji, png in pictures.items():
        alike.setdefault(png, []).append(emoji)

    def rank(emoji: str) -> tuple[int, int]:
        region = "".join(chr(ord(letter) - REGIONAL_A + ord("A")) for letter in emoji if ord(letter) >= REGIONAL_A)
        return len(emoji), -people.get(region, 0)

    return {emoji: others for emoji, *others in (sorted(group, key=rank) for group in alike.values())}


def read_informal() -> list[str]:
    return re.split(r",\s*|\n", INFORMAL.read_text(encoding="utf-8").strip())


def hold_out(captions: dict[str, list[str]], seed: int) -> dict[tuple[str, ...], str]:
    """Choose the held-out keywords: words of the keyword → its spelling.

    A keyword qualifies if its words stand inside no other caption, so that leaving it out costs no other caption, and
    if it is not common. Phrases go before single words, for their words stay known, and keywords of few images before
    those of many; the seed orders the rest.
    """
    informal, uses = set(map(words, read_informal())), WordNet().uses
    whole = {words(caption) for texts in captions.values() for caption in texts}
    inside = {
        caption[start:end]
        for caption in whole
        for start in range(len(caption))
        for end in range(start + 1, len(caption) + 1)
        if (start, end) != (0, len(caption))
    }
    names = {words(texts[0]) for texts in captions.values()}
    images = Counter(words(caption) for texts in captions.values() for caption in texts)
    draws = random.Random(seed)
    chosen: dict[tuple[str, ...], str] = {}
    for texts in captions.values():
        keywords = texts[1:]
        if len(texts) < ENOUGH_CAPTIONS or any(words(keyword) in chosen for keyword in keywords):
            continue
        fit = [
            keyword
            for keyword in keywords
            if words(keyword) and words(keyword) not in inside | names | informal and uses[keyword.lower()] <= COMMON
        ]
        if fit:
            draws.shuffle(fit)
            keyword = max(fit, key=lambda text: (len(words(text)) > 1, -images[words(text)]))
            chosen[words(keyword)] = keyword
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("assets"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    font = ImageFont.truetype(FONT, FONT_SIZE)
    captions = read_captions()
    pictures = {emoji: png for emoji in captions if (png := draw(emoji, font)) is not None}
    captions = {emoji: captions[emoji] for emoji in pictures}
    held_out = hold_out(captions, arguments.seed)
    file_names = {
        emoji: "-".join(f"{ord(character):x}" for character in emoji if character != "\ufe0f") + ".png"
        for emoji in pictures
    }

    relevant: dict[str, list[str]] = {query: [] for query in held_out.values()}
    rows = []
    for emoji, texts in captions.items():
        for query in {held_out[words(text)] for text in texts if words(text) in held_out}:
            relevant[query].append(file_names[emoji])
    for emoji, others in merge(pictures).items():
        said = dict.fromkeys(text for name in (emoji, *others) for text in captions[name])
        kept = [text for text in said if words(text) not in held_out]
        also = sorted(file_names[other] for other in others)
        rows.append({"file_name": file_names[emoji], "text": kept} | ({"also": also} if also else {}))
        for other in others:
            del pictures[other]

    with zipfile.ZipFile(arguments.out / "emoji.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        metadata = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        archive.writestr(zipfile.ZipInfo("metadata.jsonl", ZIP_TIME), metadata, zipfile.ZIP_DEFLATED)
        for emoji, png in pictures.items():
            archive.writestr(zipfile.ZipInfo(file_names[emoji], ZIP_TIME), png)
    lines = "".join(
        json.dumps({"query": query, "relevant": names}, ensure_ascii=False) + "\n" for query, names in relevant.items()
    )
    (arguments.out / "emoji_queries.jsonl").write_text(lines, encoding="utf-8")
    sizes = Counter(min(len(row["text"]), ENOUGH_CAPTIONS) for row in rows)
    print(f"{len(pictures)} images, {sum(len(row['text']) for row in rows)} captions")
    print(f"images by number of captions: {dict(sorted(sizes.items()))}")
    print(f"{len(relevant)} held-out queries for {len({name for names in relevant.values() for name in names})} images")


if __name__ == "__main__":
    main()
