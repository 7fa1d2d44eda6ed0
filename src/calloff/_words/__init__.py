"""Floor 0: the nouns and the pure decisions. Plain data, no event loop, importable anywhere."""
