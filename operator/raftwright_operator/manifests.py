"""The objects of one RaftCluster, as Kubernetes takes them: PURE."""
