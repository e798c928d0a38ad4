"""A captioner: a CNN encodes each image of a sequence, and an LSTM with attention writes a sentence about them word
by word.

Attention as in Show, Attend and Tell (Xu et al. 2015, arXiv:1502.03044), over all places of all steps. What changed since the
step before is a feature of its own at each place, since that is what reports of a sequence describe. It is meant for
groups that have paired reports; the package's own reports are made by rules. Its sentences are always marked as
generated.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medseq.errors import ModelError
from napari_medseq.models.registry import register

#: stands before every sentence that a model wrote
MARK = "[written by a model] "
PAD, START, END, UNKNOWN = range(4)
_WORD = re.compile(r"[\w-]+|[.,;:%]")


def words(text: str) -> list[str]:
    """A sentence as lower-case words and marks."""
    return _WORD.findall(text.lower())


class Vocabulary:
    """Words by number; the first four, which no sentence shows, are padding, start, end and unknown.

    Parameters
    ----------
    known : sequence of str
        Words from number 4 on.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.known = ["<pad>", "<start>", "<end>", "<unknown>", *words]
        self._number = {word: n for n, word in enumerate(self.known)}

    @classmethod
    def of(cls, texts: Iterable[str], least: int = 1) -> Vocabulary:
        """All words that occur `least` times or more, in alphabetical order."""
        counts = Counter(word for text in texts for word in words(text))
        return cls(sorted(word for word, n in counts.items() if n >= least))

    def __len__(self) -> int:
        return len(self.known)

    def encode(self, text: str) -> list[int]:
        """Numbers with start and end."""
        return [START, *(self._number.get(word, UNKNOWN) for word in words(text)), END]

    def decode(self, numbers: Iterable[int]) -> str:
        """A sentence up to its end."""
        words: list[str] = []
        for n in numbers:
            if n == END:
                break
            if n > UNKNOWN:
                words.append(self.known[n])
        return re.sub(r" ([.,;:%])", r"\1", " ".join(words))


@dataclass(frozen=True)
class Caption:
    """A sentence and where the network looked for each word.

    Attributes
    ----------
    text : str
        Marked as written by a model.
    attention : Tensor, shape (word, step, y, x)
        Sums to 1 for each word.
    """

    text: str
    attention: Tensor


@register("Captioner")
class Captioner(nn.Module):
    """CNN encoder of each step, additive attention over all places of all steps, LSTM decoder.

    Parameters
    ----------
    vocabulary : int
        Number of words.
    in_channels : int
        Channels of an image.
    channels, hidden, embedding : int
        Features of the encoder (at the end four times so many), of the decoder and of a word.
    """

    def __init__(
        self, vocabulary: int, in_channels: int = 1, channels: int = 16, hidden: int = 96, embedding: int = 48
    ) -> None:
        super().__init__()
        if vocabulary <= UNKNOWN + 1:
            raise ModelError(f"a captioner needs words; the vocabulary has {max(vocabulary - UNKNOWN - 1, 0)}.")
        widths = (in_channels, channels, 2 * channels, 4 * channels)
        layers: list[nn.Module] = []
        for one, other in pairwise(widths):
            layers += [nn.Conv2d(one, other, 3, stride=2, padding=1), nn.GroupNorm(4, other), nn.LeakyReLU(0.1)]
        self.encoder = nn.Sequential(*layers)
        # what is there, what changed, and where: place along y and x, and which step (linear, and last or not)
        features = 8 * channels + 4
        self.embed = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        self.key, self.query, self.score = nn.Linear(features, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 1)
        self.begin = nn.Linear(2 * features, 2 * hidden)
        self.cell = nn.LSTMCell(embedding + features, hidden)
        self.word = nn.Linear(hidden + features, vocabulary)

    def see(self, images: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """Features (batch, place, feature) of images (batch, step, channel, y, x), and (step, y, x) of the places.

        A single step counts as the first one, not as the last: a captioner of one picture always sees one, so that nothing depends on it.
        """
        b, steps = images.shape[:2]
        seen = self.encoder(images.flatten(0, 1))
        h, w = seen.shape[-2:]
        y = torch.linspace(-1, 1, h, device=images.device).view(1, 1, h, 1).expand(b, steps, h, w)
        x = torch.linspace(-1, 1, w, device=images.device).view(1, 1, 1, w).expand(b, steps, h, w)
        when = torch.linspace(-1, 1, steps, device=images.device).view(1, steps, 1, 1).expand(b, steps, h, w)
        place = torch.stack([y, x, when, (when == 1).float()], 2)
        seen = seen.view(b, steps, -1, h, w)
        change = torch.cat([torch.zeros_like(seen[:, :1]), seen.diff(dim=1)], 1)
        both = torch.cat([seen, change, place], 2)
        return both.permute(0, 1, 3, 4, 2).reshape(b, steps * h * w, -1), (steps, h, w)

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """Scores (batch, word, vocabulary) of each next word, given the true words (batch, word) before it."""
        features, _ = self.see(images)
        state = self._start(features)
        scores = []
        for n in range(text.shape[1] - 1):
            score, state, _ = self._step(features, text[:, n], state)
            scores.append(score)
        return torch.stack(scores, 1)

    @torch.inference_mode()
    def describe(self, images: Tensor, vocabulary: Vocabulary, longest: int = 40) -> list[Caption]:
        """The likeliest word, one after another, until the end; one caption per item of the batch."""
        features, grid = self.see(images)
        state, word = self._start(features), torch.full((len(images),), START, device=images.device)
        chosen, looked = [], []
        for _ in range(longest):
            score, state, attention = self._step(features, word, state)
            word = score.argmax(1)
            chosen.append(word)
            looked.append(attention)
            if bool((torch.stack(chosen) == END).any(0).all()):
                break
        numbers, where = torch.stack(chosen, 1), torch.stack(looked, 1)
        return [
            Caption(MARK + vocabulary.decode(n.tolist()), a.view(-1, *grid))
            for n, a in zip(numbers, where, strict=True)
        ]

    def _start(self, features: Tensor) -> tuple[Tensor, Tensor]:
        h, c = self.begin(torch.cat([features.mean(1), features.amax(1)], 1)).tanh().chunk(2, 1)
        return h, c

    def _step(
        self, features: Tensor, word: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """Scores of the next word, the new state, and attention (batch, place)."""
        attention = self.score((self.key(features) + self.query(state[0])[:, None]).tanh())[..., 0].softmax(1)
        context = (attention[..., None] * features).sum(1)
        h, c = self.cell(torch.cat([self.embed(word), context], 1), state)
        return self.word(torch.cat([h, context], 1)), (h, c), attention


def caption_loss(scores: Tensor, text: Tensor) -> Tensor:
    """Cross-entropy of each next word; padding does not count."""
    return functional.cross_entropy(scores.flatten(0, 1), text[:, 1:].flatten(), ignore_index=PAD)
