"""Values: from the texts of a file to typed values, strictly, or as a source says that they are written."""
