"No example has a deadline: on a busy machine a slow one is no mistake"
import signal
from hypothesis import settings

settings.register_profile('tqn', deadline=None)
settings.load_profile('tqn')

# A shell that starts the tests in the background has Ctrl-C ignored, and every child would inherit that
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN: signal.signal(signal.SIGINT, signal.default_int_handler)
