"""Types of what run.json records of each start of the training: command, software and machine."""

from typing import Annotated

from pydantic import Field

from train.record_base import Count, Record

Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)$")]


class Host(Record):
    """The machine of the process that was started, without its name.

    Attributes:
        system: Operating system and its version, such as `Ubuntu 24.04`.
        machine: Processor architecture, such as `x86_64`.
        cores: Number of cores that the process may use.
    """

    system: str
    machine: str
    cores: Count


class Device(Record):
    """The devices that trained, of all workers.

    Attributes:
        kind: `CPU` or `GPU`.
        name: Name of the GPU, such as `NVIDIA A100-SXM4-40GB`; None if it is not known, and for CPUs.
        count: Number of replicas, one for each GPU.
    """

    kind: str
    name: str | None = None
    count: Count


class Start(Record):
    """One start of the training of a run.

    Attributes:
        date: Time in UTC, as in ISO 8601.
        command: Arguments of `earmark`, without secrets, and with `~` for the home folder; None if it was not
            started from the command line, or in a resumption by the first command.
        versions: Versions by package; of `earmark` and `python`, too. On a cluster those of the driver.
        revision: Commit of the checkout that Earmark ran, or was submitted, from, with `-dirty` if files differed
            from it; None if it was installed, or in a resumption by the first revision.
        host: The machine; on a cluster that of the driver. None in a resumption on such a machine as the first.
        device: The devices, the latest if the number of workers changed; None until training begins, or in a
            resumption on such devices as the first.
    """

    date: Moment
    command: list[str] | None = None
    versions: dict[str, str]
    revision: str | None = None
    host: Host | None = None
    device: Device | None = None

    def without_device(self) -> "Start":
        """Return this record without the key `device`."""
        return Start.model_validate(self.model_dump(exclude={"device"}, exclude_unset=True))

    def without_repeated(self, first: "Start | None") -> "Start":
        """Return the record of a resumption: without what is as it was at the first start."""
        fields = ("command", "revision", "host", "device")
        kept = {
            name: value
            for name in fields
            if (value := getattr(self, name)) is not None and not (first and value == getattr(first, name))
        }
        return Start(date=self.date, versions=self.versions, **kept)
