"""Commands of `composer data` as typed functions: fetch, check, stats, pack and synthesize."""
