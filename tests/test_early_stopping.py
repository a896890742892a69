"""The best epoch and the end of training: by the validation fold, ties by its loss, and patience."""

import pytest

from train.config import TrainConfig
from train.fit.early_stopping import best_epoch, is_best, rank, should_stop
from train.records import EpochRecord, HeldOutFigures, TrainFigures

BY_F1 = TrainConfig(validation_fold="next", epochs=40)


def history(*validation):
    """Return epochs with these macro-F1 and loss on the validation fold; the test fold ranks them in reverse."""
    return [
        EpochRecord(
            epoch=number,
            train=TrainFigures(loss=1 / number, accuracy=0.5),
            learning_rate=1e-4,
            seconds=1.0,
            examples_per_second=100.0,
            wait_fraction=0.0,
            validation=HeldOutFigures(
                loss=loss, accuracy=1 - macro_f1, track_accuracy=macro_f1 / 2, track_macro_f1=macro_f1
            ),
            test=HeldOutFigures(loss=-loss, accuracy=0.0, track_accuracy=0.0, track_macro_f1=-macro_f1),
        )
        for number, (macro_f1, loss) in enumerate(validation, 1)
    ]


FOUR = history((0.5, 0.9), (0.7, 1.0), (0.7, 0.8), (0.6, 0.7))


@pytest.mark.parametrize(
    ("select_by", "best"), [("track_macro_f1", 3), ("track_accuracy", 3), ("accuracy", 1), ("loss", 4)]
)
def test_the_best_epoch_is_the_one_that_select_by_ranks_first(select_by, best):
    config = TrainConfig(validation_fold="next", select_by=select_by)
    assert best_epoch(FOUR, config) == best
    assert rank(FOUR[best - 1], config) == max(rank(entry, config) for entry in FOUR)


def test_ties_go_to_the_lower_loss_and_then_to_the_earlier_epoch():
    assert best_epoch(history((0.7, 0.8), (0.7, 1.0)), BY_F1) == 1
    assert best_epoch(history((0.7, 1.0), (0.7, 0.8)), BY_F1) == 2
    assert best_epoch(history((0.6, 0.8), (0.7, 0.8), (0.7, 0.8)), BY_F1) == 2


def test_without_a_validation_fold_the_last_epoch_is_the_one_to_save():
    config = TrainConfig(validation_fold="none", epochs=5)
    assert best_epoch(FOUR, config) == 4
    assert not is_best(FOUR, config)  # no state is saved as the best
    assert not should_stop(FOUR, config)


def test_an_epoch_is_best_if_it_ranks_above_all_before_it():
    assert [is_best(FOUR[:epochs], BY_F1) for epochs in (1, 2, 3, 4)] == [True, True, True, False]
    assert not is_best(history((0.7, 0.8), (0.7, 0.8)), BY_F1)


@pytest.mark.parametrize(("patience", "stops_after"), [(1, 2), (2, 5), (3, 6), (4, 7), (5, None)])
def test_training_ends_after_patience_epochs_without_a_better_one(patience, stops_after):
    entries = history((0.5, 1.0), (0.4, 1.0), (0.6, 1.0), (0.6, 1.0), (0.6, 1.1), (0.1, 1.0), (0.2, 1.0))
    config = TrainConfig(validation_fold="next", epochs=40, patience=patience)
    stops = [epochs for epochs in range(len(entries) + 1) if should_stop(entries[:epochs], config)]
    assert next(iter(stops), None) == stops_after


def test_training_ends_with_the_last_epoch_for_any_patience():
    assert not should_stop([], TrainConfig(validation_fold="next", patience=1))
    for patience in (None, 40):
        config = TrainConfig(validation_fold="next", epochs=4, patience=patience)
        assert not should_stop(FOUR[:3], config)
        assert should_stop(FOUR, config)


def test_epochs_without_an_evaluation_are_not_selected_and_do_not_end_training():
    entries = history((0.5, 1.0), (0.6, 1.0), (0.4, 1.0), (0.3, 1.0))
    skipped = [entry.model_copy(update={"validation": None}) if entry.epoch % 2 else entry for entry in entries]
    config = TrainConfig(validation_fold="next", epochs=40, patience=1, evaluate_every=2)
    assert [config.is_evaluated_after(epoch) for epoch in (1, 2, 3, 39, 40)] == [False, True, False, False, True]
    assert best_epoch(skipped[:1], config) == 0
    assert [is_best(skipped[:epochs], config) for epochs in (1, 2, 3, 4)] == [False, True, False, False]
    assert [should_stop(skipped[:epochs], config) for epochs in (1, 2, 3, 4)] == [False, False, False, True]
