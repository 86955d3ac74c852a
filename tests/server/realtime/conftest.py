"""A fresh protocol over a scripted stream."""

from __future__ import annotations

import pytest
from protocol_client import Client


@pytest.fixture
def client() -> Client:
    return Client()
