"""Which frames are worth keeping: the curvature of the feature trajectory, and the verdict on each frame."""
