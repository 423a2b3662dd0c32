"Temporal Query Networks: ask a video questions and see which part of it answered each one."
__version__ = "0.1.0"

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what an editor completes; at run time each name is imported when it is first used
    from .questions.queries import Query, QuerySet
    from .video.decode import VideoError
    from .video.video import FrameFolder, Video
    from .dives.dives import SyntheticDives
    from .models.backbone import S3D
    from .models.decoder import QueryDecoder
    from .models.tqn import TQN, TQNOutput
    from .features.bank import FeatureBank
    from .features.build import build_bank
    from .attention.scores import score_videos
    from .attention.answer import answer
    from .attention.figure import plot_attention
    from .data.published import open_data
    from .widgets.viewer import AttentionViewer, view
    from .widgets.browse import DataBrowser
    from .widgets.compare import CompareViewer, KeepAttention
    from .widgets.browse import Confusions
    from .features.store import FeatureStore
    from .widgets.label import Labeller

_home = dict(Query='questions.queries', QuerySet='questions.queries', Video='video.video', FrameFolder='video.video', VideoError='video.decode',
             SyntheticDives='dives.dives', S3D='models.backbone', QueryDecoder='models.decoder', TQN='models.tqn', TQNOutput='models.tqn', FeatureBank='features.bank',
             answer='attention.answer', plot_attention='attention.figure', open_data='data.published', build_bank='features.build', score_videos='attention.scores',
             view='widgets.viewer', AttentionViewer='widgets.viewer', DataBrowser='widgets.browse', CompareViewer='widgets.compare', KeepAttention='widgets.compare', Confusions='widgets.browse', FeatureStore='features.store', Labeller='widgets.label')
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
