"""The machines that Ray's autoscaler starts for each kind of work."""

import functools

import pytest
from support.deployment import cluster, rayjob
from support.ray_private import (
    FEATURIZATION,
    TRAINING_ON_CPU,
    as_ray_sees_it,
    checked,
    is_avoided_when_refused,
    started_for,
)

from featurize.execution.ray_tasks import TASKS_AT_LEAST_ON_CLUSTER

# In the order in which they are started: the types for featurization, and how many of each.
MAXIMUM = {"aws": {"cpu": 4, "cpu-amd": 4, "cpu-on-demand": 2}, "gcp": {"cpu": 8}, "kuberay": {"cpu": 8}}


def autoscaled(kind: str) -> dict:
    return as_ray_sees_it(rayjob()) if kind == "kuberay" else checked(cluster(kind))


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_no_machine_is_started_without_work(kind):
    assert started_for(autoscaled(kind)) == {}


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_featurizing_starts_no_gpu_machines(kind):
    config = autoscaled(kind)
    assert started_for(config, tasks=1) == {"cpu": 1}
    assert started_for(config, tasks=2_000) == MAXIMUM[kind]


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_the_tasks_of_a_cluster_without_workers_start_all_of_them_at_once(kind):
    config = autoscaled(kind)
    assert started_for(config, tasks=TASKS_AT_LEAST_ON_CLUSTER) == MAXIMUM[kind]
    assert started_for(config, tasks=16) == {"cpu": 2 if kind == "kuberay" else 1}


def test_spot_machines_are_started_first_and_then_machines_on_demand():
    config = autoscaled("aws")
    assert started_for(config, tasks=4 * 16) == {"cpu": 4}
    assert started_for(config, tasks=6 * 16) == {"cpu": 4, "cpu-amd": 2}
    assert started_for(config, tasks=9 * 16) == {"cpu": 4, "cpu-amd": 4, "cpu-on-demand": 1}


def test_ray_asks_again_for_a_type_that_a_cloud_refuses():
    """Therefore machines on demand are started beside those on spot, and not only in their place."""
    assert not is_avoided_when_refused("cpu")


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_a_gpu_machine_that_offers_memory_would_be_started_for_featurizing(kind):
    config = autoscaled(kind)
    config["available_node_types"]["gpu"]["resources"]["memory"] = 12_000_000_000
    assert "gpu" in started_for(config, tasks=2_000)


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_training_starts_only_gpu_machines(kind):
    assert started_for(autoscaled(kind), workers=2) == {"gpu": 2}


def test_training_without_gpus_starts_machines_that_have_tensorflow():
    assert started_for(autoscaled("aws"), workers=2, worker=TRAINING_ON_CPU) == {"train-cpu": 1}
    for kind in ("gcp", "kuberay"):
        assert started_for(autoscaled(kind), workers=2, worker=TRAINING_ON_CPU) == {"gpu": 1}


def test_without_the_label_training_would_start_machines_without_tensorflow():
    config = autoscaled("gcp")
    config["available_node_types"]["cpu"]["labels"] = {}
    assert started_for(config, workers=2, worker=TRAINING_ON_CPU) == {"cpu": 1}


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_the_head_offers_no_cores_to_tasks(kind):
    config = autoscaled(kind)
    assert config["available_node_types"][config["head_node_type"]]["resources"]["CPU"] == 0


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_a_worker_has_memory_for_one_task_per_core(kind):
    for name in MAXIMUM[kind]:
        resources = autoscaled(kind)["available_node_types"][name]["resources"]
        assert resources["memory"] >= resources["CPU"] * FEATURIZATION["memory"]


BOOT = 270  # seconds from the request of a machine until Ray runs on it: an assumption
AUTOSCALER, DRIVER = 5, 2  # seconds between two looks at the waiting tasks, and at the cores of the cluster


def minutes_to_start(config: dict, at_least: int) -> dict[int, float]:
    """Return the minutes until the cluster has had each number of machines, simulated second by second.

    Ray's own scheduler chooses the machines for the tasks that the driver has submitted: three for each core,
    and at least some number.
    """
    types = config["available_node_types"]
    needed = functools.cache(lambda tasks: started_for(config, tasks=tasks))
    ready_at: list[tuple[int, str]] = []
    tasks, reached = at_least, {}
    for second in range(3600):
        ready = [name for moment, name in ready_at if moment <= second]
        if second % DRIVER == 0:
            tasks = max(3 * sum(types[name]["resources"]["CPU"] for name in ready), at_least)
        if second % AUTOSCALER == 0:
            requested = [name for _, name in ready_at]
            for name, count in needed(tasks).items():
                ready_at += [(second + BOOT, name)] * (count - requested.count(name))
        reached.setdefault(len(ready), round(second / 60, 1))
    return reached


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_all_machines_start_in_the_time_that_one_takes(kind):
    config = autoscaled(kind)
    everything = sum(MAXIMUM[kind].values())
    after = minutes_to_start(config, TASKS_AT_LEAST_ON_CLUSTER)
    assert after == {0: 0.0, everything: 4.5}
    # With three tasks for each core and no more, as on one machine.
    before = minutes_to_start(config, 16)
    expected = {
        "aws": {0: 0.0, 1: 4.5, 3: 9.0, 9: 13.5, 10: 18.0},
        "gcp": {0: 0.0, 1: 4.5, 3: 9.0, 8: 13.5},
        "kuberay": {0: 0.0, 2: 4.5, 6: 9.0, 8: 13.5},
    }[kind]
    assert before == expected
