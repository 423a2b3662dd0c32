"Videos as features from which answers can be read, data that breaks, and results of grids made up: for tests of comparisons"
import os
from dataclasses import replace
from pathlib import Path
import numpy as np, torch
from safetensors.torch import save_file
from tqn.data.items import Item, write_manifest
from tqn.data.batches import FeatureDataset
from tqn.studies.grid import Experiment
from tqn.questions.queries import Query, QuerySet

QUESTIONS = QuerySet([Query('colour', ['red', 'blue']), Query('count', ['0', '1', '2'], kind='count')], classes=[('a', ['red', '0']), ('b', ['blue', '1']), ('c', ['blue', '2'])])
SMALL = dict(d_model=8, n_layers=1, n_heads=2, epochs=1)

def toy(n, seed, extents=True, gaps=False):
    "n videos of 3 to 5 clips: the colour is in the first, the count in the second; with gaps, some have no class and some no count"
    rng, items, features = np.random.default_rng(seed), [], {}
    for i in range(n):
        c, k, id = int(rng.integers(3)), int(rng.integers(3, 6)), f'{seed}-{i}'
        f = rng.normal(0, .3, (k, 6))
        f[0, min(c, 1)] += 3; f[1, 2+c] += 3
        features[id] = torch.tensor(f, dtype=torch.float32)
        answers = {'colour': ['red', 'blue', 'blue'][c], **({} if gaps and i%5 == 3 else {'count': '012'[c]})}
        items.append(Item(id, None, answers, None if gaps and i%3 == 1 else 'abc'[c], {'colour': (0, 8), 'count': (8, 16)} if extents else None, 8*k - 3))
    return FeatureDataset(features, items, QUESTIONS)

def toys(**settings): return {'train': toy(24, 1, **settings), 'val': toy(10, 2, **settings), 'test': toy(14, 3, **settings)}

def save_toys(folder):
    "The same as a manifest and a folder of features: (manifest, features)"
    (folder/'features').mkdir(parents=True)
    items = []
    for split, data in toys().items():
        for o in data.items: save_file({'features': data.kept[o.id]}, folder/'features'/f'{o.id}.safetensors')
        items += [replace(o, split=split) for o in data.items]
    return write_manifest(folder/'manifest.csv', items), folder/'features'

# Sources that processes call

def dying(): os._exit(3)

def refusing(): raise ValueError('the disk with the features is gone')

# Results

def made_run(rng, ids, questions=QUESTIONS, where=True, row=None, missing=.2, splits=('val', 'test')):
    "What `run_one` gives, with answers that are right by chance, some of them not known"
    row = row or Experiment(**SMALL)
    scores = {s: made_scores(rng, ids, questions, missing) for s in splits}
    result = dict(seed=0, settings=vars(row), parameters=int(rng.integers(1, 10**7)), cpu_s=float(rng.random()), best_epoch=1, reading='query', **scores)
    return result | ({'where': made_where(rng, ids, questions)} if where else {})

def made_scores(rng, ids, questions, missing):
    known = {q: [i for i in ids if rng.random() >= missing] for q in questions.names}
    right = {q: {i: bool(rng.random() < .6) for i in k} for q, k in known.items()}
    for q in ('class', 'class (query)'): right[q] = {i: bool(rng.random() < .5) for i in ids}
    scores = {q: float(np.mean(list(r.values()))) if r else None for q, r in right.items()}
    asked = [scores[q] for q in questions.names if scores[q] is not None]
    scores['mean answer'] = float(np.mean(asked)) if asked else None
    counts = [q for q in questions if q.kind == 'count']
    return dict(scores=scores, right=right, confusion={q.name: dict(labels=list(q.answers), counts=rng.integers(0, 9, (len(q), len(q))).tolist()) for q in counts})

def made_where(rng, ids, questions, ways=('attention', 'layer 0', 'layer 1', 'gradient', 'hidden')):
    "Where a run looked, where nobody knows the evidence of the class"
    names = [*questions.names, 'class']
    hide = lambda a: [None if np.isnan(v) else float(v) for v in a]
    def way(by):
        own, gap = rng.random((2, len(names), len(ids)))
        own[-1] = gap[-1] = np.nan
        controls = ('elsewhere',) if by == 'hidden' else ('uniform', 'fixed', 'flight', 'cosine', 'mass')
        means = zip(names, hide(own.mean(1)), hide(gap.mean(1)))
        rows = {q: dict(n=0 if o is None else len(ids), own=o, wrong=float(rng.random()), gap=g, **{c: float(rng.random()) for c in controls}) for q, o, g in means}
        videos = {q: dict(own=hide(own[i]), gap=hide(gap[i])) for i, q in enumerate(names)}
        return dict(rows=rows, videos=videos, square=[hide(r) for r in rng.random((len(names), len(names)))])
    area = lambda: {q: {'n': 3, **{k: float(rng.random()) for k in ('insertion', 'deletion', 'random')}} for q in names}
    return dict(names=names, ids=list(ids), by={w: way(w) for w in ways}, agreement={q: float(rng.random()) for q in names}, curves={w: area() for w in ways if w in ('attention', 'gradient')})
