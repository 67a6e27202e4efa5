"""What `composer data` does: check, fetch, pack, count and synthesize."""
