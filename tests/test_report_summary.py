"""The sentences at the top of a run's page."""

import numpy as np
import pytest

from train.config import TrainConfig
from train.records import Metrics, ProbabilityScores, Split


def judged(labels, predicted, classes, **settings):
    """The summary of a run that heard tracks of some classes as others."""
    from train.evaluation.metrics import score_predicted
    from train.report.summary import summarize_run

    tracks = score_predicted(np.array(predicted), np.array(labels, np.int32), classes)
    scores = ProbabilityScores(**tracks.to_json(), loss=1.0)
    metrics = Metrics(
        model="conv2",
        epoch=3,
        test_fold=0,
        classes=classes,
        segments=scores,
        tracks=scores,
        copies_left_out=0,
        split=Split(parts={}, groups_on_two_sides=[]),
        model_sha256="",
    )
    small = settings.pop("small", {})
    text = "\n".join(summarize_run(metrics, TrainConfig(**settings), 5, small))
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_summary_says_how_many_are_right_and_what_is_confused():
    text = judged(
        [0] * 9 + [1] * 6 + [2] * 6, [0] * 7 + [1, 2] + [1] * 3 + [0] * 3 + [2] * 6, ["pop", "rock", "ska"]
    )
    assert "It names 16 of 21 tracks right, 76 %." in text
    assert "between 55 % and 89 % (95 % interval)" in text  # Wilson's, by hand: (16 + 1.92 +- 4.27) / 24.84... %
    assert "Always saying “pop”, the most frequent class here, would be right for 9, 43 %." in text
    assert "It hears “ska” best (F1 0.92) and “rock” worst (0.60)." in text
    assert "Most often it takes “rock” for “pop”: 3 of 6 tracks." in text
    assert "One fold of 21 tracks says little: earmark crossval" in text
    assert "There was no validation fold; the model is the one after the last epoch, 3." in text


@pytest.mark.parametrize(
    ("labels", "predicted", "sentences"),
    [
        (
            [0, 0, 1],
            [0, 0, 1],
            ["all of 3 tracks right, 100 %", "all classes alike (F1 1.00)", "no track for another"],
        ),
        ([0, 1], [1, 0], ["none of 2 tracks right, 0 %", "1 of 1 track, and 1 other confusion is as frequent"]),
        ([0], [0], ["1 of 1 track right", "The test fold has no track of “b” and “c”"]),
        ([0, 0, 1, 2], [0, 0, 0, 0], ["“a” best", "takes “b” for “a”: 1 of 1 track, and 1 other confusion is as"]),
    ],
)
def test_the_summary_of_few_tracks(labels, predicted, sentences):
    text = judged(labels, predicted, ["a", "b", "c"])
    for sentence in sentences:
        assert sentence in text


def test_the_summary_warns_only_where_there_is_reason_to():
    labels = [0, 1] * 40
    text = judged(labels, labels, ["a", "b"], validation_fold="next", small={"b": 12})
    assert "says little" not in text
    assert "Epoch 3 of 5 was chosen by the validation fold (track_macro_f1), not by the test fold." in text
    assert "Fewer than 20 tracks in all folds: “b” (12)." in text
