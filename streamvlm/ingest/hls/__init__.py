"""HLS playlists, read on the playlist's own clock."""
