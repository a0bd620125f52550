"""Sees one RaftCluster: its objects and what its nodes say."""
