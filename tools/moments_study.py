"""How good are moments? The study behind nbs/tutorials/moments.ipynb: every method, chosen on validation films, beside everything that needs no model.

`python tools/moments_study.py dives --data data/dives --models runs/seed0 runs/seed1 runs/seed2` scores trained models on rendered dives, short and long;
`python tools/moments_study.py grid --data GRID --features FEATURES --models ...` on GRID, moved and long. Both write their part of nbs/results/moments.json.
Method, reading and trust are chosen on validation films alone; test films are scored once with what was chosen there."""
import argparse, json, os, time
from dataclasses import asdict, replace
from pathlib import Path
os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
import torch
from torch import nn
from tqn.attention.localise import bootstrap, clip_overlap, nan_mean
from tqn.attention.moments import (
    Finder, Reading, calibrate, choose_finder, film_clips, film_of, layers_of, moments, read_spans, reliability, roc_area, score_moments,
    span_iou)
from tqn.core.files import read_plain, write_json
from tqn.data.batches import load_features
from tqn.data.items import as_items, extent_list
from tqn.data.published import open_data
from tqn.features.store import Timing
from tqn.models.tqn import TQN

ROOT = Path(__file__).resolve().parents[1]
OWN = ['approach','twist','position','entry']          # dives: questions with evidence of their own
WIDTHS = dict(smooth=(0,), width=(3,4,5,6,7,8,10,12,16,24,32,40,56,80,112,160))
METHODS = ('attention','gradients','hiding','product','mixture')

class Rows(dict):
    "Films as features with their times, kept once they were read; of films put together from others the rows of their frames"
    def __init__(self, folder, items, hop): super().__init__((o.id, o) for o in items); self.folder,self.hop,self.kept = Path(folder),hop,{}
    def rows(self, id): f = load_features(self.folder, id); return (f[0] if f.ndim==3 else f).float()
    def __getitem__(self, id):
        item = super().__getitem__(id)
        if id not in self.kept: self.kept[id] = self.rows(id) if not item.stretches else torch.cat([self.rows(f'{Path(path).parent.name}_{Path(path).stem}')[a:b].repeat_interleave(times, 0) for path,a,b,times,*_ in item.stretches])
        return film_of(id, self.kept[id], Timing(self.hop, self.hop, item.fps or 25., item.n_frames))

def dives(args):
    "{split: items}, features, questions that are chosen on"
    root,look = Path(args.data),'natatorium'
    def items(split, n): return [o for o in as_items({**r, 'path': None} for r in json.loads((root/look/split/'index.json').read_text())['items'])][:n]
    val = items('val', args.val)+items('long_val', args.val)
    tests = {'short': items('test', args.most), 'long': items('long_test', args.long)}
    train = {'short': items('train', None), 'long': items('long_train', None) if (root/look/'long_train/index.json').exists() else items('long_val', 48)}
    folder = Path(args.features or next((root/'features').iterdir()))
    return val, tests, train, items('train', None), Rows(folder, [*val, *train['short'], *(o for t in tests.values() for o in t)], 8), OWN

def grid(args):
    val,tests,train = [],{},{}
    for variant in ('moved','long'):
        data = open_data(args.data, variant=variant, missing='keep')
        val += data['val'][:args.val]; tests[variant] = data['test'][:args.long if variant=='long' else args.most]; train[variant] = data['train']
    return val, tests, train, train['moved'], Rows(Path(args.features), [*val, *(o for t in (*tests.values(), *train.values()) for o in t)], 1), None

def spread(found, questions):
    "What is reported of scored moments"
    own = [q for q in found.names if questions is None or q in questions]
    f = found.to_frame()
    def recall(c, t): return float(nan_mean(nan_mean(found.hits(c, t), (0,1))[[found.names.index(q) for q in own]], -1))
    per_run = [float(nan_mean(nan_mean(found.hits('own', .5)[r], 0)[[found.names.index(q) for q in own]], -1)) for r in range(len(found.inside))]
    return dict(table=f.reset_index().to_dict('records'), own={f'R@{t}': recall('own', t) for t in (.3,.5,.7)}, per_run=per_run,
        others={c: {f'R@{t}': recall(c, t) for t in (.3,.5,.7)} for c in found.over if c!='own'},
        gains={c: {f'R@{t}': found.gain(c, t, own) for t in (.3,.5)} for c in found.over if c!='own' and not np.isnan(found.over[c]).all()})

class Timed(nn.Module):
    "The supervised bound: convolutions over the same features, trained on the times"
    def __init__(self, d, names):
        super().__init__()
        self.names,self.net = names,nn.Sequential(nn.BatchNorm1d(d, affine=False), nn.Conv1d(d, 96, 1), nn.ReLU(), nn.Dropout(.2), nn.Conv1d(96, 96, 5, padding=2), nn.ReLU(), nn.Dropout(.2), nn.Conv1d(96, len(names), 5, padding=2))
    def forward(self, x): return self.net(x.mT)          # (b, n, d) -> (b, q, n)

def inside(item, frames, names): # how much of each clip shows the evidence (q, n)
    shown = [clip_overlap(e, frames) if extent_list(e := item.extents.get(q)) else np.zeros(len(frames)) for q in names]
    return torch.tensor(np.stack(shown)/(frames[:,1]-frames[:,0]), dtype=torch.float32)

def train_timed(model, items, val, features, names, seed, epochs=12, batch=16):
    "The net and the reading of its maps that find most on validation films, of three looks at them"
    torch.manual_seed(seed)
    films = [(f.features, inside(o, f.frames, names)) for o,f in zip(items, film_clips(model, items, features))]
    held,best = [(o, f) for o,f in zip(val, film_clips(model, val, features))],(-1, None, None)
    net = Timed(films[0][0].shape[1], names); opt = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-2)
    pad = lambda rows: nn.utils.rnn.pad_sequence(rows, batch_first=True)
    for epoch in range(epochs):
        net.train()
        for at in torch.randperm(len(films)).split(batch):
            x,y = pad([films[i][0] for i in at]),pad([films[i][1].T for i in at]).mT
            real = pad([torch.ones(len(films[i][0])) for i in at])[:,None]
            loss = (nn.functional.binary_cross_entropy_with_logits(net(x), y, reduction='none')*real).sum()/real.sum()
            opt.zero_grad(); loss.backward(); opt.step()
        if epoch+1 not in (epochs//3, 2*epochs//3, epochs): continue
        net.eval()
        with torch.no_grad(): maps = [net(f.features[None])[0].sigmoid().numpy() for _,f in held]
        for reading in (Reading(smooth=s, threshold=t, least=0.) for s in (0,1.,2.) for t in (.2,.3,.4,.5,.6,.7)):
            hits = [[span_iou(read_spans(m, f.frames, reading)[:1,:2], extent_list(o.extents[q])).max()>=.5 for (o,f),p in zip(held, maps) for m in [p[i]] if o.extents.get(q)] for i,q in enumerate(names)]
            score = float(np.mean([np.mean(h) for h in hits if h]))
            if score>best[0]: best = (score, {k: v.clone() for k,v in net.state_dict().items()}, reading)
    net.load_state_dict(best[1])
    print('bound on val', best[0], best[2], flush=True)
    return net.eval(),best[2]

def timed_table(net, reading, model, items, features, table):
    "Its spans, with the model's answers"
    rows = []
    for f in film_clips(model, items, features):
        with torch.no_grad(): p = net(f.features[None])[0].sigmoid().numpy()
        for q,m in zip(net.names, p):
            s = read_spans(m, f.frames, reading)
            rows.append(dict(film=f.id, question=q, first=int(s[0,0]), last=int(s[0,1]), peak=int(s[0,3]), score=float(m.max())))
    import pandas as pd
    return pd.DataFrame(rows).merge(table[['film','question','answer','probability']].drop_duplicates(['film','question']), on=['film','question'])

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('set', choices=['dives','grid']); parser.add_argument('--data', required=True); parser.add_argument('--features'); parser.add_argument('--models', nargs='+', required=True)
    parser.add_argument('--out', default=ROOT/'nbs/results/moments.json'); parser.add_argument('--val', type=int, default=48, help='validation films of each kind'); parser.add_argument('--most', type=int, help='test films of each kind'); parser.add_argument('--long', type=int, help='long test films'); parser.add_argument('--methods', nargs='+', default=METHODS, help='methods to choose from'); parser.add_argument('--bound', type=int, default=1200, help='training films of the supervised bound; 0 for none')
    args = parser.parse_args()
    val,tests,train,learn,features,questions = dict(dives=dives, grid=grid)[args.set](args)
    models,began = [TQN.from_pretrained(m).eval() for m in args.models],time.process_time()
    picked,said = [],[]
    for model in models:
        finder,trials = choose_finder(model, val, features, questions, [f for f in layers_of(model) if f.method in args.methods], progress=False)
        print(trials.sort_values('mean', ascending=False, kind='stable').drop_duplicates(['method','layer','size']).round(2).to_string(), flush=True)
        by = {m: replace(Finder(), **{k: t[k] for k in ('smooth','threshold')}, method=m, layer=None if t.layer is None or t.layer!=t.layer else int(t.layer), size=int(t['size']))
              for m in args.methods for t in [trials[trials.method==m].sort_values('mean', ascending=False, kind='stable').iloc[0]]}
        peak,wide = choose_finder(model, val, features, questions, [Finder()], WIDTHS, progress=False)
        on_val = score_moments(moments(model, val, features=features, finder=finder, progress=False), val, questions=questions)
        finder = calibrate(finder, on_val)
        picked.append(dict(chosen=finder, **{f'by {m}': f for m,f in by.items()}, **{'peak of a fixed width': peak, 'default': Finder()}))
        said.append(dict(finder=asdict(finder), val=trials.sort_values('mean', ascending=False).drop_duplicates(['method','layer','size']).to_dict('records'), on_val=spread(on_val, questions)['own']))
        print('val', finder, spread(on_val, questions)['own'], f'{time.process_time()-began:.0f} s', flush=True)
    nets = [train_timed(m, learn[:args.bound], val, features, questions or list(learn[0].extents), s) for s,m in enumerate(models)] if args.bound else []
    result = dict(models=len(models), films={'val': len(val), **{k: len(t) for k,t in tests.items()}}, questions=questions, choices=said, tests={}, cpu={})
    for name,items in tests.items():
        scored,tables = {},{}
        for how in picked[0]:
            began = time.process_time()
            tables[how] = [moments(m, items, features=features, finder=p[how], needed=how=='chosen', progress=False) for m,p in zip(models, picked)]
            result['cpu'][f'{name}, {how}'] = (time.process_time()-began)/len(models)/len(items)*1000
            scored[how] = score_moments(tables[how], items, train[name], questions if how!='default' else None)
        if nets: scored['trained on times'] = score_moments([timed_table(*n, m, items, features, t) for n,m,t in zip(nets, models, tables['chosen'])], items, train[name], questions)
        rows,best = scored['chosen'].rows,scored['chosen']
        def over(other): # what the chosen finder gains over another on the same films
            keep = [i for i,q in enumerate(best.names) if questions is None or q in questions]
            there = [scored[other].names.index(best.names[i]) for i in keep]
            d = {t: nan_mean(best.hits('own', t)[...,keep]-scored[other].hits('own', t)[...,there], -1) for t in (.3,.5)}
            return {f'R@{t}': (float(nan_mean(v, (0,1))), *bootstrap(v)) for t,v in d.items()}
        area = {f'{c}, IoU {t}': roc_area(rows[c], rows.iou>=t) for c in ('needed','score','trust','probability') for t in (.3,.5)}
        by_question = {q: {f'IoU {t}': roc_area(r.needed, r.iou>=t) for t in (.3,.5)} for q,r in rows.groupby('question')}
        lucky = rows.remark.str.startswith('right by luck')
        result['tests'][name] = dict(methods={k: spread(v, questions) for k,v in scored.items()}, gains={k: over(k) for k in scored if k!='chosen'}, roc_area=area, needed_by_question=by_question,
            reliability=reliability(rows.trust, rows.iou>=.5).to_dict('records'),
            luck=dict(share=float(lucky.mean()), right_moment=float((rows.iou>=.5)[lucky].mean()), others=float((rows.iou>=.5)[~lucky].mean()), right_answer=float(rows.right[lucky].astype(float).mean())))
        print(name, best, *(f"{k}: {v['own']} {v['per_run']}" for k,v in result['tests'][name]['methods'].items()), result['tests'][name]['gains'], area, by_question, result['tests'][name]['luck'], sep='\n', flush=True)
    everything = read_plain(args.out, dict) if Path(args.out).exists() else {}
    print(write_json(args.out, {**everything, args.set: result}), result['cpu'])

if __name__ == '__main__': main()
