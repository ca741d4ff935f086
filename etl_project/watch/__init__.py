"""Watch: what a person looks at: status, history, alerts."""
