"""The README documents the settings."""

import re

from app.settings import Settings
from serving.testing import ROOT


def test_the_readme_documents_every_setting_as_it_is() -> None:
    documented = re.findall(
        r"^\| `[A-Z_]+` \| `.*?` \| .*? \|$",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )

    assert documented == [
        f"| `{name.upper()}` | `{field.default}` | {field.description} |"
        for name, field in Settings.model_fields.items()
    ], "README.md needs these rows, in this order"
