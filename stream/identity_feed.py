"""Reads inventory.v1 whole, then follows it: every worker needs all of it."""

from schemas.inventory import InventoryObject
from schemas.topics import INVENTORY
from stream.settings import KafkaSettings
from stream.topic_feed import Apply, TopicFeed


class IdentityFeed(TopicFeed[InventoryObject]):
    """Gives every record on inventory.v1 to `apply`, in log order."""

    def __init__(self, kafka: KafkaSettings, apply: Apply[InventoryObject]) -> None:
        super().__init__(kafka, INVENTORY, InventoryObject, apply)
