"""The classifier's choices: encoders, sequence models, gaps, missing steps, distance, tables, modalities, kinds of target."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import napari_medseq as ms
from napari_medseq.errors import ModelError
from napari_medseq.inference.inputs.frame import frame
from napari_medseq.models import Model, ModelInfo, networks, targets
from napari_medseq.models.encoders import build_encoder
from napari_medseq.models.heads import DenseHead
from napari_medseq.models.modalities import hide
from napari_medseq.models.plain import Plain
from napari_medseq.models.sequence_classifier import SequenceClassifier
from napari_medseq.models.tabular import TabularBranch
from tests.narrowing import of, some
from tests.unit.training.small import blob

SMALL: dict[str, Any] = {"widths": (4, 8), "hidden": 4, "classes": 2, "neighbours": 0, "dropout": 0.0}
DENSENET = {"_target_": "DenseNet", "block_config": [1, 1], "init_features": 8, "growth_rate": 8}
HEADS: list[Any] = ["gru", "lstm", "transformer", "dense"]
TIMES = torch.tensor([[0.0, 10, 15, 80, 90], [3.0, 4, 5, 6, 7]])
PRESENT = torch.tensor([[True, True, False, True, True], [False, True, True, False, False]])


def made(**options: Any) -> SequenceClassifier:
    torch.manual_seed(1)
    network = SequenceClassifier(**{**SMALL, **options})
    for name, p in network.named_parameters():
        if any(part in name for part in ("gap.", "distance.", "film.")):
            torch.nn.init.normal_(p)
    return network.eval()


def exams(channels: int = 1, steps: int = 5, size: int = 8, batch: int = 2) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(batch, steps, channels, size, size)


# -- encoders --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("encoder", "size"),
    [
        (DENSENET, 16),
        ("ResNet10", 32),
        ({"_target_": "EfficientNet-B0", "width": 12}, 32),
        ({"_target_": "RecurrentUNet", "widths": [4, 8], "rnn_levels": [1], "hidden": 2}, 8),
        ({"_target_": "ConvAutoencoder", "encoder": DENSENET, "code": 5, "width": 2}, 16),
    ],
)
def test_any_encoder_of_the_table_answers_step_by_step(encoder: Any, size: int) -> None:
    network = made(encoder=encoder, rnn="none")
    x = exams(size=size, steps=3)
    out = network(x)
    assert out.steps.shape == (2, 3, 2)
    assert out.evidence.shape[:3] == (2, 3, 2)
    out.exam.sum().backward()
    assert sum(float(p.grad.abs().sum()) for p in network.encoder.parameters() if p.grad is not None) > 0
    # a step's answer is its own, whoever stands beside it
    with torch.no_grad():
        assert torch.allclose(network(x[:1, :1]).steps, network(x).steps[:1, :1], atol=1e-5)


def test_densenet_121_is_monais_with_its_width_and_stride() -> None:
    from monai.networks.nets import DenseNet121

    encoder = build_encoder("DenseNet121", 3)
    theirs = DenseNet121(spatial_dims=2, in_channels=3, out_channels=2, norm=("group", {"num_groups": 8}))
    assert (encoder.width, encoder.stride) == (1024, 32)
    of(nn.Module, encoder.features).load_state_dict(theirs.features.state_dict())
    x = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        f = encoder(x)
        assert f.shape == (1, 1024, 2, 1)
        assert torch.allclose(
            theirs.class_layers(theirs.features(x)), of(nn.Module, theirs.class_layers.out)(f.mean((2, 3))), atol=1e-5
        )


def test_volumes_as_steps() -> None:
    network = made(dimensions=3, encoder=DENSENET)
    assert network(torch.randn(1, 2, 1, 16, 16, 16)).exam.shape == (1, 2)


@pytest.mark.parametrize(
    "bad",
    [
        {"encoder": "os.system"},
        {"encoder": {"_target_": "DenseNet", "layers": 3}},
        {"encoder": {"_target_": "BasicUNet"}},
        {"rnn": "abacus"},
        {"target": "cardinal"},
        {"target": "ordinal", "classes": 1},
        {"distance": "far"},
        {"gap_unit": 0.0},
        {"in_channels": 3, "modalities": 2},
        {"fusion": "hope"},
    ],
)
def test_what_cannot_be_built_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        networks.build({"_target_": "SequenceClassifier", **SMALL, **bad})


# -- sequence models, gaps, missing steps ------------------------------------------------------------------------------
@pytest.mark.parametrize("rnn", HEADS)
@pytest.mark.parametrize("distance", ["none", "last", "focus"])
def test_missing_steps_are_as_if_they_were_not_there(rnn: Any, distance: Any) -> None:
    network = made(rnn=rnn, deltas=True, gap_unit=10.0, distance=distance)
    x = exams()
    x[~PRESENT] = 1e3
    out = network(x, times=TIMES, present=PRESENT)
    assert torch.allclose(out.attention.sum(1), torch.ones(2))
    assert not out.attention[~PRESENT].any()
    for k in range(2):
        kept = PRESENT[k]
        alone = network(x[k : k + 1, kept], times=TIMES[k : k + 1, kept])
        assert torch.allclose(out.exam[k], alone.exam[0], atol=1e-4)
        assert torch.allclose(out.steps[k, kept], alone.steps[0], atol=1e-4)
        assert torch.allclose(out.attention[k, kept], alone.attention[0], atol=1e-4)
    # a step that is NaN throughout is missing without being said to be
    x[~PRESENT] = torch.nan
    assert torch.allclose(network(x, times=TIMES).exam, out.exam, atol=1e-4)


@pytest.mark.parametrize("rnn", ["gru", "lstm", "transformer", "dense", "none"])
def test_shuffled_steps_are_those_that_are_there(rnn: Any) -> None:
    torch.manual_seed(0)
    network = SequenceClassifier(widths=(8, 8), rnn=rnn, hidden=8, neighbours=0).eval()
    embeddings = torch.randn(2, 5, 16)
    present = torch.tensor([[True, True, False, True, True]] * 2)
    embeddings[:, 2] = 100.0  # of the missing step; it stands last when the others are shuffled
    with torch.no_grad():
        _, exam, attention = network.read(embeddings, order=torch.tensor([3, 0, 4, 1, 2]), present=present)
        _, expected, weights = network.read(embeddings[:, [0, 1, 3, 4]], order=torch.tensor([3, 0, 1, 2]))
    assert torch.allclose(exam, expected, atol=1e-5)
    assert torch.allclose(attention[:, [0, 1, 3, 4]], weights, atol=1e-5)


@pytest.mark.parametrize("rnn", HEADS)
def test_order_and_times_matter(rnn: Any) -> None:
    network = made(rnn=rnn, gap_unit=10.0)
    x = exams()
    plain = network(x).exam
    assert torch.allclose(network(x, order=torch.arange(5)).exam, plain, atol=1e-6)
    assert not torch.allclose(network(x, order=torch.tensor([4, 2, 0, 1, 3])).exam, plain, atol=1e-5)
    assert not torch.allclose(network(x, times=TIMES).exam, plain, atol=1e-5)
    assert torch.allclose(network(x, times=TIMES + 500).exam, network(x, times=TIMES).exam, atol=1e-5)


def test_deltas_see_the_change_and_nothing_else() -> None:
    network = made(rnn="none", deltas=True)
    x = exams(steps=4)
    still = x[:, :1].expand(-1, 4, -1, -1, -1)
    out = network(still).steps
    assert torch.allclose(out, out[:, :1].expand_as(out), atol=1e-6)
    other = x.clone()
    other[:, 0] += 1
    moved = (network(other).steps - network(x).steps).abs().amax((0, 2)) > 1e-6
    assert moved.tolist() == [True, True, False, False]


def test_dense_convolution_sees_as_far_as_it_says() -> None:
    torch.manual_seed(0)
    head = DenseHead(4, growth=3, layers=2).eval()
    h = torch.randn(1, 15, 4)
    changed = h.clone()
    changed[:, 7] = torch.randn(4)
    position = torch.arange(15.0)[None]
    moved = (head(h, position) - head(changed, position)).abs().amax(2)[0] > 1e-6
    assert moved.tolist() == [abs(i - 7) <= 3 for i in range(15)]  # 2^(2 + 1) - 1 = 7 steps


def test_the_distance_term_prefers_what_it_is_told_to() -> None:
    x = exams()
    for distance, where in (("last", 4), ("focus", None)):
        network = made(rnn="none", distance=distance)
        with torch.no_grad():
            of(Tensor, network.attend[0].weight).zero_()  # no content
            of(Tensor, network.attend[0].bias).zero_()
            some(network.distance).weight.fill_(1.0)
            of(Tensor, network.attend[2].weight).fill_(-1.0)
        attention = network(x).attention[0].detach()
        middle = 4 if where == 4 else 2  # without content the focus is the middle step
        by_distance = sorted(range(5), key=lambda i: abs(i - middle))
        assert [float(attention[i]) for i in by_distance] == sorted(attention.tolist(), reverse=True)
        assert attention[middle] > 1.2 * attention[0]


# -- tables ------------------------------------------------------------------------------------------------------------
def test_an_untrained_table_changes_nothing_and_missing_is_told_from_the_mean() -> None:
    torch.manual_seed(0)
    network, x = SequenceClassifier(tabular=2, **SMALL).eval(), exams()
    values = torch.tensor([[1.0, 2.0], [3.0, torch.nan]])
    assert torch.equal(network(x, tabular=values).exam, network(x).exam)
    trained = made(tabular=2)
    none = torch.full((2, 2), torch.nan)
    assert torch.allclose(trained(x, tabular=none).exam, trained(x).exam)
    assert torch.allclose(trained(x).steps, trained(x, tabular=values).steps)
    some = trained(x, tabular=values).exam
    assert not torch.allclose(some, trained(x, tabular=torch.zeros(2, 2)).exam, atol=1e-4)
    assert not torch.allclose(trained(x, tabular=torch.zeros(2, 2)).exam, trained(x).exam, atol=1e-4)
    assert bool(some.isfinite().all())
    with pytest.raises(ModelError, match="shape"):
        trained(x, tabular=torch.zeros(2, 3))
    with pytest.raises(ModelError, match="table"):
        made()(x, tabular=values)


def test_table_values_are_standardised_without_the_missing_ones() -> None:
    branch = TabularBranch(3, 4).eval()
    branch.standardise(torch.tensor([[1.0, torch.nan, 5.0], [3.0, torch.nan, 5.0], [torch.nan, torch.nan, 5.0]]))
    assert of(Tensor, branch.centre).tolist() == [2.0, 0.0, 5.0]
    assert of(Tensor, branch.spread).tolist() == [1.0, 1.0, 1.0]
    torch.nn.init.normal_(branch.film.weight)
    exam = torch.randn(1, 4)
    shifted = TabularBranch(3, 4).eval()
    shifted.load_state_dict(branch.state_dict())
    of(Tensor, shifted.centre).zero_()
    assert torch.allclose(branch(exam, torch.tensor([[4.0, 1, 6]])), shifted(exam, torch.tensor([[2.0, 1, 1]])))
    with pytest.raises(ModelError, match="exams"):
        branch.standardise(torch.zeros(4))


def test_images_and_table_are_fused() -> None:
    """Brightness XOR sex: neither the image nor the table can tell alone."""
    torch.manual_seed(0)
    network = SequenceClassifier(**{**SMALL, "classes": 1, "rnn": "none", "hidden": 8}, tabular=1)
    some(network.tabular).hide = 0.0
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    bright = torch.tensor([0.0, 1, 0, 1]).repeat(4)
    sex = torch.tensor([0.0, 0, 1, 1]).repeat(4)
    x = (bright * 2 - 1).reshape(-1, 1, 1, 1, 1) + 0.3 * torch.randn(16, 2, 1, 8, 8)
    truth = (bright != sex).float()[:, None]
    for _ in range(80):
        loss = network.loss(network(x, tabular=sex[:, None]).exam, truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        right = (network.eval()(x, tabular=sex[:, None]).exam > 0) == (truth > 0.5)
    assert bool(right.all())


# -- modalities --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("neighbours", [0, 1])
def test_a_missing_modality_has_no_say(neighbours: int) -> None:
    network = made(in_channels=2, modalities=2, fusion="attention", neighbours=neighbours)
    copies = 2 * neighbours + 1
    x = exams(2 * copies)
    second = torch.arange(2 * copies) % 2 == 1  # neighbour by neighbour, each with all modalities
    without = x.clone()
    without[:, :, second] = torch.nan
    one = made(neighbours=neighbours)
    own = network.state_dict()
    one.load_state_dict({k: own[k] for k in one.state_dict()})
    assert torch.allclose(network(without).exam, one(x[:, :, ~second]).exam, atol=1e-5)
    assert torch.allclose(network(without).evidence, one(x[:, :, ~second]).evidence, atol=1e-5)
    assert not torch.allclose(network(x).exam, network(without).exam, atol=1e-5)
    # of one exam only, and in the other order
    first_only = x.clone()
    first_only[1:, :, second] = torch.nan
    assert torch.allclose(network(first_only).exam[0], network(x).exam[0], atol=1e-5)
    assert torch.allclose(network(first_only).exam[1], network(without).exam[1], atol=1e-5)
    nothing = torch.full_like(x, torch.nan)
    assert bool(network(nothing).exam.isfinite().all())


def test_as_channels_a_missing_modality_is_zero() -> None:
    network, x = made(in_channels=2, modalities=2), exams(2)
    gone, zero = x.clone(), x.clone()
    gone[:, :, 1], zero[:, :, 1] = torch.nan, 0
    assert torch.equal(network(gone).exam, network(zero).exam)


@pytest.mark.parametrize("fusion", ["channels", "attention"])
def test_training_hides_modalities_but_never_all(fusion: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = made(in_channels=3, modalities=3, fusion=fusion, modality_dropout=0.9, rnn="none").train()
    seen: list[Tensor] = []
    features = network.features

    def noted(x: Tensor) -> Tensor:
        seen.append(x)
        return features(x)

    monkeypatch.setattr(network, "features", noted)
    network(exams(3, batch=40, steps=2))
    there = ~seen[0].unflatten(0, (40, 2)).isnan().flatten(3).any(3)
    assert bool((there[:, 0] == there[:, 1]).all())  # the same for all steps of an exam
    assert bool(there.any(2).all())
    assert 0.1 < float(there.float().mean()) < 0.7


def test_training_never_hides_the_only_modality_of_an_exam() -> None:
    torch.manual_seed(0)
    x = exams(2, batch=40, steps=2)
    x[:, :, 1] = torch.nan  # none of these exams has the second one
    visible = hide(x, 2, 1, 0.9)
    assert torch.equal(visible[:, :, 0], x[:, :, 0])


# -- targets -----------------------------------------------------------------------------------------------------------
def test_ordinal_probabilities_are_the_proportional_odds_model() -> None:
    torch.manual_seed(0)
    head = targets.OrdinalHead(3, 4).double()
    torch.nn.init.normal_(head.widths)
    x = torch.randn(5, 3, dtype=torch.float64) * 4
    p = targets.probabilities(head(x), "ordinal")
    s = head.score(x).detach()
    cuts = [float(head.first.detach())]
    for w in head.widths.detach():
        cuts.append(cuts[-1] + math.log1p(math.exp(float(w))))
    for i in range(5):
        upto = [1 / (1 + math.exp(float(s[i]) - b)) for b in cuts] + [1.0]
        assert p[i].tolist() == pytest.approx([b - a for a, b in zip([0.0, *upto], upto, strict=False)], abs=1e-12)
    assert torch.autograd.gradcheck(head, (x.requires_grad_(),))
    two = targets.OrdinalHead(3, 2).double()
    assert torch.allclose(two(x).exp().sum(1), torch.ones(5, dtype=torch.float64))


def test_ordinal_stays_finite_far_out() -> None:
    head = targets.OrdinalHead(1, 3)
    out = head(torch.tensor([[1e3], [-1e3]]) / head.score.weight.detach())
    assert bool(out.isfinite().all())
    assert targets.probabilities(out, "ordinal").argmax(1).tolist() == [2, 0]


@pytest.mark.parametrize("target", ["multilabel", "exclusive", "ordinal"])
def test_loss_is_the_likelihood_of_what_is_known(target: Any) -> None:
    network = made(target=target, classes=3)
    logits = network(exams()).exam.detach()
    truth = torch.tensor([[0.0, 1, 0], [torch.nan] * 3])
    p = network.probabilities(logits)[0]
    expected = -torch.where(truth[0] > 0, p, 1 - p).log().mean() if target == "multilabel" else -p[1].log()
    assert float(network.loss(logits, truth)) == pytest.approx(float(expected), abs=1e-5)
    assert float(network.loss(logits, torch.full_like(truth, torch.nan))) == 0
    if target != "multilabel":
        assert torch.allclose(network.probabilities(logits).sum(1), torch.ones(2))


def test_multilabel_knows_some_and_not_others() -> None:
    logits = torch.tensor([[0.0, 5.0]])
    assert float(targets.loss(logits, torch.tensor([[1.0, torch.nan]]), "multilabel")) == pytest.approx(math.log(2))


def test_ordinal_learns_grades() -> None:
    torch.manual_seed(0)
    network = SequenceClassifier(**{**SMALL, "classes": 4, "rnn": "none"}, target="ordinal")
    optimiser = torch.optim.Adam(network.parameters(), 0.03)
    grade = torch.arange(4).repeat(4)
    x = (grade - 1.5).reshape(-1, 1, 1, 1, 1) + 0.2 * torch.randn(16, 2, 1, 8, 8)
    truth = torch.nn.functional.one_hot(grade, 4).float()
    for _ in range(80):
        loss = network.loss(network(x).exam, truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        said = network.probabilities(network.eval()(x).exam).argmax(1)
    assert float((said == grade).float().mean()) >= 0.9


# -- what is on disk stays what it was ---------------------------------------------------------------------------------
def by_rule(network: torch.nn.Module) -> Any:
    """Weights by a formula, so that no random numbers of any version come in."""
    with torch.no_grad():
        for i, v in enumerate(network.state_dict().values()):
            values = (torch.arange(v.numel()).double() * 0.7 + i).cos().float()
            v.copy_(values.reshape(v.shape) / max(1, v[0].numel()) ** 0.5)
    return network.eval()


@pytest.mark.parametrize(
    ("rnn", "pixels", "steps", "exam"),
    [
        ("gru", [-0.104709, 0.380809, 0.306416], [-0.797293, -1.262615, -0.704249], [0.158719, -0.538347]),
        ("lstm", [1.678184, -0.399931, -0.40656], [-0.181945, -1.358488, -0.131614], [-0.290039, -0.024568]),
        ("none", [-0.62378, -0.499838, -0.613301], [0.675253, 0.765666, 0.690778], [-0.367544, -1.269803]),
    ],
)
def test_networks_of_earlier_bundles_answer_as_ever(rnn: str, pixels: list[float], steps: Any, exam: Any) -> None:
    """The order, names and use of the weights, as the first bundles were written."""
    x = (torch.arange(4 * 3 * 8 * 8) * 0.37).sin().reshape(1, 4, 3, 8, 8)
    unet: dict[str, Plain] = {
        "_target_": "RecurrentUNet",
        "widths": [4, 8],
        "rnn_levels": [0, 1],
        "hidden": 3,
        "ahead": 2,
        "rnn": rnn,
    }
    classifier: dict[str, Plain] = {
        "_target_": "SequenceClassifier",
        "widths": [4, 8],
        "hidden": 3,
        "classes": 2,
        "rnn": rnn,
    }
    with torch.no_grad():
        assert by_rule(networks.build(unet))(x).flatten()[::97][:3].tolist() == pytest.approx(pixels, abs=1e-4)
        out = by_rule(networks.build(classifier))(x)
    assert out.steps.flatten()[:3].tolist() == pytest.approx(steps, abs=1e-4)
    assert out.exam.flatten().tolist() == pytest.approx(exam, abs=1e-4)
    assert float(out.evidence.sum()) == pytest.approx(50.0942, abs=1e-2)


@pytest.mark.parametrize("target", ["exclusive", "ordinal"])
def test_classify_says_one_of_the_classes(target: Any) -> None:
    network = made(target=target, classes=3, rnn="dense", deltas=True)
    names = {0: "none", 1: "some", 2: "much"}
    info = ModelInfo(name="grades", version="0", task="classification", modality="MR", classes=names)
    out = ms.classify(blob(), Model(info, network, {}, {}), device="cpu")
    assert sum(out.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert out.per_step.sum(1) == pytest.approx(np.ones(7), abs=1e-5)


def test_classify_takes_a_table_and_answers_without_a_modality() -> None:
    network = made(in_channels=2, modalities=2, fusion="attention", tabular=2, classes=1)
    info = ModelInfo(
        name="m", version="0", task="classification", classes={0: "yes"}, channels=("T1", "T2"), table=("age", "sex")
    )
    model, images = Model(info, network, {}, {}), {"T1": blob(0), "T2": blob(1)}

    def said(some: dict[str, Any], **options: Any) -> float:
        return ms.classify(some, model, device="cpu", **options).probabilities["yes"]

    plain = said(images)
    assert said(images, table={"age": math.nan}) == pytest.approx(plain, abs=1e-6)
    assert said(images, table={"age": 1.0}) != pytest.approx(plain, abs=1e-6)
    assert said(images, table={"sex": 1.0}) != pytest.approx(said(images, table={"age": 1.0}), abs=1e-6)
    # as the network itself does without the second modality
    one = {"T1": images["T1"]}
    framing = frame([blob(0)], along="slices", pixel_mm=None, stride=network.stride)
    x = torch.stack([framing.read([blob(0)], i) for i in range(framing.steps)])
    with torch.no_grad():
        expected = network(torch.cat([x, torch.full_like(x, torch.nan)], 1)[None]).exam.sigmoid()
    assert said(one) == pytest.approx(float(expected), abs=1e-5)
    assert said(one) != pytest.approx(plain, abs=1e-6)
    with pytest.raises(ModelError, match="T1, T2"):
        said({"FLAIR": blob()})
    with pytest.raises(ModelError, match="age, sex from a table, not height"):
        said(images, table={"height": 1.8})
