"""All uses of undocumented Ray interfaces in tests, which another version of Ray may change."""

import copy
import sys
from collections.abc import Mapping

# The command `ray`, as a module.
RAY = [sys.executable, "-m", "ray.scripts.scripts"]

# The resources that `earmark run` requests for each shard, and for each training worker with and without a GPU.
FEATURIZATION = {"CPU": 1, "memory": 600e6}
TRAINING = {"CPU": 1, "GPU": 1}
TRAINING_ON_CPU = {"CPU": 1}


def checked(config: dict) -> dict:
    """Complete and validate the config of a cluster, as `ray up` does first."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(copy.deepcopy(config))
    validate_config(config)
    return config


def as_ray_sees_it(manifest: dict) -> dict:
    """Return the config that Ray's autoscaler derives from a RayJob in the pod of the head."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    metadata = {"name": "earmark", "namespace": "default"}
    return _derive_autoscaling_config_from_ray_cr(
        {"metadata": metadata, "spec": manifest["spec"]["rayClusterSpec"]}
    )


def started_for(
    config: dict, tasks: int = 0, workers: int = 0, worker: Mapping[str, float] = TRAINING
) -> dict[str, int]:
    """Return how many machines of each type Ray's autoscaler starts.

    Args:
        config: Config of the cluster.
        tasks: Number of waiting shards.
        workers: Number of training workers.
        worker: Resources of each training worker.
    """
    from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil
    from ray.core.generated.autoscaler_pb2 import GangResourceRequest
    from ray.core.generated.common_pb2 import LabelSelectorOperator

    from train.cluster.room import HAS_TENSORFLOW

    selector = [
        (name, LabelSelectorOperator.LABEL_OPERATOR_NOT_IN, [value.removeprefix("!")])
        for name, value in HAS_TENSORFLOW.items()
    ]

    types = {
        name: NodeTypeConfig(
            name=name,
            min_worker_nodes=fields["min_workers"],
            max_worker_nodes=fields["max_workers"],
            resources=fields["resources"],
            labels=fields.get("labels", {}),
            priority=fields.get("priority", 0),
        )
        for name, fields in config["available_node_types"].items()
    }
    requests = [ResourceRequestUtil.make(worker, label_selectors=[selector]) for _ in range(workers)]
    gang = GangResourceRequest(requests=requests)
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=types,
            max_num_nodes=config["max_workers"],
            resource_requests=ResourceRequestUtil.group_by_count(
                [ResourceRequestUtil.make(FEATURIZATION)] * tasks
            ),
            gang_resource_requests=[gang] if workers else [],
        )
    )
    return {launch.instance_type: launch.count for launch in reply.to_launch}


def is_avoided_when_refused(name: str) -> bool:
    """Return whether Ray's autoscaler prefers other types after a cloud has refused to start one."""
    from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor
    from ray.core.generated.instance_manager_pb2 import Instance, InstanceUpdateEvent

    monitor = CloudResourceMonitor()
    monitor.notify([InstanceUpdateEvent(instance_type=name, new_instance_status=Instance.ALLOCATION_FAILED)])
    return monitor.get_recoverable_resource_availabilities().get(name, 1.0) < 1.0
