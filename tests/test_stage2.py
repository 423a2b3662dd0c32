"Stage 2: no death changes a run, two processes do what one does, gradients are those of end to end, and nothing writes where it should not"
import csv, hashlib, os, random, signal, threading, time, traceback
from collections import Counter
from pathlib import Path
import pytest
import torch
from einops import rearrange
from torch import nn
from torch.testing import assert_close
from tqn.training import stage2 as S
from tqn.training import run as R
from tqn.features import stream as X
from tqn.data import batches as W
from tqn.features.bank import BankParts, FeatureBank
from tqn.data.items import Item
from tqn.data.batches import OwnVideos, WholeVideos, WindowDataset, collate
from tqn.core.files import weights_digest
from tqn.core.processes import sample_generator
from tqn.training.chain import launch
from tqn.models.tqn import TQN
from tqn.models.losses import tqn_loss
from tqn.questions.queries import QuerySet
from tqn.training.stage2 import BankStage, ClipStage, fit_stage2, read_visits
from tqn.training.loop import validate
from tqn.training.run import make_accelerator
from tqn.video.transforms import clip_grid

fork = pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system cannot fork a process to kill it')
qs = QuerySet({'colour': ['red', 'blue'], 'light': ['early', 'late']}, classes=[(f'{c} {l}', [c, l]) for c in ('red', 'blue') for l in ('early', 'late')])

class Film:
    "A video in memory: grey noise, and one clip with a coloured light"
    def __init__(self, item, **_):
        self.i = int(item.path)
        g = sample_generator(self.i)
        n = 5 + self.i % 6
        self.x = torch.randint(60, 100, (8*n - 3, 8, 8, 3), generator=g, dtype=torch.uint8)
        at = 1 if self.i % 4 < 2 else n-2
        self.x[8*at:8*at+8,...,2*(self.i % 2)] += 120
    size,path = (8, 8),'film'
    def __len__(self): return len(self.x)
    def n_clips(self, clip_len=8, stride=1, hop=None): return len(clip_grid(len(self), clip_len, stride, hop))
    def frames(self, at, size=None): return self.x[at]
    def clips(self, start, n, clip_len=8, stride=1, size=None, hop=None):
        grid = clip_grid(len(self), clip_len, stride, hop)[start:start+n]
        return rearrange(self.frames(grid.flatten()), '(n t) h w c -> n c t h w', n=n)

def item(i):
    colour,light = ['red', 'blue'][i % 2], ['early', 'late'][i % 4 // 2]
    return Item(f'v{i}', str(i), {'colour': colour, 'light': light}, f'{colour} {light}')

items,others = [item(i) for i in range(15)],[item(i) for i in range(100, 107)]

class Colours(nn.Module):
    "A backbone of a few numbers, with batch norm if asked"
    d_out = 8
    def __init__(self, norm=False):
        super().__init__()
        self.norm = nn.BatchNorm3d(3) if norm else nn.Identity()
        self.layer = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8))
    def forward(self, x): return self.layer(4*(self.norm(x).mean((2, 3, 4)) - .3))

def tiny(seed=0, dropout=0., norm=False):
    torch.manual_seed(seed)
    return TQN(qs, backbone=Colours(norm), d_model=16, n_layers=1, n_heads=2, dropout=dropout, response_dropout=dropout)

@torch.no_grad()
def bank_of(folder, model, items=items, dtype='float32'):
    "A bank of all clips of the items"
    ds = WindowDataset(items, qs, 'full')
    rows = {o.id: model.eval().backbone(ds[i]['clips']) for i,o in enumerate(items)}
    bank = FeatureBank.create(folder, {id: len(r) for id,r in rows.items()}, 8, dtype, weights_digest(model.backbone), sync=False)
    for id,r in rows.items(): bank.write([id], [0], r[None])
    bank.checkpoint()
    bank.close()
    return folder

@pytest.fixture(scope='module', autouse=True)
def films():
    "Videos are read from memory, also in forked processes"
    old = W.open_item
    W.open_item = X.open_item = Film
    yield
    W.open_item = X.open_item = old

@pytest.fixture(scope='module')
def source(films, tmp_path_factory): return bank_of(tmp_path_factory.mktemp('bank')/'bank', tiny())

quiet = dict(epochs=3, lr=.02, decoder_lr=1., batch_size=4, progress=False, callbacks=[], sync=False, device='cpu', save_every=2)

def go(folder, source, way='sufb', k=3, model=None, train=items, **kw):
    model = model or tiny(dropout=.1)
    run = fit_stage2(model, WindowDataset(train, qs, way, k), kw.pop('val', WholeVideos(others, qs)), folder, source if way in ('sufb', 'frozen') else None, **{**quiet, **kw})
    return run, model

def files(folder):
    "Everything that a run leaves, but for times: logs, weights, rows, ages"
    folder,out = Path(folder),{}
    for p in sorted(folder.glob('*.csv')): out[p.name] = [{k: v for k,v in r.items() if k != 'seconds'} for r in csv.DictReader(p.open())]
    for p in sorted(folder.rglob('*.safetensors')): out[str(p.relative_to(folder))] = hashlib.sha256(p.read_bytes()).hexdigest()
    for p in sorted((folder/'live-bank').glob('*')):
        bank = FeatureBank.open(p, writable=False)
        out[p.name] = (bank.updates, bank.digest, bank.ages().tolist(), bank.read(list(bank.index.lengths))[0].tolist())
    return out

def child(fn):
    "Run fn in a fork; its process id"
    pid = os.fork()
    if pid: return pid
    try: torch.set_num_threads(1); fn(); code = 0
    except BaseException: traceback.print_exc(); code = 1
    os._exit(code)

def died(pid): return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

@pytest.fixture(scope='module')
def whole(source, tmp_path_factory):
    "What an uninterrupted run leaves"
    go(folder := tmp_path_factory.mktemp('whole')/'run', source)
    return files(folder)

# death and resume -----------------------------------------------------------------------------------------------------

@fork
def test_killed_at_random_moments_and_resumed_to_the_same_bits(source, whole, tmp_path):
    rng,folder,killed = random.Random(),tmp_path/'run',0
    began = time.perf_counter()
    assert died(child(lambda: go(tmp_path/'timed', source))) == 0
    seconds = time.perf_counter() - began
    for _ in range(10):                                         # moments all over the run, however slow this machine is today
        pid = child(lambda: go(folder, source, resume=True))
        time.sleep(rng.uniform(.02, .6)*seconds)
        os.kill(pid, signal.SIGKILL)                            # a child that has ended waits to be asked for
        if (code := died(pid)) != -signal.SIGKILL: break
        killed += 1
    assert killed
    go(folder, source, resume=True)
    assert files(folder) == whole

@fork
@pytest.mark.parametrize('n', [1, 2, 4])
def test_killed_between_the_checkpoints_of_bank_and_model(n, source, whole, tmp_path, monkeypatch):
    calls,real = [],R.save_checkpoint
    def dying(*a):
        calls.append(0)
        if len(calls) == n: os.kill(os.getpid(), signal.SIGKILL)
        return real(*a)
    monkeypatch.setattr(R, 'save_checkpoint', dying)
    assert died(child(lambda: go(tmp_path/'run', source))) == -signal.SIGKILL
    monkeypatch.undo()
    W.open_item = X.open_item = Film
    go(tmp_path/'run', source, resume=True)
    assert files(tmp_path/'run') == whole

@fork
def test_killed_inside_a_splice(source, whole, tmp_path, monkeypatch):
    from tqn.features.bank import RowStore
    calls,real = [],RowStore.put
    def dying(self, rows, values, step):
        calls.append(0)
        if len(calls) == 30:                                    # half of a row is new
            self.features[rows][:,:4] = values[:,:4]
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, rows, values, step)
    pid = child(lambda: (monkeypatch.setattr(RowStore, 'put', dying), go(tmp_path/'run', source)))
    assert died(pid) == -signal.SIGKILL
    go(tmp_path/'run', source, resume=True)
    assert files(tmp_path/'run') == whole

@pytest.mark.parametrize('way,k', [('frozen', 3), ('full', 3), ('sparse', 3), ('frozen', 0)])
def test_every_way_resumes_to_the_same_bits(way, k, source, tmp_path):
    calls = []
    def stopping(*a):
        calls.append(0)
        if len(calls) == 3: signal.raise_signal(signal.SIGTERM)
        return tqn_loss(*a)
    kw = dict(epochs=2, val=None)
    go(tmp_path/'a', source, way, k, **kw)
    with pytest.raises(KeyboardInterrupt, match='pass resume=True'): go(tmp_path/'b', source, way, k, loss=stopping, **kw)
    go(tmp_path/'b', source, way, k, model=tiny(dropout=.1), resume=True, **kw)
    assert files(tmp_path/'a') == files(tmp_path/'b')

def test_overwrite_begins_with_the_rows_of_the_source(source, whole, tmp_path):
    go(tmp_path/'run', source, epochs=1)
    with pytest.raises(ValueError, match='already holds a run'): go(tmp_path/'run', source)
    (tmp_path/'run'/'mine.txt').write_text('stays')
    go(tmp_path/'run', source, overwrite=True)
    assert files(tmp_path/'run') == whole and (tmp_path/'run'/'mine.txt').exists()

def test_a_resumed_run_is_the_same_run(source, tmp_path):
    go(tmp_path/'run', source, epochs=1)
    for kw,text in ((dict(k=2), 'k was 3, now 2'), (dict(way='frozen'), "way was 'sufb', now 'frozen'"), (dict(batch_size=5), 'batch_size was 4'), (dict(batch_norm='frozen'), 'batch_norm'), (dict(train=items[:9]), 'videos was 15, now 9')):
        with pytest.raises(ValueError, match=text): go(tmp_path/'run', source, resume=True, **kw)
    with pytest.raises(ValueError, match='train on the same items'): go(tmp_path/'run', source, resume=True, train=items[1:] + [item(15)])
    go(tmp_path/'run', source, resume=True)                                     # all locks were given back

# gradients ------------------------------------------------------------------------------------------------------------

def spliced_and_end_to_end(source, folder, keys, k=3):
    "Gradients of one step with the bank, and of the same step end to end with the other rows detached"
    ds,full = WindowDataset(items, qs, 'sufb', k),WindowDataset(items, qs, 'full')
    batch,whole = collate([ds[key] for key in keys]),collate([full[key] for key in keys])
    a,b = tiny(),tiny()
    stage = S.make_stage(ds, folder, source, sync=False)
    stage.restore(a, 0)
    tqn_loss(out := stage.forward(a, batch), batch['answers'], batch['class'])[0].backward()
    f,valid = b.encode(whole['x'], whole['valid'])
    online = torch.zeros_like(valid)
    for i,(s,c) in enumerate(zip(batch['start'], batch['count'])): online[i,s:s+c] = True
    tqn_loss(b(torch.where(online[...,None], f, f.detach()), valid), batch['answers'], batch['class'])[0].backward()
    stage.bank.close()
    return a, b, out, batch

@pytest.mark.parametrize('keys', [[(0, 3), (0, 7), (0, 11)], [(0, 2), (1, 2), (4, 2), (0, 5)]], ids=['three videos', 'one of them three times'])
@pytest.mark.parametrize('k', [1, 3, 7])
def test_gradient_equals_end_to_end_with_other_rows_detached(keys, k, source, tmp_path):
    a,b,out,_ = spliced_and_end_to_end(source, tmp_path, keys, k)
    for (name,p),q in zip(a.named_parameters(), b.parameters()):
        assert (p.grad - q.grad).norm() <= 1e-5*q.grad.norm() + 1e-9, name
    assert a.backbone.layer[0].weight.grad.norm() > 1e-4

def test_of_two_windows_of_a_video_the_later_stays(source, tmp_path):
    ds,model = WindowDataset(items, qs, 'sufb', 3),tiny(seed=4)
    epochs = [e for e in range(60) if ds[(e, 5)]['start'] in (1, 2)]
    one,two = next((a, b) for a in epochs for b in epochs if ds[(a, 5)]['start'] == 1 and ds[(b, 5)]['start'] == 2)
    batch = collate([ds[(one, 5)], ds[(two, 5)]])
    batch['x'][1] += .1                                                         # the two see their clips differently
    stage = S.make_stage(ds, tmp_path, source, sync=False, any_weights=True)
    stage.restore(model, 0)
    out = stage.forward(model, batch)
    stored = stage.bank.read(['v5'])[0][0]
    assert_close(stored[1:2], out.features[0,1:2].detach())
    assert_close(stored[2:5], out.features[1,2:5].detach())
    assert not torch.equal(out.features[0,2:4], out.features[1,2:4])            # each was answered from its own
    assert not stage.bank.read(['v5'])[0].requires_grad
    stage.bank.close()

def test_padding_never_enters_batch_norm(source, tmp_path):
    model = tiny(norm=True)
    bank = bank_of(tmp_path/'bank', tiny(norm=True))
    ds = WindowDataset(items, qs, 'sufb', 7)
    batch = collate([ds[i] for i in (0, 5)])                            # 5 clips and 7
    assert not batch['valid'].all()
    stage = S.make_stage(ds, tmp_path/'run', bank, sync=False)
    stage.restore(model, 0)
    stage.train_mode(model)
    stage.forward(model, batch)
    real = batch['x'][batch['valid']]
    assert_close(model.backbone.norm.running_mean, .1*real.mean((0, 2, 3, 4)))
    other = tiny(norm=True)
    frozen = ClipStage('frozen')
    frozen.train_mode(other)
    before = other.backbone.norm.running_mean.clone()
    frozen.forward(other, batch)
    assert torch.equal(other.backbone.norm.running_mean, before) and other.training and not other.backbone.norm.training
    stage.bank.close()

# what is written, and what not ------------------------------------------------------------------------------------------

def digest_of(folder): return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(Path(folder).iterdir()) if p.name != 'lock'}

def test_no_way_writes_into_the_bank_it_begins_from(source, tmp_path):
    before = digest_of(source)
    for way,k in (('sufb', 3), ('frozen', 3), ('frozen', 0)): go(tmp_path/f'{way}{k}', source, way, k, epochs=1)
    assert digest_of(source) == before and not (tmp_path/'frozen3'/'live-bank').exists()

def test_validation_neither_reads_nor_writes_the_bank(source, tmp_path):
    ds,model = WindowDataset(items, qs, 'sufb', 3),tiny()
    stage = S.make_stage(ds, tmp_path, source, sync=False)
    stage.restore(model, 0)
    bank,stage.bank = stage.bank,None                                           # whoever touches it now fails
    ev,loss = validate(make_accelerator('no', 'cpu'), model, WholeVideos(items, qs), tqn_loss, stage)
    assert len(ev) == 15 and loss > 0 and stage.seen == []
    bank.close()

@pytest.mark.parametrize('workers', [0, 1, 2, None])
def test_validation_is_the_same_whoever_reads(workers):
    "The bits of one thread with any number; and the numbers of a plain loop over whole films"
    model,acc,stage = tiny(norm=True).eval(),make_accelerator('no', 'cpu'),ClipStage()
    (ev,loss),(one,same) = (validate(acc, model, WholeVideos(others, qs, workers=w), tqn_loss, stage) for w in (workers, 1))
    assert loss == same and ev.rows['colour'].keys() == one.rows['colour'].keys() == {o.id for o in others}
    with torch.no_grad(): plain = [model.read_classes(model((Film(o).clips(0, Film(o).n_clips()).float()/255)[None]))[0] for o in others]
    rows = ev.rows[next(k for k in ev.rows if k.startswith('class'))]
    for o,z in zip(others, plain): assert_close(torch.as_tensor(rows[o.id][0]).float().flatten()[:len(z)], z.softmax(-1), atol=1e-4, rtol=1e-4)

def test_validation_reads_on_while_the_backbone_runs(monkeypatch):
    "A pass waits until more clips were read than have gone through: by this thread they never would be"
    read,total = [],sum(Film(o).n_clips() for o in others)
    class Seen(Film):
        def frames(self, at, size=None): read.append((len(at)//8, threading.current_thread())); return super().frames(at, size)
    class Waits(Colours):
        clips,late = 0,0
        def forward(self, x):
            self.clips,end = self.clips + len(x),time.monotonic() + 20
            while not self.late and sum(n for n,_ in read) < min(self.clips + 1, total):
                if time.monotonic() > end: self.late += 1
                time.sleep(.01)
            return super().forward(x)
    model = tiny()
    model.backbone = Waits()
    monkeypatch.setattr(X, 'clips_at_once', lambda *a, **k: 4)                   # several passes
    validate(make_accelerator('no', 'cpu'), model, WholeVideos(others, qs, opener=Seen), tqn_loss, ClipStage())
    assert (model.backbone.clips, model.backbone.late) == (total, 0) and threading.main_thread() not in {t for _,t in read}

def test_frozen_without_clips_reads_none_and_leaves_the_backbone(source, tmp_path, monkeypatch):
    monkeypatch.setattr(W, 'open_item', lambda *a, **k: pytest.fail('a video was opened'))
    run,model = go(tmp_path/'run', source, 'frozen', 0, model=tiny(), val=None)
    for (n,p),q in zip(model.named_parameters(), tiny().parameters()):
        assert torch.equal(p, q) == n.startswith('backbone.'), n
    assert all(p.requires_grad for p in model.parameters()) and [r['age'] for r in run.steps()] == list(range(12))

def test_staleness_is_what_the_bank_says(source, tmp_path):
    run,_ = go(tmp_path/'run', source)
    seen,log = read_visits(run),run.log()
    assert len(seen) == 15*3 and all(abs(r['drift']) < 1e-6 for r in seen if r['step'] == 0)   # nothing has moved yet
    last = {}
    for r in seen:                                                              # ages, replayed from the visits alone
        n = 5 + int(r['id'][1:]) % 6
        written = last.setdefault(r['id'], [0]*n)
        span = range(int(r['start']), int(r['start'] + r['count']))
        assert r['age'] == pytest.approx(sum(r['step'] - written[c] for c in span)/len(span), rel=1e-5)
        rest = [r['step'] - written[c] for c in range(n) if c not in span]
        assert r['stale'] == pytest.approx(sum(rest)/max(1, len(rest)), rel=1e-5)
        for c in span: written[c] = r['step']
    assert log[-1]['age'] > log[0]['age'] and log[-1]['drift'] > 0
    assert run.steps()[5]['drift'] == pytest.approx(sum(r['drift'] for r in seen if r['step'] == 5)/sum(r['step'] == 5 for r in seen), rel=1e-4)

def test_a_bank_that_does_not_fit_is_refused(source, tmp_path):
    with pytest.raises(ValueError, match='build it again with these weights'): go(tmp_path/'a', source, model=tiny(seed=1))
    go(tmp_path/'b', source, model=tiny(seed=1), any_weights=True, epochs=1)
    with pytest.raises(ValueError, match="the bank holds no video 'v15'"): go(tmp_path/'c', source, train=[*items, item(15)])
    with pytest.raises(ValueError, match='the same clip_len and stride'): fit_stage2(tiny(), WindowDataset(items, qs, 'sufb', 3, stride=2), None, tmp_path/'d', source, **quiet)
    with pytest.raises(ValueError, match='this model has none'): fit_stage2(TQN(qs, d_model=16, n_layers=1), WindowDataset(items, qs, 'full'), None, tmp_path/'e', **quiet)

def test_parts_and_half_precision(tmp_path):
    a,b = bank_of(tmp_path/'bank'/'part-000-of-002', tiny(), items[::2], 'float16'),bank_of(tmp_path/'bank'/'part-001-of-002', tiny(), items[1::2], 'float16')
    parts = BankParts(tmp_path/'bank')
    assert len(parts.index.lengths) == 15 and parts.index.dtype == 'float16'
    rows,valid = parts.read(['v3', 'v2', 'v3'])
    assert torch.equal(rows[0], rows[2]) and valid.sum(1).tolist() == [8, 7, 8]
    run,_ = go(tmp_path/'run', tmp_path/'bank')
    assert FeatureBank.open(tmp_path/'run'/'live-bank'/'0-of-1', writable=False).index.dtype == 'float16'

# two processes --------------------------------------------------------------------------------------------------------

def in_two(fn, *args):
    "Run in two gloo processes and see that no process is left waiting"
    return launch(fn, *args, processes=2)

def first_gradients(folder, source):
    "Train in two processes, keeping the first gradient as it is before the update; what each process scored"
    real,kept = R.Run.check,[]
    def keeping(run, what, value, *more):
        if what == 'gradient' and not kept: kept.append({k.removeprefix('module.'): p.grad.clone() for k,p in run.model.named_parameters() if p.grad is not None})
        return real(run, what, value, *more)
    R.Run.check = keeping
    run,model = go(folder, source, model=tiny())
    ev,loss = validate(make_accelerator('no', 'cpu'), model, WholeVideos(others, qs), tqn_loss, ClipStage())
    ids = Counter(i for rows in ev.rows.values() for i,(_,views,_) in rows.items() for _ in range(views))
    return dict(grads={k: v.tolist() for k,v in kept[0].items()}, ids=ids, loss=loss, names=len(ev.rows), weights=[p.tolist() for p in model.parameters()])

@fork
def test_two_processes_do_what_one_does(source, tmp_path):
    got = in_two(first_gradients, tmp_path/'run', source)
    seen = {r: list(csv.DictReader((tmp_path/'run'/f'visits-{r}.csv').open())) for r in (0, 1)}
    # no video lost or doubled, each with its owner
    for epoch in '012': assert Counter(o['id'] for r in seen for o in seen[r] if o['epoch'] == epoch) == Counter(o.id for o in items)
    for r in seen: assert {int(o['id'][1:]) % 2 for o in seen[r]} == {r}
    for r in seen: assert set(FeatureBank.open(tmp_path/'run'/'live-bank'/f'{r}-of-2', writable=False).index.lengths) == {o.id for o in items[r::2]}
    # the gradient of the global batch in one process
    keys = [(0, int(o['id'][1:])) for r in seen for o in seen[r] if o['step'] == '0']
    assert len(keys) == 7                                                       # 4 of 8 videos, and 3 of 7
    one,_,_,_ = spliced_and_end_to_end(source, tmp_path/'one', keys)
    for name,p in one.named_parameters():
        g = torch.tensor(got['grads'][name])
        assert (p.grad - g).norm() <= 1e-5*p.grad.norm() + 1e-8, name
    # every val video scored exactly once
    assert set(got['ids']) == {o.id for o in others} and set(got['ids'].values()) == {got['names']}
    log = R.read_log(tmp_path/'run'/'log.csv')
    assert len(log) == 3 and all(r['val_answers']*14 == pytest.approx(round(r['val_answers']*14), abs=1e-3) for r in log)

def one_hears_a_signal(folder, source):
    "The second process alone is asked to stop, in the middle of an epoch"
    rank,calls = int(os.environ['RANK']),[]
    def hearing(*a):
        calls.append(0)
        if rank == 1 and len(calls) == 3: signal.raise_signal(signal.SIGTERM)
        return tqn_loss(*a)
    try: go(folder, source, loss=hearing, val=None)
    except KeyboardInterrupt as e: return str(e), len(calls)

def both_are_killed(folder, source):
    "Both processes die when the second has the second checkpoint of its bank, and the first has not"
    real,calls = BankStage.save,[]
    def dying(self, model, step):
        calls.append(0)
        if len(calls) == 2:
            if os.environ['RANK'] == '1': real(self, model, step)
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, model, step)
    BankStage.save = dying
    go(folder, source, val=None)

def resume(folder, source):
    "Finish a run in two processes"
    go(folder, source, resume=True, val=None)
    return True

@fork
def test_two_processes_stop_together_die_together_and_resume(source, tmp_path):
    assert in_two(resume, tmp_path/'whole', source)
    said,calls = in_two(one_hears_a_signal, tmp_path/'stopped', source)
    assert 'stopped after step 3' in said and calls == 3
    with pytest.raises(RuntimeError, match='SIGKILL|Signal 9'): in_two(both_are_killed, tmp_path/'killed', source)
    for name in ('stopped', 'killed'):
        assert in_two(resume, tmp_path/name, source)
        assert files(tmp_path/name) == files(tmp_path/'whole'), name
    with pytest.raises(ValueError, match='processes was 2, now 1'): resume(tmp_path/'whole', source)

def test_one_lonely_process_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv('ACCELERATE_USE_CPU', 'True')
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
    for name in ('WORLD_SIZE', 'OMPI_COMM_WORLD_SIZE', 'PMI_SIZE'): monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match='torchrun'): make_accelerator('no', 'cpu')

@pytest.mark.parametrize('n,b,world', [(1, 1, 1), (7, 3, 2), (16, 4, 4), (31, 8, 3), (5, 16, 5)])
def test_videos_are_dealt_out_once(n, b, world):
    for epoch in (0, 1):
        parts = []
        for r in range(world):
            sampler = OwnVideos(n, b, r, world)
            sampler.set_epoch(epoch)
            parts.append(list(sampler))
            assert len(sampler) == len(parts[-1])
        assert sorted(i for p in parts for batch in p for e,i in batch) == list(range(n)) and {e for p in parts for batch in p for e,_ in batch} == {epoch}
        assert len({len(p) for p in parts}) == 1 and all(batch for p in parts for batch in p) and max(len(batch) for p in parts for batch in p) <= max(b, 2)
