"""Tasks whose data goes to actors: results, errors, and what dies on the way."""

import os

import pytest

from featurize.errors import FeaturizeError
from featurize.execution.ray_pipeline import RayActors, RayPipeline

WITHOUT_CORES = {"num_cpus": 0}


@pytest.fixture
def kind():
    class Adder:
        """Adds a constant; dies once at 3, and fails at 5."""

        def __init__(self, constant, marker):
            self.constant, self.marker = constant, marker

        def prepare(self):
            raise ValueError("raised again by work")

        def work(self, first, data=0):
            if first == 3 and not self.marker.exists():
                self.marker.touch()
                os._exit(1)
            if first == 5:
                raise FeaturizeError("five")
            return first, data + self.constant

    return Adder


def test_data_of_tasks_goes_to_actors_and_errors_are_yielded(kind, ray_here, tmp_path):
    def task(first):
        if first == 4:
            raise FeaturizeError("four")
        return None, 2 * first

    def without_data(first):
        return "other", first

    pool = RayPipeline(None, task, RayActors(kind, (100, tmp_path / "died"), WITHOUT_CORES, 2))
    for number in range(6):
        pool.submit(number, task, number)
    pool.submit("other", without_data, 7)
    found = {}
    while len(pool):
        found.update(pool.finished())
    assert {key: found[key] for key in (0, 1, 2, 3)} == {n: (n, 2 * n + 100) for n in range(4)}
    assert found["other"] == ("other", 7)
    assert [str(found[4]), str(found[5])] == ["four", "five"]
    assert (tmp_path / "died").exists()


def test_actors_are_called_directly_and_the_first_error_is_raised(kind, ray_here, tmp_path):
    actors = RayActors(kind, (1, tmp_path / "died"), WITHOUT_CORES, 2)
    results = {result for result in actors.map((n,) for n in range(5)) if result}
    assert results == {(n, 1) for n in range(5)}
    assert len(actors) == 2
    with pytest.raises(FeaturizeError, match="five"):
        list(actors.map([(5,)]))
