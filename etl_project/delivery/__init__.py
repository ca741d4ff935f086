"""HTTP out and in: every call carries an idempotency key, so that a rerun has at most one effect.

Belongs here: posting results to other systems, receiving files from them, and the records that make both safe to
repeat. Does not belong here: what a file means (`incoming`) and what a table holds (`storage`).
"""
