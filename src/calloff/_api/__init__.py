"""Floor 4: the verbs. The only floor that knows both operations and places."""
