"""What to do next for one RaftCluster: PURE, and where all of the operator's safety lives."""
