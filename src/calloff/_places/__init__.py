"""Floor 3: where bodies run. Siblings that do not know each other; each carries out the rungs of the ladder."""
