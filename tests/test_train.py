"Training: the loop learns, resumes to the same bits, survives kills, full disks and bad data, and refuses what it should"
import json, math, os, shutil, signal, subprocess, sys, textwrap, traceback, warnings
from collections import Counter
from pathlib import Path
import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn
from torch.overrides import TorchFunctionMode
from tqn.training import run as R
from tqn.data.items import Item
from tqn.data.batches import FeatureDataset, collate, make_loader
from tqn.core.processes import sample_generator
from tqn.models.losses import tqn_loss
from tqn.models.tqn import TQN
from tqn.questions.queries import QuerySet
from tqn.training.settings import make_config
from tqn.training.loop import fit, train_mode
from tqn.training.run import NotFinite, Progress, Run, load_checkpoint, lr_factor, make_accelerator, make_optimiser, open_run, read_log, save_checkpoint

SETUP = '''
import torch
from tqn.data.items import Item
from tqn.data.batches import FeatureDataset, make_loader
from tqn.core.processes import sample_generator
from tqn.models.losses import tqn_loss
from tqn.models.tqn import TQN
from tqn.questions.queries import QuerySet
from tqn.training.loop import fit

qs = QuerySet({'level': ['high', 'low'], 'side': ['left', 'right']}, classes=[(f'{a} {b}', [a, b]) for a in ('high', 'low') for b in ('left', 'right')])

def made_up(n, seed, view=0):
    "n videos as features; the two answers stand in two channels of one clip each"
    items, features = [], {}
    for i in range(n):
        g = sample_generator(seed, i)
        a,b,length,p,q = (int(torch.randint(k, (), generator=g)) for k in (2, 2, 5, 4, 4))
        x = .3*torch.randn(2, 4 + length, 6, generator=g)
        x[:,p,0] += 4*a - 2
        x[:,q,1] += 4*b - 2
        names = [qs['level'].answers[a], qs['side'].answers[b]]
        items.append(Item(f'{seed}-{i}', answers=dict(zip(qs.names, names)), class_name=' '.join(names)))
        features[items[-1].id] = x
    return FeatureDataset(features, items, qs, view=view, seed=seed)

def loaders(batch_size=8, n=44, workers=0):
    "44 videos make 6 batches of 8, the last of 4; views are drawn at random"
    return make_loader(made_up(n, 0, 'random'), batch_size, shuffle=True, workers=workers), make_loader(made_up(20, 1), 8)

def tiny(seed=0, dropout=.1, backbone=None, **kw):
    torch.manual_seed(seed)
    return TQN(qs, backbone=backbone, d_model=16, n_layers=1, n_heads=2, d_features=6, dropout=dropout, response_dropout=dropout, **kw)

quiet = dict(progress=False, callbacks=[], epochs=3, lr=.01, decoder_lr=.5)
'''
exec(SETUP)

def same(a, b): return all(torch.equal(x, y) for x,y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))

@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "An uninterrupted run: its folder and its model"
    model,folder = tiny(), tmp_path_factory.mktemp('whole')/'run'
    fit(model, *loaders(), folder, **quiet)
    return model, folder

def script(tmp_path, body, **env):
    "Run a piece of training in a process of its own"
    (tmp_path/'s.py').write_text(SETUP + textwrap.dedent(body))
    return subprocess.run([sys.executable, str(tmp_path/'s.py')], capture_output=True, text=True, timeout=600, env={**os.environ, 'OMP_NUM_THREADS': '1', **env})

# learning -------------------------------------------------------------------------------------------------------------

def test_overfits_and_keeps_the_best(tmp_path):
    model = tiny(dropout=0.)
    run = fit(model, *loaders(n=88), tmp_path/'r', epochs=10, lr=.02, decoder_lr=.5, progress=False)
    log = run.log()
    assert log[-1]['loss'] < .2*log[0]['loss'] and run.best >= .9 and run.ended == 'finished'
    assert run.best == pytest.approx(max(r['val_answers'] for r in log), abs=1e-5) and log[run.best_epoch]['best'] == 1
    assert not model.training and same(model, TQN.from_pretrained(tmp_path/'r'/'best'))
    assert len(run.steps()) == 110 and json.loads((tmp_path/'r'/'config.json').read_text()) == json.loads(json.dumps(dict(run.config)))

def test_one_clip_one_video_one_batch(tmp_path):
    one = make_loader(FeatureDataset({'a': torch.ones(1, 6)}, [Item('a', answers={'side': 'left'})], qs), 8, shuffle=True)
    run = fit(tiny(), one, one, tmp_path/'r', **quiet)
    assert run.log()[-1]['loss'] < run.log()[0]['loss'] and len(run.steps()) == 3

def test_without_val_the_last_weights_are_kept(tmp_path):
    model = tiny()
    run = fit(model, loaders()[0], None, tmp_path/'r', **quiet)
    at = load_checkpoint(tmp_path/'r', other := tiny(seed=3), make_optimiser(other))
    assert run.best is None and at.epoch == 3 and same(model, other) and same(model, TQN.from_pretrained(tmp_path/'r'/'best'))

def test_early_stop(tmp_path):
    run = fit(tiny(), *loaders(), tmp_path/'r', **{**quiet, 'epochs': 50, 'lr': 0., 'patience': 2})
    assert run.ended == 'early stop' and len(run.log()) == 3 and run.best_epoch == 0
    again = fit(tiny(), *loaders(), tmp_path/'r', resume=True, **{**quiet, 'epochs': 50, 'lr': 0., 'patience': 2})
    assert len(again.log()) == 3  # it had ended: nothing more is trained

@pytest.mark.parametrize('metric,pick', [('loss', min), ('class', max)])
def test_best_by_another_metric(tmp_path, metric, pick):
    run = fit(tiny(), *loaders(), tmp_path/'r', **quiet, metric=metric)
    assert run.best == pytest.approx(pick(r[f'val_{metric}'] for r in run.log()), rel=1e-5)

def test_a_metric_that_is_nan_is_refused(tmp_path):
    train,val = loaders()
    unknown = FeatureDataset(val.dataset.kept, [Item(o.id, class_name=o.class_name) for o in val.dataset.items], qs)
    with pytest.raises(ValueError, match=r"metric='answers' is nan.*'class', 'loss'"): fit(tiny(), train, make_loader(unknown, 8), tmp_path/'a', **quiet)
    run = fit(tiny(), train, make_loader(unknown, 8), tmp_path/'c', **quiet, metric='class')
    assert run.best == pytest.approx(max(r['val_class'] for r in run.log()), rel=1e-5)

def test_callbacks_see_every_epoch(tmp_path):
    seen = []
    fit(tiny(), *loaders(), tmp_path/'r', **{**quiet, 'callbacks': [lambda run: seen.append(len(run.log()))]})
    assert seen == [1, 2, 3]

def test_nothing_is_drawn_outside_a_notebook(tmp_path):
    done = script(tmp_path, f"import sys\nfit(tiny(), *loaders(), {str(tmp_path/'r')!r}, progress=False, epochs=1)\nassert not [m for m in sys.modules if m.startswith(('matplotlib', 'IPython'))], 'plotting was loaded'")
    assert done.returncode == 0 and done.stdout == '', done.stderr

# the optimiser --------------------------------------------------------------------------------------------------------

class Given(list):
    "Batches of these sizes, one after the other"
    sampler = batch_sampler = None

def plain_steps(monkeypatch, folder, sizes, lr=.1, epochs=3, **kw):
    "Weights, moves and log of a training with plain gradient descent (Adam would blow up the rounding of gradients that are zero)"
    ds,model,ends = made_up(sum(sizes), 0),tiny(dropout=0.),torch.tensor([0, *sizes]).cumsum(0).tolist()
    def descent(model, *a):
        opt = torch.optim.SGD(model.parameters(), lr=lr)
        for g in opt.param_groups: g['initial_lr'] = lr
        return opt
    monkeypatch.setattr(R, 'make_optimiser', descent)
    before = [p.detach().clone() for p in model.parameters()]
    batches = Given(collate([ds[i] for i in range(a, b)]) for a,b in zip(ends, ends[1:]))
    run = fit(model, batches, None, folder, epochs=epochs, accumulate=len(sizes), progress=False, callbacks=[], **kw)
    return torch.cat([p.detach().flatten() for p in model.parameters()]), math.sqrt(sum(float((p.detach() - q).square().sum()) for p,q in zip(model.parameters(), before))), run.steps()

@pytest.mark.parametrize('sizes', [(16,), (8, 8), (7, 7, 2), (1,)*16])
def test_accumulation_equals_the_large_batch(sizes, tmp_path, monkeypatch):
    (a,_,steps_a),(b,_,steps_b) = plain_steps(monkeypatch, tmp_path/'a', (16,), clip=1.), plain_steps(monkeypatch, tmp_path/'b', sizes, clip=1.)
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)
    assert len(steps_a) == len(steps_b) == 3
    for x,y in zip(steps_a, steps_b): assert x['loss'] == pytest.approx(y['loss'], rel=1e-3) and x['grad_norm'] == pytest.approx(y['grad_norm'], rel=1e-3)

def test_clipping_bounds_the_step(tmp_path, monkeypatch):
    def moved(name, clip):
        _,far,steps = plain_steps(monkeypatch, tmp_path/name, (8,), lr=1., epochs=1, clip=clip)
        return steps[0]['grad_norm'], far
    norm,free = moved('free', 0.)
    assert free == pytest.approx(norm, rel=1e-4)
    assert moved('clipped', norm/10) == (pytest.approx(norm), pytest.approx(norm/10, rel=1e-3))

def test_groups_follow_the_published_recipe():
    groups = make_optimiser(tiny()).param_groups
    assert {g['lr'] for g in groups} == {1e-3, 1e-4} and {g['weight_decay'] for g in groups} == {1e-5} and make_config().clip == 400

@given(st.integers(1, 500), st.sampled_from(['constant', 'cosine', 'steps']), st.floats(0, .5))
def test_learning_rate_stays_within_bounds(steps, schedule, warmup):
    fs = [lr_factor(s, steps, schedule, warmup, (.3, .6)) for s in range(steps)]
    assert all(0 < f <= 1 for f in fs)
    rise = math.ceil(warmup*steps)
    assert fs[:rise] == sorted(fs[:rise]) and fs[rise:] == sorted(fs[rise:], reverse=True)

def test_attention_regulariser_is_off_by_default_and_acts_when_on(tmp_path):
    calls = []
    def spread(attn, valid): calls.append(attn.shape); return -(attn.clamp_min(1e-9).log()*attn).sum(-1).mean()
    plain,off,on = (tiny() for _ in range(3))
    fit(plain, *loaders(), tmp_path/'a', **quiet)
    fit(off, *loaders(), tmp_path/'b', attn_loss=spread, **quiet)
    assert not calls and same(plain, off)
    run = fit(on, *loaders(), tmp_path/'c', attn_loss=spread, attn_weight=1., **quiet)
    assert len(calls[0]) == 5 and not same(plain, on) and run.log()[-1]['loss_attn'] < run.log()[0]['loss_attn']

def test_gradients_reach_everything_that_learns(tmp_path):
    acc,model = make_accelerator('no', 'cpu'), tiny()
    batch = next(iter(loaders()[0]))
    tqn_loss(model(batch['x'], batch['valid']), batch['answers'], batch['class'])[0].backward()
    assert [n for n,p in model.named_parameters() if p.grad is None] == []

# a backbone -----------------------------------------------------------------------------------------------------------

class Small(nn.Module):
    "Clips to 6 numbers, with a batch norm"
    d_out = 6
    def __init__(self): super().__init__(); self.conv,self.bn = nn.Conv3d(3, 6, 2),nn.BatchNorm3d(6)
    def forward(self, x): return self.bn(self.conv(x)).mean((2, 3, 4))

class Clips(torch.utils.data.Dataset):
    def __len__(self): return 5
    def __getitem__(self, key):
        i = key[1]
        return dict(id=str(i), clips=torch.randn(1 + i, 3, 4, 6, 6, generator=sample_generator(i)), answers=qs.encode({'side': 'left'}), **{'class': torch.tensor(-1)})

@pytest.mark.parametrize('frozen', [True, False])
def test_clips_train_a_backbone_or_leave_all_of_it(tmp_path, frozen):
    torch.manual_seed(0)
    backbone = Small().requires_grad_(not frozen)
    before = {k: v.clone() for k,v in backbone.state_dict().items()}
    loader = make_loader(Clips(), 2, shuffle=True)
    fit(tiny(backbone=backbone), loader, loader, tmp_path/'r', **quiet)
    kept = [torch.equal(v, before[k]) for k,v in backbone.state_dict().items()]
    assert all(kept) if frozen else not any(kept)  # statistics of the batch norm included

def test_train_mode_wakes_only_what_learns():
    net = nn.Sequential(Small().requires_grad_(False), nn.Linear(6, 2), nn.Dropout())
    train_mode(net)
    assert [m.training for m in net] == [False, True, True] and not net[0].bn.training

# settings -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('bad,match', [(dict(lrr=1), "'lr'"), (dict(optimiser='sgd'), 'optimiser'), (dict(precision='fp8'), 'precision'), (dict(lr=-1.), 'lr must be'), (dict(accumulate=0), 'accumulate'), (dict(clip=math.nan), 'clip')])
def test_bad_settings_are_refused(bad, match):
    with pytest.raises(ValueError, match=match): make_config(**bad)

def test_settings_from_a_file_and_a_flag_beats_it(tmp_path):
    open_run(tmp_path/'r', make_config('modern', lr=.5))
    assert make_config(tmp_path/'r'/'config.json', epochs=7) == make_config('modern', lr=.5, epochs=7)

def test_no_mixed_precision_on_a_cpu_unless_asked():
    assert make_accelerator('auto', 'cpu').mixed_precision == 'no' and make_accelerator('bf16', 'cpu').mixed_precision == 'bf16'

# resume ---------------------------------------------------------------------------------------------------------------

def logs(folder): return (folder/'steps.csv').read_text(), [{k: v for k,v in r.items() if k != 'seconds'} for r in read_log(folder/'log.csv')]

@pytest.mark.parametrize('sig,step', [(signal.SIGINT, 1), (signal.SIGTERM, 6), (signal.SIGINT, 8)])
def test_signal_then_resume_gives_the_same_bits(tmp_path, whole, sig, step):
    calls = []
    def loss(out, answers, classes):
        if torch.is_grad_enabled():
            calls.append(0)
            if len(calls) == step: signal.raise_signal(sig)
        return tqn_loss(out, answers, classes)
    with pytest.raises(KeyboardInterrupt, match='resume=True'): fit(tiny(), *loaders(), tmp_path/'r', loss=loss, **quiet)
    model = tiny(seed=8)
    fit(model, *loaders(), tmp_path/'r', resume=True, **quiet)
    assert same(model, whole[0]) and logs(tmp_path/'r') == logs(whole[1])

@pytest.mark.parametrize('where', ['R.save_checkpoint', 'os.replace'])
def test_kill_9_anywhere_then_resume_gives_the_same_bits(tmp_path, whole, where):
    body = f"""
    import os, signal
    from tqn.training import run as R
    calls,old = [],{where}
    def fatal(*a, **k):
        calls.append(0)
        if len(calls) == 2 + 9*('replace' in {where!r}): os.kill(os.getpid(), signal.SIGKILL)
        return old(*a, **k)
    {where} = fatal
    fit(tiny(), *loaders(), {str(tmp_path/'r')!r}, save_every=4, **quiet)
    """
    done = script(tmp_path, body)
    assert done.returncode == -signal.SIGKILL, done.stderr
    model = tiny(seed=8)
    fit(model, *loaders(), tmp_path/'r', resume=True, save_every=4, **quiet)
    assert same(model, whole[0]) and logs(tmp_path/'r') == logs(whole[1])
    assert sorted(p.name for p in (tmp_path/'r').iterdir() if not p.name.startswith('.')) == ['best', 'checkpoint-0003-00000018', 'config.json', 'lock', 'log.csv', 'run.json', 'steps.csv']

def test_resume_with_workers_and_accumulation(tmp_path):
    kw = {**quiet, 'accumulate': 4, 'epochs': 2}
    fit(a := tiny(), *loaders(workers=1), tmp_path/'a', **kw)
    calls = []
    def loss(out, answers, classes):
        calls.append(0)
        if len(calls) == 2: signal.raise_signal(signal.SIGINT)  # in the middle of a group: the group is finished first
        return tqn_loss(out, answers, classes)
    with pytest.raises(KeyboardInterrupt): fit(tiny(), *loaders(), tmp_path/'b', loss=loss, **kw)
    fit(b := tiny(seed=4), *loaders(), tmp_path/'b', resume=True, **kw)
    assert same(a, b) and len(read_log(tmp_path/'b'/'steps.csv')) == 4

def test_more_epochs_continue_a_finished_run(tmp_path, whole):
    shutil.copytree(whole[1], tmp_path/'r')
    fit(a := tiny(seed=5), *loaders(), tmp_path/'r', resume=True, **{**quiet, 'epochs': 5})
    fit(b := tiny(), *loaders(), tmp_path/'b', **{**quiet, 'epochs': 5})
    assert same(a, b)

def test_resume_refuses_other_settings_or_another_model(tmp_path, whole):
    shutil.copytree(whole[1], tmp_path/'r')
    with pytest.raises(ValueError, match='lr was 0.01, now 0.5'): fit(tiny(), *loaders(), tmp_path/'r', resume=True, **{**quiet, 'lr': .5})
    with pytest.raises(ValueError, match='another model'): fit(TQN(qs, d_model=32, n_layers=1, n_heads=2, d_features=6), *loaders(), tmp_path/'r', resume=True, **{**quiet, 'epochs': 4})

def test_resume_refuses_other_questions_answers_and_videos(tmp_path, whole):
    "A checkpoint fits any model of its shapes, so what its outputs mean is compared"
    shutil.copytree(whole[1], tmp_path/'r')
    before = {p: p.read_bytes() for p in (tmp_path/'r').rglob('*') if p.is_file()}
    def resumed(answers={'level': ['high', 'low'], 'side': ['left', 'right']}, rename={}, items=slice(None), dropout=.1):
        other = QuerySet(answers, classes=[(f'{a} {b}', [a, b]) for a in answers[[*answers][0]] for b in answers[[*answers][1]]])
        torch.manual_seed(0)
        model = TQN(other, d_model=16, n_layers=1, n_heads=2, d_features=6, dropout=dropout, response_dropout=dropout)
        train,val = loaders()
        for ds in (train.dataset, val.dataset):
            ds.queries,ds.items = other,[Item(o.id, answers={q: rename.get(a, a) for q,a in o.answers.items()}) for o in ds.items][items]
        return fit(model, train, val, tmp_path/'r', resume=True, **{**quiet, 'epochs': 4})
    for kw,text in ((dict(answers={'level': ['top', 'low'], 'side': ['left', 'right']}, rename={'high': 'top'}), "answer 1 of 'level' was 'high', now 'top'"),
                    (dict(answers={'level': ['low', 'high'], 'side': ['left', 'right']}), "answer 1 of 'level' was 'high', now 'low'"),
                    (dict(answers={'side': ['left', 'right'], 'level': ['high', 'low']}), "question 1 was 'level', now 'side'"),
                    (dict(dropout=.2), 'another model: dropout was 0.1, now 0.2'), (dict(items=slice(1, None)), 'number of train videos was 44, now 43')):
        with pytest.raises(ValueError, match=f'cannot resume.*{text}'): resumed(**kw)
    with pytest.raises(ValueError, match="answers of '0-.*' in train was"): resumed(rename={'high': 'low'})
    assert before == {p: p.read_bytes() for p in (tmp_path/'r').rglob('*') if p.is_file()}

def test_a_run_of_an_earlier_version_is_resumed_and_says_once_what_was_not_compared(tmp_path, whole):
    shutil.copytree(whole[1], tmp_path/'r')
    (tmp_path/'r'/'run.json').unlink()
    with pytest.raises(ValueError, match='lr was 0.01, now 0.5'): fit(tiny(), *loaders(), tmp_path/'r', resume=True, **{**quiet, 'lr': .5})
    turned = QuerySet({'level': ['low', 'high'], 'side': ['left', 'right']})
    with pytest.raises(ValueError, match="answer 1 of 'level' was 'high', now 'low'"): fit(TQN(turned, d_model=16, n_layers=1, n_heads=2, d_features=6), *loaders(), tmp_path/'r', resume=True, **quiet)
    with pytest.warns(UserWarning, match='no record of model and videos'): fit(a := tiny(seed=5), *loaders(), tmp_path/'r', resume=True, **{**quiet, 'epochs': 4})
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fit(tiny(seed=5), *loaders(), tmp_path/'r', resume=True, **{**quiet, 'epochs': 4})
    fit(b := tiny(), *loaders(), tmp_path/'b', **{**quiet, 'epochs': 4})
    assert same(a, b)

def test_a_damaged_record_is_named(tmp_path, whole):
    shutil.copytree(whole[1], tmp_path/'r')
    (tmp_path/'r'/'run.json').write_text('{"settings": {')
    with pytest.raises(ValueError, match='run.json cannot be read as JSON.*remove it'): fit(tiny(), *loaders(), tmp_path/'r', resume=True, **quiet)

def test_damaged_checkpoint_is_named(tmp_path, whole):
    for name in ('model.safetensors', 'optimiser.pt', 'progress.json'):
        shutil.copytree(whole[1], tmp_path/name)
        file = tmp_path/name/'checkpoint-0003-00000018'/name
        file.write_bytes(file.read_bytes()[:-20])
        with pytest.raises(ValueError, match='is damaged'): load_checkpoint(tmp_path/name, m := tiny(), make_optimiser(m))

def test_a_pickle_in_a_checkpoint_is_never_executed(tmp_path, whole):
    import pickle
    shutil.copytree(whole[1], tmp_path/'r')
    class Bomb:
        def __reduce__(self): return os.mkdir, (str(tmp_path/'boom'),)
    torch.save({'state': Bomb()}, tmp_path/'r'/'checkpoint-0003-00000018'/'optimiser.pt')
    with pytest.raises(ValueError, match='is damaged'): load_checkpoint(tmp_path/'r', m := tiny(), make_optimiser(m))
    assert not (tmp_path/'boom').exists()

# folders --------------------------------------------------------------------------------------------------------------

def test_a_run_is_never_overwritten_unasked(tmp_path, whole):
    shutil.copytree(whole[1], tmp_path/'r')
    (tmp_path/'r'/'notes.txt').write_text('mine')
    before = {p: p.read_bytes() for p in (tmp_path/'r').rglob('*') if p.is_file()}
    with pytest.raises(ValueError, match='resume=True.*overwrite=True'): fit(tiny(), *loaders(), tmp_path/'r', **quiet)
    assert before == {p: p.read_bytes() for p in (tmp_path/'r').rglob('*') if p.is_file()}
    fit(tiny(), *loaders(), tmp_path/'r', overwrite=True, **{**quiet, 'epochs': 1})
    assert len(read_log(tmp_path/'r'/'log.csv')) == 1 and (tmp_path/'r'/'notes.txt').read_text() == 'mine'

def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path/'file').write_text('x')
    for folder in (tmp_path/'file'/'run', Path('/proc/tqn/run')):
        with pytest.raises(OSError, match='cannot write'): fit(tiny(), *loaders(), folder, **quiet)

def test_read_only_folder(tmp_path):
    if os.geteuid() == 0: pytest.skip('root may write to a read-only folder; a path below a file and /proc are tested instead')
    (tmp_path/'ro').mkdir(mode=0o500)
    with pytest.raises(OSError, match='cannot write'): fit(tiny(), *loaders(), tmp_path/'ro'/'run', **quiet)

def test_full_disk_leaves_the_checkpoint_before(tmp_path, whole):
    "No file may grow beyond 4 KB from the second epoch on, as on a full disk"
    body = f"""
    import resource
    def fill(run): resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    try: fit(tiny(), *loaders(), {str(tmp_path/'r')!r}, **{{**quiet, 'callbacks': [fill]}})
    except OSError as e: print(e)
    """
    done = script(tmp_path, body)
    assert done.returncode == 0 and 'cannot' in done.stdout or 'could not' in done.stdout, done.stdout + done.stderr
    assert not [p for p in (tmp_path/'r').rglob('*') if p.name.endswith(('.tmp', '.part'))]
    model = tiny(seed=8)
    fit(model, *loaders(), tmp_path/'r', resume=True, **quiet)
    assert same(model, whole[0]) and logs(tmp_path/'r') == logs(whole[1])

@pytest.mark.parametrize('log', ['steps.csv', 'log.csv'])
@pytest.mark.parametrize('rest', ['', 'ep'])
def test_resume_with_a_log_that_a_full_disk_left_empty(tmp_path, log, rest):
    fit(tiny(), *loaders(), tmp_path/'r', **{**quiet, 'epochs': 1})
    (tmp_path/'r'/log).write_text(rest)
    fit(tiny(), *loaders(), tmp_path/'r', resume=True, **{**quiet, 'epochs': 2})
    rows = read_log(tmp_path/'r'/log)
    assert len(rows) == {'steps.csv': 6, 'log.csv': 1}[log] and all(math.isfinite(r['epoch']) for r in rows)

def test_a_new_run_does_not_begin_from_a_stray_checkpoint(tmp_path, whole):
    shutil.copytree(whole[1]/'checkpoint-0003-00000018', tmp_path/'r'/'checkpoint-0003-00000018')
    with pytest.raises(ValueError, match='has no config.json but holds checkpoint-0003-00000018'): fit(tiny(), *loaders(), tmp_path/'r', **quiet)
    assert [p.name for p in (tmp_path/'r').iterdir()] == ['checkpoint-0003-00000018']
    run = fit(tiny(), *loaders(), tmp_path/'r', overwrite=True, **{**quiet, 'epochs': 1})
    assert len(run.steps()) == 6

def theirs(folder):
    "A folder of somebody whose names happen to be ours"
    for name in ('config.json', 'log.csv', 'best/song.mp3', 'best/config.json', 'visits-of-friends.csv', 'live-bank/account.txt', 'checkpoint-paper/thesis.tex', 'checkpoint-9999/model.safetensors'):
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_text('{"model_type": "bert"}')
    return {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}

@pytest.mark.parametrize('how', [{}, dict(resume=True), dict(overwrite=True)])
def test_a_folder_of_somebody_else_is_refused_and_left_as_it_was(tmp_path, how):
    before = theirs(tmp_path/'r')
    for lost in ('config.json', 'log.csv'):
        with pytest.raises(ValueError, match=f'{lost}.*nothing was changed there'): fit(tiny(), *loaders(), tmp_path/'r', **quiet, **how)
        assert {p: p.read_bytes() for p in (tmp_path/'r').rglob('*') if p.is_file()} == before
        before.pop(tmp_path/'r'/lost); (tmp_path/'r'/lost).unlink()

def test_what_others_keep_in_a_run_folder_is_neither_read_nor_removed(tmp_path, whole):
    shutil.copytree(whole[1], tmp_path/'r')
    mine = {p: p.read_bytes() for p in theirs(tmp_path/'mine')}
    for p in mine: p.unlink() if p.name in ('config.json', 'log.csv') else None
    shutil.copytree(tmp_path/'mine', tmp_path/'r', dirs_exist_ok=True)
    kept = {p: p.read_bytes() for p in (tmp_path/'r').rglob('*') if (tmp_path/'mine'/p.relative_to(tmp_path/'r')).is_file()}
    assert len(kept) == 5
    fit(a := tiny(seed=4), *loaders(), tmp_path/'r', resume=True, **quiet)       # goes on from checkpoint-0003, not from checkpoint-paper
    assert same(a, whole[0])
    fit(b := tiny(), *loaders(), tmp_path/'r', overwrite=True, **quiet)
    assert same(b, whole[0]) and {p: p.read_bytes() for p in kept} == kept
    assert [p.name for p in sorted((tmp_path/'r').glob('checkpoint-0*'))] == ['checkpoint-0003-00000018']

@pytest.mark.parametrize('how', [{}, dict(resume=True), dict(overwrite=True)])
def test_one_run_in_a_folder(tmp_path, how):
    "While one trains, a second is refused, whatever it asks for; the first comes out as if nothing had been"
    def second(run):
        with pytest.raises(ValueError, match='is training right now.*choose another folder'): fit(tiny(), *loaders(), tmp_path/'r', **quiet, **how)
    fit(a := tiny(), *loaders(), tmp_path/'r', **{**quiet, 'callbacks': [second]})
    assert logs(tmp_path/'r') and a.training is False
    fit(tiny(), *loaders(), tmp_path/'r', resume=True, **quiet)                  # the lock is free again

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system does not fork')
def test_the_lock_goes_with_its_process_though_a_forked_child_lives(tmp_path):
    from tqn.core.files import lock_folder
    code = "import os, time\nfrom tqn.core.files import lock_folder\nheld = lock_folder(%r, '')\nif not os.fork(): print(flush=True)\ntime.sleep(60)" % str(tmp_path)
    with subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, start_new_session=True) as p:
        p.stdout.readline()                                                       # of the child, which has closed its copy by now
        with pytest.raises(ValueError, match='taken'): lock_folder(tmp_path, 'taken')
        p.kill(); p.wait(10)
        lock_folder(tmp_path, 'taken').close()
        os.killpg(p.pid, signal.SIGKILL)

@pytest.mark.skipif(os.name == 'nt', reason='on Windows a process cannot be asked whether it lives')
@pytest.mark.parametrize('where, work', [('r', "fit(tiny(), *loaders(), FOLDER, **quiet)"), ('r/best', "fit(tiny(), *loaders(), FOLDER, overwrite=True, **quiet)"),
    ('r', "__import__('tqn.core.files').core.files.write_atomic(FOLDER + '/a.txt', '')"), ('r', "__import__('tqn.video.video').video.video.write_video(FOLDER + '/a.mp4', [torch.zeros(16, 16, 3, dtype=torch.uint8).numpy()])")])
def test_what_a_killed_process_left_goes_when_the_next_begins(tmp_path, where, work):
    "A file and a folder of a dead process go; those of a living one, and of names that are not ours, stay"
    from tqn.core.files import temporary
    (tmp_path/'r'/'best').mkdir(parents=True)
    if where == 'r/best': shutil.copyfile(whole_config(tmp_path), tmp_path/'r'/'config.json')
    else: (tmp_path/'r'/'best').rmdir()
    body = f"""
    import os, signal
    from pathlib import Path
    from tqn.core.files import temporary
    with temporary({str(tmp_path/where/'film.mp4')!r}) as a, temporary({str(tmp_path/where/'checkpoint')!r}) as b:
        a.write_text('half'); b.mkdir(); (b/'model').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)
    """
    assert script(tmp_path, body).returncode == -signal.SIGKILL
    assert len(list((tmp_path/where).glob('.*.tmp'))) == 2
    (tmp_path/where/'.mine.tmp').write_text('mine')
    with temporary(tmp_path/where/'live.mp4') as live:
        live.write_text('half')
        done = script(tmp_path, work.replace('FOLDER', repr(str(tmp_path/'r'))))
        assert done.returncode == 0, done.stderr
        assert {p.name for p in (tmp_path/where).glob('.*.tmp')} == {'.mine.tmp', live.name}

def whole_config(tmp_path):
    from tqn.training.settings import TrainConfig
    (tmp_path/'c.json').write_text(json.dumps(dict(TrainConfig())))
    return tmp_path/'c.json'

# diverging ------------------------------------------------------------------------------------------------------------

def test_nan_names_step_and_videos_and_spares_the_weights(tmp_path):
    train,val = loaders()
    id = train.dataset.items[7].id
    train.dataset.kept[id] = torch.full((3, 6), torch.nan)
    with pytest.raises(NotFinite, match=rf'step \d.*{id}.*lower lr') as e: fit(tiny(), train, None, tmp_path/'r', **quiet)
    assert str(e.value).count('0-') == 8  # the batch's videos and no others
    done = read_log(tmp_path/'r'/'steps.csv')
    assert all(math.isfinite(r['loss']) for r in done)

def test_infinite_gradient_is_caught_before_the_step(tmp_path):
    model = tiny()
    def loss(out, answers, classes): return (total := out.responses['side'].sum()*0 + (model.heads.layers[0].bias*0).sqrt().sum()), {'side': total.detach()}
    before = {k: v.clone() for k,v in model.state_dict().items()}
    with pytest.raises(NotFinite, match='gradient'): fit(model, *loaders(), tmp_path/'r', loss=loss, **quiet)
    assert all(torch.equal(v, before[k]) for k,v in model.state_dict().items())

# waiting for the device ------------------------------------------------------------------------------------------------

WAITS = {'item', 'tolist', '__float__', '__int__', '__bool__', '__index__', 'numpy', '__array__', 'cpu', 'nonzero', 'masked_select', 'unique'}

class Reads(TorchFunctionMode):
    "Counts what would wait for a GPU, between a group of batches and the next, by the file of the kit that asks; what loaders do and what is only asked of a CPU does not"
    def __init__(self): super().__init__(); self.found,self.on = Counter(),False
    def __torch_function__(self, f, types, args=(), kw=None):
        name = getattr(f, '__name__', '')
        if self.on and (name in WAITS or name == '__getitem__' and getattr(args[1], 'dtype', None) == torch.bool):
            line = next(o for o in reversed(traceback.extract_stack()) if '/tqn/' in o.filename)
            where = line.filename.rsplit('/tqn/', 1)[1]
            if not where.startswith('data/') and "device.type=='cpu'" not in line.line: self.found[name, where] += 1
        return f(*args, **(kw or {}))

def reads_of(monkeypatch, go):
    "What a training reads in its steps, saving left out"
    mode,real = Reads(),Run.groups
    def groups(run):
        for group in real(run):
            mode.on = True
            yield group
            mode.on = False
    monkeypatch.setattr(Run, 'groups', groups)
    with mode: run = go()
    return mode.found,len(run.steps())

@pytest.mark.parametrize('accumulate', [1, 3])
def test_the_device_is_waited_for_once_an_update(tmp_path, monkeypatch, accumulate):
    "Losses and norm, which the log shows, and nothing else"
    found,n = reads_of(monkeypatch, lambda: fit(tiny(), loaders()[0], None, tmp_path/'r', **quiet, accumulate=accumulate))
    assert n > 3 and set(found) - {('tolist', 'training/run.py')} <= {('item', 'training/run.py')} and found['tolist', 'training/run.py'] == n
    assert found['item', 'training/run.py'] <= quiet.get('epochs', 3)             # the seed of an epoch's loader, which is the host's

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU here')
def test_gpu_waits_once_an_update(tmp_path):
    "CUDA's own count of waiting calls"
    train,_ = loaders(n=88)
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter('always')
            run = fit(tiny(dropout=0.), train, None, tmp_path/'r', epochs=2, progress=False, callbacks=[])
    finally: torch.cuda.set_sync_debug_mode('default')
    saving = 2*len(list(tiny().state_dict()))*4                                   # weights and moments, at the end of each epoch
    assert sum('synchronizing' in str(w.message) for w in said) <= 2*len(run.steps()) + saving

# precision and processes ----------------------------------------------------------------------------------------------

def test_bf16_when_asked(tmp_path):
    run = fit(tiny(dropout=0.), *loaders(), tmp_path/'r', **quiet, precision='bf16', device='cpu')
    assert run.log()[-1]['loss'] < run.log()[0]['loss']

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU here')
@pytest.mark.parametrize('precision', ['auto', 'fp16', 'no'])
def test_gpu(tmp_path, precision):
    run = fit(tiny(dropout=0.), *loaders(n=88), tmp_path/'r', epochs=8, lr=.02, decoder_lr=.5, progress=False, precision=precision)
    assert run.log()[-1]['loss'] < .5*run.log()[0]['loss']

def test_two_processes_train_like_one(tmp_path):
    "Two processes with batches of 4 make the steps of one process with batches of 8, and score each val video once"
    body = f"""
    model = tiny(dropout=0.)
    train,val = make_loader(made_up(40, 0), 4), make_loader(made_up(21, 1), 4)
    fit(model, train, val, {str(tmp_path/'two')!r}, **quiet, device='cpu')
    """
    (tmp_path/'s.py').write_text(SETUP + textwrap.dedent(body))
    done = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', str(tmp_path/'s.py')],
        capture_output=True, text=True, timeout=600, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr[-3000:]
    fit(model := tiny(dropout=0.), make_loader(made_up(40, 0), 8), make_loader(made_up(21, 1), 8), tmp_path/'one', **quiet)
    one,two = (read_log(tmp_path/k/'steps.csv') for k in ('one', 'two'))
    assert len(one) == len(two) == 15
    for a,b in zip(read_log(tmp_path/'one'/'log.csv'), read_log(tmp_path/'two'/'log.csv'), strict=True):
        assert b['val_answers'] == pytest.approx(a['val_answers'], abs=.03)
    for a,b in zip(one, two): assert b['grad_norm'] == pytest.approx(a['grad_norm'], rel=2e-2)
