"""Daily batch pipelines whose reruns are provably identical."""
