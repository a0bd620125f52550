"""Raftwright: a Raft service for Kubernetes and a Raft library."""

__version__ = "0.1.0"
