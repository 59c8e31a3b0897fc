"""The workbench in a browser: ``python -m app``. Interface only; every number comes from ``plrc``."""
