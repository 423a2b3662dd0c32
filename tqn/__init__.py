"Temporal Query Networks: ask a video questions and see which part of it answered each one."
__version__ = "0.1.0"

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what an editor completes; at run time each name is imported when it is first used
    from .queries import Query, QuerySet
    from .video import FrameFolder, Video, VideoError
    from .dives import SyntheticDives
    from .backbone import S3D
    from .decoder import QueryDecoder
    from .model import TQN, TQNOutput
    from .bank import FeatureBank
    from .build import build_bank
    from .protocol import score_videos
    from .attention import answer, plot_attention
    from .opening import open_data
    from .widgets import AttentionViewer, view
    from .browse import DataBrowser
    from .beside import CompareViewer, KeepAttention
    from .confusions import Confusions
    from .features import FeatureStore
    from .label import Labeller

_home = dict(Query='queries', QuerySet='queries', Video='video', FrameFolder='video', VideoError='video',
             SyntheticDives='dives', S3D='backbone', QueryDecoder='decoder', TQN='model', TQNOutput='model', FeatureBank='bank',
             answer='attention', plot_attention='attention', open_data='opening', build_bank='build', score_videos='protocol',
             view='widgets', AttentionViewer='widgets', DataBrowser='browse', CompareViewer='beside', KeepAttention='beside', Confusions='confusions', FeatureStore='features', Labeller='label')
__all__ = list(_home)

os.environ.setdefault('PYTORCH_NVML_BASED_CUDA_CHECK', '1')  # asking whether there is a GPU must not use it: a notebook's forks could not

if 'IN_TEST' in os.environ:  # nbdev_test runs a notebook on every core: more threads each would only wait for one another
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    if 'torch' in sys.modules: sys.modules['torch'].set_num_threads(int(os.environ['OMP_NUM_THREADS'].split(',')[0]))

def __getattr__(name):
    "Import the module that holds `name` when `tqn.name` is first read"
    if name not in _home: raise AttributeError(f"module 'tqn' has no attribute {name!r}; the main names are {', '.join(_home)}")
    globals()[name] = value = getattr(import_module(f'.{_home[name]}', __name__), name)
    return value

def __dir__(): return sorted({*globals(), *__all__})
