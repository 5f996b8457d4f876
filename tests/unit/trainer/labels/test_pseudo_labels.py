"""Pseudo-labels: what D is certain of, and nothing else, replaces what is unknown."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor

from shards.core.errors import UserError
from support.training import KINDS, WIDTHS, make_batch, make_players, make_state
from trainer import config, metric_names
from trainer.labels.pseudo_labels import PseudoLabels, complete

ALL_KINDS, ALL_WIDTHS = ("exclusive", "tag", "vector", "tag", "text"), (3, 1, 2, 1, 2)


def completed(scores: list[float], labels: list[float], known: list[float], certainty: float) -> tuple[Tensor, Tensor]:
    s, y, k = (torch.tensor([row], dtype=torch.float64) for row in (scores, labels, known))
    y, k = complete(s, y, k, PseudoLabels(certainty, ALL_KINDS, ALL_WIDTHS))
    return y[0], k[0]


def test_certain_words_and_tags_replace_unknown_ones() -> None:
    y, k = completed([0, 9, 0, 9, 5, 5, -9, 7, 7], [0] * 9, [0] * 5, 0.95)
    assert y.tolist() == [0, 1, 0, 1, 0, 0, 0, 0, 0]
    assert k.tolist() == [1, 1, 0, 1, 0], "numbers and captions are not guessed; a tag may be absent with certainty"


def test_what_is_known_stays_although_d_sees_something_else() -> None:
    y, k = completed([0, 9, 0, 9, 0, 0, -9, 0, 0], [1, 0, 0, 0, 0.3, 0.4, 1, 0.6, 0.8], [1] * 5, 0.5)
    assert y.tolist() == [1, 0, 0, 0, 0.3, 0.4, 1, 0.6, 0.8] and k.tolist() == [1] * 5


@pytest.mark.parametrize(("certainty", "guessed"), [(0.7, 1), (0.8, 0)])
def test_the_probability_of_a_value_decides(certainty: float, guessed: int) -> None:
    """Scores of log 6, log 1, log 1 are probabilities of 6/8, 1/8, 1/8; a tag at log 3 is there by 3/4."""
    _, k = completed([1.7918, 0, 0, 1.0986, 0, 0, -1.0986, 0, 0], [0] * 9, [0] * 5, certainty)
    assert k.tolist() == [guessed, guessed, 0, guessed, 0]


def test_each_image_is_completed_by_its_own_scores() -> None:
    """As D scores each image alone, with the mode and the buffers that its own step needs left as they are."""
    d, _ = make_players(conditioning="projection")
    d.module.score_labels()  # type: ignore[operator]
    before = {name: tensor.clone() for name, tensor in d.module.state_dict().items()}
    batch, how = make_batch(), PseudoLabels(0.6, KINDS, WIDTHS)
    found = how.complete(batch, d.module, nullcontext)
    assert 0 < (found.known - batch.known).sum() < (1 - batch.known).sum(), "some are certain"
    for index in range(len(batch.images)):
        alone = batch._replace(**{n: getattr(batch, n)[index : index + 1] for n in ("images", "labels", "known")})
        one = how.complete(alone, d.module, nullcontext)
        torch.testing.assert_close(one.labels[0], found.labels[index])
        torch.testing.assert_close(one.known[0], found.known[index])
    assert found.images is batch.images and found.wrong_labels is batch.wrong_labels
    assert all(torch.equal(tensor, before[name]) for name, tensor in d.module.state_dict().items())
    assert not found.labels.requires_grad


@pytest.mark.parametrize(
    "options", ["--label-loss 0.5", "--label-loss 0.5 --updates joint", "--conditioning classifier"]
)
def test_a_step_trains_as_if_the_guessed_values_were_known(tmp_path: Path, options: str) -> None:
    """A certainty so low that every unknown value is guessed: the scores of a fresh D say which."""
    weights = []
    for guess in (True, False):
        words = [*options.split(), "--dtype", "float64", *(["--pseudo-labels", "0.01"] if guess else [])]
        state, stream = make_state(tmp_path / str(guess), *words)
        batch = stream[0]
        hidden = torch.ones_like(batch.known)
        hidden[::2] = 0
        attribute_of = torch.repeat_interleave(torch.tensor(state.architecture.widths))
        batch = batch._replace(known=hidden, labels=batch.labels * hidden[:, attribute_of])
        if not guess:  # the same values, given
            kinds = ["exclusive"] * len(state.architecture.widths)
            moved = batch.to(torch.device("cpu"), torch.float64)
            full = PseudoLabels(0.01, kinds, state.architecture.widths).complete(moved, state.d.module, nullcontext)
            batch = batch._replace(known=full.known.float(), labels=full.labels.float())
        result = state.step(batch)
        assert (metric_names.GUESSED in result.metrics) == guess
        if guess:
            assert result.metrics[metric_names.GUESSED].item() == pytest.approx(0.5)
        weights.append([p.detach().clone() for m in (state.d.module, state.g.module) for p in m.parameters()])
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("words", ["", "--conditioning concatenation", "--mismatch none"])
def test_pseudo_labels_need_a_discriminator_that_recognizes_labels(words: str) -> None:
    with pytest.raises(UserError, match="--pseudo-labels: the discriminator does not learn to recognize labels"):
        config.load(["--pseudo-labels", "0.95", *words.split()])


def test_each_way_of_recognizing_labels_allows_pseudo_labels() -> None:
    for words in ("--label-loss 0.5", "--conditioning classifier"):
        assert config.load(["--pseudo-labels", "0.95", *words.split()]).method.pseudo_labels == 0.95
