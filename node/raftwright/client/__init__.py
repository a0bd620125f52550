"""The client: `raftwright.Client`, its errors and its models."""
