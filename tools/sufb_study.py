"""Four ways to train on long videos: the study behind nbs/tutorials/sufb.ipynb.

`python tools/sufb_study.py` renders what it needs, prepares both backbones, runs every arm that has no result yet, each in a
process of its own, and writes nbs/results/sufb.json and sufb.csv after each. Stop it whenever you like and start it again."""
import argparse, csv, json, math, os, subprocess, sys, time
from pathlib import Path
os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
import torch
from torch import nn
from tqn.models.backbone import fuse
from tqn.models.weights import load_backbone, small_backbone
from tqn.features.bank import FeatureBank, drift
from tqn.data.items import encode_targets, as_items
from tqn.data.batches import EpochSampler, FeatureDataset, collate, extract_features, make_loader, weights_digest, pick_window
from tqn.core.seeds import sample_generator
from tqn.studies.demo import DIVE_CLIPS, LOSS, dive_model, train_dives
from tqn.dives.diver import dives_queries
from tqn.dives.dives import make_item, render_files
from tqn.models.tqn import TQN, run_packed
from tqn.core.files import write_atomic
from tqn.training.loop import lr_factor
from tqn.video.transforms import TrainTransform
from tqn.video.video import open_video

ROOT = Path(__file__).resolve().parents[1]
GAPS = {'gap': 'pre-trained on the other look', 'own': 'pre-trained further on the look of the benchmark'}
WAYS = dict(frozen='frozen bank', sparse='sparse sampling', full='end to end', sufb='SUFB')
LOOK, VIDEOS = 'natatorium', dict(train=1200, val=240, long_train=480, long_val=64, long_test=128)
SIZE, K, BATCH, SECONDS, LOOKS = 64, 6, 8, 72., 2      # pixels; clips a step; videos a step; CPU seconds an arm; validations
TRIED = dict(frozen=[(0., 1e-4), (0., 3e-4)], sufb=[(1e-5, 1e-4), (3e-5, 1e-4), (1e-4, 3e-4)],  # learning rates of the backbone, and of all else
             sparse=[(1e-5, 1e-4), (3e-5, 1e-4)], full=[(3e-5, 1e-4), (1e-4, 3e-4)])                                 # the best on val, seed 0, is used everywhere
PATIENCE = 15  # passes of the frozen bank without a new best on val
VIEW = DIVE_CLIPS.clean_view()
AUGMENT = TrainTransform(SIZE, 2, DIVE_CLIPS.mean, DIVE_CLIPS.std, scale=(.85, 1.), ratio=(.95, 1.05), crop_p=1., flip_p=0., jitter=(.3, .3, 0., 0.))


# What every arm shares: videos, decoded clips, features, stage 1

def dives(data, split):
    "The videos of a split, rendered where they are not"
    folder = data/LOOK/split
    items = [make_item(LOOK, split, 0, i) for i in range(VIDEOS[split])]
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(str(folder), LOOK, split, 0, SIZE, int(Path(o['path']).stem)) for o in items if not (folder/o['path']).exists()]
    if jobs: render_files(jobs, title=f'render {split}')
    return as_items({**o, 'path': folder/o['path']} for o in items)


class Pixels:
    "All clips of a split as bytes in one mapped file, so that the seconds below measure learning and not decoding"
    def __init__(self, data, work, split):
        self.items = dives(data, split)
        self.path, lengths = work/'clips'/f'{split}.npy', work/'clips'/f'{split}.json'
        if not lengths.exists(): self._decode(lengths)
        self.n = json.loads(lengths.read_text())
        self.first = dict(zip(self.n, np.cumsum([0, *self.n.values()]).tolist()))
        self.head, self.size = np.load(self.path, mmap_mode='r').offset, 3*8*SIZE*SIZE

    def _decode(self, lengths):
        "Read every video once"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        videos = [open_video(o.path) for o in self.items]
        n = {o.id: v.n_clips() for o, v in zip(self.items, videos)}
        rows, at = np.lib.format.open_memmap(self.path, 'w+', np.uint8, (sum(n.values()), 3, 8, SIZE, SIZE)), 0
        for v in videos:
            clips = v.clips()
            rows[at:at+len(clips)] = clips.numpy()
            at += len(clips)
        rows.flush()
        write_atomic(lengths, json.dumps(n))

    def __call__(self, id, clips):
        "Some clips of a video, uint8 (k, 3, t, h, w)"
        at = [self.head + (self.first[id] + int(i))*self.size for i in clips]   # read, not mapped: mapped pages would count as memory
        rows = [np.fromfile(self.path, np.uint8, self.size, offset=o) for o in at]
        return torch.from_numpy(np.stack(rows)).unflatten(1, (3, 8, SIZE, SIZE))


def features_of(backbone, pixels):
    "{id: (n, d)} by a backbone as it stands"
    fast, out = fuse(backbone), {}
    with torch.inference_mode():
        for o in pixels.items:
            parts = torch.arange(pixels.n[o.id]).split(48)
            out[o.id] = torch.cat([fast(VIEW(pixels(o.id, p)).contiguous(memory_format=torch.channels_last_3d)) for p in parts]).clone()
    return out


def backbone_of(gap, work):
    "The shipped backbone, or the one without the gap"
    if gap == 'gap': return small_backbone()
    path = work/'own_look.safetensors'
    if not path.exists(): subprocess.run([sys.executable, ROOT/'tools'/'own_look.py', path], check=True)
    return load_backbone(path)


def kept_features(gap, split, data, work):
    "Features of a split by the backbone before stage 2, computed once"
    path = work/gap/f'{split}.pt'
    if path.exists(): return torch.load(path, weights_only=True)
    began = time.process_time()
    out = features_of(backbone_of(gap, work), Pixels(data, work, split))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(out, path.with_suffix('.part'))
    os.replace(path.with_suffix('.part'), path)
    write_atomic(path.with_suffix('.json'), json.dumps(dict(seconds=time.process_time()-began, clips=sum(map(len, out.values())))))
    return out


def stage1(gap, seed, data, work):
    "A model trained on the features of short videos"
    folder = work/gap/f'stage1-{seed}'
    if not (folder/'done').exists():
        split = {}
        for s in ('train', 'val'):
            cache = extract_features(fuse(backbone_of(gap, work)), dives(data, s), work/gap/'short', DIVE_CLIPS.clip_len, DIVE_CLIPS.stride, views=(VIEW,), progress=False)
            split[s] = FeatureDataset(cache, dives(data, s), dives_queries())
        model = dive_model(backbone_of(gap, work), seed)
        train_dives(model, split, folder, seed=seed, overwrite=True, callbacks=[], epochs=30, progress=False)
        (folder/'done').touch()
    return TQN.from_pretrained(folder/'best')


# Scores

@torch.no_grad()
def score(model, features, items):
    "Accuracy of every question, of all, and of the class; and the share of right answers of every video"
    model.eval()
    right, classes = {q: [] for q in model.queries.names}, []
    for batch in make_loader(FeatureDataset(features, items, model.queries), 48):
        out = model(batch['x'], batch['valid'])
        for q, y in batch['answers'].items(): right[q] += (out.responses[q].argmax(-1) == y).tolist()
        known = batch['class'] >= 0
        classes += (model.read_classes(out, 'product').argmax(-1) == batch['class'])[known].tolist()
    each = np.mean(list(right.values()), 0)
    return dict(n=len(each), answers=float(each.mean()), **{q: float(np.mean(o)) for q, o in right.items()}, **{'class': float(np.mean(classes)), 'n_class': len(classes)}, videos=[round(o, 4) for o in each.tolist()])


# One arm

class Feed:
    "Batches without end, the same order for every way"
    def __init__(self, way, pixels, queries, seed):
        self.way, self.pixels, self.seed, self.epoch = way, pixels, seed, 0
        self.targets = [encode_targets(o, queries) for o in pixels.items]

    def one(self, epoch, i):
        g, o = sample_generator(self.seed, epoch, i), self.pixels.items[i]
        clips = pick_window(self.way, self.pixels.n[o.id], K, g)
        return {'id': o.id, 'clips': AUGMENT(self.pixels(o.id, clips), generator=g), 'start': int(clips[0]), **self.targets[i]}

    def batch(self, keys):
        samples = [self.one(*k) for k in keys]
        return {**collate(samples), 'start': [s['start'] for s in samples]}

    def __iter__(self):
        sampler = EpochSampler(len(self.pixels.items), True, self.seed)
        while True:
            sampler.set_epoch(self.epoch)
            keys = list(sampler)
            for j in range(0, len(keys) - BATCH + 1, BATCH):
                size = 1 if self.way == 'full' else BATCH                    # a long video at a time: the same gradient in an eighth of the memory
                yield [self.batch(keys[i:i+size]) for i in range(j, j+BATCH, size)]
            self.epoch += 1


def splice(bank, batch, fresh, valid):
    "Fresh features among stored ones; and how far the stored ones had drifted"
    counts = valid.sum(1).tolist()
    moved = drift(bank, batch['id'], batch['start'], fresh, counts)
    features, valid = bank.splice(batch['id'], batch['start'], fresh, counts)
    bank.advance()
    return features, valid, float(moved.nanmean())


def memory(peak=False):
    "Resident megabytes of this process, now (and the peak is counted anew) or at most since then"
    if not peak: Path('/proc/self/clear_refs').write_text('5')
    with open('/proc/self/status') as f: status = dict(l.split(':', 1) for l in f)
    return int(status['VmHWM' if peak else 'VmRSS'].split()[0])/1024


class Best:
    "The weights that were best on val, the start among them"
    def __init__(self, model, val, items):
        self.model, self.val, self.items, self.curve = model, val, items, []

    def look(self, seconds, passes, features):
        s = score(self.model, features, self.items)
        self.curve.append(dict(seconds=round(seconds, 1), passes=round(passes, 2), answers=s['answers'], **{'class': s['class']}))
        if s['answers'] > max((o['answers'] for o in self.curve[:-1]), default=-1):
            self.at, self.weights = len(self.curve)-1, {k: v.clone() for k, v in self.model.state_dict().items()}

    def restore(self): self.model.load_state_dict(self.weights)


def optimiser_of(model, rates):
    "AdamW with a rate for the backbone and one for queries, decoder and heads"
    parts = [[p for n, p in model.named_parameters() if p.requires_grad and n.startswith('backbone.') == own] for own in (True, False)]
    groups = [dict(params=p, lr=r, initial_lr=r) for p, r in zip(parts, rates) if p]
    return torch.optim.AdamW(groups, weight_decay=.05, fused=True)


def set_rate(opt, share):
    for g in opt.param_groups: g['lr'] = g['initial_lr']*lr_factor(round(share*1000), 1000, 'cosine', .05)


def online(way, model, gap, seed, data, work, seconds, rates, looks):
    "SUFB, sparse sampling, or end to end"
    train, val = Pixels(data, work, 'long_train'), Pixels(data, work, 'long_val')
    best = Best(model, val, val.items)
    best.look(0, 0, kept_features(gap, 'long_val', data, work))
    bank = None
    if way == 'sufb':
        old = kept_features(gap, 'long_train', data, work)
        folder = work/gap/f'bank-{os.getpid()}'
        bank = FeatureBank.create(folder, {k: len(v) for k, v in old.items()}, model.backbone.d_out, digest=weights_digest(model.backbone), sync=False)
        for k, v in old.items(): bank.write([k], [0], v[None])
        bank.checkpoint()
    opt = optimiser_of(model, rates)
    used, steps, log, before, feed = 0., 0, [], memory(), iter(Feed(way, train, model.queries, seed))
    per_pass, left = len(train.items)//BATCH, [seconds*(i+1)/looks for i in range(looks)]
    while used < seconds:
        began = time.process_time()
        set_rate(opt, used/seconds)
        batch = next(feed)
        model.train(); model.backbone.eval()
        opt.zero_grad()
        loss, moved = 0., math.nan
        for part in batch:
            fresh, valid = run_packed(model.backbone, part['x'], part['valid']), part['valid']
            if bank: fresh, valid, moved = splice(bank, part, fresh, valid)
            each = LOSS(model(fresh, valid), part['answers'], part['class'])[0]/len(batch)
            each.backward()
            loss += each.item()
        nn.utils.clip_grad_norm_(model.parameters(), 1.)
        opt.step()
        steps += 1
        used += time.process_time()-began
        ages = bank.ages().numpy() if bank and steps % 10 == 1 else None
        log.append(dict(step=steps, loss=loss, drift=moved, age=float(ages[ages >= 0].mean()) if ages is not None else math.nan))
        if used >= left[0]:
            if len(left) == looks: peak = memory(True)
            left.pop(0)
            best.look(used, steps/per_pass, features_of(model.backbone, val))
    extra = {}
    if bank:
        extra = staleness(bank, model, train)
        bank.close()
        subprocess.run(['rm', '-r', str(folder)], check=True)
    best.restore()
    return dict(curve=best.curve, best=best.at, test=final(model, best.at, gap, data, work) if looks == LOOKS else None, seconds=used, steps=steps, step_seconds=used/steps,
                pass_seconds=used/steps*per_pass, passes=steps/per_pass, memory=peak-before, log=log, **extra)


def final(model, learned, gap, data, work):
    "The score on test, taken once: at the weights that were best on val"
    test = Pixels(data, work, 'long_test')
    return score(model, features_of(model.backbone, test) if learned else kept_features(gap, 'long_test', data, work), test.items)


def staleness(bank, model, train, videos=24):
    "Age and drift of every clip of a few training videos at the end"
    ids = [o.id for o in train.items[:videos]]
    some = type('Some', (), dict(items=train.items[:videos], n=train.n, __call__=lambda self, *a: train(*a)))()
    fresh, ages = features_of(model.backbone, some), bank.ages(ids)
    out = dict(age=[], drift=[])
    for i, id in enumerate(ids):
        n = train.n[id]
        out['age'] += ages[i, :n].tolist()
        out['drift'] += [round(o, 4) for o in drift(bank, [id], [0], fresh[id][None])[0].tolist()]
    return {'rows': out}


def frozen(way, model, gap, seed, data, work, seconds, rates, looks):
    "Only queries, decoder and heads learn, on features that stay as they are"
    get = lambda s: (kept_features(gap, s, data, work), dives(data, s))
    model.backbone.requires_grad_(False)
    (train, items), (val, val_items), (test, test_items) = map(get, ('long_train', 'long_val', 'long_test'))
    best = Best(model, val, val_items)
    best.look(0, 0, val)
    opt = optimiser_of(model, rates)
    loader, used, steps, log, before = make_loader(FeatureDataset(train, items, model.queries), BATCH, True, seed), 0., 0, [], memory()
    for epoch in range(10**6):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            began = time.process_time()
            set_rate(opt, used/seconds)
            model.train(); model.backbone.eval()
            loss, _ = LOSS(model(batch['x'], batch['valid']), batch['answers'], batch['class'])
            opt.zero_grad(); loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.)
            opt.step()
            steps += 1
            used += time.process_time()-began
        if epoch == 0: peak = memory(True)
        best.look(used, epoch+1, val)
        if used >= seconds or epoch >= best.at + PATIENCE: break
    best.restore()
    return dict(curve=best.curve, best=best.at, test=score(model, test, test_items) if looks == LOOKS else None, seconds=used, steps=steps, step_seconds=used/steps,
                pass_seconds=used/(epoch+1), passes=epoch+1, memory=max(0., peak-before), log=log)


def run_arm(gap, way, seed, data, work, seconds, rates=None, looks=LOOKS):
    "Everything of one arm"
    began = time.process_time()
    model = stage1(gap, seed, data, work).requires_grad_(True)
    torch.manual_seed(1000 + seed)
    if way == 'start':
        val, test = (score(model, kept_features(gap, s, data, work), dives(data, s)) for s in ('long_val', 'long_test'))
        out = dict(curve=[dict(seconds=0, passes=0, answers=val['answers'], **{'class': val['class']})], best=0, test=test)
    else: out = (frozen if way == 'frozen' else online)(way, model, gap, seed, data, work, seconds, rates, looks)
    return dict(gap=gap, way=way, seed=seed, rates=rates, budget=seconds, **out, all_seconds=time.process_time()-began)


# All arms

def in_process(args, name, gap, way, seed, seconds, rates=None, looks=LOOKS):
    "Run one arm in a process of its own, unless its result is there"
    path = args.work/'results'/f'{name}.json'
    if not path.exists():
        job = json.dumps([gap, way, seed, str(args.data), str(args.work), seconds, rates, looks])
        subprocess.run([sys.executable, __file__, '--job', job, '--result', path], check=True)
    return json.loads(path.read_text())


def pick_rates(args):
    "Learning rates of every way: the best on val among a few, half the time, seed 0"
    out, tried = {}, []
    for way, grid in TRIED.items():
        runs = [in_process(args, f'pilot-{way}-{i}', 'gap', way, 0, .5*args.seconds, r, 1) for i, r in enumerate(grid)]
        scores = [max(o['answers'] for o in r['curve'][1:]) for r in runs]
        out[way] = grid[int(np.argmax(scores))]
        tried += [dict(way=way, rates=r, val=v, start=o['curve'][0]['answers']) for r, v, o in zip(grid, scores, runs)]
    return out, tried


def write_results(args, runs, tried):
    "The committed record: everything in JSON, a line an arm in CSV"
    prepared = {g: json.loads((args.work/g/'long_train.json').read_text()) for g in GAPS if (args.work/g/'long_train.json').exists()}
    about = dict(size=SIZE, k=K, batch=BATCH, seconds=args.seconds, looks=LOOKS, augment=repr(AUGMENT), videos={k: len(dives(args.data, f'long_{k}')) for k in ('train', 'val', 'test')}, gaps=GAPS, ways=WAYS, bank=prepared, tried=tried)
    def every(o, n): return o[::max(1, len(o)//n)]
    thin = [{**r, 'log': every(r.get('log', []), 60), **({'rows': {k: every(v, 500) for k, v in r['rows'].items()}} if 'rows' in r else {})} for r in runs]
    write_atomic(args.out/'sufb.json', json.dumps(dict(about=about, runs=thin), separators=(',', ':')).replace('NaN', 'null'))
    keys = ['gap', 'way', 'seed', 'seconds', 'steps', 'passes', 'step_seconds', 'pass_seconds', 'memory']
    rows = [{**{k: r.get(k, '') for k in keys}, 'best_look': r['best'], 'val': r['curve'][r['best']]['answers'], **{k: v for k, v in r['test'].items() if k != 'videos'}} for r in runs]
    with open(args.out/'sufb.csv', 'w', newline='') as f:
        w = csv.DictWriter(f, list(rows[0]))
        w.writeheader()
        w.writerows([{k: f'{v:.4g}' if isinstance(v, float) else v for k, v in r.items()} for r in rows])


def study(args):
    "Every arm that has no result yet, one after the other"
    rates, tried = pick_rates(args)
    print('learning rates', rates, flush=True)
    runs = []
    for gap in GAPS:
        for seed in range(args.seeds):
            for way in ('start', *WAYS):
                runs.append(r := in_process(args, f'{gap}-{way}-{seed}', gap, way, seed, args.seconds, rates.get(way)))
                print(gap, way, seed, f"val {r['curve'][r['best']]['answers']:.4f} test {r['test']['answers']:.4f} class {r['test']['class']:.4f}", flush=True)
                write_results(args, runs, tried)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', type=Path, default=ROOT/'data'/'dives64', help='rendered videos')
    parser.add_argument('--work', type=Path, default=ROOT/'runs'/'sufb', help='what is kept between runs')
    parser.add_argument('--out', type=Path, default=ROOT/'nbs'/'results', help='where the results go')
    parser.add_argument('--seconds', type=float, default=SECONDS, help='CPU seconds of training an arm')
    parser.add_argument('--seeds', type=int, default=3, help='runs of every arm')
    parser.add_argument('--job', help=argparse.SUPPRESS)
    parser.add_argument('--result', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.job:
        gap, way, seed, data, work, *rest = json.loads(args.job)
        write_atomic(args.result, json.dumps(run_arm(gap, way, seed, Path(data), Path(work), *rest)))
    else: study(args)
