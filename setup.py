"""A shim for tools that look for this file. All metadata is in setup.cfg."""

from setuptools import setup

setup()
