"""HTTP in: uploads become files in the drop folder, at most once a key."""
