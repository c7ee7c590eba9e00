from pathlib import Path

from merlb_model.study.claims import findings
from merlb_model.study.protocol import FUSIONS, STUDY
from merlb_model.study.results import write_results
from tests.unit.study.made_up import made_up, permuted_at_chance

ROOT = Path(__file__).parents[3]


def test_the_page_tells_every_verdict_and_that_the_corpus_is_synthetic(tmp_path: Path) -> None:
    answers = made_up({"merlb": 1.0, "late": 0.0}, {"merlb": 1.0, "late": 1.0})
    permuted_at_chance(answers, 0.0)
    found = findings(answers, 0.5)
    page = tmp_path / "results.md"
    write_results(answers, found, STUDY, "abc", ROOT / "docs/paper_f1.csv", page, tmp_path / "figures")
    text = page.read_text(encoding="utf-8")
    assert "synthetic" in text and STUDY.key in text and "abc" in text
    for finding in found:
        line = next(line for line in text.splitlines() if f"**{finding.claim}**" in line)
        assert f"**{finding.verdict}**" in line
    assert "+100.0 (+100.0 to +100.0)" in text  # merlb − late on the clips that need the combination
    assert all(f"\n| {name} |" in text for name in FUSIONS)
    for figure in ("study_combinations.png", "study_effects.png"):
        assert f"figures/{figure}" in text
        assert (tmp_path / "figures" / figure).read_bytes().startswith(b"\x89PNG")


def test_the_published_figures_stand_beside_with_their_source(tmp_path: Path) -> None:
    answers = made_up({}, {})
    write_results(
        answers, findings(answers, 0.5), STUDY, "abc", ROOT / "docs/paper_f1.csv", tmp_path / "r.md", tmp_path
    )
    text = (tmp_path / "r.md").read_text(encoding="utf-8")
    assert "10.1007/s00530-025-01780-y" in text and "Not comparable" in text
    # merlb, multi-task, LoLs: valence (0.902 + 0.643 + 0.875) / 3, arousal (0.325 + 0.892 + 0.412) / 3
    assert "| lols | merlb | multi | 0.807 | 0.543 | 0.833 |" in text
