"""Jobs that tests of the task lock take."""

MONDAY, TUESDAY, WEDNESDAY = [("orders", f"2024-01-0{day}") for day in (1, 2, 3)]
