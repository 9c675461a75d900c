"""The languages that Whisper knows, and the names and codes that people use for them."""

from __future__ import annotations

import difflib
import re

from edgewhisper_runtime.errors import EdgeWhisperError

# In the order of Whisper's tokens. Cantonese came with large-v3; smaller models lack it.
LANGUAGES = {
    "en": "english",
    "zh": "chinese",
    "de": "german",
    "es": "spanish",
    "ru": "russian",
    "ko": "korean",
    "fr": "french",
    "ja": "japanese",
    "pt": "portuguese",
    "tr": "turkish",
    "pl": "polish",
    "ca": "catalan",
    "nl": "dutch",
    "ar": "arabic",
    "sv": "swedish",
    "it": "italian",
    "id": "indonesian",
    "hi": "hindi",
    "fi": "finnish",
    "vi": "vietnamese",
    "he": "hebrew",
    "uk": "ukrainian",
    "el": "greek",
    "ms": "malay",
    "cs": "czech",
    "ro": "romanian",
    "da": "danish",
    "hu": "hungarian",
    "ta": "tamil",
    "no": "norwegian",
    "th": "thai",
    "ur": "urdu",
    "hr": "croatian",
    "bg": "bulgarian",
    "lt": "lithuanian",
    "la": "latin",
    "mi": "maori",
    "ml": "malayalam",
    "cy": "welsh",
    "sk": "slovak",
    "te": "telugu",
    "fa": "persian",
    "lv": "latvian",
    "bn": "bengali",
    "sr": "serbian",
    "az": "azerbaijani",
    "sl": "slovenian",
    "kn": "kannada",
    "et": "estonian",
    "mk": "macedonian",
    "br": "breton",
    "eu": "basque",
    "is": "icelandic",
    "hy": "armenian",
    "ne": "nepali",
    "mn": "mongolian",
    "bs": "bosnian",
    "kk": "kazakh",
    "sq": "albanian",
    "sw": "swahili",
    "gl": "galician",
    "mr": "marathi",
    "pa": "punjabi",
    "si": "sinhala",
    "km": "khmer",
    "sn": "shona",
    "yo": "yoruba",
    "so": "somali",
    "af": "afrikaans",
    "oc": "occitan",
    "ka": "georgian",
    "be": "belarusian",
    "tg": "tajik",
    "sd": "sindhi",
    "gu": "gujarati",
    "am": "amharic",
    "yi": "yiddish",
    "lo": "lao",
    "uz": "uzbek",
    "fo": "faroese",
    "ht": "haitian creole",
    "ps": "pashto",
    "tk": "turkmen",
    "nn": "nynorsk",
    "mt": "maltese",
    "sa": "sanskrit",
    "lb": "luxembourgish",
    "my": "myanmar",
    "bo": "tibetan",
    "tl": "tagalog",
    "mg": "malagasy",
    "as": "assamese",
    "tt": "tatar",
    "haw": "hawaiian",
    "ln": "lingala",
    "ha": "hausa",
    "ba": "bashkir",
    "jw": "javanese",
    "su": "sundanese",
    "yue": "cantonese",
}
_OTHER_NAMES = {
    "burmese": "my",
    "valencian": "ca",
    "flemish": "nl",
    "haitian": "ht",
    "letzeburgesch": "lb",
    "pushto": "ps",
    "panjabi": "pa",
    "moldavian": "ro",
    "moldovan": "ro",
    "sinhalese": "si",
    "castilian": "es",
    "mandarin": "zh",
}
# Codes that stand for the same language: ISO 639-2, deprecated ones, and the variety that CLDR
# takes a macrolanguage to mean (cmn, nb), as languageAlias in its supplementalMetadata lists them.
_OTHER_CODES = {
    "en": "eng", "zh": "zho chi cmn", "de": "deu ger", "es": "spa", "ru": "rus", "ko": "kor",
    "fr": "fra fre", "ja": "jpn", "pt": "por", "tr": "tur", "pl": "pol", "ca": "cat",
    "nl": "nld dut", "ar": "ara arb", "sv": "swe", "it": "ita", "id": "ind in", "hi": "hin",
    "fi": "fin", "vi": "vie", "he": "heb iw", "uk": "ukr", "el": "ell gre", "ms": "msa may zsm",
    "cs": "ces cze", "ro": "ron rum mo mol", "da": "dan", "hu": "hun", "ta": "tam",
    "no": "nor nb nob", "th": "tha", "ur": "urd", "hr": "hrv scr", "bg": "bul", "lt": "lit",
    "la": "lat", "mi": "mri mao", "ml": "mal", "cy": "cym wel", "sk": "slk slo", "te": "tel",
    "fa": "fas per drw pes prs tnf", "lv": "lav lvs", "bn": "ben", "sr": "srp cnr hbs scc sh",
    "az": "aze azj", "sl": "slv", "kn": "kan", "et": "est ekk", "mk": "mkd mac", "br": "bre",
    "eu": "eus baq", "is": "isl ice", "hy": "hye arm", "ne": "nep npi", "mn": "mon drh khk",
    "bs": "bos", "kk": "kaz", "sq": "sqi alb als", "sw": "swa swc swh", "gl": "glg", "mr": "mar",
    "pa": "pan", "si": "sin", "km": "khm", "sn": "sna", "yo": "yor", "so": "som", "af": "afr",
    "oc": "oci", "ka": "kat geo", "be": "bel", "tg": "tgk", "sd": "snd", "gu": "guj prp",
    "am": "amh", "yi": "yid ji ydd", "lo": "lao", "uz": "uzb uzn", "fo": "fao", "ht": "hat",
    "ps": "pus pbu", "tk": "tuk", "nn": "nno", "mt": "mlt", "sa": "san cls", "lb": "ltz",
    "my": "mya bur", "bo": "bod tib", "tl": "tgl fil", "mg": "mlg plt", "as": "asm", "tt": "tat",
    "ln": "lin", "ha": "hau", "ba": "bak", "jw": "jav jv", "su": "sun",
}  # fmt: skip
_CODES = {name: code for code, name in LANGUAGES.items()} | _OTHER_NAMES
_TAGS = dict(zip(LANGUAGES, LANGUAGES, strict=True)) | {
    other: code for code, others in _OTHER_CODES.items() for other in others.split()
}
# The language within another that a model has a token for, by tag (the registry's extlang subtags).
_WITHIN = {("zh", "yue"): "yue"}
# Codes of countries that are often taken for those of their languages.
_COUNTRIES = {
    "cn": "zh", "cz": "cs", "dk": "da", "gr": "el", "jp": "ja", "kr": "ko", "ua": "uk", "vn": "vi",
}  # fmt: skip


def is_named(language: str) -> bool:
    """Return whether a text names a language; "" and "auto" ask to detect it."""
    return language.strip().lower() not in {"", "auto"}


def to_code(language: str) -> str | None:
    """Return Whisper's code for a language; None for "auto" and "", which ask to detect it.

    `language` is an English name, a code of ISO 639, or a tag of IETF BCP 47 or POSIX, such as
    "German", "deu", "de-CH" or "de_DE.UTF-8", in any case. Only the language of a tag counts.
    Raises EdgeWhisperError, with suggestions, for a language that Whisper does not know.
    """
    if not is_named(language):
        return None
    name = language.strip().lower()
    if name in _CODES:
        return _CODES[name]
    primary, *subtags = re.split(r"[-_.@]", name)
    if code := _TAGS.get(primary):
        return _WITHIN.get((code, "".join(subtags[:1])), code)
    close = [_COUNTRIES[primary]] if primary in _COUNTRIES else []
    close += [_CODES[match] for match in difflib.get_close_matches(name, _CODES, cutoff=0.7)]
    meant = " or ".join(f"{LANGUAGES[code]} ({code})" for code in dict.fromkeys(close))
    remedy = f"Did you mean {meant}?" if meant else "Use a code such as en, or a name."
    raise EdgeWhisperError(f"unknown language {language!r}. {remedy}")
