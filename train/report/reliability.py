"""The picture of how often predictions are right, by their confidence."""

from matplotlib.figure import Figure

from train.report.figures import Picture, Theme, draw
from train.score_records import Calibration


def draw_reliability(calibration: Calibration) -> Picture:
    """Draw the accuracy of tracks over their confidence, and how many tracks there are of each confidence."""
    bins = len(calibration.count)
    filled = [index for index, count in enumerate(calibration.count) if count]
    most = max(calibration.count)

    def figure(theme: Theme) -> Figure:
        figure = Figure(figsize=(4.4, 2.8), layout="constrained")
        axes = figure.subplots()
        axes.bar(
            [(index + 0.5) / bins for index in filled],
            [0.3 * calibration.count[index] / most for index in filled],
            width=0.9 / bins,
            color=theme.ink,
            alpha=0.25,
            label="number of tracks",
        )
        axes.plot([0, 1], [0, 1], color=theme.ink, linewidth=0.8, linestyle=":", label="as confident as right")
        axes.plot(
            [calibration.confidence[index] for index in filled],
            [calibration.accuracy[index] for index in filled],
            color=theme.parts["validation"],
            marker="o",
            markersize=4,
            label="accuracy",
        )
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(loc="upper left", fontsize="small")
        return figure

    return draw(figure)
