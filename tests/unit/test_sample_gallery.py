"""The sample gallery as committed: complete, importable, and free of the queries held out of it."""

import json
import re
import sys
from pathlib import Path

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.data.queries import load_queries

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
QUERIES = ROOT / "assets" / "emoji_queries.jsonl"
sys.path.append(str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    return Gallery.from_zip(ROOT / "assets" / "emoji.zip", tmp_path_factory.mktemp("import") / "emoji")


def test_every_file_is_imported_and_named_by_its_code_points(gallery):
    assert len(gallery) >= 1800
    assert gallery.skipped == []
    assert all(re.fullmatch(r"[0-9a-f]+(-[0-9a-f]+)*\.png", name) for name in gallery.file_names)
    assert not any("fe0f" in name or re.search("1f3f[b-f]", name) for name in gallery.file_names)
    assert "grinning face" in gallery.captions[gallery.index("1f600.png")]
    assert "flag: Norway" in gallery.captions[gallery.index("1f1f3-1f1f4.png")]


def test_flags_that_look_the_same_are_one_image_under_all_their_names(gallery):
    norway = gallery.index("1f1f3-1f1f4.png")
    assert norway == gallery.index("1f1e7-1f1fb.png") == gallery.index("1f1f8-1f1ef.png")
    assert {"flag: Norway", "flag: Bouvet Island", "flag: Svalbard & Jan Mayen"} <= set(gallery.captions[norway])
    assert len(gallery) + sum(map(len, gallery.also)) == 1855


def test_every_image_has_captions_without_repeats(gallery):
    for captions in gallery.captions:
        lowered = [caption.lower() for caption in captions]
        assert lowered
        assert len(set(lowered)) == len(lowered)


def test_no_caption_holds_a_held_out_query(gallery):
    from corpus import PHRASES, HeldOut

    held_out = HeldOut(QUERIES, PHRASES)
    assert [text for captions in gallery.captions for text in captions if not held_out.fits(text)] == []


@pytest.mark.parametrize(
    "file", ["assets/emoji_queries.jsonl", "benchmarks/phrases.jsonl", "benchmarks/descriptions.jsonl"]
)
def test_query_files_name_images_of_the_gallery_and_no_query_twice(gallery, file):
    queries = load_queries(ROOT / file, gallery)
    texts = [query.text for query in queries]
    assert len(texts) == len(set(texts)) >= 100


def test_held_out_queries_are_found_inside_longer_texts_whatever_their_case():
    from corpus import PHRASES, HeldOut

    held_out = HeldOut(QUERIES, PHRASES)
    query = json.loads(QUERIES.read_text(encoding="utf-8").splitlines()[0])["query"]
    assert not held_out.fits(query)
    assert not held_out.fits(f"the {query.upper()}, please")
    assert held_out.fits(query + "ish")
    assert not held_out.fits("Someone sleeping in bed")
    assert held_out.fits("someone sleeping in bed at night")
    assert not held_out.fits("tall tropical tree with a curved trunk")
