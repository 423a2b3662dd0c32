"""Four ways to train on videos that are too long to be trained on whole: the study behind nbs/tutorials/sufb.ipynb.

`python tools/sufb_study.py` renders what it needs, prepares both backbones, runs every arm that has no result yet, each in a
process of its own, and writes nbs/results/sufb.json and sufb.csv after each. Stop it whenever you like and start it again, or take
a part of it: `--gaps gap --seeds 0 1 --arms start frozen sufb`. `--quick` tries everything in a few minutes, in a folder of its own.
`python tools/sufb_study.py --on grid --data GRID` asks the same of real film: frames of a mouth, a network that knows photographs.

Nothing here trains: stage 1 is `fit`, stage 2 is `fit_stage2`, rows come from `build_bank`, test scores from `score_videos`."""
import argparse, csv, json, math, os, re, subprocess, sys, time, traceback
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
import torch
from safetensors.torch import load_file
from tqn.features.stream import clip_features
from tqn.attention.scores import evaluate, score_videos
from tqn.core.files import write_atomic
from tqn.data.batches import FeatureDataset, FrameCache, WholeVideos, WindowDataset, make_loader
from tqn.data.items import as_items
from tqn.data.published import open_data
from tqn.dives.diver import dives_queries
from tqn.dives.dives import make_item, render_files
from tqn.features.bank import FeatureBank, build_bank, drift
from tqn.features.store import extract
from tqn.models.tqn import TQN
from tqn.models.adapters import DIVE_CLIPS, load_backbone, open_backbone, small_backbone
from tqn.models.losses import tqn_loss
from tqn.studies.demo import LOSS, dive_model, train_dives
from tqn.training.loop import fit
from tqn.training.settings import resolve
from tqn.training.stage2 import fit_stage2
from tqn.video.transforms import Preprocess, TrainTransform, color_jitter, read_box

ROOT = Path(__file__).resolve().parents[1]
GAPS = {'gap': 'pre-trained on the other look', 'own': 'pre-trained further on the look of the benchmark'}
WAYS = dict(frozen='frozen bank', sparse='sparse sampling', full='end to end', sufb='SUFB')
LOOK, VIDEOS = 'natatorium', dict(train=1200, val=240, long_train=480, long_val=64, long_test=128)
QUICK = dict(train=24, val=8, long_train=6, long_val=3, long_test=4)
SIZE, BATCH, SECONDS = 64, 8, dict(dives=72., grid=360.)   # pixels; videos a step; CPU seconds an arm
TRIED = dict(frozen=[(1e-4, 1e-4), (3e-4, 3e-4)], sufb=[(1e-5, 1e-4), (3e-5, 1e-4), (1e-4, 3e-4)],  # learning rates of backbone, queries and heads, and of the decoder
             sparse=[(1e-5, 1e-4), (3e-5, 1e-4)], full=[(3e-5, 1e-4), (1e-4, 3e-4)])                # the best on val, seed 0, is used everywhere
PATIENCE = 15                                  # passes of the frozen bank without a new best on val


# What every arm shares: videos, features, the bank, stage 1

class Place:
    "Rendered dives: where videos and work are, and the frames that stay decoded"
    name, gaps, tried, k = 'dives', GAPS, TRIED, 6          # k: clips a step
    clips, view, loss = {}, DIVE_CLIPS.clean_view(), LOSS   # clips: of 8 frames, one after the other
    augment = TrainTransform(SIZE, 2, DIVE_CLIPS.mean, DIVE_CLIPS.std, scale=(.85, 1.), ratio=(.95, 1.05), crop_p=1., flip_p=0., jitter=(.3, .3, 0., 0.))

    def __init__(self, data, work, videos=VIDEOS, epochs=30):
        self.data, self.work, self.videos, self.epochs = Path(data), Path(work), videos, epochs
        self.frames = FrameCache(6*2**30)      # the seconds below measure learning and not decoding

    def items(self, split):
        "The videos of a split, rendered where they are not"
        folder = self.data/LOOK/split
        items = [make_item(LOOK, split, 0, i) for i in range(self.videos[split])]
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [(str(folder), LOOK, split, 0, SIZE, int(Path(o['path']).stem)) for o in items if not (folder/o['path']).exists()]
        if jobs: render_files(jobs, title=f'render {split}')
        return as_items({**o, 'path': folder/o['path']} for o in items)

    def long(self, split): return self.items(f'long_{split}')   # what stage 2 learns from

    def backbone(self, gap):
        "The shipped backbone, or the one without the gap"
        if gap == 'gap': return small_backbone()
        path = self.work/'own_look.safetensors'
        if not path.exists(): subprocess.run([sys.executable, ROOT/'tools'/'own_look.py', path], check=True)
        return load_backbone(path)

    def features_of(self, gap, items, queries, preprocess):
        "Features by the backbone before stage 2, computed once"
        folder = extract(self.backbone(gap), items, self.work/gap/'features', preprocess, progress=False).folder
        return FeatureDataset(folder, items, queries)

    def features(self, gap, split): return self.features_of(gap, self.items(split), dives_queries(), DIVE_CLIPS)
    def kept(self, gap, split): return self.features(gap, f'long_{split}')

    def train(self, gap, seed, folder):
        split = {s: self.features(gap, s) for s in ('train', 'val')}
        train_dives(dive_model(self.backbone(gap), seed, convolution=0), split, folder, seed=seed, overwrite=True, callbacks=[], epochs=self.epochs, progress=False)

    def stage1(self, gap, seed):
        "A model trained on the features of short videos"
        folder = self.work/gap/f'stage1-{seed}'
        if not (folder/'done').exists():
            self.train(gap, seed, folder)
            (folder/'done').touch()
        return self.thaw(TQN.from_pretrained(folder/'best'))

    def thaw(self, model): return model.requires_grad_(True)    # what stage 2 may change

    def bank(self, gap, model):
        "The rows of the training videos: one bank for all seeds, since stage 1 leaves the backbone as it is"
        folder, told = self.work/gap/'bank', self.work/gap/'bank.json'
        if not told.exists():
            began = time.process_time()
            bank = build_bank(model, self.long('train'), folder, progress=False)
            bank.close()
            write_atomic(told, json.dumps(dict(seconds=time.process_time()-began, clips=bank.index.n_rows)))
        return folder

class GridPlace(Place):
    "Real film: frames of a mouth, seen by a network that knows photographs; stage 1 and stage 2 learn from the same films"
    name, gaps, k, clips = 'grid', {'gap': 'photographs, not lips'}, 8, dict(clip_len=1, hop=3)   # every third frame: 25 rows a film, of which a step refreshes 8
    tried = dict(frozen=[(3e-4, 3e-4)], sufb=[(3e-5, 3e-4), (1e-4, 3e-4)], sparse=[(1e-4, 3e-4)], full=[(1e-4, 3e-4)])   # the others get the rates that SUFB chose
    thawed = 5                                              # the first block of the network that learns: edges and textures before it stay

    def __init__(self, data, work, limit=None, **settings):
        self.data, self.work, self.limit = Path(data), Path(work), limit
        self.settings = resolve(1, 'grid', **settings).settings
        self.reading = Preprocess(**self.clips, size=self.settings.size, resize=self.settings.resize, mean=(127/255,)*3, std=(128/255,)*3)
        self.view, self.loss = self.reading.clean_view(), partial(tqn_loss, class_weight=0., smoothing=self.settings.smoothing)
        self.augment = self.view    # clean, see `moved`
        self.frames, self.set, self.mouth = FrameCache(6*2**30), open_data(self.data), read_box(self.settings.box)
        self.videos = {f'long_{s}': len(self.long(s)) for s in ('train', 'val', 'test')}

    def long(self, split):
        "The films, cut to the mouth"
        return [replace(o, box=self.mouth) for o in self.set[split][:self.limit]]

    items = long
    def backbone(self, gap): return open_backbone('efficientnet_lite0', frozen=False, clip_len=1, preprocess=dict(size=self.settings.size, resize=self.settings.resize))
    def features(self, gap, split): return self.features_of(gap, self.long(split), self.set.queries, self.reading)
    kept = features

    def train(self, gap, seed, folder):
        torch.manual_seed(seed)
        c = self.settings
        model = TQN(self.set.queries, self.backbone(gap).requires_grad_(False), c.d_model, c.n_layers, c.n_heads, positions=c.positions, dropout=c.dropout, response_dropout=c.response_dropout,
                    preprocess=self.reading, convolution=c.convolution, n_convs=c.n_convs)
        train, val = (make_loader(self.features(gap, s), b, shuffle=s == 'train', seed=seed) for s, b in (('train', self.settings.batch_size), ('val', 64)))
        fit(model, train, val, folder, 'modern', seed=seed, loss=self.loss, lr=self.settings.lr, epochs=self.settings.epochs, overwrite=True, callbacks=[], progress=False)

    @cached_property
    def moved(self):
        "How far a fresh row is from the stored row of the same frame, in the mean of 1 - cosine, when its window is changed; and, to compare, how far other rows are"
        net, still = self.backbone('gap'), self.view
        crop = TrainTransform(still.size, 2, still.mean, still.std, scale=(.8, 1.), ratio=(.95, 1.05), crop_p=1., flip_p=0., jitter=(0.,)*4)
        def rows(view, drop=0.):
            net.net._global_params = net.net._global_params._replace(drop_connect_rate=drop)
            net.train(drop > 0)
            for m in net.modules():
                if isinstance(m, torch.nn.BatchNorm2d): m.eval()
            out = []
            for i, o in enumerate(self.long('train')[:12]):
                clips = self.frames(o).frames(list(range(20, 30))).permute(0, 3, 1, 2)[:, :, None]
                with torch.no_grad(): out.append(net(view(clips, torch.Generator().manual_seed(i))))
            return torch.stack(out)
        def far(a, b): return round(float((1 - torch.cosine_similarity(a, b, -1)).mean()), 3)
        torch.manual_seed(0)
        stored = rows(lambda x, g: still(x))
        changed = {'flip': rows(lambda x, g: still(x.flip(-1))), 'crop, 80 to 100% of the height': rows(crop), 'light and contrast, 30%': rows(lambda x, g: still(color_jitter(x, g, .3, .3, 0., 0.))),
                   'stochastic depth, .2': rows(lambda x, g: still(x), .2)}
        return {**{k: far(stored, v) for k, v in changed.items()}, 'the next frame': far(stored[:, 1:], stored[:, :-1]), 'another film': far(stored[1:], stored[:-1])}

    def thaw(self, model):
        model.requires_grad_(True)
        for name, p in model.backbone.named_parameters():
            block = re.match(r'net\._blocks\.(\d+)\.', name)
            p.requires_grad_(bool(block) and int(block[1]) >= self.thawed)
        return model


# One arm

def scores(ev):
    "Accuracy of every question, of all, and of the class; and the share of right answers of every video"
    right = {q: [float(p.argmax() == y) for p, y in zip(*ev.truth(q))] for q in ev.queries.names}
    each = np.mean(list(right.values()), 0)
    out = dict(n=len(each), answers=float(each.mean()), **{q: float(np.mean(o)) for q, o in right.items()})
    if ev.queries.class_names:
        p, y = ev.truth('class (product)')
        out |= {'class': float((p.argmax(-1) == y).mean()), 'n_class': len(y)}
    return dict(**out, videos=[round(o, 4) for o in each.tolist()])

def score_kept(model, features):
    "Scores on features that were made before"
    return scores(evaluate(model, make_loader(features, 48)))

def memory(peak=False):
    "Resident megabytes of this process, now (and the peak is counted anew) or at most since then"
    if not peak: Path('/proc/self/clear_refs').write_text('5')
    with open('/proc/self/status') as f: status = dict(l.split(':', 1) for l in f)
    return int(status['VmHWM' if peak else 'VmRSS'].split()[0])/1024

def staleness(place, run, model, videos=24):
    "Age and drift of every clip of a few training videos at the end, seen by the last weights"
    bank, out = FeatureBank.open(run.folder/'live-bank'/'0-of-1', writable=False), dict(age=[], drift=[])
    model.load_state_dict(load_file(sorted(run.folder.glob('checkpoint-*'))[-1]/'model.safetensors'))
    for o in place.long('train')[:videos]:
        out['age'] += bank.ages([o.id])[0].tolist()
        out['drift'] += [round(d, 4) for d in drift(bank, [o.id], [0], clip_features(model, place.frames(o))[None])[0].tolist()]
    return {'rows': out}

def run_arm(place, gap, way, seed, seconds, rates=None, test=True):
    "Everything of one arm; without `test` only val is scored"
    began, model = time.process_time(), place.stage1(gap, seed)
    kept = {s: place.kept(gap, s) for s in ('val', 'test')}
    start = score_kept(model, kept['val'])
    told = dict(gap=gap, way=way, seed=seed, rates=rates, budget=seconds)
    def looked(seconds, passes, said): return dict(seconds=seconds, passes=passes, **{k: said[k] for k in ('answers', 'class') if k in said})
    curve = [looked(0, 0, start)]
    if way == 'start': return dict(**told, curve=curve, best=0, test=score_kept(model, kept['test']), all_seconds=time.process_time()-began)
    items, frozen = place.long('train'), way == 'frozen'
    bank = place.bank(gap, model) if way in ('frozen', 'sufb') else None
    for o in [*items, *place.long('val')] if not frozen else (): place.frames(o)
    train = WindowDataset(items, model.queries, way, 0 if frozen else place.k, transform=place.augment, seed=seed, opener=place.frames, **place.clips)
    val = make_loader(kept['val'], 48) if frozen else WholeVideos(place.long('val'), model.queries, transform=place.view, opener=place.frames, **place.clips)
    size = 1 if way == 'full' else BATCH                       # a long video at a time: the same gradient in an eighth of the memory
    torch.manual_seed(1000 + seed)
    before = memory()
    run = fit_stage2(model, train, val, place.work/gap/f'run-{way}-{seed}{"" if test else "-pilot"}', bank, 'modern', batch_size=size, accumulate=BATCH//size, epochs=1000,
                     lr=rates[0], decoder_lr=rates[1]/rates[0], patience=PATIENCE if frozen else 0, seed=seed, budget=seconds, batch_norm='frozen', sync=False, device='cpu',
                     loss=place.loss, callbacks=[], progress=False, overwrite=True)
    added, steps, per_pass = memory(True) - before, run.steps(), math.ceil(len(items)/BATCH)
    curve += [looked(round(r['cpu'], 1), round((r['step']+1)/per_pass, 2), {k[4:]: r[k] for k in r if k in ('val_answers', 'val_class') and r[k] == r[k]}) for r in run.log()]
    best, used = int(np.argmax([o['answers'] for o in curve])), run.log()[-1]['cpu']   # the first of equals: the start, if nothing is better
    out = dict(**told, curve=curve, best=best, seconds=used, steps=len(steps), step_seconds=used/len(steps), pass_seconds=used/len(steps)*per_pass, passes=len(steps)/per_pass,
               memory=max(0., added), log=[{k: r.get(k, math.nan) for k in ('step', 'loss', 'drift', 'age')} for r in steps])
    if test: out['test'] = score_kept(place.stage1(gap, seed) if not best else model, kept['test']) if frozen or not best else scores(score_videos(model, place.long('test'), progress=False).evaluation)
    if way == 'sufb': out |= staleness(place, run, model)
    return dict(**out, all_seconds=time.process_time()-began)


# All arms

def apart(path, *args, **kw):
    "Run an arm in a process of its own, which shares the decoded frames, unless its result is there"
    if path.exists(): return json.loads(path.read_text())
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    if not (pid := os.fork()):
        try: write_atomic(path, json.dumps(run_arm(*args, **kw))); os._exit(0)
        except BaseException: traceback.print_exc(); os._exit(1)
    if os.waitpid(pid, 0)[1]: raise SystemExit(f'{path.stem} failed or was stopped; what is finished is kept: start again to go on')
    return json.loads(path.read_text())

def prepare(place, gap, ways):
    "Decode once, before the processes part"
    if ways & {'sparse', 'full', 'sufb'}:
        for o in [*place.long('train'), *place.long('val')]: place.frames(o)

def pick_rates(place, ways, seconds):
    "Learning rates of every way: the best on val among a few, half the time, seed 0"
    out, tried = {}, []
    for way, grid in place.tried.items():
        if len(grid) == 1: out[way] = grid[0]; continue
        paths = [place.work/'results'/f'pilot-{way}-{i}.json' for i in range(len(grid))]
        if way not in ways and not all(p.exists() for p in paths): continue
        runs = [apart(p, place, 'gap', way, 0, .5*seconds, r, test=False) for p, r in zip(paths, grid)]
        best = [max(o['answers'] for o in r['curve'][1:]) for r in runs]
        out[way] = grid[int(np.argmax(best))]
        tried += [dict(way=way, rates=r, val=v, start=o['curve'][0]['answers']) for r, v, o in zip(grid, best, runs)]
    return out, tried

def write_results(place, out, seconds, tried):
    "The committed record of all arms that are done: everything in JSON, a line an arm in CSV"
    done = {p.stem: json.loads(p.read_text()) for p in (place.work/'results').glob('*.json') if not p.stem.startswith('pilot-')}
    order = list(place.gaps), ['start', *WAYS]
    runs = sorted(done.values(), key=lambda r: (order[0].index(r['gap']), r['seed'], order[1].index(r['way'])))
    prepared = {g: json.loads((place.work/g/'bank.json').read_text()) for g in place.gaps if (place.work/g/'bank.json').exists()}
    about = dict(size=place.view.size, k=place.k, batch=BATCH, seconds=seconds, augment=repr(place.augment), videos={k: place.videos[f'long_{k}'] for k in ('train', 'val', 'test')}, gaps=place.gaps, ways=WAYS, bank=prepared, tried=tried, **({'moved': place.moved} if place.name == 'grid' else {}))
    def every(o, n): return o[::max(1, len(o)//n)]
    thin = [{**r, 'log': every(r.get('log', []), 60), **({'rows': {k: every(v, 500) for k, v in r['rows'].items()}} if 'rows' in r else {})} for r in runs]
    write_atomic(out/'sufb.json', json.dumps(dict(about=about, runs=thin), separators=(',', ':')).replace('NaN', 'null'))
    keys = ['gap', 'way', 'seed', 'seconds', 'steps', 'passes', 'step_seconds', 'pass_seconds', 'memory']
    rows = [{**{k: r.get(k, '') for k in keys}, 'best_look': r['best'], 'val': r['curve'][r['best']]['answers'], **{k: v for k, v in r['test'].items() if k != 'videos'}} for r in runs]
    with open(out/'sufb.csv', 'w', newline='') as f:
        w = csv.DictWriter(f, list(rows[0]))
        w.writeheader()
        w.writerows([{k: f'{v:.4g}' if isinstance(v, float) else v for k, v in r.items()} for r in rows])

def study(place, out, gaps, seeds, ways, seconds):
    "Every arm asked for that has no result yet, one after the other"
    out.mkdir(parents=True, exist_ok=True)
    prepare(place, gaps[0], set(ways))
    rates, tried = pick_rates(place, ways, seconds)
    print('learning rates', rates, flush=True)
    for gap in gaps:
        for seed in seeds:
            for way in ways:
                r = apart(place.work/'results'/f'{gap}-{way}-{seed}.json', place, gap, way, seed, seconds, rates.get(way))
                print(gap, way, seed, f"val {r['curve'][r['best']]['answers']:.4f} test {r['test']['answers']:.4f}", flush=True)
                write_results(place, out, seconds, tried)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--on', choices=['dives', 'grid'], default='dives', help='rendered dives, or the films of the GRID corpus')
    parser.add_argument('--data', type=Path, help='rendered videos (rendered where they are not), or the folder of the corpus')
    parser.add_argument('--work', type=Path, help='what is kept between runs: features, banks, runs, the result of every arm')
    parser.add_argument('--out', type=Path, help='where the results go; with --quick, the folder of the work')
    parser.add_argument('--seconds', type=float, help='CPU seconds of training an arm')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='seeds of every arm')
    parser.add_argument('--arms', nargs='+', choices=['start', *WAYS], default=['start', *WAYS], help='ways to train')
    parser.add_argument('--gaps', nargs='+', choices=list(GAPS), help='backbones of the dives: with the gap, without')
    parser.add_argument('--quick', action='store_true', help='a few videos, two seconds, one seed and the shipped backbone, to see that all of it runs')
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.on == 'grid' and not args.data: parser.error('--on grid needs --data: the folder of the corpus')
    work, out = args.work or ROOT/'runs'/dict(dives='sufb', grid='sufb-grid')[args.on], args.out or ROOT/'nbs'/'results'/dict(dives='.', grid='grid')[args.on]
    if args.quick: work = out = work.with_name(f'{work.name}-quick')
    if args.on == 'dives': place = Place(args.data or ROOT/'data'/'dives64', work, *((QUICK, 1) if args.quick else ()))
    else: place = GridPlace(args.data, work, *([6] if args.quick else []), **(dict(epochs=1) if args.quick else {}))
    gaps = ['gap'] if args.quick or args.on == 'grid' else args.gaps or list(GAPS)
    study(place, out, gaps, [0] if args.quick else args.seeds, args.arms, args.seconds or (2. if args.quick else SECONDS[args.on]))
