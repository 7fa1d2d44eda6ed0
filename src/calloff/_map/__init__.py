"""Between floors 2 and 4: many items, each with its own limit, ladder and outcome; the door to this is `calloff.map`."""
