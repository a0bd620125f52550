"""The one module that knows kopf."""
