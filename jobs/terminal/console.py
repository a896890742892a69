"""Output of a running job on stderr: progress bars on a terminal, plain lines in a file."""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from featurize.display import one_line, visible, visible_json
from jobs.terminal.confusion_table import confusion_table
from jobs.terminal.fold_progress import FoldReporter, TrialReporter, epoch_line
from jobs.terminal.log import show_log, stamped

if TYPE_CHECKING:
    from featurize.dataset_build.driver import FeaturizeProgress
    from featurize.dataset_build.finalize import Summary
    from featurize.dataset_build.verify import Status
    from train.answers.check import AnswersStatus
    from train.records import EpochRecord
    from train.report.comparison import Row
    from train.summary_records import (
        CrossValidationSummary,
        Figures,
        FiguresByPart,
        FoldFigures,
        TrialResult,
        TuneSummary,
    )

_SECONDS_BETWEEN_LINES = 30.0
_FILE_WIDTH = 1000  # columns


def echo(message: object, *, err: bool = False, nl: bool = True) -> None:
    """Print a message of one or more lines with visible escapes.

    Args:
        message: The message; what comes from outside must be one line of it, see `featurize.display.one_line`.
        err: Whether it goes to standard error instead of standard output.
        nl: Whether a newline is added.
    """
    typer.echo(visible(message), err=err, nl=nl)


def echo_json(document: object) -> None:
    """Print one JSON document on standard output, with visible escapes."""
    echo(visible_json(json.dumps(document, indent=2, ensure_ascii=False)))


class ConsoleReporter:
    """Prints progress, tables and the log messages of Earmark's packages."""

    def __init__(self) -> None:
        """Create a reporter on stderr, and print the log messages of Earmark there from now on."""
        self._console = Console(stderr=True, highlight=False, emoji=False)
        show_log(self._console)

    def _line(self, line: str) -> None:
        """Print a line above a running progress bar, or in a log."""
        line = one_line(line) if self._console.is_terminal else stamped(one_line(line), "INFO")
        self._console.print(line, markup=False, soft_wrap=True)

    @contextmanager
    def featurizing(self) -> Iterator[Callable[["FeaturizeProgress"], None]]:
        """Show the number of tracks done, time left, tracks per second, rejects and nodes."""
        with self._bar("tracks") as show:
            started = time.monotonic()

            def on_progress(progress: "FeaturizeProgress") -> None:
                rate = progress.done_now / max(time.monotonic() - started, 1e-9)
                if progress.nodes is None:
                    show(progress.done, progress.total, "starting Ray")
                    return
                rejects = f"{progress.rejected_now or 'no'} reject{'' if progress.rejected_now == 1 else 's'}"
                nodes = f"{progress.nodes or 'no'} node{'' if progress.nodes == 1 else 's'}"
                show(progress.done, progress.total, f"{rate:.1f} tracks/s, {rejects}, {nodes}")

            yield on_progress

    @contextmanager
    def predicting(self, total: int) -> Iterator[Callable[[int, int], None]]:
        """Show the number of tracks done and of rejects.

        Args:
            total: Number of tracks.
        """
        with self._bar("tracks") as show:

            def on_progress(done: int, rejects: int) -> None:
                if done < total:  # the caller logs the end
                    show(done, total, f"{rejects} reject{'' if rejects == 1 else 's'}" if rejects else "")

            yield on_progress

    @contextmanager
    def training(self) -> Iterator[tuple[Callable[[int, int], None], Callable[["EpochRecord", int], None]]]:
        """Show the number of steps done and, after each epoch, its loss and accuracy."""
        with self._bar("steps") as show:
            latest = ""

            def on_step(done: int, total: int) -> None:
                show(done, total, latest)

            def on_epoch(entry: "EpochRecord", epochs: int) -> None:
                nonlocal latest
                latest = f"{entry.examples_per_second:.0f} segments/s"
                self._line(epoch_line(entry, epochs))

            yield on_step, on_epoch

    @contextmanager
    def training_folds(self, folds: int, unit: str = "folds") -> Iterator[FoldReporter]:
        """Show the number of steps done in all folds and, after each epoch of a fold, its loss and accuracy.

        Args:
            folds: Number of folds.
            unit: What they are called: folds, or models if there are several for each fold.
        """
        with self._bar("steps") as show:
            yield FoldReporter(folds, unit, show, self._line)

    @contextmanager
    def tuning(self) -> Iterator[TrialReporter]:
        """Show the number of finished trials and, after each epoch of a trial, its loss and accuracy."""
        with self._bar("trials") as show:
            yield TrialReporter(lambda done, total: show(done, total, ""), self._line)

    def rejects(self, summary: "Summary") -> None:
        """Print a table of rejected tracks by reason, if any track was rejected."""
        self.reject_table(summary.tracks, summary.rejects)

    def reject_table(self, tracks: int, rejects: Mapping[tuple[str, str], int]) -> None:
        """Print a table of rejected tracks, if any track was rejected.

        Args:
            tracks: Number of tracks, rejects included.
            rejects: Number of rejected tracks by stage and reason.
        """
        if not rejects:
            return
        table = Table("stage", "reason", "tracks", title=f"{sum(rejects.values())} of {tracks} tracks rejected")
        table.columns[2].justify = "right"
        for (stage, reason), count in rejects.items():
            table.add_row(_cell(stage), _cell(reason), str(count))
        self._console.print(table)

    def crossval(self, summary: "CrossValidationSummary", conclusions: Sequence[str]) -> None:
        """Print the scores of each fold, their mean and deviation, the confusion matrix, and conclusions.

        With several seeds, the scores of a fold are means over the seeds; the rows "± folds" and "± seeds" have
        the deviations.
        """
        title = f"{summary.model} and an SVM, scores of tracks"
        of_seeds = summary.by_seed
        if of_seeds:
            title += f", means over {len(of_seeds.seeds)} seeds"
        columns = ["accuracy", "macro-F1", "segment accuracy", "SVM accuracy", "SVM macro-F1"]
        table = Table("fold", "tracks", *columns, title=title)
        rows: list[tuple[str, str, FoldFigures | FiguresByPart]]
        rows = [(str(fold.fold), str(fold.count), fold) for fold in summary.folds]
        deviation = "± folds" if of_seeds else "deviation"
        rows += [("mean", "", summary.mean), (deviation, "", summary.deviation)]
        for name, count, figures in rows:
            shown = [*_both(figures.tracks), figures.segments.accuracy, *_both(figures.svm_tracks)]
            table.add_row(name, count, *(f"{value:.3f}" for value in shown), end_section=name == rows[-3][0])
        if of_seeds:
            shown = [*_both(of_seeds.deviation.tracks), of_seeds.deviation.segments.accuracy]
            table.add_row("± seeds", "", *(f"{value:.3f}" for value in shown), "-", "-")
        self._console.print(table)
        corner = "actual, all folds" + (" and seeds" if of_seeds else "")
        for part in confusion_table(summary.classes, summary.confusion.tracks, corner, self._console):
            self._console.print(part)
        for sentence in conclusions:
            self._line(sentence)

    def tuned(self, summary: "TuneSummary") -> None:
        """Print the trials of a search, the best first: settings, and figures on the validation fold."""
        console = self._console if self._console.is_terminal else Console(stderr=True, width=_FILE_WIDTH)
        names = list(summary.trials[0].settings)
        shown = ["accuracy", "macro-F1", "segment accuracy", "loss"]
        table = Table(
            "trial", "", "epochs", *shown, *(Column(_cell(name.removeprefix("train."))) for name in names)
        )
        for trial in sorted(summary.trials, key=lambda trial: _order(trial, summary)):
            figures = trial.validation
            values = (
                (figures.track_accuracy, figures.track_macro_f1, figures.accuracy, figures.loss) if figures else ()
            )
            state = "best" if trial.trial == summary.best else trial.state
            cells = [f"{value:.3f}" for value in values] or [""] * len(shown)
            values_of = [trial.settings[name] for name in names]
            settings = [_cell(f"{value:g}" if isinstance(value, float) else str(value)) for value in values_of]
            table.add_row(str(trial.trial), state, str(trial.epochs), *cells, *settings)
        table.title = "trials: tracks and segments of the validation fold"
        console.print(table)

    def comparison(self, names: Sequence[str], rows: Sequence["Row"]) -> None:
        """Print runs side by side on standard output, the best value of each row in bold."""
        console = Console(highlight=False, emoji=False)
        if not console.is_terminal:
            console = Console(highlight=False, emoji=False, width=_FILE_WIDTH)  # do not wrap lines in a file
        table = Table("", *(Column(_cell(name)) for name in names))
        for row in rows:
            cells = [_cell(cell, "bold" if i in row.best else "") for i, cell in enumerate(row.cells)]
            table.add_row(_cell(row.label), *cells)
        console.print(table)

    def verifying(self, shards: Iterable[tuple[str, list[str]]], total: int) -> list[str]:
        """Show the progress of a verification, and return the problems found, each with the name of its shard.

        Args:
            shards: Name and problems of each shard.
            total: Number of shards.
        """
        problems = []
        with self._bar("shards") as show:
            for done, (name, shard_problems) in enumerate(shards, 1):
                problems += [one_line(f"{name}: {problem}") for problem in shard_problems]
                show(done, total, f"{len(problems)} problems" if problems else "")
        return sorted(problems, key=lambda problem: problem.partition(":")[0])  # a cluster reads in any order

    @contextmanager
    def compacting(self) -> Iterator[Callable[[int, int], None]]:
        """Yield a function of (written shards, shards to write) that shows the progress of a compaction."""
        with self._bar("shards") as show:
            yield lambda done, total: show(done, total, "")

    @contextmanager
    def _bar(self, unit: str) -> Iterator[Callable[[int, int, str], None]]:
        """Yield a function of (done, total, remark): it updates a bar, or prints a line every 30 seconds."""
        if not self._console.is_terminal:
            yield self._lines(unit)
            return
        columns = (
            TextColumn(unit),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[remark]}"),
        )
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(unit, total=None, remark="")
            yield lambda done, total, remark: bar.update(task, completed=done, total=total, remark=remark)

    def _lines(self, unit: str) -> Callable[[int, int, str], None]:
        started, last = None, time.monotonic()
        first_done = 0
        ended = False

        def show(done: int, total: int, remark: str) -> None:
            nonlocal started, last, first_done, ended
            now = time.monotonic()
            if started is None:
                started, first_done = now, done
            if ended or (now - last < _SECONDS_BETWEEN_LINES and done < total):
                return
            last, ended = now, done == total
            rate = (done - first_done) / max(now - started, 1e-9)
            left = f", {(total - done) / rate:.0f} s left" if rate and done < total else ""
            self._line(f"{done} of {total} {unit}{left}{', ' + remark if remark else ''}")

        return show


def status_lines(status: "Status | AnswersStatus", command: str = "featurize") -> str:
    """Return the lines of `earmark status` for a dataset, or for answers.

    Args:
        status: The status.
        command: Command that continues the work.
    """
    state = "complete" if status.complete else f"unfinished: run the same {command} command to continue"
    if status.holder:
        state = f"running: process {status.holder}"
    rejects = sum(count.tracks for count in status.rejects)
    lines = [
        f"state     {state}",
        f"shards    {status.shards_done} of {status.shards} done, {status.shards - status.shards_done} left",
        f"tracks    {status.tracks_done} of {status.tracks} done, {status.tracks - status.tracks_done} left",
        f"rejects   {rejects}",
    ]
    lines += [f"          {count.tracks:6} {count.stage}: {count.reason}" for count in status.rejects]
    lines += [f"broken    {name}" for name in status.broken]
    return "\n".join(map(one_line, lines))


def _cell(text: str, style: str = "") -> Text:
    """Return the cell of a table; text in it is neither markup nor a name of an emoji."""
    return Text(one_line(text), style)


def _both(figures: "Figures") -> tuple[float, float]:
    return figures.accuracy, figures.macro_f1


def _order(trial: "TrialResult", summary: "TuneSummary") -> tuple[bool, float]:
    """Return the position of a trial: the best first, then by the figure that they are compared by."""
    if not trial.validation:
        return True, math.inf
    figure: float = getattr(trial.validation, summary.select_by)
    return trial.trial != summary.best, figure if summary.select_by == "loss" else -figure
