"""What a step's training and distillation may say."""

from __future__ import annotations

import pytest

from edgepack.spec.steps import Distillation, Step, Training


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"augment": "flip-shit"}, "did you mean 'flip-shift'"),
        ({"loss": "mse"}, "file.py:function"),
        ({"step": "mine"}, "file.py:function"),
        ({"step": "a.py:step", "loss": "a.py:loss"}, "either step or loss"),
        ({"step": "a.py:step", "patience": 2}, "needs a metric"),
    ],
)
def test_a_training_that_means_nothing_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Training(epochs=1, **options)


def test_a_training_knows_the_functions_that_it_runs():
    named = Training(epochs=1, loss="a.py:loss", metric="b.py:score", augment="shift")
    assert named.functions == ("a.py:loss", "b.py:score")
    assert Training(epochs=1, metric="top1").functions == ()


def test_distillation_that_means_nothing_is_refused():
    with pytest.raises(ValueError, match="hidden layers"):
        Distillation(attention=True)
    with pytest.raises(ValueError, match="regular expression"):
        Distillation(hidden="(")


def test_a_step_that_distils_trains_and_not_by_a_step_of_its_own():
    with pytest.raises(ValueError, match="does not train"):
        Step(name="distill")
    own = Training(epochs=1, step="a.py:step")
    with pytest.raises(ValueError, match="cannot distil"):
        Step(name="qat", train=own, distill=Distillation())


def test_labels_are_needed_unless_the_teacher_alone_teaches():
    train = Training(epochs=1)
    assert Step(name="qat", train=train).needs_labels
    assert Step(name="qat", train=train, distill=Distillation()).needs_labels
    assert not Step(name="qat", train=train, distill=Distillation(labels=0)).needs_labels
    assert not Step(name="qat").needs_labels
