"""Says what a machine lacks to build this project, in one sentence, or nothing.

Run by the Makefile with the Python that is to make `.venv`.  It must be
understood by every Python 3 there is, so that an old one is told so too.
"""

import os
import shutil
import sys
import sysconfig


def missing():
    """Returns the sentence, or None when all is there."""
    if sys.version_info < (3, 11):
        return "Python 3.11 or newer is needed, and {} is {}.{}: name a newer one with PYTHON=...".format(
            sys.executable, *sys.version_info[:2]
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return "{} cannot make virtual environments: install python3-venv (Debian, Ubuntu) or python3-pip (Fedora)".format(
            sys.executable
        )
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return "there is no C compiler ({}): install gcc or clang, or name one with CC=...".format(compiler)
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        return "{} has no Python.h: install python3-dev (Debian, Ubuntu) or python3-devel (Fedora)".format(
            sys.executable
        )
    return None


if __name__ == "__main__":
    sentence = missing()
    if sentence is not None:
        sys.exit("make: " + sentence)
