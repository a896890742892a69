"""Search for settings: a space, trials drawn from it, and which of them are worth training to the end."""
