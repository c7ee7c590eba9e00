import numpy as np

from merlb_model.labels import MODALITIES
from merlb_model.study.emap import additive_projection


def inputs(clips: int = 7) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    return {name: random.normal(size=(clips, 4)) for name in MODALITIES}


def test_a_sum_of_one_function_a_modality_is_its_own_projection() -> None:
    random = np.random.default_rng(1)
    matrices = {name: random.normal(size=(4, 3)) for name in MODALITIES}

    def answer(mixed: dict[str, np.ndarray]) -> np.ndarray:
        return sum(np.tanh(mixed[name] @ matrices[name]) for name in MODALITIES) + 2.0

    given = inputs()
    np.testing.assert_allclose(additive_projection(answer, given, MODALITIES), answer(given), atol=1e-12)


def test_a_product_of_centred_functions_vanishes() -> None:
    """Face times sound, which keep company and are each of mean zero over the clips: nothing of it is additive."""
    given = inputs(200)
    given["audio"] = given["face"] + 0.1 * given["audio"]
    for name in ("face", "audio"):
        given[name] -= given[name].mean(axis=0)

    def answer(mixed: dict[str, np.ndarray]) -> np.ndarray:
        return mixed["face"] * mixed["audio"]

    assert answer(given).mean() > 0.9
    two = {name: given[name] for name in ("face", "audio")}
    np.testing.assert_allclose(additive_projection(answer, two, ("face", "audio")), 0, atol=1e-12)
    np.testing.assert_allclose(additive_projection(answer, given, MODALITIES), 0, atol=0.1)


def test_two_modalities_give_the_published_formula() -> None:
    """Hessel and Lee 2020: the mean over one, plus the mean over the other, less the mean over both."""
    given = {name: inputs()[name] for name in ("face", "audio")}

    def answer(mixed: dict[str, np.ndarray]) -> np.ndarray:
        return np.sin(mixed["face"] + 2 * mixed["audio"]) * mixed["face"]

    clips = 7
    table = np.stack(
        [
            np.stack([answer({"face": given["face"][i], "audio": given["audio"][j]}) for j in range(clips)])
            for i in range(clips)
        ]
    )
    expected = table.mean(axis=1) + table.mean(axis=0) - table.mean(axis=(0, 1))
    np.testing.assert_allclose(additive_projection(answer, given, ("face", "audio")), expected, atol=1e-12)
