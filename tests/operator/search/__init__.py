"""An exhaustive search of small states of the operator's world: the real `plan` against a model of all the rest.

`python -m tests.operator.search` runs it by hand.
"""
