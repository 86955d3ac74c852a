"""The examples of the documents, as a reader copies them."""

from __future__ import annotations

import re
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def python_example(words: str) -> str:
    """Returns the one Python example that contains ``words``, of the README or the server's page."""
    documents = [_ROOT / "README.md", _ROOT / "docs" / "server.md"]
    examples = [code for path in documents for code in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)]
    (example,) = [code for code in examples if words in code]
    return str(example)
