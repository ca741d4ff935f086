"""Reading: from the bytes of one file to judged rows; a module a format."""
