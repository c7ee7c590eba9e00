from pathlib import Path
from typing import Any

import pytest
import yaml

from merlb_model.dataset.store import DTYPES, SHAPES
from merlb_model.errors import MerlbError
from merlb_model.labels import MODALITIES
from merlb_model.nn import keras, tf
from merlb_model.nn.audio import EachSegment, segment_encoder
from merlb_model.nn.describe import COLUMNS, describe, description, totals_of
from merlb_model.nn.inception_dense import EachStep, Places
from merlb_model.nn.model import PRESETS, build_fuse
from merlb_model.nn.tensor_train import TensorTrainFusion
from merlb_model.params import ModelParams
from tests.unit.nn.conftest import PRIOR, build

ROOT = Path(__file__).parents[3]
NO_COMMAND = "the TFX edition's environment has no typer, and no command"
layers = keras.layers


def network_of(layer: Any, *shapes: tuple[int, ...]) -> keras.Model:
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0]), name="tested")


def costs_of(layer: Any, *shapes: tuple[int, ...]) -> tuple[str, int, int, int]:
    """Output, parameters, multiply-adds and bytes of the one row."""
    (row,) = describe(network_of(layer, *shapes)).itertuples()
    return row.output, row.parameters, row.multiply_adds, row.activation_bytes


def profiled(network: keras.Model, specifications: Any, *kinds: str) -> int:
    """Multiply-adds of the operations of these kinds in the network's graph, by TensorFlow's profiler."""
    function = tf.function(lambda inputs: network(inputs, training=False)).get_concrete_function(specifications)
    builder = tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation())
    options = builder.with_accounted_types(list(kinds)).with_empty_output().build()
    return int(tf.compat.v1.profiler.profile(function.graph, options=options).total_float_ops) // 2


def window_of(network: keras.Model) -> dict[str, Any]:
    return {name: tf.TensorSpec((1, *each.shape[1:]), each.dtype) for name, each in network.input.items()}


# Worked out by hand.


def test_a_convolution() -> None:
    # 4·3 places, 5 filters, each of 3·3·3 weights and a bias.
    layer = layers.Conv2D(5, 3, strides=2, padding="same")
    assert costs_of(layer, (8, 6, 3)) == ("4×3×5", 27 * 5 + 5, 4 * 3 * 5 * 27, 4 * 60)


def test_a_convolution_in_groups_reads_its_group_only() -> None:
    assert costs_of(layers.Conv2D(4, 3, groups=2, use_bias=False), (5, 5, 6)) == ("3×3×4", 108, 9 * 4 * 27, 4 * 36)


def test_a_dense_layer_on_a_vector_and_on_steps() -> None:
    assert costs_of(layers.Dense(4), (7,)) == ("4", 32, 28, 16)
    assert costs_of(layers.Dense(4), (3, 7)) == ("3×4", 32, 84, 48)


def test_an_lstm_one_way_and_both_ways() -> None:
    # 4 gates of 2 units, each of 3 inputs, 2 states and a bias; 5 steps.
    assert costs_of(layers.LSTM(2), (5, 3)) == ("2", 48, 200, 8)
    both = layers.Bidirectional(layers.LSTM(2, return_sequences=True))
    assert costs_of(both, (5, 3)) == ("5×4", 96, 400, 80)


def test_a_norm_and_a_scale_are_one_an_element_and_what_moves_data_is_free() -> None:
    assert costs_of(layers.BatchNormalization(), (3, 2)) == ("3×2", 8, 6, 24)
    assert costs_of(layers.Rescaling(0.5), (3, 2)) == ("3×2", 0, 6, 24)
    assert costs_of(layers.Concatenate(), (3, 2), (3, 4)) == ("3×6", 0, 0, 72)


def test_places() -> None:
    # Two coordinates for each of 7 channels, over 4·5 places.
    assert costs_of(Places(), (4, 5, 7)) == ("21", 0, 2 * 7 * 20, 84)


def test_the_tensor_train_is_counted_as_it_is_contracted() -> None:
    # Each vector of 129 with its merged cores (columns · ranks), then the joins over the two ranks of 4.
    vectors = 129 * (8 * 4) + 129 * (4 * 4 * 4) + 129 * (4 * 12)
    joins = 8 * 4 * (4 * 4) + 32 * 4 * 12
    assert costs_of(TensorTrainFusion(), (128,), (128,), (128,)) == ("384", 11_038, vectors + joins, 1_536)


def test_a_network_on_each_step_costs_as_often_as_there_are_steps() -> None:
    inner = network_of(layers.Dense(4), (7,))
    table = describe(network_of(EachStep(inner, name="encoder"), (5, 7)))
    (row,) = table.itertuples()
    assert list(table.columns) == list(COLUMNS)
    assert (row.part, row.kind, row.output) == ("encoder", "Dense", "5×4")
    assert (row.parameters, row.multiply_adds, row.activation_bytes) == (32, 5 * 28, 80)


def test_the_spectrogram_is_counted_once_and_the_rest_for_each_segment() -> None:
    segment = segment_encoder(PRESETS["small"].audio, 5_512, "segment")
    table = describe(network_of(EachSegment(segment, 64, name="encoder"), (20, 5_512))).set_index("layer")
    # 516 frames of 1,024 samples: 5/2·1024·10 for the transform, and 513 bins by 64 bands.
    assert table.loc["log_mel", "output"] == "516×64"
    assert table.loc["log_mel", "multiply_adds"] == 516 * (25_600 + 513 * 64)
    # 19 segments of 48 frames and 64 bands, halved: 24·32 places, 16 filters of 5·5.
    assert table.loc["conv_0", "multiply_adds"] == 19 * 24 * 32 * 16 * 25


def test_what_is_held_at_once_goes_after_its_last_reader() -> None:
    first = keras.Input((10,))
    wide = layers.Dense(100)(first)  # 400 bytes
    narrow = layers.Dense(5)(wide)  # 420, then 20
    middle = layers.Dense(50)(narrow)  # 220
    last = layers.Concatenate()([narrow, middle])  # 440, the most
    totals = totals_of(keras.Model(first, last))
    assert totals["inference_bytes"] == 440
    assert totals["training_bytes"] == 400 + 20 + 200 + 220


def test_what_is_held_on_each_step_is_held_as_often_as_there_are_steps() -> None:
    first = keras.Input((10,))
    inner = keras.Model(first, layers.Dense(2)(layers.Dense(30)(first)))
    assert totals_of(network_of(EachStep(inner), (6, 10)))["inference_bytes"] == 6 * 4 * 32


def test_weights_that_do_not_train_are_parameters_too() -> None:
    network = network_of(layers.BatchNormalization(), (3,))
    totals = totals_of(network)
    assert (totals["parameters"], totals["trainable"], totals["weight_bytes"]) == (12, 6, 48)


@pytest.mark.parametrize("layer", [layers.GRU(2), layers.Conv1D(2, 1), layers.Bidirectional(layers.GRU(2))])
def test_an_unknown_kind_with_weights_is_refused(layer: Any) -> None:
    with pytest.raises(MerlbError, match=r"(GRU|Conv1D) .* has weights, but its multiply-adds are not counted: add"):
        describe(network_of(layer, (4, 3)))


# By TensorFlow's profiler.


def test_convolutions_and_products_of_the_whole_network_are_the_profilers(network: keras.Model) -> None:
    table = describe(network)
    by_kind = table.groupby("kind")["multiply_adds"].sum()
    assert by_kind["Conv2D"] == profiled(network, window_of(network), "Conv2D")
    mel = 516 * 513 * 64
    merged_cores = 6 * 2 * (43 * 4 * 4) + (4 * 43 * 4) * 2 * 9  # from weights alone, no clip's cost
    products = by_kind[["Bidirectional", "Dense", "Places", "TensorTrainFusion"]].sum() + mel + merged_cores
    assert products == profiled(network, window_of(network), "MatMul", "BatchMatMulV2")


@pytest.mark.parametrize("name", ["face_encoder", "screen_encoder"])
def test_a_frame_encoder_is_within_a_few_percent_of_all_that_the_profiler_counts(
    network: keras.Model, name: str
) -> None:
    encoder = network.get_layer(name).layer
    modality = name.removesuffix("_encoder")
    frame = tf.TensorSpec((1, *SHAPES[modality][1:]), DTYPES[modality])
    assert totals_of(encoder)["multiply_adds"] == pytest.approx(profiled(encoder, frame, ".*"), rel=0.05)


def test_the_choice_of_key_segments_is_the_profilers() -> None:
    params = ModelParams.model_validate({"fusion": "early", "audio": {"frontend": "key_segments"}})
    fuse = build_fuse(params, PRIOR, 1)
    table = describe(fuse)
    by_kind = table.groupby("kind")["multiply_adds"].sum()
    assert by_kind["KeySegments"] > 0
    products = by_kind[["Bidirectional", "Dense", "KeySegments"]].sum()
    assert products == profiled(fuse, window_of(fuse), "MatMul", "BatchMatMulV2")


# The house's networks.


@pytest.mark.parametrize("fusion", ["early", "late", "joint", "deep", "merlb"])
@pytest.mark.parametrize("frontend", ["all_segments", "random_segments"])
def test_every_fusion_is_described_whole(fusion: str, frontend: str) -> None:
    fuse = build_fuse(ModelParams.model_validate({"fusion": fusion, "audio": {"frontend": frontend}}), PRIOR, 1)
    table, totals = describe(fuse), totals_of(fuse)
    assert set(table["part"]) == {"fuse"}
    assert totals["parameters"] == fuse.count_params()
    assert totals["multiply_adds"] == table["multiply_adds"].sum()
    # A bi-LSTM and three heads are in each: the recurrences are most of it.
    assert table.set_index("kind").loc["Bidirectional", "multiply_adds"].sum() > totals["multiply_adds"] / 2


def test_the_parts_are_the_encoders_and_the_fusion(network: keras.Model) -> None:
    table = describe(network)
    assert set(table["part"]) == {*(f"{name}_encoder" for name in MODALITIES), "fuse"}
    assert table["parameters"].sum() == network.count_params()


def test_a_withheld_modality_costs_nothing() -> None:
    table = describe(build(modalities=("face",)))
    withheld = table[table["layer"].isin(["screen_encoder", "audio_encoder"])]
    assert withheld["kind"].tolist() == ["NothingThere"] * 2
    assert withheld["multiply_adds"].tolist() == [0, 0]


def test_the_table_holds_each_layer_and_the_totals() -> None:
    params = ModelParams.model_validate({"fusion": "late", "tasks": "emo"})
    text = description(params)
    totals = totals_of(build(fusion="late", tasks="emo"))
    assert text.startswith("preset small, fusion late, tasks emo")
    assert f"{totals['parameters']:,}" in text and f"{totals['multiply_adds']:,}" in text
    assert "  screen_valence_logits" in text and "event" not in text


def test_the_command_takes_the_parameters_file_where_there_is_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    main = pytest.importorskip("merlb_model.cli", reason=NO_COMMAND, exc_type=ModuleNotFoundError).main
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["model"] |= {"fusion": "joint", "modalities": ["face"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(SystemExit) as done:
        main(["-w", str(tmp_path), "describe", "--tasks", "game"])
    said = capfd.readouterr()
    assert not done.value.code and said.err == ""
    assert said.out.startswith("preset small, fusion joint, tasks game")
    assert "NothingThere" in said.out


def test_the_command_names_a_choice_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = pytest.importorskip("merlb_model.cli", reason=NO_COMMAND, exc_type=ModuleNotFoundError).main
    with pytest.raises(SystemExit):
        main(["-w", str(tmp_path), "describe", "--fusion", "sum"])
    assert "fusion: Input should be 'early'" in capsys.readouterr().err
