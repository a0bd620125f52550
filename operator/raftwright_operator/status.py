"""The status of one RaftCluster, from what was seen and decided: PURE."""
