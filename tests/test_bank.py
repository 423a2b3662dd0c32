"""The feature bank: the published figures, the same gradient as end to end, and no death that leaves a torn or mixed bank."""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import golden
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_parity import EVAL, NORM, logits, our_names
from torch import nn
from torch.testing import assert_close
from tqn.features import bank as module
from tqn.models.backbone import S3D
from tqn.features.bank import FeatureBank, drift, plot_ages, torn_rows
from tqn.models.tqn import TQN
from tqn.models.losses import tqn_loss
from tqn.questions.queries import QuerySet

E, SCALARS = golden.expected(), golden.scalars()
fork = pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system cannot fork a process to kill it')


def rows(*values, d=4, **kwargs):
    "Features (b, k, d), each filled with its value"
    return torch.tensor(values, **kwargs)[...,None].repeat(1, 1, d)

def filled(folder, lengths, d=4, **kwargs):
    "A bank whose row i of every video holds i, checkpointed"
    bank = FeatureBank.create(folder, lengths, d, **kwargs)
    for id,n in lengths.items(): bank.write([id], [0], rows([float(i) for i in range(n)], d=d))
    bank.checkpoint()
    return bank

def contents(bank):
    "Values of all videos as plain lists, one number a row; None where a clip is not written"
    marks, offsets = bank.store.marks, bank.index.offsets
    out = {}
    for id,n in bank.index.lengths.items():
        each = [bank.store.get(slice(r, r+1))[0] if marks['step'][r] >= 0 else None for r in range(offsets[id], offsets[id]+n)]
        assert all(o is None or (o == o[0]).all() for o in each), 'a row is made of two'
        out[id] = [None if o is None else float(o[0]) for o in each]
    return out


# Gradients

def test_gradient_equals_end_to_end_with_other_rows_detached(tmp_path):
    "A small S3D, two videos of which one comes twice, compared parameter by parameter"
    torch.manual_seed(0)
    queries = QuerySet({'q': ['a','b'], 'r': ['x','y','z']}, classes=[('u', ['a','x']), ('v', ['b','y'])])
    model = TQN(queries, S3D(width=1/16), d_model=32, n_layers=2, n_heads=2, dropout=0., response_dropout=0.).eval()
    clips = {'a': torch.randn(3, 3, 8, 32, 32), 'b': torch.randn(5, 3, 8, 32, 32)}
    ids, starts, k = ['b','a','b'], [0, 1, 3], 2
    targets = {'q': torch.tensor([0, 1, 0]), 'r': torch.tensor([2, -1, 2])}, torch.tensor([0, 1, 0])
    def gradients(features, valid):
        model.zero_grad()
        tqn_loss(model(features, valid), *targets)[0].backward()
        return {name: p.grad.clone() for name,p in model.named_parameters()}
    def by_clip(x): return torch.cat([model.backbone(o[None]) for o in x])     # one by one, so that no kernel depends on the batch
    bank = FeatureBank.create(tmp_path/'bank', {id: len(o) for id,o in clips.items()}, model.backbone.d_out)
    with torch.no_grad():
        for id,o in clips.items(): bank.write([id], [0], by_clip(o)[None])
    fresh = torch.stack([by_clip(clips[id][s:s+k]) for id,s in zip(ids, starts)])
    ours = gradients(*bank.splice(ids, starts, fresh))
    whole = torch.zeros(3, 5, model.backbone.d_out)
    for i,(id,s) in enumerate(zip(ids, starts)):
        f = by_clip(clips[id])
        keep = (torch.arange(len(f)) >= s) & (torch.arange(len(f)) < s+k)
        whole[i,:len(f)] = torch.where(keep[:,None], f, f.detach())
    theirs = gradients(whole, torch.arange(5) < torch.tensor([[5],[3],[5]]))
    assert max(g.abs().max() for name,g in ours.items() if name.startswith('backbone.')) > 1e-4
    for name,g in theirs.items():
        assert (ours[name]-g).norm() <= 1e-5*g.norm()+1e-10, name
    bank.close()

@pytest.mark.parametrize('dtype', ['float32','float16'])
def test_what_comes_back(tmp_path, dtype):
    "Stored rows are rounded as the bank's dtype says, fresh ones are not; nothing aliases"
    bank = FeatureBank.create(tmp_path/'b', {'a': 3}, 4, dtype)
    third = torch.full((1, 3, 4), 1/3)
    bank.write(['a'], [0], third)
    fresh = third[:,:1].clone().requires_grad_()
    features, valid = bank.splice(['a'], [1], fresh)
    rounded = third.to(getattr(torch, dtype)).float().clone()
    assert torch.equal(features[0,1], third[0,0]) and torch.equal(features[0,[0,2]], rounded[0,[0,2]])
    assert features.dtype == torch.float32 and features.requires_grad and not bank.read(['a'])[0].requires_grad
    features.detach().zero_(); third.zero_()
    with torch.no_grad(): fresh.zero_()
    assert torch.equal(bank.read(['a'])[0], rounded) and valid.all()
    assert np.load(bank.folder/'features.npy').dtype == dtype
    half,_ = bank.splice(['a'], [0], torch.ones(1, 1, 4, dtype=torch.bfloat16))
    assert half.dtype == torch.bfloat16
    bank.close()

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU here')
def test_gpu(tmp_path):
    bank = filled(tmp_path/'b', {'a': 3, 'b': 5})
    fresh = rows([7., 8.], [9., 9.]).cuda().requires_grad_()
    features, valid = bank.splice(['a','b'], torch.tensor([1, 3]).cuda(), fresh, torch.tensor([2, 1]).cuda())
    assert features.is_cuda and valid.is_cuda
    assert features[...,0].tolist() == [[0, 7, 8, 0, 0], [0, 1, 2, 9, 4]]
    features.sum().backward()
    assert fresh.grad[...,0].tolist() == [[1, 1], [1, 0]]
    assert bank.read(['b'], 'cuda', torch.float16)[0].dtype == torch.float16
    bank.close()


# Any sequence of operations

LENGTHS = {'a': 1, 'b': 4, 'c': 7}
one = st.sampled_from(list(LENGTHS)).flatmap(lambda id: st.tuples(st.just(id), st.integers(0, LENGTHS[id]-1)))
splices = st.lists(one.flatmap(lambda o: st.tuples(st.just(o[0]), st.just(o[1]), st.integers(1, min(3, LENGTHS[o[0]]-o[1])))), min_size=1, max_size=4)
commands = st.lists(st.one_of(st.tuples(st.just('splice'), splices), st.tuples(st.sampled_from(['advance','checkpoint','restore','back','reopen']))), max_size=14)

@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commands)
def test_any_sequence(memory, commands):
    "The bank against dicts: values, ages, what each occurrence sees, and both checkpoints"
    shutil.rmtree(memory/'b', ignore_errors=True)
    bank = filled(memory/'b', LENGTHS, sync=False)
    now = {id: [(float(i), 0) for i in range(n)] for id,n in LENGTHS.items()}, 0
    saved = [now, now]
    value = 100.
    for name,*args in commands:
        held, updates = {id: list(o) for id,o in now[0].items()}, now[1]
        if name == 'splice':
            ids, starts, counts = zip(*args[0])
            fresh = rows(*([value+10*i+j for j in range(3)] for i in range(len(ids))))
            features, valid = bank.splice(ids, starts, fresh, counts)
            for i,(id,s,c) in enumerate(args[0]):
                seen = [v for v,_ in now[0][id]]
                seen[s:s+c] = fresh[i,:c,0].tolist()
                assert features[i,valid[i],0].tolist() == seen
                held[id][s:s+c] = [(v, updates) for v in fresh[i,:c,0].tolist()]
            value += 100
        elif name == 'advance': bank.advance(3); updates += 3
        elif name == 'checkpoint': bank.checkpoint(); saved = [saved[1], now]
        elif name == 'restore': bank.restore(); held, updates = saved[1]
        elif name == 'back' and saved[0][1] != saved[1][1]:
            bank.restore(updates=saved[0][1]); held, updates = saved[0]; saved = [saved[0], saved[0]]
        elif name == 'reopen': bank.close(); bank = FeatureBank.open(memory/'b', sync=False); held, updates = saved[1]
        now = held, updates
        assert contents(bank) == {id: [v for v,_ in o] for id,o in held.items()}
        assert bank.updates == updates
        assert [a[:len(held[id])].tolist() for id,a in zip(held, bank.ages())] == [[updates-s for _,s in o] for o in held.values()]
    bank.close()


# Death at any instruction

@pytest.fixture
def memory(tmp_path):
    "A folder in memory where there is one: a killed process loses nothing that it gave to the system, on disk or not"
    if not os.access('/dev/shm', os.W_OK): yield tmp_path; return
    with tempfile.TemporaryDirectory(dir='/dev/shm') as folder: yield Path(folder)

def killed(action, at, event='opcode'):
    "Run `action` in a child that kills itself at instruction `at` of the module; False once it got through"
    def trace(frame, kind, arg):
        nonlocal at
        if frame.f_code.co_filename != module.__file__: return None
        frame.f_trace_opcodes = True
        if kind == event:
            at -= 1
            if at < 0: os.kill(os.getpid(), signal.SIGKILL)
        return trace
    pid = os.fork()
    if pid == 0:
        try: action(lambda: sys.settrace(trace)); sys.settrace(None); os._exit(0)
        except BaseException: traceback.print_exc(); os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)

def steps(folder, start=lambda: None):
    "What the child does: two checkpoints, changes of old rows, and a first write"
    bank = FeatureBank.open(folder, sync=False)
    start()
    bank.splice(['a','b'], [0, 2], rows([11., 12.], [13., 14.])); bank.advance()
    bank.splice(['b','b'], [1, 2], rows([15., 16.], [17., 18.])); bank.advance()
    bank.checkpoint('second')
    bank.write(['c'], [0], rows([19., 20.]))
    bank.splice(['a'], [1], rows([21., 22.])); bank.advance()
    return bank

def prepare(folder):
    bank = FeatureBank.create(folder, {'a': 3, 'b': 4, 'c': 3}, 4, sync=False)
    bank.write(['a','b'], [0, 0], rows([0., 1., 2., 0.], [0., 1., 2., 3.]), counts=[3, 4])
    bank.checkpoint('first')
    bank.close()

FIRST = {'a': [0, 1, 2], 'b': [0, 1, 2, 3]}
SECOND = {'a': [11, 12, 2], 'b': [0, 15, 17, 18]}

def assert_consistent(folder):
    "Opened again: exactly one of the two checkpoints, and first writes whole or not there"
    bank = FeatureBank.open(folder, sync=False)
    held = contents(bank)
    c = held.pop('c')
    assert (bank.updates, bank.digest, held) in ((0, 'first', FIRST), (2, 'second', SECOND))
    assert all(v in (None, w) for v,w in zip(c, (19, 20, None)))
    assert bank.missing() == {'c': [i for i,v in enumerate(c) if v is None]} and torn_rows(bank.store) == []
    if bank.updates: bank.restore(digest='first')             # the checkpoint before is still there
    assert {id: o for id,o in contents(bank).items() if id != 'c'} == FIRST
    bank.splice(['a'], [0], rows([5., 5.])); bank.checkpoint()
    bank.close()
    return bank

def every(prepare_case, action, stride, memory, **kwargs):
    "Kill `action` at every `stride`-th instruction, each time on a fresh copy; how often it was killed"
    prepare_case(memory/'made')
    for n in range(0, 100_000, stride):
        shutil.rmtree(memory/'b', ignore_errors=True)
        shutil.copytree(memory/'made', memory/'b')
        if not killed(lambda start: action(memory/'b', start), n, **kwargs): assert_consistent(memory/'b'); return n//stride
        assert_consistent(memory/'b')

@fork
def test_killed_at_any_line(memory):
    assert every(prepare, steps, 9, memory, event='line') > 20

@fork
def test_killed_at_any_instruction(memory):
    assert every(prepare, steps, 97, memory) > 25

@fork
def test_killed_while_going_back(memory):
    "The way back is itself cut short, and taken again"
    def crashed(folder):
        prepare(folder)
        steps(folder).close()
    def reopen(folder, start): start(); FeatureBank.open(folder, sync=False)
    def far_back(folder, start):
        bank = FeatureBank.open(folder, sync=False)
        start()
        bank.restore(digest='first')
    assert every(crashed, reopen, 71, memory) > 6
    shutil.rmtree(memory/'made')
    assert every(crashed, far_back, 71, memory) > 6

@fork
@pytest.mark.parametrize('at', range(1, 7))
def test_torn_within_a_row(memory, at):
    "Half of a row gets there at the n-th write, then the process dies; a reader is told, a writer goes back"
    prepare(memory/'b')
    def action(start):
        put, left = module.RowStore.put, at
        def tear(self, rows, values, step):
            nonlocal left
            left -= 1
            if left: return put(self, rows, values, step)
            self.features[rows.start,:2] = values[0,:2]
            os.kill(os.getpid(), signal.SIGKILL)
        module.RowStore.put = tear
        steps(memory/'b')
    assert killed(action, 10**9)
    watching = FeatureBank.open(memory/'b', writable=False)
    first_write = at == 5                                # no old value: it counts as not written
    assert len(torn_rows(watching.store)) == (not first_write)
    with pytest.raises(ValueError, match='not written or not whole'): watching.read(['c'] if first_write else ['a','b'])
    assert_consistent(memory/'b')

N, K, D = 64, 8, 512

def train(folder, report):
    "Splice for ever; every row holds the update that wrote it, the random numbers depend on the update alone"
    bank = FeatureBank.open(folder, sync=False)
    enough = bank.updates+15                   # two checkpoints further
    while True:
        s = starts_at(bank.updates)
        bank.splice(['a','b'], s, torch.full((2, K, D), float(bank.updates)))
        bank.advance()
        if bank.updates%7 == 0: bank.checkpoint()
        if bank.updates == enough: os.write(report, b'.')

def starts_at(update): return [random.Random(f'{id} {update}').randint(0, N-K) for id in 'ab']

@fork
def test_killed_from_outside_again_and_again(memory):
    "SIGKILL at random moments of real work; each time the bank is that of a checkpoint, and the next run goes on from there"
    bank = FeatureBank.create(memory/'b', {'a': N, 'b': N}, D, sync=False)
    bank.write(['a','b'], [0, 0], torch.zeros(2, N, D))
    bank.checkpoint(); bank.close()
    draw, reached = random.Random(0), []
    for _ in range(6):
        read, report = os.pipe()
        pid = os.fork()
        if pid == 0:
            try: train(memory/'b', report)
            finally: traceback.print_exc(); os._exit(1)
        os.close(report)
        assert os.read(read, 1) == b'.'
        os.close(read)
        time.sleep(draw.random()*.05)
        os.kill(pid, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        bank = FeatureBank.open(memory/'b', sync=False)
        expected = np.zeros((2, N))
        for u in range(bank.updates):
            for row,s in zip(expected, starts_at(u)): row[s:s+K] = u
        assert torch.equal(bank.read(['a','b'])[0], torch.tensor(expected, dtype=torch.float32)[...,None].expand(2, N, D))
        reached.append(bank.updates)
        bank.close()
    assert all(b-a >= 14 for a,b in zip([0, *reached], reached)) and all(u%7 == 0 for u in reached)


# Files that are not as they should be

def test_half_built_bank_goes_on(tmp_path):
    "What was written before the crash stays, without a checkpoint; what is missing is known"
    bank = FeatureBank.create(tmp_path/'b', {'a': 3, 'b': 2}, 4)
    bank.write(['a'], [0], rows([1., 2.]))
    bank.store.features[1,2:] = 9.            # row 1 is torn
    del bank                                  # no close, no checkpoint
    bank = FeatureBank.open(tmp_path/'b')
    assert bank.missing() == {'a': [1, 2], 'b': [0, 1]}
    with pytest.raises(ValueError, match="video 'a': 2 of 3 clips are not written.*missing"): bank.read(['a'])
    with pytest.raises(ValueError, match="video 'a'"): bank.splice(['a'], [0], rows([1., 2.]))
    bank.write(['a'], [1], rows([2., 3.])); bank.write(['b'], [0], rows([4., 5.]))
    assert bank.missing() == {} and contents(bank) == {'a': [1, 2, 3], 'b': [4, 5]}
    bank.close()

def test_rotten_row_is_never_read(tmp_path):
    "A byte changes on the disk between two runs: named when read, and mended by writing it again"
    filled(tmp_path/'b', {'a': 3, 'b': 2}).close()
    a = np.load(tmp_path/'b/features.npy', mmap_mode='r+')
    a[4,1] += 1
    a.flush()
    bank = FeatureBank.open(tmp_path/'b')
    assert bank.read(['a'])[1].all()
    with pytest.raises(ValueError, match="video 'b': 1 of 2.*first clip 1"): bank.read(['b'])
    bank.write(['b'], [1], rows([6.]))
    assert contents(bank)['b'] == [0, 6]
    bank.close()

def test_trainer_dies_between_the_two_checkpoints(tmp_path):
    "The bank is one checkpoint ahead of the model: asked for the model's digest, it goes back to it"
    bank = filled(tmp_path/'b', {'a': 3}, digest='m0')
    for i in (1, 2, 3):
        bank.splice(['a'], [0], rows([10.*i])); bank.advance(); bank.checkpoint(f'm{i}')
    bank.splice(['a'], [1], rows([99.])); bank.close()
    assert len(list((tmp_path/'b').glob('log-*'))) == 2
    with pytest.raises(ValueError, match='2 updates by weights m2, 3 updates by weights m3, not to any number of updates by weights m1'):
        FeatureBank.open(tmp_path/'b', digest='m1')
    bank = FeatureBank.open(tmp_path/'b', digest='m2')
    assert (bank.updates, bank.digest, contents(bank)['a']) == (2, 'm2', [20, 1, 2])
    with pytest.raises(ValueError, match='not to 3 updates'): bank.restore(updates=3)
    bank.close()
    bank = FeatureBank.open(tmp_path/'b', digest='stranger', any_weights=True)
    assert bank.digest == 'm2'
    bank.close()

def test_one_writer(tmp_path):
    "Another process is refused while this one writes, and welcome as a reader"
    bank = filled(tmp_path/'b', {'a': 3})
    code = f"""from tqn.features.bank import FeatureBank
try: FeatureBank.open({str(tmp_path/'b')!r})
except ValueError as e: print('refused', 'open for writing already' in str(e))
print(FeatureBank.open({str(tmp_path/'b')!r}, writable=False).read(['a'])[0].sum().item())"""
    other = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert other.stdout.split() == ['refused', 'True', '12.0'], other.stderr
    bank.close()
    with pytest.raises(ValueError, match='closed'): bank.write(['a'], [0], rows([1.]))
    assert contents(bank)['a'] == [0, 1, 2]

class Bomb:
    "Leaves a file if anything unpickles it"
    def __init__(self, path): self.path = str(path)
    def __reduce__(self): return os.mkdir, (self.path,)

def test_nothing_is_unpickled(tmp_path):
    filled(tmp_path/'b', {'a': 3}).close()
    for name in ('features','marks'):
        shutil.copytree(tmp_path/'b', tmp_path/name)
        np.save(tmp_path/name/f'{name}.npy', np.array([Bomb(tmp_path/'boom')]*3), allow_pickle=True)
        with pytest.raises(ValueError, match=f'{name}.npy is damaged'): FeatureBank.open(tmp_path/name)
    assert not (tmp_path/'boom').exists()

def test_files_stay_in_the_folder(tmp_path):
    "Ids are no file names, and a link to elsewhere is not followed"
    bank = filled(tmp_path/'b', {'../../evil': 2, '/etc/passwd': 1, 'ü\n': 1})
    assert contents(bank)['../../evil'] == [0, 1]
    bank.close()
    assert {p.name for p in tmp_path.rglob('*')} == {'b','features.npy','marks.npy','index.json','lock','log-1.bin','log-2.bin'}
    shutil.move(tmp_path/'b/features.npy', tmp_path/'elsewhere.npy')
    (tmp_path/'b/features.npy').symlink_to(tmp_path/'elsewhere.npy')
    with pytest.raises(ValueError, match='link out of'): FeatureBank.open(tmp_path/'b')

@pytest.mark.parametrize('name, spoil, words', [
    ('index.json', lambda b: b[:20], 'index.json is damaged'),
    ('index.json', lambda b: json.dumps({**json.loads(b), 'extra': 1}).encode(), 'index.json is damaged'),
    ('index.json', lambda b: json.dumps({**json.loads(b), 'd': -4}).encode(), 'width d'),
    ('index.json', lambda b: json.dumps({**json.loads(b), 'lengths': {'a': 300}}).encode(), 'as the index says'),
    ('index.json', lambda b: b'[1, 2]', 'index.json is damaged'),
    ('features.npy', lambda b: b[:-8], 'features.npy is damaged'),
    ('features.npy', lambda b: b'', 'features.npy is damaged'),
    ('marks.npy', lambda b: b[:40], 'marks.npy is damaged'),
    ('log-2.bin', lambda b: b[:30], 'lost a checkpoint'),
    ('log-2.bin', lambda b: bytes(len(b)), 'lost a checkpoint')])
def test_damaged_files_are_named(tmp_path, name, spoil, words):
    filled(tmp_path/'b', {'a': 3}).close()
    path = tmp_path/'b'/name
    path.write_bytes(spoil(path.read_bytes()))
    for writable in (True, False):
        with pytest.raises(ValueError, match=words): FeatureBank.open(tmp_path/'b', writable=writable)

def test_full_disk(tmp_path, monkeypatch):
    "The log cannot grow: the error comes through, no row has changed, and the next try works"
    bank = filled(tmp_path/'b', {'a': 3})
    with monkeypatch.context() as m:
        m.setattr(os, 'fsync', lambda *_: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
        with pytest.raises(OSError, match='No space'): bank.splice(['a'], [0], rows([7., 8.]))
    assert contents(bank)['a'] == [0, 1, 2] and bank.log.file.seek(0, 2) == module.HEAD.itemsize
    bank.splice(['a'], [0], rows([7., 8.]))
    bank.restore()
    assert contents(bank)['a'] == [0, 1, 2]
    bank.close()

@pytest.mark.parametrize('args, words', [
    (({}, 4), 'a video or more'), (({'a': 0}, 4), "video 'a'"), (({'a': 2.}, 4), "video 'a'"), (({'': 2}, 4), 'video id'), (({3: 2}, 4), 'video id'),
    (({'a': 2}, 0), 'width'), (({'a': 2}, 4, 'int8'), 'int8'), (({'a': 2}, 4, 'float32', 'x'*65), '64 plain')])
def test_create_refuses(tmp_path, args, words):
    with pytest.raises(ValueError, match=words): FeatureBank.create(tmp_path/'b', *args)
    assert not (tmp_path/'b').exists()

@pytest.mark.parametrize('ids, starts, features, counts, words', [
    (['a','x'], [0, 0], rows([1.], [1.]), None, "no video 'x'.*nearest"),
    (['a'], [2], rows([1., 2.]), None, "video 'a' has clips 0 to 2, got 2 to 3"),
    (['a'], [-1], rows([1., 2.]), None, 'got -1 to 0'),
    (['a','b'], [0], rows([1.], [1.]), None, 'starts for 2 videos, got 1'),
    (['a'], [0], rows([1.], [1.]), None, r'expected features \(1, k, 4\)'),
    (['a'], [0], rows([1.], d=5), None, r'expected features \(1, k, 4\)'),
    (['a'], [0], torch.ones(1, 4), None, r'expected features \(1, k, 4\)'),
    (['a'], [0], torch.ones(1, 0, 4), None, 'count of 1 to 0'),
    (['a'], [0], rows([1., 2.]), [3], 'count of 1 to 2'),
    (['a'], [0.], rows([1.]), None, 'whole numbers'),
    (['b','a'], [0, 0], rows([1.], [float('nan')]), None, "video 'a': feature 0.*not finite"),
    (['b','a'], [0, 0], rows([1.], [float('-inf')]), None, "video 'a': feature 0.*not finite"),
    ([], [], torch.ones(0, 1, 4), None, 'one video id or more')])
def test_refuses_and_changes_nothing(tmp_path, ids, starts, features, counts, words):
    bank = filled(tmp_path/'b', {'a': 3, 'b': 2})
    before = contents_raw(bank)
    for call in (bank.write, bank.splice, lambda *a: drift(bank, *a)):
        if call in (bank.write, bank.splice) or 'finite' not in words:
            with pytest.raises(ValueError, match=words): call(ids, starts, features, counts)
    assert contents_raw(bank) == before
    bank.close()

def test_float16_overflow_is_named(tmp_path):
    bank = filled(tmp_path/'b', {'a': 3}, dtype='float16')
    with pytest.raises(ValueError, match="video 'a': feature 1 .*too large for float16"): bank.write(['a'], [0], rows([1., 1e5]))
    assert contents(bank)['a'] == [0, 1, 2]
    bank.close()

def test_clips_that_are_not_real_may_hold_anything(tmp_path):
    "Behind `counts` is padding: it is neither looked at nor stored, and gets no gradient"
    bank = filled(tmp_path/'b', {'a': 1, 'b': 3})
    fresh = rows([5., float('nan')], [6., 7.]).requires_grad_()
    features, valid = bank.splice(['a','b'], [0, 1], fresh, counts=[1, 2])
    features.sum().backward()
    assert fresh.grad[...,0].tolist() == [[1, 0], [1, 1]]
    assert contents(bank) == {'a': [5], 'b': [0, 6, 7]}
    bank.close()

def test_create_refuses_to_replace_a_bank(tmp_path):
    filled(tmp_path/'b', {'a': 3}).close()
    with pytest.raises(ValueError, match='already: open it'): FeatureBank.create(tmp_path/'b', {'a': 3}, 4)
    (tmp_path/'b/index.json').unlink()                      # as if create had died before its last step
    bank = FeatureBank.create(tmp_path/'b', {'a': 3}, 4)
    assert bank.missing() == {'a': [0, 1, 2]} and bank.updates == 0
    bank.close()

def test_log_grows_with_what_changes_not_with_time(tmp_path):
    "Writing one row a thousand times logs it once"
    bank = filled(tmp_path/'b', {'a': 3}, sync=False)
    for i in range(1000): bank.splice(['a'], [0], rows([float(i)])); bank.advance()
    assert bank.log.file.seek(0, 2) == module.HEAD.itemsize+bank.log.entry.itemsize
    assert Counter(bank.ages(['a'])[0].tolist()) == {1: 1, 1000: 2}
    bank.close()

def test_picture(tmp_path):
    "Ages, clips never written and padding are told apart"
    import matplotlib
    matplotlib.use('Agg')
    bank = FeatureBank.create(tmp_path/'b', {'a': 3, 'b': 2}, 4)
    bank.write(['a'], [0], rows([1., 2.])); bank.advance(5); bank.write(['a'], [0], rows([1.]))
    cells, empty = plot_ages(bank).collections[:2]
    assert cells.get_array().filled(-1).ravel().tolist() == [0, 5, -1, -1, -1, -1]
    assert len(empty.get_paths()) == 3
    bank.close()


# The published figures; last, because a process with a large model in it is slow to fork

@pytest.fixture(scope='module')
def published():
    "The published model on 4 clips of two videos: fresh features with gradient, in eval mode"
    questions = QuerySet({f'q{i}': ['absent', *map(str, range(1,25))] for i in range(4)}, classes=[(f'c{i}', [None]*4) for i in range(48)])
    model = TQN.from_published(golden.state_dict(), questions, dropout=0., response_dropout=0.)
    return model, model.encode(torch.stack([golden.clips('sufb/0', 2), golden.clips('sufb/1', 2)]))[0]

@pytest.fixture
def golden_bank(tmp_path):
    bank = FeatureBank.create(tmp_path/'bank', {'0': 7, '1': 10}, 1024)
    for id,n in (('0', 7), ('1', 10)): bank.write([id], [0], golden.bank_rows(id, n)[None])
    bank.checkpoint()
    yield bank
    bank.close()

def assert_bank(bank, case):
    "The bank afterwards, row for row"
    for id in '01': assert_close(bank.read([id])[0][0], E[f'{case}.bank{id}'], **EVAL)

def test_sufb(published, golden_bank):
    "Logits, attention, loss, the bank afterwards, and every gradient"
    model, fresh = published
    assert_close(fresh.detach().flatten(0, 1), E['sufb.features'], **EVAL)
    before = golden_bank.read(['0','1'])[0]
    features, valid = golden_bank.splice(['0','1'], [3, 8], fresh)
    out = model(features, valid)
    for ours,theirs in ((logits(out), 'attr_logits'), (out.classes, 'cls_logits'), (out.vectors, 'decoder_out')):
        assert_close(ours.detach(), E[f'sufb.{theirs}'], **EVAL)
    assert_close(out.attn.mean(2).transpose(0, 1).detach(), E['sufb.cross_attn'], **EVAL)
    assert_bank(golden_bank, 'sufb')
    changed = (golden_bank.read(['0','1'])[0] != before).any(-1).nonzero().tolist()
    assert changed == [[0, 3], [0, 4], [1, 8], [1, 9]]
    total, parts = tqn_loss(out, {q: torch.zeros(2, dtype=torch.long) for q in model.queries.names}, torch.tensor([7, 7]))
    theirs = SCALARS['loss']['sufb']
    assert total.item() == pytest.approx(theirs['total'], rel=1e-4)
    assert parts['class'].item() == pytest.approx(theirs['cls'], rel=1e-4)
    names = list(dict(model.named_parameters()))
    grads = dict(zip(names, torch.autograd.grad(total, model.parameters(), retain_graph=True), strict=True))
    assert_gradients(grads, 'sufb')

def assert_gradients(grads, case):
    "Norms as published, each within the tolerance of its part"
    theirs = SCALARS['grad_norm'][case]
    assert len(theirs) == 310
    for name,norm in theirs.items():
        ours = our_names(name)
        part = 'backbone' if ours[0].startswith('backbone.') else 'rest'
        got = sum((grads[k]**2).sum() for k in ours).sqrt().item()
        assert got == pytest.approx(norm, rel=NORM[part]), name
    total = sum((g**2).sum() for g in grads.values()).sqrt().item()
    assert total == pytest.approx(SCALARS['grad_norm_total'][case], rel=1e-3)

def test_sufb_overrun_is_an_error(golden_bank):
    "Theirs cuts the window without a word; here nothing changes"
    before = contents_raw(golden_bank)
    with pytest.raises(ValueError, match="video '0' has clips 0 to 6, got 6 to 7"):
        golden_bank.splice(['0','1'], [6, 9], E['sufb.features'].unflatten(0, (2, 2)))
    assert contents_raw(golden_bank) == before

def contents_raw(bank): return bank.store.features.tobytes()+bank.store.marks.tobytes()+(bank.folder/'log-2.bin').read_bytes()

def test_sufb_duplicate(published, golden_bank):
    "Each occurrence sees its own fresh clips and the old rows; the bank ends as theirs; every fresh clip has its gradient"
    model, fresh = published
    fresh = fresh.detach().requires_grad_()
    before = golden_bank.read(['1'])[0]
    features, valid = golden_bank.splice(['1','1'], [0, 4], fresh)
    out = model(features, valid)
    (logits(out)[0].sum()+logits(out)[1].sum()).backward()
    assert_bank(golden_bank, 'sufb_duplicate')
    for i,start in enumerate((0, 4)):
        own = before.clone()
        own[0,start:start+2] = fresh[i].detach()
        other = fresh[i:i+1].detach().requires_grad_()
        alone = model(torch.cat([before[:,:start], other, before[:,start+2:]], 1))
        assert_close(logits(out)[i].detach(), logits(model(own))[0].detach(), **EVAL)
        logits(alone).sum().backward()
        assert_close(fresh.grad[i], other.grad[0], **EVAL)
    assert (fresh.grad.abs().amax(-1) > 0).all()
    assert (logits(out)[0]-logits(out)[1]).abs().max() > .1      # theirs gives both the same
