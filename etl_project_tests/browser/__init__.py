"""The real UI in a real browser: what it shows, what can be done in it, and the pictures of the README."""
