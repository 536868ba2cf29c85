"""What the words in names of files and folders are: people's, or a camera's, a phone's, a program's."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcr_core.data.metadata import SHARED, Metadata
from gcr_core.data.stems import album_words, stem_captions


@pytest.mark.parametrize(
    ("path", "caption"),
    [
        ("red-boat_2.jpg", "red boat"),
        ("holiday/A dog's dinner.png", "A dog's dinner"),
        ("sunsetOverSea03.webp", "sunset Over Sea"),
        ("猫.png", "猫"),
        ("लाल नाव.jpg", "लाल नाव"),
        ("เรือสีแดง.jpg", "เรือสีแดง"),
        ("می‌خواهم.jpg", "می‌خواهم"),
        ("e\u0301te\u0301 a\u0300 Paris.jpg", "été à Paris"),
        ("grandma’s house.jpg", "grandma's house"),
        ("L'été.jpg", "L'été"),
        ("rock 'n' roll.jpg", "rock n roll"),
        ("Red–boat.jpg", "Red boat"),
        ("#sunset at the beach!.jpg", "sunset at the beach"),
        ("“quoted” (words) [in] {all} «ways».jpg", "quoted words in all ways"),
        ("🚤 red boat 🚤.jpg", "red boat"),
        ("Tom & Jerry.jpg", "Tom Jerry"),
        ("IMG_1234 red boat.jpg", "red boat"),
        ("DSC_0001-the harbour.jpg", "the harbour"),
        ("Screenshot of a red boat.png", "Screenshot of a red boat"),
        ("photo of a dog.jpg", "photo of a dog"),
        ("beach 2021.jpg", "beach"),
        ("May.jpg", "May"),
        ("portrait.jpg", "portrait"),
        ("old boat 3.jpg", "old boat"),
        ("n01440764_tench.jpg", "tench"),
        ("decade.jpg", "decade"),
    ],
)
def test_the_words_that_a_person_chose_are_a_caption(path: str, caption: str) -> None:
    assert stem_captions(path) == [unicodedata.normalize("NFC", caption)]


@pytest.mark.parametrize(
    "path",
    [
        "frame_0001.jpg",
        "IMG_1234.jpg",
        "IMG_E1234.HEIC.jpg",
        "IMG_1234 (Edited).jpg",
        "IMG_20210503_142210_HDR.jpg",
        "DSC00012.JPG",
        "_DSC1234.jpg",
        "_MG_1234.jpg",
        "P1000123.jpg",
        "DJI_0001.jpg",
        "GOPR0123.JPG",
        "MVIMG_20200101_101112.jpg",
        "PXL_20230101_101112123.MP.jpg",
        "PXL_20230101_101112123.RAW-01.COVER.jpg",
        "00000PORTRAIT_00000_BURST20200503.jpg",
        "WIN_20210503_14_22_10_Pro.jpg",
        "FullSizeRender 2.jpg",
        "received_1234567890.jpeg",
        "WhatsApp Image 2021-01-01 at 10.11.12 (1).jpeg",
        "IMG-20210503-WA0012.jpg",
        "FB_IMG_1234567.jpg",
        "signal-2021-05-03-142210.jpeg",
        "photo_2021-05-03_14-22-10.jpg",
        "mmexport1620000000.jpg",
        "微信图片_20210503.jpg",
        "Screenshot 2024-01-02 at 11.22.33.png",
        "Screenshot_20210503-142210_Instagram.jpg",
        "Bildschirmfoto 2021-03-04 um 11.22.33.png",
        "Capture d’écran 2021-03-04 à 11.22.33.png",
        "Captura de pantalla 2021-03-04 a la(s) 11.22.33.png",
        "Снимок экрана 2021-03-04 в 11.22.33.png",
        "スクリーンショット 2021-03-04 11.22.33.png",
        "3F2504E0-4F89-11D3-9A0C-0305E82C3301.jpg",
        "12345678-FACE-BEED-BABE-ABCDEFABCDEF.jpg",
        "abcdef1234.jpg",
        "3fa9c2b1e.png",
        "1f600.png",
        "2021-05-03 14.22.10.jpg",
        "3 May 2021.jpg",
        "download (3).jpg",
        "images (12).jpg",
        "image0.jpeg",
        "Kopie von Bild.jpg",
        "photo-1506744038136-46273834b3fb.jpg",
        "AdobeStock_123.jpg",
        "COCO_val2014_000000000042.jpg",
        "x.png",
        "½.jpg",
        "...jpg",
        "",
    ],
)
def test_a_name_that_a_camera_or_a_program_gave_is_no_caption(path: str) -> None:
    assert stem_captions(path) == []


NAMES = st.text(st.one_of(st.characters(), st.sampled_from("ab1 _-.'’#()ée\u0301\u200dนเล\u093e中AIMG")), max_size=40)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(NAMES)
def test_any_name_has_one_caption_or_none_whatever_form_its_letters_have(name: str) -> None:
    name = name.replace("/", "_")
    captions = stem_captions(f"{name}.jpg")
    assert len(captions) <= 1
    for form in ("NFC", "NFD"):
        assert stem_captions(unicodedata.normalize(form, f"{name}.jpg")) == captions, form
    for caption in captions:
        assert caption == unicodedata.normalize("NFC", " ".join(caption.split()))
        assert any(c.isalpha() for c in caption)
    assert album_words(name) == album_words(unicodedata.normalize("NFD", name))


def test_a_caption_that_many_pictures_share_by_their_names_is_flagged() -> None:
    metadata = Metadata()
    paths = [f"holiday_{number}.jpg" for number in range(SHARED)] + ["red-boat_1.jpg", "red-boat_2.jpg"]
    metadata.captions(paths)
    assert metadata.shared == [
        ("holiday", f"is the caption of {SHARED} pictures by their names alone: caption them apart")
    ]
    metadata = Metadata()
    metadata.read("metadata.csv", "\n".join(["file_name,text", *(f"{path},holiday" for path in paths)]).encode())
    metadata.captions(paths)
    assert metadata.shared == [], "a person gave it"
