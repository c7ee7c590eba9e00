from merlb_model.labels import MODALITIES
from merlb_model.study.protocol import FUSIONS, STUDY, configurations, encoder_jobs, encoder_training, fusion_jobs


def test_the_study_is_as_large_as_its_claims_need() -> None:
    assert STUDY.corpus.streamers >= 60
    seeds = {configuration.name: seeds for configuration, seeds in configurations(STUDY)}
    assert all(len(seeds[name]) >= 5 for name in FUSIONS)
    assert all(seeds[f"{name}-{tasks}"] for name in FUSIONS for tasks in ("emo", "game"))


def test_every_configuration_is_tested_on_every_fold_once_a_seed() -> None:
    jobs = list(fusion_jobs(STUDY))
    assert len({job.name for job in jobs}) == len(jobs)
    for configuration, seeds in configurations(STUDY):
        if configuration.labels == "true":
            tested = [(job.seed, job.fold) for job in jobs if job.configuration == configuration]
            assert sorted(tested) == [(seed, fold) for seed in seeds for fold in range(STUDY.folds)]


def test_every_fusion_finds_the_encoders_of_its_fold() -> None:
    encoders = set(encoder_jobs(STUDY))
    for job in fusion_jobs(STUDY):
        needed = job.configuration.encoders(job.fold)
        assert set(needed.values()) <= encoders
        assert all(encoder.fold == job.fold and encoder.modality == name for name, encoder in needed.items())
    assert len({job.name for job in encoders}) == len(encoders)


def test_an_encoder_is_trained_on_its_modality_alone() -> None:
    for job in encoder_jobs(STUDY):
        model, params = encoder_training(STUDY, job)
        assert model.modalities == (job.modality,)
        assert params.epochs == STUDY.encoder_epochs[job.modality]
        assert (model.audio.frontend == "slices") == job.slices


def test_another_protocol_has_another_folder() -> None:
    changed = STUDY.__class__(**{**STUDY.__dict__, "epochs": STUDY.epochs + 1})
    assert changed.key != STUDY.key


def test_all_fusions_of_a_comparison_share_their_front_end_and_modalities() -> None:
    plain = [configuration for configuration, _ in configurations(STUDY) if configuration.name in FUSIONS]
    assert {configuration.model.audio for configuration in plain} == {plain[0].model.audio}
    assert all(configuration.model.modalities == MODALITIES for configuration in plain)
