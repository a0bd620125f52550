"""The version of the software, in one place: the distribution's metadata is made from it too."""

__version__ = "0.1.0"
