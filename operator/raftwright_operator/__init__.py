"""The operator: reconciles RaftCluster resources into StatefulSets, and changes membership through the nodes' own API.

Rule: all safety lives in `plan`; only `observe` and `execute` do I/O; only `handlers` imports kopf.
"""
