"""The machines that Ray's autoscaler starts for each kind of work."""

import pytest
from support.deployment import cluster, rayjob
from support.ray_private import FEATURIZATION, as_ray_sees_it, checked, started_for

from featurize.execution.ray_tasks import TASKS_AT_LEAST_ON_CLUSTER


def autoscaled(kind: str) -> dict:
    return as_ray_sees_it(rayjob()) if kind == "kuberay" else checked(cluster(kind))


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_no_machine_is_started_without_work(kind):
    assert started_for(autoscaled(kind)) == {}


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_featurizing_starts_no_gpu_machines(kind):
    config = autoscaled(kind)
    assert started_for(config, tasks=1) == {"cpu": 1}
    assert started_for(config, tasks=100_000) == {"cpu": config["available_node_types"]["cpu"]["max_workers"]}


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_the_tasks_of_a_cluster_without_workers_start_all_of_them_at_once(kind):
    config = autoscaled(kind)
    everything = {"cpu": config["available_node_types"]["cpu"]["max_workers"]}
    assert started_for(config, tasks=TASKS_AT_LEAST_ON_CLUSTER) == everything
    assert started_for(config, tasks=16) != everything


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_a_gpu_machine_that_offers_memory_would_be_started_for_featurizing(kind):
    config = autoscaled(kind)
    config["available_node_types"]["gpu"]["resources"]["memory"] = 12_000_000_000
    assert "gpu" in started_for(config, tasks=100_000)


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_training_starts_only_gpu_machines(kind):
    assert started_for(autoscaled(kind), workers=2) == {"gpu": 2}


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_the_head_offers_no_cores_to_tasks(kind):
    config = autoscaled(kind)
    assert config["available_node_types"][config["head_node_type"]]["resources"]["CPU"] == 0


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_a_worker_has_memory_for_one_task_per_core(kind):
    resources = autoscaled(kind)["available_node_types"]["cpu"]["resources"]
    assert resources["memory"] >= resources["CPU"] * FEATURIZATION["memory"]
