"""The owner of a live session, and who else may take it up again."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from streamvlm.errors import StoreError

NAME = "owner.json"


@dataclass(frozen=True, slots=True)
class Ownership:
    """An owner and the hash of a secret; both may be missing.

    Attributes:
        owner: "" if there is none.
        secret_sha256: SHA-256 of the secret that takes the session up; None if there is none.
    """

    owner: str = ""
    secret_sha256: str | None = None

    @classmethod
    def of(cls, owner: str, secret: str | None) -> Ownership:
        """Makes it from an owner and a secret in the clear."""
        return cls(owner, None if secret is None else _hash(secret))

    def admits(self, owner: str, secret: str | None) -> bool:
        """Whether this owner, or a client with this secret, may take the session up.

        A session with an owner is for that owner alone; one without is for every client that knows its secret.
        """
        if self.owner:
            return owner == self.owner
        if self.secret_sha256 is not None:
            return secret is not None and hmac.compare_digest(_hash(secret), self.secret_sha256)
        return owner == ""

    def save(self, folder: Path) -> None:
        """Writes it into a session's folder, which is made if need be.

        Raises:
            StoreError: If that cannot be written.
        """
        draft = folder / f"{NAME}.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(asdict(self)) + "\n", "utf-8")
            draft.replace(folder / NAME)
        except OSError as error:
            raise StoreError(f"{folder} cannot be written ({error.strerror}); choose another home.") from error

    @classmethod
    def load(cls, folder: Path) -> Ownership:
        """Reads it from a session's folder; without a file the session has no owner.

        Raises:
            StoreError: If the file cannot be read: then nobody may take the session up.
        """
        try:
            return cls(**json.loads((folder / NAME).read_text("utf-8")))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"{folder / NAME} is damaged ({error}); put back what it was.") from error


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
