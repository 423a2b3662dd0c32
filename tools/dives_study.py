"""Queries behind a convolution on rendered dives, scored on films that nobody has looked at: the study behind the default of `tqn demo`.

`python tools/dives_study.py --data data/demo` takes the films of the demo (more of them for training; val; the test films that every version
of the kit has been scored on), renders fresh test films with another seed, chooses the convolution on val with seed 0, trains the decoder
as published and behind the convolution with three seeds, and scores both on both sets of test films, once. Writes nbs/results/dives.json."""
import argparse, os
from pathlib import Path
os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
import torch
from tqn.attention.localise import bootstrap
from tqn.core.files import write_json
from tqn.dives.dives import SyntheticDives
from tqn.models.tqn import TQN
from tqn.models.adapters import small_backbone
from tqn.studies.demo import FILM, dive_features, dive_model, localise_dives, mean_answer, render_dives, score_dives, train_dives, DEMO_SIZES

ROOT = Path(__file__).resolve().parents[1]
FRESH = 2026                                                   # seed of the films; the demo's is 0
SIZES = dict(test=480, unseen=240, long_test=96)               # fresh films
KNOWN = {**DEMO_SIZES[False], 'train': 1200}                   # the demo trains on fewer, for time
PLAIN = dict(convolution=0, n_convs=1)                         # the paper
TRIED = [dict(convolution=k, n_convs=n) for k in (3, 5) for n in (1, 2)]

def right(ev):
    "Right answers of every film and question, and of the class where there is one"
    hits = {q: [float(p.argmax() == y) for p, y in zip(*ev.truth(q))] for q in ev.queries.names}
    return np.array(list(hits.values())).T

def study(data, work, out, seeds):
    "Choose on val, train, score once"
    backbone = small_backbone()
    dives = render_dives(data, sizes={False: KNOWN}, film=FILM)
    fresh = {s: SyntheticDives(data/'fresh', s, n=n, seed=FRESH, **FILM) for s, n in SIZES.items()}
    known, new = dive_features(backbone, dives, data/'features'), dive_features(backbone, fresh, data/'fresh'/'features')

    def trained(how, seed):
        folder, model = work/f"{how['convolution']}-{how['n_convs']}-{seed}", dive_model(backbone, seed, **how)
        if not (folder/'best').exists() or not (folder/'done').exists():
            train_dives(model, known, folder, seed=seed, overwrite=True, callbacks=[])
            (folder/'done').touch()
        return TQN.from_pretrained(folder/'best')

    def val_of(how): return mean_answer(score_dives(trained(how, 0), {s: known[s] for s in ('train', 'val')})['val'])
    tried = [dict(**how, val=val_of(how)) for how in TRIED]
    best = TRIED[int(np.argmax([o['val'] for o in tried]))]
    print('chosen on val:', best, tried, flush=True)
    arms, films = {'as published': PLAIN, 'behind a convolution': best}, {}
    rows = []
    for name, how in arms.items():
        models = [trained(how, s) for s in seeds]
        for which, sets in (('seen', known), ('fresh', {**{s: known[s] for s in ('train', 'val')}, **new})):
            scored = [score_dives(m, sets) for m in models]
            hits = localise_dives(models, sets['long_test']).to_frame('hit')
            for split in ('test', 'unseen', 'long_test'):
                tables = [run[split].to_frame() for run in scored]
                films[name, which, split] = np.stack([right(run[split]).mean(1) for run in scored])
                names = [*tables[0].index]
                rows.append(dict(arm=name, films=which, split=split, n=len(scored[0][split]), accuracy={q: [float(t.accuracy[q]) for t in tables] for q in names if not q.startswith('class')},
                                 majority={q: float(tables[0].majority[q]) for q in names if not q.startswith('class')},
                                 **({'class': [float(t.accuracy[f'class ({m.class_reading})']) for t, m in zip(tables, models)]} if tables[0].n.get('class (query)', 0) else {}),
                                 **({'peaks': {q: dict(own=float(r.own), wrong=float(r.wrong), fixed=float(r.fixed), gap=[float(r.gap), float(r.low), float(r.high)]) for q, r in hits[hits.n > 0].iterrows()}} if split == 'long_test' else {})))
    gaps = []
    for which in ('seen', 'fresh'):
        for split in ('test', 'unseen', 'long_test'):
            d = films['behind a convolution', which, split] - films['as published', which, split]
            gaps.append(dict(films=which, split=split, gap=[float(d.mean()), *bootstrap(d)]))
    write_json(out/'dives.json', dict(about=dict(seeds=seeds, fresh=FRESH, chosen=best, tried=tried, film=FILM, sizes={'seen': KNOWN, 'fresh': SIZES}), rows=rows, gaps=gaps))
    for r in rows: print(r['arm'], r['films'], r['split'], r['n'], round(float(np.mean(r['accuracy']['mean answer'])), 4), 'twist', round(float(np.mean(r['accuracy']['twist'])), 4))
    for g in gaps: print(g)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, default=ROOT/'data'/'demo', help='films of the demo; the fresh ones go into a folder of it')
    parser.add_argument('--work', type=Path, default=ROOT/'runs'/'dives-study', help='trained models')
    parser.add_argument('--out', type=Path, default=ROOT/'nbs'/'results', help='where dives.json goes')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='seeds of every arm')
    args = parser.parse_args()
    torch.set_num_threads(1)
    study(args.data, args.work, args.out, args.seeds)
