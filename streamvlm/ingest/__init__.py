"""From video to frames: open sources, follow them, sample their pictures by stream time."""
