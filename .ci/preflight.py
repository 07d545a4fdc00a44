"""Says what a machine lacks to build this project, in one sentence, or nothing.

Run by the Makefile with the Python that is to make `.venv`.  Every Python 3
must understand it, so that an old one is told that it is old.
"""

import os
import shutil
import sys
import sysconfig


def missing():
    """Returns the sentence, or None when all is there."""
    python = sys.executable
    if sys.version_info < (3, 11):  # noqa: UP036
        version = "{}.{}".format(*sys.version_info[:2])
        return (
            f"Python 3.11 or newer is needed, and {python} is {version}: name it with PYTHON=..."
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return (
            f"{python} cannot make virtual environments:"
            " install python3-venv (Debian, Ubuntu) or python3-pip (Fedora)"
        )
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler '{compiler}': install gcc or clang, or name it with CC=..."
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        return (
            f"{python} has no Python.h:"
            " install python3-dev (Debian, Ubuntu) or python3-devel (Fedora)"
        )
    return None


if __name__ == "__main__":
    sentence = missing()
    if sentence is not None:
        sys.exit("make: " + sentence)
