"""README.md's examples, as a reader copies them."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def python_example(words: str) -> str:
    """Returns the one Python example that contains ``words``."""
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (example,) = [code for code in examples if words in code]
    return str(example)
