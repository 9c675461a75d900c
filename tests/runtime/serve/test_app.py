"""Requests and answers, by OpenAI's own client."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path

import openai
import pytest
import soundfile

from conftest import REPOSITORY
from edgewhisper_runtime.options import Options
from edgewhisper_runtime.serve.fields import IGNORED, READ
from edgewhisper_runtime.text.writers import WRITERS
from edgewhisper_runtime.transcriber import Transcriber
from servers import ALIASES, CLIPS, TOKEN, Server


def test_json_and_text(server: Server, texts: dict[Path, str]) -> None:
    clip = CLIPS[0]
    create = server.client.audio.transcriptions.create
    spoken = create(file=clip, model="whisper-1", language="English")
    assert spoken.text == texts[clip]
    assert spoken.usage.type == "duration"
    assert spoken.usage.seconds == pytest.approx(soundfile.info(clip).duration, abs=0.1)
    assert create(file=clip, model="whisper-1", response_format="text").strip() == texts[clip]


def test_verbose_json(server: Server, transcriber: Transcriber) -> None:
    clip = CLIPS[0]
    verbose = server.client.audio.transcriptions.create(
        file=clip,
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
    )
    expected = transcriber.transcribe(clip, options=Options(timestamps=True, words=True))
    assert verbose.text == expected.text
    assert verbose.language == "en"
    assert verbose.duration == expected.duration
    assert "".join(segment.text for segment in verbose.segments).strip() == verbose.text
    first = verbose.segments[0]
    assert first.id == first.seek == first.temperature == 0
    assert 0 <= first.start < first.end <= verbose.duration
    assert first.avg_logprob < 0 < first.compression_ratio
    assert 0 <= first.no_speech_prob <= 1
    assert transcriber.decoder.tokenizer.decode(first.tokens).strip()
    assert [word.word for word in verbose.words] == verbose.text.split()
    assert all(0 <= word.start <= word.end <= verbose.duration for word in verbose.words)


def test_segments_are_left_out_where_only_words_are_asked_for(server: Server) -> None:
    verbose = server.client.audio.transcriptions.create(
        file=CLIPS[0],
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=["word"],
    )
    assert verbose.words
    assert verbose.segments is None


@pytest.mark.parametrize("subtitles", ["srt", "vtt"])
def test_subtitles(server: Server, bundle: Path, transcriber: Transcriber, subtitles: str) -> None:
    clip = CLIPS[0]
    answer = server.client.audio.transcriptions.create(
        file=clip, model="whisper-1", response_format=subtitles
    )
    expected = transcriber.transcribe(clip, options=Options(timestamps=True))
    assert answer == WRITERS[subtitles](expected)
    assert "-->" in answer
    by_words = server.client.audio.transcriptions.create(
        file=clip,
        model="whisper-1",
        response_format=subtitles,
        extra_body={"word_timestamps": True},
    )
    expected = transcriber.transcribe(clip, options=Options(timestamps=True, words=True))
    assert by_words == WRITERS[subtitles](expected)
    assert by_words != answer


def test_a_stream_says_the_text_bit_by_bit(
    server: Server, long: Path, texts: dict[Path, str]
) -> None:
    events = list(
        server.client.audio.transcriptions.create(file=long, model="whisper-1", stream=True)
    )
    *deltas, done = events
    assert {event.type for event in deltas} == {"transcript.text.delta"}
    assert done.type == "transcript.text.done"
    assert len(deltas) > 1
    assert "".join(event.delta for event in deltas).strip() == done.text
    assert done.text == texts[long]


def test_models(server: Server, bundle: Path) -> None:
    models = list(server.client.models.list())
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert [model.id for model in models] == [manifest["name"], "whisper-1", *ALIASES]
    for model in models:
        assert server.client.models.retrieve(model.id).created == model.created > 0
    with pytest.raises(openai.NotFoundError, match="no model"):
        server.client.models.retrieve("another")
    spoken = server.client.audio.transcriptions.create(file=CLIPS[0], model=models[-1].id)
    assert spoken.text


def test_translation_takes_a_multilingual_model(server: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="only transcribes English") as refusal:
        server.client.audio.translations.create(file=CLIPS[0], model="whisper-1")
    assert refusal.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("changed", "error", "param"),
    [
        ({"model": "another"}, openai.NotFoundError, "model"),
        ({"file": ("talk.wav", b"no audio" * 100)}, openai.BadRequestError, "file"),
        ({"file": ("talk.wav", b"")}, openai.BadRequestError, "file"),
        ({"language": "de"}, openai.BadRequestError, None),
        ({"language": "Englisch"}, openai.BadRequestError, "language"),
        ({"response_format": "docx"}, openai.BadRequestError, "response_format"),
        ({"temperature": 2}, openai.BadRequestError, "temperature"),
        ({"temperature": float("nan")}, openai.BadRequestError, "temperature"),
        ({"extra_body": {"offset_t": 1000}}, openai.BadRequestError, "offset_t"),
        ({"extra_body": {"beam_size": 1000}}, openai.BadRequestError, "beam_size"),
        ({"extra_body": {"temperature_inc": 0.01}}, openai.BadRequestError, "temperature_inc"),
        ({"extra_body": {"vad_filter": "perhaps"}}, openai.BadRequestError, "vad_filter"),
        ({"extra_body": {"no_speech_thold": "nan"}}, openai.BadRequestError, "no_speech_thold"),
        ({"extra_body": {"translate": True}}, openai.BadRequestError, None),
        ({"extra_body": {"word_timestamps": True}}, openai.BadRequestError, "word_timestamps"),
        ({"extra_body": {"temperature": {"low": 0}}}, openai.BadRequestError, "temperature[low]"),
        ({"extra_body": {"clips": {"end": 1}}}, openai.BadRequestError, "clips[end]"),
        (
            {"timestamp_granularities": ["word"]},
            openai.BadRequestError,
            "timestamp_granularities",
        ),
        ({"stream": True, "response_format": "srt"}, openai.BadRequestError, "response_format"),
        ({"stream": True, "file": ("a.wav", b"no audio")}, openai.BadRequestError, "file"),
    ],
)
def test_wrong_requests(
    server: Server, changed: dict[str, object], error: type[openai.APIStatusError], param: str
) -> None:
    with pytest.raises(error) as refusal:
        server.client.audio.transcriptions.create(
            **({"file": CLIPS[0], "model": "whisper-1"} | changed)
        )
    assert refusal.value.param == param
    assert refusal.value.type == "invalid_request_error"
    assert str(server.uploads) not in refusal.value.body["message"]
    if "file" in changed:
        assert changed["file"][0] in refusal.value.body["message"]


def test_fields_that_do_nothing_are_named(server: Server, texts: dict[Path, str]) -> None:
    fields = {"include": ["logprobs"], "chunking_strategy": "auto"}
    others = {"patience": 1.5, "max_len": 0}
    create = server.client.audio.transcriptions.with_raw_response.create
    answer = create(file=CLIPS[0], model="whisper-1", **fields, extra_body=others)
    named = answer.headers["X-EdgeWhisper-Ignored"].split(", ")
    assert sorted(named) == sorted([*fields, *others])
    assert answer.parse().text == texts[CLIPS[0]]
    streamed = create(file=CLIPS[0], model="whisper-1", stream=True, extra_body=others)
    assert sorted(streamed.headers["X-EdgeWhisper-Ignored"].split(", ")) == sorted(others)
    plain = create(file=CLIPS[0], model="whisper-1", prompt="Bread.", language="auto")
    assert "X-EdgeWhisper-Ignored" not in plain.headers


def test_fields_that_are_objects(server: Server, texts: dict[Path, str]) -> None:
    """Clients send each entry of an object as a field of its own, and so do some with lists."""
    answer = server.client.audio.transcriptions.with_raw_response.create(
        file=CLIPS[0],
        model="whisper-1",
        response_format="verbose_json",
        chunking_strategy={"type": "server_vad", "threshold": 0.5},
        extra_body={
            "vad_parameters": {"threshold": 0.5, "speech": {"pad_ms": 400}},
            "timestamp_granularities[0]": "word",
            "timestamp_granularities[1]": "segment",
        },
    )
    named = answer.headers["X-EdgeWhisper-Ignored"].split(", ")
    assert sorted(named) == ["chunking_strategy", "vad_parameters"]
    transcription = answer.parse()
    assert [word.word for word in transcription.words] == transcription.text.split()
    assert transcription.segments


def test_every_field_is_documented() -> None:
    page = (REPOSITORY / "docs" / "serving.md").read_text()
    followed, _, ignored = page.partition("Known fields that have no effect here")
    assert {name for name in READ if not re.search(rf"`{name}(\[\])?`", followed)} == set()
    clients = re.findall(
        r"^- (OpenAI|faster-whisper|whisper\.cpp): ((?:.|\n  )*)", ignored, re.MULTILINE
    )
    listed = {client: re.findall(r"`(\w+)`", fields) for client, fields in clients}
    assert listed == {client: sorted(fields) for client, fields in IGNORED.items()}


def test_options_of_other_servers_clients_are_followed(
    server: Server, transcriber: Transcriber
) -> None:
    clip, hotwords = CLIPS[0], "fresh bread, Soup"
    answer = server.client.audio.transcriptions.create(
        file=clip,
        model="whisper-1",
        response_format="verbose_json",
        temperature=0.2,
        extra_body={
            "beam_size": 2,
            "best_of": 2,
            "temperature_inc": 0.4,
            "hotwords": hotwords,
            "initial_prompt": "IN CAPITALS",
            "vad_filter": False,
            "log_prob_threshold": -0.01,
            "word_timestamps": True,
        },
    )
    options = Options(
        beam_size=2,
        best_of=2,
        temperatures=(0.2, 0.6, 1.0),
        hotwords=("fresh bread", "Soup"),
        prompt="IN CAPITALS",
        vad=False,
        min_log_probability=-0.01,
        timestamps=True,
        words=True,
    )
    expected = transcriber.transcribe(clip, options=options)
    assert answer.text == expected.text
    assert answer.segments[0].temperature == expected.windows[0].temperature
    assert [word.word for word in answer.words] == expected.text.split()


def test_a_prompt_too_long_keeps_its_end(server: Server, transcriber: Transcriber) -> None:
    prompt = "a" * 16_000 + " IN CAPITALS, AS ALWAYS."
    spoken = server.client.audio.transcriptions.create(
        file=CLIPS[0], model="whisper-1", prompt=prompt
    )
    assert spoken.text == transcriber.transcribe(CLIPS[0], options=Options(prompt=prompt)).text


@pytest.mark.parametrize("language", ["en-US", "EN", "eng", "auto", ""])
def test_languages_as_clients_send_them(
    server: Server, texts: dict[Path, str], language: str
) -> None:
    spoken = server.client.audio.transcriptions.create(file=CLIPS[0], model="", language=language)
    assert spoken.text == texts[CLIPS[0]]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/v1/audio/transcriptions", 415), ("PUT", "/v1/models", 405), ("GET", "/v2", 404)],
)
def test_other_requests(server: Server, method: str, path: str, status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connection.request(method, path, b"{}", headers | {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == status
    assert json.loads(response.read())["error"]["message"]
