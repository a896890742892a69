"""A cluster whose nodes have different packages: each task runs where its packages are."""

import pytest
from support.command_line import earmark
from support.nodes import nodes, submit

from jobs.demo.demo import compose_collection

pytestmark = pytest.mark.matrix

SETTINGS = [
    "train.device=cpu",
    "train.workers=2",
    "train.model=modulation",
    "train.epochs=1",
    "train.batch_size=16",
]


def test_a_job_featurizes_where_tensorflow_is_missing_and_trains_where_it_is(tmp_path):
    music, out = tmp_path / "music", tmp_path / "run"
    compose_collection(music, seed=3, tracks_per_style=10)
    (tmp_path / "without" / "tensorflow").mkdir(parents=True)
    (tmp_path / "without" / "tensorflow" / "__init__.py").write_text("raise ModuleNotFoundError('tensorflow')")
    without = {"PYTHONPATH": str(tmp_path / "without")}
    with nodes({}) as cluster:
        # As cluster.yaml declares them: `cpu` has a label, and `train-cpu` has no memory for featurization.
        cluster.join("127.0.0.3", 4, without, ("--labels", "earmark/packages=featurize"))
        cluster.until_joined("127.0.0.3")
        cluster.join("127.0.0.4", 2, options=("--memory", "0"))
        cluster.until_joined("127.0.0.4")
        words = [word for setting in SETTINGS for word in ("--set", setting)]
        job = submit(cluster, "--shared", tmp_path, "--", "run", music, "--out", out, *words)
        stdout, stderr = job.communicate(timeout=600)
    assert job.returncode == 0, stdout + stderr
    assert "on 2 CPUs of 2 workers" in stdout
    assert (out / "report.html").is_file()
    assert earmark("status", out).stdout.startswith("state     complete")
