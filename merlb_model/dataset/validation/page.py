from pathlib import Path
def write_page(page: Path, *rest: object) -> None:
    page.write_text("x")
