"""tune.json: the results of all trials of a search."""

from collections.abc import Sequence

from featurize.dataset.dataset import Dataset
from featurize.storage import StoragePath
from jobs.tuning.halving import Outcome, TrialProgress
from jobs.tuning.space import Trial
from jobs.tuning.trials import trial_folder
from train.errors import TrainError
from train.fit.early_stopping import best_epoch
from train.run import Run
from train.summary_records import TrialResult, TuneSummary


def summarize(
    out: StoragePath,
    dataset: Dataset,
    trials: Sequence[Trial],
    rungs: Sequence[int],
    progress: Sequence[TrialProgress],
    outcome: Outcome,
) -> TuneSummary:
    """Return the results of all trials.

    Raises:
        TrainError: Every trial diverged.
    """
    if outcome.best is None:
        raise TrainError(
            f"the loss of all {len(trials)} trials is not finite. Give --space lower learning rates, with another "
            "--out."
        )
    results = []
    for index, (trial, done) in enumerate(zip(trials, progress, strict=True)):
        stop = None if index == outcome.best else outcome.stops[index]
        history = Run(trial_folder(out, trial.number)).history()[:stop]
        epoch = best_epoch(history, trial.config.train)
        results.append(
            TrialResult(
                trial=trial.number,
                settings=trial.values,
                state="stopped" if stop is not None else "diverged" if done.diverged else "trained",
                epochs=len(history),
                epoch=epoch,
                validation=history[epoch - 1].validation if epoch else None,
            )
        )
    return TuneSummary(
        dataset=dataset.id,
        select_by=trials[0].config.train.select_by,
        rungs=[*rungs],
        best=outcome.best + 1,
        trials=results,
    )
