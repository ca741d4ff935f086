"""What is stored, against what the contracts say now."""
