"""From video to gated frames: open sources, sample them by stream time, judge what each frame adds."""
