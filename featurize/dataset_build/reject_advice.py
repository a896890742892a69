"""What to type about a rejected track; it depends on the command, which takes these settings or does not."""

from collections.abc import Mapping

from featurize.errors import Reject

# By reason. A reject that an earlier run recorded is kept until --retry-rejects, unless a setting of the features
# changes, such as the first.
ADVICE_FOR_DATASETS: Mapping[str, str] = {
    "too long": "allow more with --set featurize.max_seconds=SECONDS, or read an excerpt with "
    "--set featurize.excerpt_seconds=SECONDS",
    "timed out": "allow more with --set featurize.track_timeout=SECONDS --retry-rejects",
    "channels cancel": "invert one, or read one alone with --set featurize.channels=left",
}
ADVICE_FOR_PREDICTION: Mapping[str, str] = {
    "too long": "allow more with --set featurize.max_seconds=SECONDS",
    "timed out": "allow more with --set featurize.track_timeout=SECONDS",
    "channels cancel": "invert one channel of the file",
}


ADVICE_FOR_ANSWERS: Mapping[str, str] = {
    **ADVICE_FOR_PREDICTION,
    "timed out": "allow more with --set featurize.track_timeout=SECONDS --retry-rejects",
}


def with_advice(reject: Reject, advice: Mapping[str, str]) -> Reject:
    """Return a reject whose message ends with the advice for its reason, if there is any."""
    if reject.reason not in advice:
        return reject
    return Reject(reject.stage, reject.reason, f"{reject.message}; {advice[reject.reason]}")
