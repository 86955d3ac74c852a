"""The items of a conversation, as the API shows them; what the model sees of it, the engine decides."""

from __future__ import annotations

from streamvlm_server.errors import ProtocolError
from streamvlm_server.realtime.server_events import new_id
from streamvlm_server.realtime.shapes import Item

MAX_ITEMS, MAX_CHARS = 512, 1 << 20


class Conversation:
    """Items in order; the oldest leave beyond 512 items or a million characters, as every frame is an item.

    Attributes:
        id: Of the conversation.
    """

    def __init__(self) -> None:
        self.id = new_id("conv")
        self._items: list[Item] = []
        self._unasked: set[str] = set()

    def place(self, item_id: str, after: str | None) -> int:
        """Returns the place of a new item.

        Args:
            item_id: Of the new item.
            after: Id of the item before it, or ``root`` for the very front; None for the end.

        Raises:
            ProtocolError: If there is an item of that id already, or none to go after.
        """
        if any(item.id == item_id for item in self._items):
            raise ProtocolError(f"There is an item {item_id} already; choose another id.", param="item.id")
        if after == "root":
            return 0
        return len(self._items) if after is None else self._find(after, "invalid_event", "previous_item_id") + 1

    def insert(self, place: int, item: Item) -> str | None:
        """Adds an item, and returns the id of the item before it; a user's text waits to be asked."""
        before = self._items[place - 1].id if place else None
        self._items.insert(place, item)
        if item.role == "user" and text_of(item):
            self._unasked.add(item.id)
        while len(self._items) > MAX_ITEMS or sum(len(text_of(kept)) for kept in self._items) > MAX_CHARS:
            self._unasked.discard(self._items.pop(0).id)
        return before

    def append(self, item: Item) -> str | None:
        """Adds an item at the end."""
        return self.insert(len(self._items), item)

    def update(self, item: Item) -> None:
        """Replaces the item of the same id, if it is still there."""
        self._items = [item if kept.id == item.id else kept for kept in self._items]

    def get(self, item_id: str, *, code: str = "invalid_event") -> Item:
        """Returns the item of an id.

        Raises:
            ProtocolError: With ``code``, if there is none.
        """
        return self._items[self._find(item_id, code, "item_id")]

    def remove(self, item_id: str) -> None:
        """Takes an item out.

        Raises:
            ProtocolError: If there is none of that id.
        """
        del self._items[self._find(item_id, "item_delete_invalid_item_id", "item_id")]
        self._unasked.discard(item_id)

    def question(self) -> str:
        """Returns the texts of users that were not asked yet, one line for each message."""
        return "\n".join(text_of(item) for item in self._items if item.id in self._unasked)

    def mark_asked(self) -> None:
        """Marks all texts as asked."""
        self._unasked.clear()

    def _find(self, item_id: str, code: str, param: str) -> int:
        for place, item in enumerate(self._items):
            if item.id == item_id:
                return place
        raise ProtocolError(f"There is no item {item_id} in the conversation.", code=code, param=param)


def text_of(item: Item) -> str:
    """Returns the words of an item, one line for each part."""
    return "\n".join(part.text for part in item.content if part.text)
