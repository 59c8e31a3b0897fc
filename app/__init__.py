"""The workbench in a browser: ``plrc app``. Interface only; every number comes from ``plrc``."""
