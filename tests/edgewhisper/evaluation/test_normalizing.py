"""Each language is scored by the rule that openai-whisper's authors have for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from whisper_normalizer.basic import BasicTextNormalizer

from edgewhisper.evaluation.comparison import compare
from edgewhisper.evaluation.normalizing import metric, remark, rule, units
from edgewhisper.evaluation.wer import Record, by_language, count_errors, summarize_errors
from edgewhisper_runtime.errors import DataError


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Mr. Smith won't pay $20!", "mister smith will not pay $20"),
        ("de", "Größe: 20 Äpfel, bitte.", "größe 20 äpfel bitte"),
        ("fr", "L'été, c'est l'ÉTÉ", "l été c est l été"),
        ("zh", "四川大学。 (笑)", "四 川 大 学"),
        ("ja", "今日は、ガラス。", "今 日 は ガ ラ ス"),
        ("ko", "안녕하세요 여러분", "안 녕 하 세 요 여 러 분"),
        ("yue", "你好 World", "你 好 w o r l d"),
    ],
)
def test_units(language: str, text: str, expected: str) -> None:
    assert units(text, rule(language)) == expected.split()


@pytest.mark.parametrize("language", ["zh", "ja", "ko", "th", "yue", "my", "lo", "km"])
def test_unspaced_languages_are_scored_in_characters(language: str) -> None:
    assert rule(language).metric == "CER"
    text = "ภาษาไทย 今日は ខ្មែរ"
    assert units(text, rule(language)) == BasicTextNormalizer(split_letters=True)(text).split()


def test_metrics_of_mixtures() -> None:
    assert metric(map(rule, ["en", "de"])) == "WER"
    assert metric(map(rule, ["zh", "ja"])) == "CER"
    assert metric(map(rule, ["zh", "en"])) == "MER"


def test_data_may_name_the_normalizer() -> None:
    assert rule("ko", "basic") == rule("de")
    record = Record("1", "", "I won't.", "I will not", 1.0, 1.0)
    assert count_errors([record])[0].errors == 0
    basic = replace(record, normalizer="basic")
    assert count_errors([basic])[0].words == 3  # i won t
    assert by_language([basic])["en"].normalizer == "Whisper's basic normalizer"
    characters = replace(record, normalizer="characters")
    assert summarize_errors([characters]).metric == "CER"
    with pytest.raises(DataError, match=r"the normalizers differ of 1 utterance \(1 of test\)"):
        compare({"test": [record]}, {"test": [basic]})
    english = replace(record, normalizer="english")
    assert compare({"test": [record]}, {"test": [english]}).d == 0


def test_composed_and_decomposed_characters_are_the_same() -> None:
    assert units("cafe\u0301", rule("fr")) == units("caf\u00e9", rule("fr"))
    assert units("\u304b\u3099", rule("ja")) == units("\u304c", rule("ja"))


def test_what_a_reader_must_know() -> None:
    assert "Simplified" in remark("zh", ["四川"])
    assert "vowel signs are not counted" in remark("th", ["ที่นี่"])
    assert units("नमस्ते", rule("hi")) == ["नमस", "त"]
    assert "in the pieces" in remark("hi", ["नमस्ते"])
    assert remark("de", ["Größe"]) == remark("en", ["naïve"]) == ""


def test_traditional_and_simplified_are_told_apart() -> None:
    record = Record("1", "", "國語", "国语", 1.0, 1.0, language="zh")
    assert count_errors([record])[0].substitutions == 2
    assert by_language([record])["zh"].remark


def test_the_same_texts_in_another_language_are_counted_anew() -> None:
    german = Record("1", "", "zwei Wörter", "zwei Worte", 1.0, 1.0, language="de")
    japanese = Record("1", "", "zwei Wörter", "zwei Worte", 1.0, 1.0, language="ja")
    assert [c.words for c in count_errors([german, japanese])] == [2, 10]


def test_aishell_and_fleurs_by_hand() -> None:
    """Real references: the number of characters is that of ideographs, without spaces."""
    folder = Path(__file__).parents[4] / "shared" / "data" / "multilingual" / "zh"
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))]
    if not texts:
        pytest.skip("no Chinese speech is at ../shared/data")
    for text in texts:
        letters = [c for c in text if c.isalnum()]
        assert len(units(text, rule("zh"))) == len(letters)
