"""Speak a Japanese data set: our own sentences in one synthetic voice, Open JTalk's mei.

    pip install pyopenjtalk-plus
    python tools/make_japanese_set.py japanese

Writes 16 kHz FLAC files, and japanese.csv with the columns path, text and language. One voice that
never slips tells nothing of people; it shows how a language in characters is evaluated.
"""

from __future__ import annotations

import csv
from pathlib import Path

import click
import numpy as np
import soundfile
import soxr

RATE = 16_000
FULL_SCALE = 32_768  # Open JTalk's samples are floats in the range of int16

SENTENCES = (
    "今日は朝から雨が降っています。",
    "駅まで歩いて十五分かかります。",
    "この電車は次の駅で止まりません。",
    "台所の電気を消してください。",
    "明日の会議は午後三時に始まります。",
    "窓を開けると涼しい風が入ってきた。",
    "祖母は古い手紙を木の箱にしまっている。",
    "川沿いの道をまっすぐ進んでください。",
    "冷蔵庫に牛乳と卵があります。",
    "子供たちは公園で元気に遊んでいる。",
    "新しい橋が来年の春に完成する予定です。",
    "昨日の夜、大きな地震がありました。",
    "図書館は月曜日が休みです。",
    "この薬は食後に飲んでください。",
    "彼は毎朝六時に起きて走ります。",
    "港には小さな船が一隻だけ止まっていた。",
    "すみません、もう一度言ってください。",
    "空港行きのバスはどこから出ますか。",
    "山の上から海がよく見えました。",
    "部屋の温度を二十度に設定してください。",
    "私は東京で生まれて、大阪で育ちました。",
    "雪のために学校が休みになった。",
    "工場の機械は夜も動いています。",
    "この店のパンは焼きたてでおいしい。",
    "電話番号を教えていただけますか。",
    "彼女は日本語と英語を話すことができる。",
    "夏休みに家族と北海道へ旅行した。",
    "荷物は玄関の前に置いてください。",
    "音が小さくて、よく聞こえません。",
    "測ったことだけを正直に報告します。",
    "小さな機械でも立派な仕事ができる。",
    "最後の電車に間に合いませんでした。",
    "病院の隣に新しい薬局ができた。",
    "弟は高校で数学を教えています。",
    "猫が屋根の上で眠っている。",
    "来週の金曜日までに返事をください。",
    "この問題を解くには時間が必要だ。",
    "博物館では古い時計の展示をしている。",
    "晩ご飯のあとで一緒に散歩しましょう。",
    "道が混んでいたので、一時間遅れました。",
)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
def main(directory: Path) -> None:
    """Write the set in DIRECTORY."""
    import pyopenjtalk  # type: ignore[import-not-found] # of this tool alone

    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "japanese.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "text", "language"))
        for number, sentence in enumerate(SENTENCES, 1):
            spoken, rate = pyopenjtalk.tts(sentence)
            samples = soxr.resample(np.asarray(spoken / FULL_SCALE, np.float32), rate, RATE)
            path = directory / f"mei-{number:02}.flac"
            soundfile.write(path, samples, RATE)
            rows.writerow((path.name, sentence, "ja"))


if __name__ == "__main__":
    main()
