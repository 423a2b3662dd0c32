"Temporal Query Networks: ask a video questions and see which part of it answered each one."
__version__ = "0.1.0"

import ast
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # The table of names: editors read it as it stands, and `__getattr__` below imports from it what is asked for
    from .questions.queries import Query, QuerySet
    from .video.decode import VideoError
    from .video.video import FrameFolder, Video, open_video, write_video
    from .video.transforms import Preprocess
    from .data.items import Item, open_item
    from .data.batches import FeatureDataset, WindowDataset, make_loader
    from .data.check import check, cut_items
    from .data.published import open_data
    from .dives.dives import SyntheticDives
    from .models.backbone import S3D
    from .models.decoder import QueryDecoder
    from .models.tqn import TQN, TQNOutput, small_model
    from .models.adapters import open_backbone, small_backbone
    from .features.stream import clip_features
    from .features.store import FeatureStore, check_features, extract
    from .features.bank import FeatureBank, build_bank, drift, plot_ages
    from .attention.answer import answer, answer_features
    from .attention.figure import plot_attention
    from .attention.scores import evaluate, score_videos
    from .attention.whatif import ask_again, curves
    from .attention.moments import Finder, moments, score_moments
    from .attention.marks import cut_moments, save_sheet, write_moments
    from .training.run import LivePlot
    from .training.loop import fit
    from .training.stage2 import fit_stage2, plot_staleness, read_visits
    from .widgets.viewer import AttentionViewer, view
    from .widgets.browse import Confusions, DataBrowser
    from .widgets.compare import CompareViewer, KeepAttention
    from .widgets.label import Labeller
    from .studies.grid import Grid, load_grid, run_grid
    from .studies.demo import dive_source

def _read_table(code):
    "{name: module} of the block above"
    block = next(n for n in ast.parse(code).body if isinstance(n, ast.If))
    return {a.name: i.module for i in block.body for a in i.names}

_home = _read_table(__spec__.loader.get_source(__name__))
__all__ = list(_home)

os.environ.setdefault('PYTORCH_NVML_BASED_CUDA_CHECK', '1')  # asking whether there is a GPU must not use it: a notebook's forks could not

if 'torch' not in sys.modules and not {'OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME'} & set(os.environ):  # read once, when torch is loaded: threads that wait sleep;
    os.environ['OMP_WAIT_POLICY'] = 'PASSIVE'  # spinning, a small training step took 3 to 25 times the CPU on a busy machine (tests/bench/bench_threads.py)

os.environ.setdefault('THP_MEM_ALLOC_ENABLE', '1')  # read when torch makes its first tensor (Linux): large ones in pages of 2 MB, which halves what it costs to prepare a clip (tests/bench/bench_load.py)

if 'IN_TEST' in os.environ:  # nbdev_test runs a notebook on every core: more threads each would only wait for one another, and nbdev has no place to say so
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    if 'torch' in sys.modules: sys.modules['torch'].set_num_threads(int(os.environ['OMP_NUM_THREADS'].split(',')[0]))

def __getattr__(name):
    "Import the module that holds `name` when `tqn.name` is first read"
    if name not in _home: raise AttributeError(f"module 'tqn' has no attribute {name!r}; the main names are {', '.join(_home)}")
    globals()[name] = value = getattr(import_module(f'.{_home[name]}', __name__), name)
    return value

def __dir__(): return sorted({*globals(), *__all__})
