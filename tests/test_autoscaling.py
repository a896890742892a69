"""What machines are started for what, by Ray's own autoscaler."""

import pytest
from support.deployment import cluster, rayjob
from support.ray_private import FEATURIZATION, as_ray_sees_it, checked, started_for


def autoscaled(kind: str) -> dict:
    return as_ray_sees_it(rayjob()) if kind == "kuberay" else checked(cluster(kind))


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_no_machine_is_started_for_nothing(kind):
    assert started_for(autoscaled(kind)) == {}


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_features_are_made_without_a_single_gpu_machine(kind):
    config = autoscaled(kind)
    assert started_for(config, tasks=1) == {"cpu": 1}
    assert started_for(config, tasks=100_000) == {"cpu": config["available_node_types"]["cpu"]["max_workers"]}


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_a_gpu_machine_that_offered_memory_would_be_started_for_features(kind):
    config = autoscaled(kind)
    config["available_node_types"]["gpu"]["resources"]["memory"] = 12_000_000_000
    assert "gpu" in started_for(config, tasks=100_000)


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_training_starts_gpu_machines_and_no_others(kind):
    assert started_for(autoscaled(kind), workers=2) == {"gpu": 2}


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_the_head_offers_no_core_to_tasks(kind):
    config = autoscaled(kind)
    assert config["available_node_types"][config["head_node_type"]]["resources"]["CPU"] == 0


@pytest.mark.parametrize("kind", ["aws", "gcp", "kuberay"])
def test_a_worker_has_memory_for_as_many_tasks_as_cores(kind):
    resources = autoscaled(kind)["available_node_types"]["cpu"]["resources"]
    assert resources["memory"] >= resources["CPU"] * FEATURIZATION["memory"]
