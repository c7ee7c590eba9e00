import json
from types import SimpleNamespace
from typing import Any

import pytest

from merlb_model.errors import MerlbError
from merlb_model.nn import keras, tf
from merlb_model.training.devices import (
    agreed,
    arithmetic,
    computes_with_16_bits,
    is_chief,
    prepare_devices,
    synchronize_norms,
)

TWO = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}


@pytest.mark.parametrize("config", [None, "", "{}", json.dumps({"cluster": {"worker": ["127.0.0.1:1"]}})])
def test_one_worker_trains_by_the_default_strategy(config: str | None) -> None:
    assert prepare_devices(config) is tf.distribute.get_strategy()


@pytest.mark.parametrize(
    "config",
    [
        "not json",
        "[]",
        json.dumps({"cluster": TWO}),
        json.dumps({"cluster": TWO, "task": {"type": "worker"}}),
        json.dumps({"cluster": TWO, "task": {"type": "worker", "index": 2}}),
        json.dumps({"cluster": TWO, "task": {"type": "worker", "index": -1}}),
        json.dumps({"cluster": TWO, "task": {"type": "evaluator", "index": 0}}),
        json.dumps({"cluster": {"worker": 3}}),
        json.dumps({"cluster": {"worker": "ab:1"}, "task": {"type": "worker", "index": 0}}),
        json.dumps({"cluster": {"worker": [1, 2]}, "task": {"type": "worker", "index": 0}}),
        json.dumps({"cluster": TWO}, indent=2),
    ],
)
def test_a_broken_tf_config_is_one_line_that_shows_what_is_expected(config: str) -> None:
    with pytest.raises(MerlbError, match=r"expected .*cluster.*mend or unset it") as complaint:
        prepare_devices(config)
    assert "\n" not in str(complaint.value) and " ".join(config.split()) in str(complaint.value)


def of_cluster(kind: str, index: int, *jobs: str) -> Any:
    """What ``is_chief`` asks a strategy for."""
    resolver = SimpleNamespace(
        task_type=kind, task_id=index, cluster_spec=lambda: SimpleNamespace(jobs=list(jobs or [kind]))
    )
    return SimpleNamespace(cluster_resolver=resolver)


def test_the_chief_writes_or_worker_0_where_none_is_called_so() -> None:
    assert is_chief(tf.distribute.get_strategy())
    assert is_chief(of_cluster("worker", 0)) and not is_chief(of_cluster("worker", 1))
    assert is_chief(of_cluster("chief", 0, "chief", "worker"))
    assert not is_chief(of_cluster("worker", 0, "chief", "worker"))


def test_alone_one_agrees_with_oneself() -> None:
    assert agreed({"loss": 0.1, "epoch": 3}) == {"loss": 0.1, "epoch": 3}
    assert agreed({}) == {}


def test_the_arithmetic_is_that_of_before_afterwards() -> None:
    before = keras.config.dtype_policy()
    with arithmetic(of_16_bits=True):
        inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        assert keras.config.dtype_policy().name == "mixed_float16"
        with arithmetic(of_16_bits=False):
            assert keras.config.dtype_policy().name == "float32"
        assert keras.config.dtype_policy().name == "mixed_float16"
    assert keras.config.dtype_policy() == before
    assert computes_with_16_bits(inner) and not computes_with_16_bits(keras.Sequential([keras.Input((2,))]))
    with pytest.raises(KeyError), arithmetic(of_16_bits=True):
        raise KeyError
    assert keras.config.dtype_policy() == before


def test_norms_within_norms_are_synchronised_and_freed_again() -> None:
    inner = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    outer = keras.Sequential([keras.Input((2,)), inner, keras.layers.BatchNormalization()])
    norms = [inner.layers[0], outer.layers[1]]
    synchronize_norms(outer, True)
    assert [norm.synchronized for norm in norms] == [True, True]
    synchronize_norms(outer, False)
    assert [norm.synchronized for norm in norms] == [False, False]
