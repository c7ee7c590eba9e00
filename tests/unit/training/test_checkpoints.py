import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from merlb_model.nn import keras
from merlb_model.training import checkpoints as module
from merlb_model.training.checkpoints import Best, Checkpoint, Progress


def network(units: int = 2) -> keras.Model:
    inputs = keras.Input((3,))
    return keras.Model(inputs, keras.layers.Dropout(0.5, seed=1)(keras.layers.Dense(units)(inputs)))


def moved(model: keras.Model, steps: int) -> keras.optimizers.Optimizer:
    """Adam after ``steps`` steps, which has moments and a count of its own; dropout has drawn as often."""
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build(model.trainable_variables)
    for step in range(steps):
        model(np.ones((2, 3), np.float32), training=True)
        optimizer.apply([np.full(each.shape, step + 1.0, np.float32) for each in model.trainable_variables])
    return optimizer


def progress_of(model: keras.Model) -> Progress:
    best = Best(2, (0.75, -0.5), model.get_weights())
    return Progress(3, [{"epoch": 1.0, "loss": 2.0}, {"epoch": 2.0, "loss": 1.5}, {"epoch": 3.0, "loss": 1.25}], best)


def keep(folder: Path, key: str = "key") -> tuple[keras.Model, keras.optimizers.Optimizer, Progress]:
    model = network()
    optimizer, progress = moved(model, 3), progress_of(network())
    checkpoint = Checkpoint(folder, key)
    checkpoint.run_id = "a run"
    checkpoint.save(model, optimizer, progress)
    return model, optimizer, progress


def test_a_training_is_taken_up_with_all_that_it_had(tmp_path: Path) -> None:
    model, optimizer, progress = keep(tmp_path)
    fresh = network()
    again = moved(fresh, 0)
    kept = Checkpoint(tmp_path, "key")
    found = kept.restore(fresh, again)
    assert kept.run_id == "a run" and kept.history == progress.history == found.history
    assert (found.epoch, found.best.epoch, found.best.score) == (3, 2, (0.75, -0.5))
    for ours, theirs in zip(found.best.weights, progress.best.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    variables = zip(
        [*fresh.variables, *again.variables], [*model.variables, *optimizer.variables], strict=True
    )  # the dropout's seed generator among them
    for ours, theirs in variables:
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    ones = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(fresh(ones, training=True), model(ones, training=True))


def test_another_training_starts_anew(tmp_path: Path) -> None:
    keep(tmp_path)
    other, model = Checkpoint(tmp_path, "another"), network()
    before = model.get_weights()
    found = other.restore(model, moved(model, 0))
    assert (found.epoch, found.history, other.run_id) == (0, [], "")
    assert all((ours == theirs).all() for ours, theirs in zip(model.get_weights(), before, strict=True))


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_file_that_cannot_be_read_is_passed_over_and_named(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path)
    path = Checkpoint(tmp_path, "key").path
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    model = network()
    assert Checkpoint(tmp_path, "key").restore(model, moved(model, 0)).epoch == 0
    assert capsys.readouterr().err.count(f"{path} is passed over") == 1


def test_a_file_of_another_network_is_passed_over_and_the_network_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path)
    wider = network(units=5)
    before = wider.get_weights()
    assert Checkpoint(tmp_path, "key").restore(wider, moved(wider, 0)).epoch == 0
    assert "of another network" in capsys.readouterr().err
    assert all((ours == theirs).all() for ours, theirs in zip(wider.get_weights(), before, strict=True))


def test_a_write_that_is_cut_short_leaves_the_epoch_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizer, progress = keep(tmp_path)

    def cut(file: BinaryIO, **arrays: object) -> None:
        file.write(b"PK half an archive")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", cut)
    progress.epoch = 4
    with pytest.raises(KeyboardInterrupt):
        Checkpoint(tmp_path, "key").save(model, optimizer, progress)
    assert [path.name for path in tmp_path.iterdir()] == ["key.npz"]
    assert Checkpoint(tmp_path, "key").restore(model, optimizer).epoch == 3


def test_a_training_without_a_best_epoch_yet_is_kept(tmp_path: Path) -> None:
    """Its score is minus infinity, which JSON proper has no word for."""
    model = network()
    optimizer = moved(model, 1)
    Checkpoint(tmp_path, "key").save(model, optimizer, Progress(1, [{"epoch": 1.0, "loss": 2.0}]))
    found = Checkpoint(tmp_path, "key").restore(model, optimizer)
    assert (found.epoch, found.best) == (1, Best())


def test_a_file_of_another_version_of_this_program_is_not_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(tmp_path)
    monkeypatch.setattr(module, "_SCHEMA_VERSION", module._SCHEMA_VERSION + 1)
    later, model = Checkpoint(tmp_path, "key"), network()
    assert (later.run_id, later.history, later.restore(model, moved(model, 0)).epoch) == ("", [], 0)


class Trap:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.folder,)


def test_no_pickle_is_read(tmp_path: Path) -> None:
    path, sprung = Checkpoint(tmp_path, "key").path, tmp_path / "sprung"
    with path.open("wb") as file:
        np.savez(file, json=np.array([Trap(sprung)], dtype=object))
    model = network()
    assert Checkpoint(tmp_path, "key").restore(model, moved(model, 0)).epoch == 0
    assert not sprung.exists()


def test_a_worker_that_does_not_write_reads(tmp_path: Path) -> None:
    model = network()
    reader = Checkpoint(tmp_path / "none", "key", writes=False)
    reader.save(model, moved(model, 1), progress_of(model))
    assert not (tmp_path / "none").exists()
    keep(tmp_path)
    assert Checkpoint(tmp_path, "key", writes=False).restore(model, moved(model, 0)).epoch == 3


def test_at_the_end_nothing_of_it_is_left_and_others_stay(tmp_path: Path) -> None:
    keep(tmp_path, "other")
    keep(tmp_path)
    Checkpoint(tmp_path, "key").remove()
    assert [path.name for path in tmp_path.iterdir()] == ["other.npz"]
    Checkpoint(tmp_path, "key").remove()


def test_what_killed_writers_left_goes_at_the_end_and_what_others_are_writing_stays(tmp_path: Path) -> None:
    left, writing = tmp_path / ".key.npz.1.partial", tmp_path / ".other.npz.2.partial"
    left.mkdir()
    time.sleep(0.1)
    checkpoint = Checkpoint(tmp_path, "key")
    time.sleep(0.1)
    writing.mkdir()
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == [writing]
