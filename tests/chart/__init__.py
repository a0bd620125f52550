"""Tests of the Helm chart and the schema in it."""
