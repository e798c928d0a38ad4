"""The captioner: words, scores with known answers, attention, and that it learns what it is shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import napari_medseq as ms
from napari_medseq.models.captioner import MARK, Captioner, Vocabulary, words
from napari_medseq.training.captioning import train_captioner
from sentence_scores import bleu, cider, facts_right


def test_sentences_are_encoded_and_decoded() -> None:
    known = Vocabulary.of(["The lesion grew.", "The lesion is new."])
    assert words("Lesion 2 grew, by 40 %.") == ["lesion", "2", "grew", ",", "by", "40", "%", "."]
    assert known.decode(known.encode("The lesion is new.")[1:]) == "the lesion is new."
    assert known.encode("The tumour grew.")[2] == 3  # unknown


def test_scores_with_known_answers() -> None:
    true = ["the left lesion grew today", "a right lesion is new now"]
    assert bleu(true, true) == pytest.approx(1)
    assert cider(true, true) == pytest.approx(10)
    assert bleu(["nothing at all here now", "or there then what is"], true) == 0
    # unigrams 4/5, bigrams 3/4, trigrams 2/3, 4-grams 1/2, equal length
    assert bleu(["the left lesion grew yesterday"], true[:1]) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert cider(["the left lesion grew yesterday", true[1]], true) < 10
    wrong = ["the right lesion grew today", true[1]]
    assert facts_right(wrong, true, {"side": ["left", "right"], "event": ["grew", "new"]}) == {
        "side": 0.5,
        "event": 1.0,
    }
    with pytest.raises(ms.MedseqError, match="1 sentences and 2"):
        bleu(["one"], true)


def test_it_learns_what_changed_and_says_that_a_model_wrote() -> None:
    rng = np.random.default_rng(0)
    images, texts = rng.normal(0, 0.1, (48, 2, 1, 16, 16)).astype(np.float32), []
    for n in range(48):
        left, grew = n % 2, n // 2 % 2
        at = slice(2, 6) if left else slice(10, 14)
        images[n, 0, 0, 6 : (10 if not grew else 8), at] += 2
        images[n, 1, 0, 6 : (10 if grew else 8), at] += 2
        texts.append(f"The {'left' if left else 'right'} lesion {'grew' if grew else 'shrank'}.")
    seen: list[int] = []
    network, known = train_captioner(
        images[:40], texts[:40], epochs=25, batch=10, learning_rate=5e-3, channels=4, hidden=24,
        embedding=12, progress=lambda d, _t, _m: seen.append(d),
    )  # fmt: skip
    assert seen[-1] == 25
    captions = network.describe(torch.from_numpy(images[40:]), known)
    assert all(c.text.startswith(MARK) for c in captions)
    found = [c.text.removeprefix(MARK) for c in captions]
    right = facts_right(found, texts[40:], {"side": ["left", "right"], "event": ["grew", "shrank"]})
    assert min(right.values()) >= 0.75
    torch.testing.assert_close(captions[0].attention.flatten(1).sum(1), torch.ones(len(captions[0].attention)))
    # it looks at both visits: with the visits exchanged it tells the other story
    other = network.describe(torch.from_numpy(images[40:, ::-1].copy()), known)
    assert sum(a.text != b.text for a, b in zip(captions, other, strict=True)) >= 6


def test_what_cannot_be_learned_is_refused() -> None:
    with pytest.raises(ms.MedseqError, match="one sentence per sequence"):
        train_captioner(np.zeros((2, 2, 1, 8, 8)), ["one"])
    with pytest.raises(ms.MedseqError, match="needs words"):
        Captioner(4)
