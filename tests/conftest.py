"No example has a deadline: on a busy machine a slow one is no mistake"
from hypothesis import settings

settings.register_profile('tqn', deadline=None)
settings.load_profile('tqn')
