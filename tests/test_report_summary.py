"""The summary at the top of a report."""

import numpy as np
import pytest

from train.config import TrainConfig
from train.score_records import IntervalsByPart, Metrics, ProbabilityScores, ScoreIntervals, Split


def summary_of(labels, predicted, classes, **settings):
    """Return the summary of a run with the given actual and predicted classes of its tracks."""
    from train.evaluation.metrics import score_predicted
    from train.report.summary import summarize_run

    intervals = settings.pop("intervals", None)
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
        intervals=intervals,
    )
    small = settings.pop("small", {})
    text = "\n".join(summarize_run(metrics, TrainConfig(**settings), 5, small))
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_summary_states_accuracy_baseline_and_confusions():
    text = summary_of(
        [0] * 9 + [1] * 6 + [2] * 6, [0] * 7 + [1, 2] + [1] * 3 + [0] * 3 + [2] * 6, ["pop", "rock", "ska"]
    )
    assert text.startswith("Correct: 16 of 21 tracks, 76 %. ")  # a run of an earlier version has no intervals
    assert "predicting “pop”, the most frequent class here, for every track would be correct for 9, 43 %." in text
    assert "Best class: “ska” (F1 0.92); worst class: “rock” (F1 0.60)." in text
    assert "Most frequent confusion: “rock” predicted as “pop”, 3 of 6 tracks." in text
    assert "One fold of 21 tracks gives a noisy estimate: earmark crossval" in text
    assert "Without a validation fold, the model is the one after the last epoch, 3." in text


def test_the_interval_is_that_of_the_groups_and_decides_the_first_sentence():
    def summary(low):
        found = ScoreIntervals(groups=7, accuracy=[low, 0.9], macro_f1=[0.1, 0.9], f1=[None, None])
        intervals = IntervalsByPart(tracks=found, segments=None)
        return summary_of([0] * 6 + [1] * 4, [0] * 6 + [0, 1, 1, 1], ["pop", "rock"], intervals=intervals)

    text = summary(0.7)
    assert text.startswith("Correct: 9 of 10 tracks, 90 % (95 % confidence interval: 70 % to 90 %, by a bootstrap")
    assert "over 7 groups)" in text
    # Without an interval the accuracy itself is compared.
    as_good = summary_of([0] * 6 + [1] * 4, [0] * 10, ["pop", "rock"])
    assert as_good.startswith(
        "This model is not better than predicting one class for every track: its accuracy is"
    )
    assert summary(0.55).startswith(
        "This model is not shown to be better than predicting one class for every track: the confidence interval "
        "of its accuracy begins at 55 %, and the most frequent class alone has 60 %. Correct: 9 of 10"
    )


@pytest.mark.parametrize(
    ("labels", "predicted", "sentences"),
    [
        (
            [0, 0, 1],
            [0, 0, 1],
            [
                "Correct: all of 3 tracks, 100 %",
                "All classes have the same F1, 1.00.",
                "No track was misclassified.",
            ],
        ),
        ([0, 1], [1, 0], ["none of 2 tracks, 0 %", "1 of 1 track, and 1 other confusion is as frequent"]),
        (
            [0],
            [0],
            ["1 of 1 track, 100 %", "no track of “b” and “c”, so these figures do not cover those classes."],
        ),
        (
            [0, 0, 1, 2],
            [0, 0, 0, 0],
            ["Best class: “a”", "“b” predicted as “a”, 1 of 1 track, and 1 other confusion is as"],
        ),
    ],
)
def test_the_summary_of_few_tracks(labels, predicted, sentences):
    text = summary_of(labels, predicted, ["a", "b", "c"])
    for sentence in sentences:
        assert sentence in text


def test_the_summary_warns_only_with_a_reason():
    labels = [0, 1] * 40
    text = summary_of(labels, labels, ["a", "b"], validation_fold="next", small={"b": 12})
    assert "noisy estimate" not in text
    assert "Epoch 3 of 5 was selected on the validation fold (track_macro_f1), not on the test fold." in text
    assert "Fewer than 20 tracks in all folds: “b” (12). Their scores are unreliable" in text
