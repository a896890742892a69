"""`earmark doctor`: its findings on this machine, and on machines that lack something."""

import http.server
import os
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import soundfile
from support.command_line import earmark
from support.disks import small_disk

from jobs.doctor.cluster import check_cluster, check_dashboard
from jobs.doctor.environment import (
    check_cores,
    check_folder,
    check_memory,
    check_shared_memory,
    check_temporary,
    check_versions,
)
from jobs.doctor.smoke_test import _run_everything, look_for_gpus, try_libsndfile, try_pyav

GB = 10**9


@pytest.mark.slow
def test_each_check_prints_a_line_and_remarks_do_not_fail(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")  # the run of the pipeline must ignore it
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    done = earmark("doctor", cwd=tmp_path)
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [(line[:7].strip(), line[8:18].strip(), line[19:]) for line in done.stdout.splitlines()]
    names = [name for _, name, _ in lines if name != "shared"]
    assert names == [
        *("versions", "cores", "memory", "temporary", "folder", "cluster"),
        *("decoders", "decoders", "everything", "GPUs"),
    ]
    findings = {name: (state, text) for state, name, text in lines}
    assert findings["versions"][1].startswith(f"Python {sys.version_info[0]}.{sys.version_info[1]}")
    assert findings["cluster"][0] == "remark"
    assert "earmark submit --address" in findings["cluster"][1]
    assert (
        "ok",
        "decoders",
        f"libsndfile {soundfile.__libsndfile_version__}: aiff flac mp3 ogg opus wav",
    ) in lines
    assert findings["decoders"][1].startswith("PyAV ")
    assert findings["everything"][0] == "ok"
    assert findings["everything"][1].startswith("trained and evaluated a model on ten tones in ")
    assert not os.listdir(tmp_path)


def test_missing_and_outdated_packages_are_listed(tmp_path, monkeypatch):
    about = tmp_path / "band-1.0.dist-info"
    about.mkdir()
    needs = ["numpy<1", "no-such-thing>=2", 'nor-this; extra == "loud"', "pyarrow>=1"]
    lines = ["Metadata-Version: 2.1", "Name: band", "Version: 1.0", "Requires-Python: <3"]
    (about / "METADATA").write_text("\n".join(lines + [f"Requires-Dist: {need}" for need in needs]) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    finding = check_versions("band")
    assert finding.state == "broken"
    python, numpy, missing = finding.found.split("; ")
    assert python.endswith("expected <3")
    assert numpy.startswith("numpy ")
    assert numpy.endswith("expected <1")
    assert missing == "no-such-thing is missing"
    assert finding.advice == "Type: pip install --upgrade band"
    assert check_versions("orchestra").found == "orchestra is not installed"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_fewer_usable_cores_than_ray_counts_is_a_remark():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        finding = check_cores()
    finally:
        os.sched_setaffinity(0, allowed)
    if (os.cpu_count() or 1) == 1:
        assert finding.state == "ok"
    else:
        assert finding.state == "remark"
        assert "--workers 1" in str(finding)


def test_little_memory_is_a_remark():
    assert check_memory(4000 * GB, 3000 * GB).state == "ok"
    little = check_memory(4 * GB, 2 * GB)
    assert (little.state, little.found) == ("remark", "2.0 GB of 4.0 GB available; training needs 2.5 GB")
    assert check_shared_memory(24 * GB).state == "ok"
    container = check_shared_memory(64 << 20)
    assert container.state == "remark"
    assert "docker run --shm-size=256m" in container.advice


def test_a_folder_that_is_not_writable_is_broken(tmp_path):
    assert check_folder("folder", lambda: str(tmp_path), "").state == "ok"
    assert not list(tmp_path.iterdir())
    for folder, reason in ((tmp_path / "absent", "No such file or directory"), (Path("/proc"), "/proc/")):
        finding = check_folder("folder", lambda folder=folder: str(folder), "Go away")
        assert (finding.state, finding.advice) == ("broken", "Go away")
        assert reason in finding.found

    def find_none() -> str:
        raise FileNotFoundError("no usable temporary directory")

    assert check_folder("temporary", find_none, "").found.endswith("no usable temporary directory")


def test_a_full_folder_for_temporary_files_is_named(tmp_path, monkeypatch):
    with small_disk(tmp_path / "small", "1m") as small:
        monkeypatch.setattr(tempfile, "tempdir", str(small))
        finding = check_temporary()
        assert (finding.state, finding.found) == ("broken", f"{small} has 1.0 MB free")
        assert finding.advice == "Free some space, or choose another folder: export TMPDIR=FOLDER"
        (small / "filler").write_bytes(bytes(1000 << 10))
        error = _run_everything()
        assert str(error).startswith(f"cannot write to {small}, which has 0.0 MB free: ")
    # Where nothing can be written, Python takes another folder.
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    finding = check_temporary()
    assert finding.state == "remark"
    assert finding.found.startswith(f"TMPDIR = {tmp_path / 'absent'} is full or not writable; ")


def test_a_pyav_that_cannot_be_loaded_is_broken_and_the_advice_installs_one(monkeypatch):
    assert try_pyav().state == "ok"
    monkeypatch.setitem(sys.modules, "av", None)  # as if it was not installed
    finding = try_pyav()
    assert finding.state == "broken"
    assert finding.advice == "Type: pip install --force-reinstall 'av<19'"


def test_a_format_that_libsndfile_lacks_is_listed(monkeypatch):
    monkeypatch.delitem(soundfile._formats, "MP3")  # as if libsndfile was built without it
    finding = try_libsndfile()
    assert finding.state == "broken"
    assert ": aiff flac ogg opus wav; not mp3 (" in finding.found
    assert "pip install" in finding.advice


def test_the_cluster_of_ray_address_is_connected_to(ray_here, monkeypatch):
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert str(check_cluster()) == "ok      cluster    RAY_ADDRESS is not set: this machine only"
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert str(check_cluster()) == (
        "broken  cluster    the Ray cluster at RAY_ADDRESS = 127.0.0.1:1 cannot be used: nothing answers there "
        "(Connection refused). To work on this machine alone: unset RAY_ADDRESS"
    )
    address = ray.get_runtime_context().gcs_address
    monkeypatch.setenv("RAY_ADDRESS", address)
    finding = check_cluster()
    assert finding.state == "ok"
    assert finding.found.startswith(f"{address} answers: it has 1 node, ")


class Dashboard(http.server.BaseHTTPRequestHandler):
    """Responds as the dashboard of a cluster that requires a token."""

    def do_GET(self) -> None:
        token = self.headers["Authorization"]
        status = 401 if token is None else 200 if token == "Bearer right" else 403
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b'{"ray_version": "2.60.0"}' if self.path == "/api/version" else b"<html>")

    def log_message(self, *arguments: object) -> None:
        pass


def test_the_version_of_the_dashboard_is_requested():
    with http.server.HTTPServer(("127.0.0.1", 0), Dashboard) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert str(check_dashboard(address, "right")) == f"ok      dashboard  {address} answers: Ray 2.60.0"
        findings = [check_dashboard(address, ""), check_dashboard(address, "wrong")]
        findings.append(check_dashboard(f"{address}/elsewhere", "right"))
        server.shutdown()
    findings.append(check_dashboard(address, "right"))
    findings.append(check_dashboard("head:8265", ""))
    messages = ["requires a token", "rejects the token", "not a Ray dashboard", "does not answer", "answer"]
    for finding, expected in zip(findings, messages, strict=True):
        assert finding.state == "broken"
        assert expected in finding.found
        assert "unset RAY_API_SERVER_ADDRESS" in finding.advice


TWO = "echo NVIDIA A; echo NVIDIA B"


@pytest.mark.parametrize(
    ("script", "gpus", "state", "message"),
    [
        (TWO, [], "remark", "detects none of NVIDIA A, NVIDIA B. Type: pip install 'earmark[gpu]'"),
        (TWO, ["NVIDIA B"], "ok", "TensorFlow detects 1 of 2: NVIDIA B"),
        ("echo no driver; exit 9", [], "remark", "nvidia-smi fails: no driver"),
        ("echo NVIDIA A", ImportError("no libcudart"), "broken", "cannot be loaded: no libcudart"),
    ],
)
def test_gpus_of_tensorflow_are_compared_with_those_of_the_driver(
    script, gpus, state, message, tmp_path, monkeypatch
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    finding = look_for_gpus(gpus)
    assert finding.state == state
    assert message in str(finding)


def test_without_a_driver_training_uses_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look_for_gpus([]).found == "none; training uses the CPU"
