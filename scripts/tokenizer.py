"""The tokenizer of gcr-mini and gcr-mini-clip: a sentencepiece unigram model that reads emoji too."""

import io
import math
from collections.abc import Iterable

import sentencepiece
from corpus import Corpus
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from wordnet import WordNet

VOCABULARY = 11_600  # pieces of text; emoji have pieces besides
UNK, BOS, PAD, EOS = range(4)
CLIP_TOKENS = 48


def train_tokenizer(corpus: Corpus, net: WordNet, emoji: Iterable[str]) -> Tokenizer:
    """A sentencepiece unigram model with byte fallback, as tokenizer.json keeps it; case and accents do not count.

    Every character of the emoji is a piece; skin tones do not count either.
    """
    normalizer = normalizers.Sequence([
        normalizers.Replace("\ufe0f", ""),
        normalizers.Replace(Regex("[\U0001f3fb-\U0001f3ff]"), ""),
        normalizers.Replace("\u20e3", " keycap"),
        normalizers.Replace(Regex("(?<=\\w)[_-](?=\\w)"), " "),
        normalizers.NFKD(),
        normalizers.StripAccents(),
        normalizers.Lowercase(),
        normalizers.Strip(),
        normalizers.Replace(Regex(" {2,}"), " "),
    ])  # fmt: skip
    written = io.BytesIO()
    sentences = [text.lower() for texts in corpus.captions for text in texts for _ in range(20)]
    sentences += [text for text, _ in corpus.composed] + [*corpus.english]
    for text, met in corpus.english.items():
        sentences += [text] * min(20, int(math.log2(met + net.uses[text]) * 2))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=written,
        model_type="unigram",
        vocab_size=VOCABULARY,
        byte_fallback=True,
        split_digits=True,
        character_coverage=0.9999,
        normalization_rule_name="nmt_nfkc_cf",
        user_defined_symbols=["\n", "<image>"],
        unk_id=UNK,
        bos_id=BOS,
        pad_id=PAD,
        eos_id=EOS,
        pad_piece="<pad>",
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    scores = {pieces.id_to_piece(i): pieces.get_score(i) for i in range(pieces.vocab_size())}
    least = min(scores.values())
    signs = set("".join(map(normalizer.normalize_str, emoji))) - {" "}
    scores |= dict.fromkeys(sorted(signs - scores.keys()), least)
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), unk_id=UNK, byte_fallback=True))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1),
    ])  # fmt: skip
    tokenizer.add_tokens([AddedToken("\n", normalized=False)])
    tokenizer.add_special_tokens([AddedToken("<image>", normalized=False, special=True)])
    return tokenizer


def wrap(tokenizer: Tokenizer, end: bool) -> PreTrainedTokenizerFast:
    """The tokenizer for transformers, setting <s> and, where `end`, </s> around a text."""
    own = Tokenizer.from_str(tokenizer.to_str())
    single = "<s> $A </s>" if end else "<s> $A"
    own.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", BOS), ("</s>", EOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=own, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        padding_side="right" if end else "left", model_max_length=CLIP_TOKENS if end else 512,
        **({} if end else {"extra_special_tokens": {"image_token": "<image>"}}),
    )  # fmt: skip
