"""What holds for all tests. They run in two processes (see pyproject.toml): each file stays in one of them, and all that need a browser share one, and with it one JupyterLab.

No example has a deadline: on a busy machine a slow one is no mistake.
"""
import os, signal
import pytest
from hypothesis import settings

settings.register_profile('tqn', deadline=None)
settings.load_profile('tqn')

# A shell that starts the tests in the background has Ctrl-C ignored, and every child would inherit that
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN: signal.signal(signal.SIGINT, signal.default_int_handler)

if 'PYTEST_XDIST_WORKER' in os.environ: os.environ.setdefault('OMP_NUM_THREADS', '1')  # the processes share the cores

def pytest_collection_modifyitems(items):
    "Tests that stay together"
    for item in items: item.add_marker(pytest.mark.xdist_group('browser' if item.path.parent.name == 'browser' else item.path.name))
