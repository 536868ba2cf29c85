"""Stems: what the names of files and folders say about pictures, once the names that no person chose are known.

Cameras, phones, messengers, browsers and screenshot tools name files too: such names are no captions. Knows text alone.
"""

import re
import unicodedata
from collections.abc import Collection
from pathlib import PurePosixPath

_DEVICE = """
img dsc dscf dscn dsci pxl mvi mvimg vid sam gopr dji imgp cimg hpim sdc kimg pict mov lrv insv
camscanner fullsizerender fb wa rimg exif coco ilsvrc ilsvrc2012 comfyui mmexport win
inshot snapchat kakaotalk whatsapp picsart vsco
"""
DEVICE = frozenset(_DEVICE.split())
"""What stands in front of a number in a device's or program's file names, and is no word."""
_WORDLESS = """
image images photo photos picture pictures pic pics screenshot screenshots screen shot scan scans scanned untitled
unnamed signal telegram viber received copy download downloads downloaded file files at video clip snapshot capture
resized cropped compressed edited frame frames vlcsnap
foto fotos bild bilder bildschirmfoto vom um kopie unbenannt ohne titel datei aufnahme heruntergeladen
capture d'écran écran sans titre copie téléchargement imagem imagen imágenes imagens captura de pantalla tela ecrã a la
las alle immagine immagini schermata senza titolo copia afbeelding schermafbeelding schermafdruk om naamloos kopia von
bilde billede skärmavbild skärmbild skärmklipp kl skærmbillede skjermbilde kuva kuvakaappaus näyttökuva obraz zdjęcie
zrzut ekranu kopie snímek obrazovky képernyőfotó kép ekran resmi görüntüsü görsel снимок экрана скриншот изображение
фото в без названия копия знімок екрана зображення スクリーンショット 画像 写真 のコピー コピー 名称未設定 截屏 截图
屏幕截图 屏幕快照 图片 照片 微信图片 微信截图 下载 未命名 副本 螢幕擷取畫面 圖片 스크린샷 사진 이미지 캡처
jpg jpeg png webp gif bmp heic heif avif tif tiff raw dng cr2 nef arw
adobestock shutterstock istock gettyimages depositphotos dreamstime alamy unsplash pexels pixabay freepik pinterest
instagram facebook twitter maxresdefault hqdefault sddefault index temp tmp default thumb thumbnail
"""
WORDLESS = DEVICE.union(_WORDLESS.split())
"""The words that devices and programs put into file names: alone they say nothing about the picture."""
_DATE = """
january february march april may june july august september october november december jan feb mar apr jun jul aug sep
sept oct nov dec monday tuesday wednesday thursday friday saturday sunday mon tue wed thu fri sat sun
januar februar märz mai juni juli oktober dezember janvier février mars avril juin juillet août septembre octobre
novembre décembre enero febrero marzo mayo junio julio agosto septiembre octubre noviembre diciembre
"""
DATE = frozenset(_DATE.split())
"""Words that say nothing in a name with a number: the rest of it is a date."""
_BEHIND = """
edit edited bearbeitet original cover portrait pano panorama burst hdr night effects animation collage mix bokeh pro
large medium small final train val test new old version
"""
BEHIND = frozenset(_BEHIND.split())
"""What devices and programs put behind the number in a name of theirs."""
_WORDLESS_ALBUM = """
dcim camera roll album albums pictures folder new misc various other others favourites favorites recent recents
downloads screenshots library backup unsorted import imports export exports upload uploads train test val dev
"""
WORDLESS_ALBUM = WORDLESS.union(_WORDLESS_ALBUM.split())
"""The same of folders."""

UUID = re.compile(r"(?i)(?<![0-9a-z])\{?[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\}?(?![0-9a-z])")
SCREENSHOT = re.compile(
    r"(?i)(screen[ _-]?shots?|bildschirmfoto(?: vom)?|captura(?: de pantalla)?|capture d'écran)[ _-]*(?:de |du )?\d{4}"
)
"""How the name of a screenshot begins; behind the time some systems name the app."""
APOSTROPHES = str.maketrans("’ʼ＇`´", "'''''")
JOINERS = "\u200c\u200d"
"""Characters without width that stand within words of Persian and Hindi."""


def stem_captions(path: str) -> list[str]:
    """The caption in a file's stem: `red-boat_2.jpg` gives ["red boat"], `IMG_1234.jpg` nothing."""
    words = _words(PurePosixPath(path).stem, WORDLESS)
    return [words] if words else []


def album_words(album: str) -> str:
    """The words in an album's name: `Trip/Day_2` gives "Trip Day", `DCIM/100APPLE` none."""
    return " ".join(filter(None, (_words(part, WORDLESS_ALBUM) for part in album.split("/"))))


def _words(name: str, wordless: Collection[str]) -> str:
    """The words of a file's or folder's name; "" where none of them says anything."""
    name = unicodedata.normalize("NFC", name).translate(APOSTROPHES)
    if SCREENSHOT.match(name):
        return ""
    name = UUID.sub(" 0 ", name)
    pieces = _pieces(name)
    words = [word for word in map(_word, pieces) if word]
    is_devices = words != [] and (not _word(pieces[0]) or words[0].lower() in DEVICE)
    while len(words) > 1 and words[0].lower() in DEVICE:
        del words[0]
    has_number = any(c.isdecimal() for c in name)

    def tells(word: str) -> bool:
        known = word in wordless or (has_number and word in DATE) or (is_devices and word in BEHIND)
        return not known and (len(word) > 2 or not word.isascii())

    return " ".join(map(_split, words)) if any(tells(word.lower()) for word in words) else ""


def _pieces(name: str) -> list[str]:
    """What stands between spaces and punctuation; an apostrophe within a word belongs to it."""
    is_part = (c == "'" or c in JOINERS or unicodedata.category(c)[0] in "LMN" for c in name)
    text = "".join(c if part else " " for c, part in zip(name, is_part, strict=True))
    return [piece.strip("'" + JOINERS) for piece in text.split()]


def _word(piece: str) -> str:
    """The word in a piece without the number behind it; "" for a number, a code or a hash."""
    word = piece.rstrip("0123456789")
    digits = len(piece) - len(word)
    if any(c.isnumeric() for c in word) or not any(c.isalpha() for c in word):
        return ""
    is_code = digits > 2 and len(word) < 3 and word.isascii()
    is_hash = digits > 1 and len(piece) > 7 and re.fullmatch("[0-9a-f]+", piece) is not None
    return "" if is_code or is_hash else word.strip("'")


def _split(word: str) -> str:
    """A word as it is read: "sunsetOverSea" is three."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", word)
