"""The report of the shop, posted to whoever wants it."""
