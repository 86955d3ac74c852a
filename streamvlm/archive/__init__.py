"""One stream on disk: a folder with its blocks, its diary and who owns it; and the folders of all sessions."""
