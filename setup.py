"""What pyproject.toml cannot say: the folder app/ is installed as plrc.app, beside what is found in plrc/."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["plrc", "plrc.*"]), "plrc.app"], package_dir={"plrc.app": "app"})
