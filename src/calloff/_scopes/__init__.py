"""Floor 1: limits for code inside one task, and the shared timer that every deadline hangs on."""
