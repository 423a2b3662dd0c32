"""What holds for all tests. They run in two processes (see pyproject.toml): each file stays in one of them, and all that need a browser share one, and with it one JupyterLab.

No example has a deadline: on a busy machine a slow one is no mistake.
"""
import os, signal
import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

settings.register_profile('tqn', deadline=None)
settings.load_profile('tqn')

# A shell that starts the tests in the background has Ctrl-C ignored, and every child would inherit that
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN: signal.signal(signal.SIGINT, signal.default_int_handler)

if 'PYTEST_XDIST_WORKER' in os.environ: os.environ.setdefault('OMP_NUM_THREADS', '1')  # the processes share the cores

class Together(LoadScopeScheduling):
    "A file is run by one process, which makes its fixtures once; all that needs a browser is one such file"
    def _split_scope(self, nodeid): return 'browser' if nodeid.startswith('tests/browser/') else nodeid.split('::')[0]

def pytest_xdist_make_scheduler(config, log): return Together(config, log)      # `--dist loadgroup` of xdist 3.8 sees no groups under pytest 9.2, and says nothing
