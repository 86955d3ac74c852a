"""The disk tier: blocks in slots of segment files, found through a catalog, faded and dropped where room is scarce."""
