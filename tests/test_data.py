"Data: items, which frames, repeatable samples, batches, loaders with workers, feature extraction"
import json, os, signal, subprocess, sys, time
from pathlib import Path
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader
from outside import MISSING, VIDEOS
from tqn.data.items import Item, as_items, encode_targets, open_item, shorter_than
from tqn.data.batches import (
    ClipDataset, EpochSampler, FeatureDataset, FrameCache, WindowDataset, collate, finish_batch, load_features, make_loader, pick_clips, read_clips)
from tqn.core import processes as P
from tqn.core.processes import reading_workers, sample_generator
from tqn.core.files import weights_digest
from tqn.features.store import extract
from tqn.features.stream import run_pieces
from tqn.video.transforms import Colours
from tqn.questions.queries import Query, QuerySet
from tqn.video.transforms import EvalTransform, TrainTransform
from tqn.video.video import open_video, write_video
from tqn.video.decode import VideoError

@pytest.fixture(scope='module')
def queries():
    return QuerySet([Query('side', ['left', 'right']), Query('props', ['rope', 'ball', 'hoop'], kind='many')], classes=[{'name': 'l', 'answers': {'side': 'left'}}, {'name': 'r', 'answers': {'side': 'right'}}])

@pytest.fixture(scope='module')
def items(tmp_path_factory):
    "Videos of 8, 20, 33 and 50 frames whose brightness is the frame's number"
    root = tmp_path_factory.mktemp('videos')
    out = []
    for k,n in enumerate([8, 20, 33, 50]):
        frames = np.broadcast_to((20 + 4*np.arange(n, dtype=np.uint8))[:,None,None,None], (n, 32, 48, 3))
        write_video(root/f'{n}.mp4', frames)
        out.append(Item(f'v{n}', root/f'{n}.mp4', {'side': 'left' if k%2 else 'right'}, 'l' if k%2 else 'r', n_frames=n))
    return out

def extract_features(net, items, cache, clip_len=8, stride=1, views=(None,), **kw):
    "Features in a folder named after the backbone; no view but the scale to 0..1"
    return extract(net, items, cache, dict(clip_len=clip_len, stride=stride), views=views, subfolder=True, **kw).folder

class Noise:
    "A random transform that a spawned worker can import"
    def __repr__(self): return 'Noise()'
    def __call__(self, clips, generator): return clips/255 + torch.rand(clips.shape, generator=generator)

class Mean(nn.Module):
    "Backbone of three numbers that counts its clips"
    def __init__(self): super().__init__(); self.seen = []
    def __repr__(self): return 'Mean()'
    def forward(self, x): self.seen.append(len(x)); return x.mean((2, 3, 4))

def numbers(clips): return ((clips.float().mean((1, 3, 4)) - 20)/4).round().long()

# which frames ---------------------------------------------------------------------------------------------------------

@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 9))
def test_picked_clips_rise_and_cover(n, most, seed):
    for g in (None, sample_generator(seed)):
        picks = pick_clips(n, most, g)
        assert len(picks) == min(n, most) and (picks.diff() > 0).all() and 0 <= picks.min() and picks.max() < n

def test_exactly_the_frames_of_the_grid(items):
    assert numbers(read_clips(items[1].path))[:,0].tolist() == [0, 8, 16]
    assert numbers(read_clips(items[2].path, stride=2)).flatten().tolist() == [*range(0, 32, 2), *[32]*8]
    assert numbers(read_clips(items[0].path, stride=4)).flatten().tolist() == list(range(8))  # too short for the rate: every frame
    assert numbers(read_clips(items[3].path, max_clips=2))[:,0].tolist() == [8, 40]

def test_only_the_clips_asked_for_are_decoded(items, monkeypatch):
    from tqn.data import items as data
    asked = []
    class Spy:
        def __init__(self, v): self.v = v
        def __len__(self): return len(self.v)
        def n_clips(self, *a): return self.v.n_clips(*a)
        def frames(self, i, size=None): asked.extend(np.asarray(i).tolist()); return self.v.frames(i, size)
    monkeypatch.setattr(data, 'open_video', lambda p: Spy(open_video(p)))
    read_clips(items[3].path, max_clips=1)
    assert asked == list(range(24, 32))

def test_an_excerpt_is_a_video_of_its_own(items, queries):
    part = Item('part', items[3].path, start=.4, end=1.2)  # frames 10 to 29 at 25 a second
    assert len(open_item(part)) == 20 and numbers(read_clips(part))[:,0].tolist() == [10, 18, 26]
    assert numbers(read_clips(part, stride=2)).flatten().tolist() == [*range(10, 30, 2), *[29]*6]
    assert numbers((ClipDataset([part], queries)[0]['clips']*255).byte())[1].tolist() == list(range(18, 26))
    assert [o.id for o in shorter_than([part], 21)] == ['part'] and not shorter_than([part], 20)

@pytest.mark.parametrize('start,end', [(-1, 1), (1, .5), (0, 9), (2, None), (float('nan'), 1), (.401, .42)])
def test_an_excerpt_without_frames_is_refused(items, start, end):
    with pytest.raises(VideoError, match='50.mp4: (expected 0 <= start < end <= 2.000|no frame is shown)'): open_item(Item('x', items[3].path, start=start, end=end))

def test_features_of_another_excerpt_are_refused(items, queries, tmp_path):
    part = Item('p', items[3].path, start=0., end=.64)
    folder = extract_features(Mean().eval(), [part], tmp_path, progress=False)
    assert FeatureDataset(folder, [part], queries)[0]['features'].shape == (2, 3)
    with pytest.raises(ValueError, match='another stretch'): FeatureDataset(folder, [Item('p', items[3].path, start=.2, end=.84)], queries)[0]
    net = Mean().eval(); extract_features(net, [Item('p', items[3].path, start=.2, end=.84)], tmp_path, progress=False)
    assert sum(net.seen) == 2

def test_length_filter_is_strict(items): assert [o.id for o in shorter_than(items, 33)] == ['v8', 'v20']

def test_length_filter_opens_what_nobody_counted(items): assert [o.id for o in shorter_than([Item('x', items[1].path)], 21)] == ['x']

def test_video_shorter_than_a_clip_is_an_error(tmp_path, queries):
    write_video(tmp_path/'s.mp4', np.zeros((5, 32, 32, 3), np.uint8))
    with pytest.raises(VideoError, match='one clip of 8'): ClipDataset([Item('s', tmp_path/'s.mp4')], queries)[0]
    assert ClipDataset([Item('s', tmp_path/'s.mp4')], queries, clip_len=4)[0]['clips'].shape[0] == 2

def test_folder_of_frames_is_a_video(tmp_path, queries):
    from PIL import Image
    for i in range(9): Image.fromarray(np.full((16, 16, 3), 20 + 4*i, np.uint8)).save(tmp_path/f'{i:03d}.jpg')
    assert ClipDataset([Item('f', tmp_path)], queries)[0]['clips'].shape == (2, 3, 8, 16, 16)

# items ----------------------------------------------------------------------------------------------------------------

def test_unknown_answer_names_the_video(queries):
    with pytest.raises(ValueError, match="video 'x'.*side.*left"): encode_targets(Item('x', answers={'side': 'lefft'}), queries)
    with pytest.raises(ValueError, match="video 'x'"): encode_targets(Item('x', class_name='q'), queries)

def test_missing_answers_are_kept_apart(queries):
    t = encode_targets(Item('x'), queries)
    assert t['answers']['side'] == -1 and t['answers']['props'].isnan().all() and t['class'] == -1

# repeatable samples ---------------------------------------------------------------------------------------------------

def epoch_of(loader, epoch):
    loader.sampler.set_epoch(epoch)
    return list(loader)

@pytest.mark.parametrize('context', ['fork', 'spawn'])
def test_workers_give_the_same_batches(items, queries, context):
    if context not in torch.multiprocessing.get_all_start_methods(): pytest.skip(f'no {context} on this system')
    ds = ClipDataset(items, queries, size=(16, 16), transform=Noise(), max_clips=3, random_clips=True, seed=4)
    plain,many = make_loader(ds, 2, True, seed=1), make_loader(ds, 2, True, seed=1, workers=2, context=context)
    for epoch in (0, 3) if context == 'fork' else (3,):
        for a,b in zip(epoch_of(plain, epoch), epoch_of(many, epoch), strict=True):
            assert a['id'] == b['id'] and torch.equal(a['x'], b['x']) and torch.equal(a['valid'], b['valid'])

@pytest.mark.parametrize('transform', [TrainTransform(16), EvalTransform(16), None])
def test_batches_travel_as_bytes_and_are_the_floats_of_the_data_set(items, queries, transform):
    ds,same = ClipDataset(items, queries, transform=transform, size=None if transform else (16, 16), seed=3),lambda a, b: a['id']==b['id'] and torch.equal(a['x'], b['x']) and torch.equal(a['valid'], b['valid'])
    sent = [b for b in DataLoader.__iter__(make_loader(ds, 2, workers=1))]
    assert all(b['x'].dtype==torch.uint8 for b in sent) and not ds.as_bytes and ds[0]['clips'].is_floating_point()
    plain = [collate([ds[0, i] for i in range(k, min(k+2, len(items)))]) for k in range(0, len(items), 2)]
    for workers in (0, 2):
        loader = make_loader(ds, 2, workers=workers)
        for _ in range(2): assert all(map(same, plain, loader)) and len(plain)==len(loader)      # again from the same workers
        assert all(map(same, plain, map(finish_batch, sent)))
    if workers: assert loader._iterator is not None and loader.persistent_workers

def test_how_many_read(monkeypatch, items, queries):
    monkeypatch.setattr(P.os, 'sched_getaffinity', lambda pid: set(range(6)), raising=False)
    monkeypatch.setattr(P.multiprocessing, 'get_start_method', lambda allow_none: 'fork')
    free = [2**40]
    monkeypatch.setattr(P.shutil, 'disk_usage', lambda path: type('Free', (), dict(free=free[0])))
    ways = lambda **kw: reading_workers(**{'n': 100, **kw})
    assert (ways(), ways(n=5), ways(workers=3), ways(workers=0), ways(decodes=False), ways(n=5, workers=1)) == (6, 0, 3, 0, 0, 1)
    if os.path.isdir('/dev/shm'): free[0] = 64*2**20; assert ways() == 0          # what a container gets that nobody told otherwise
    free[0] = 2**40
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '3'); assert ways() == 2
    monkeypatch.delenv('LOCAL_WORLD_SIZE')
    monkeypatch.setattr(P.multiprocessing, 'parent_process', lambda: 'somebody'); assert ways() == 0
    monkeypatch.undo()
    assert not WindowDataset(items, queries, k=1, opener=FrameCache()).decodes and not WindowDataset(items, queries, 'frozen', 0).decodes and WindowDataset(items, queries, k=1).decodes
    assert not getattr(FeatureDataset({o.id: torch.zeros(2, 3) for o in items}, items, queries), 'decodes', False)

def test_worker_after_the_parent_has_decoded(items, queries):
    ds = ClipDataset(items, queries, size=(16, 16))
    first = ds[0]['clips']
    assert torch.equal(next(iter(make_loader(ds, 1, workers=1, context='fork')))['x'][0], first)

def test_an_error_in_a_worker_arrives_with_its_file(tmp_path, items, queries):
    (tmp_path/'torn.mp4').write_bytes(items[3].path.read_bytes()[:200])
    with pytest.raises(ValueError, match='torn.mp4'): list(make_loader(ClipDataset([Item('t', tmp_path/'torn.mp4')], queries), 1, workers=1))

def test_epochs_differ_and_repeat(items, queries):
    ds = ClipDataset(items, queries, transform=Noise())
    assert torch.equal(ds[2, 1]['clips'], ds[2, 1]['clips']) and not torch.equal(ds[2, 1]['clips'], ds[3, 1]['clips'])

@given(st.lists(st.integers(0, 2**31), max_size=4), st.integers(1, 3))
def test_a_longer_key_is_another_draw(keys, more):
    assert sample_generator(*keys).initial_seed() != sample_generator(*keys, *[0]*more).initial_seed()

@given(st.integers(1, 60), st.integers(0, 5), st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_sampler_is_a_permutation(n, epoch, seed):
    s = EpochSampler(n, seed=seed)
    s.set_epoch(epoch)
    assert sorted(s) == [(epoch, i) for i in range(n)] == sorted(set(s)) and list(s) == list(s)

def test_every_video_comes_once_and_in_order(queries):
    fs = {str(i): torch.randn(2, 3) for i in range(7)}
    loader = make_loader(FeatureDataset(fs, [Item(i) for i in fs], queries), 3)
    assert [b['id'] for b in loader] == [['0', '1', '2'], ['3', '4', '5'], ['6']]

# batches --------------------------------------------------------------------------------------------------------------

@given(st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_collate_pads_with_zeros_and_marks(lengths):
    samples = [dict(id=str(i), features=torch.full((n, 2), i + 1.), answers={'q': torch.tensor(-1)}, **{'class': torch.tensor(0)}) for i,n in enumerate(lengths)]
    b = collate(samples)
    assert b['valid'].sum(1).tolist() == lengths and b['x'].shape == (len(lengths), max(lengths), 2)
    assert torch.equal(b['x'][b['valid']], torch.cat([s['features'] for s in samples])) and not b['x'][~b['valid']].any()

def test_collate_refuses_no_clip_and_two_shapes(items, queries):
    sample = dict(id='a', features=torch.ones(0, 2), answers={}, **{'class': torch.tensor(0)})
    with pytest.raises(ValueError, match='empty'): collate([sample])
    with pytest.raises(ValueError, match='one shape'): collate([{**sample, 'features': torch.ones(1, k)} for k in (2, 3)])

def test_collate_stacks_answers_of_many(items, queries):
    b = collate([FeatureDataset({'a': torch.ones(2, 2)}, [Item('a', answers={'props': ['ball']})], queries)[0]]*2)
    assert b['answers']['props'].tolist() == [[0, 1, 0]]*2 and b['answers']['side'].tolist() == [-1, -1]

# features -------------------------------------------------------------------------------------------------------------

def test_a_pickle_is_never_executed(tmp_path, queries):
    class Bomb:
        def __reduce__(self): return os.mkdir, (str(tmp_path/'boom'),)
    np.save(tmp_path/'b.npy', np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match='no readable features'): FeatureDataset(tmp_path, [Item('b')], queries)[0]
    assert not (tmp_path/'boom').exists()

@pytest.mark.parametrize('id', ['a/b', '../up', 'ü x', 'c:d*?', '.hidden'])
def test_any_id_is_a_file_name(tmp_path, queries, id):
    from tqn.data.batches import feature_path
    path = feature_path(tmp_path/'f', id)
    path.parent.mkdir()
    save_file({'features': torch.ones(2, 3)}, path)
    assert path.parent == tmp_path/'f' and FeatureDataset(tmp_path/'f', [Item(id)], queries)[0]['features'].shape == (2, 3)

def test_many_views(queries):
    ds = FeatureDataset({'a': torch.arange(4.)[:,None,None].expand(4, 3, 2)}, [Item('a')], queries, view='random')
    drawn = {ds[e, 0]['features'][0, 0].item() for e in range(40)}
    assert drawn == {0., 1., 2., 3.} and torch.equal(ds[5, 0]['features'], ds[5, 0]['features'])

@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 10))
@settings(deadline=None)
def test_packing_changes_nothing(lengths, batch):
    pieces = [(i, torch.randn(n, 3, 2, 2, 2)) for i,n in enumerate(lengths)]
    net = Mean()
    got = list(run_pieces(net, pieces, batch))
    assert [k for k,_ in got] == list(range(len(lengths))) and max(net.seen) < batch + max(lengths)
    for (_,f),(_,c) in zip(got, pieces): torch.testing.assert_close(f, c.mean((2, 3, 4)))

def test_bytes_are_coloured_in_the_pass():
    "To the bit what colours first and packing then give, whatever the pieces, and in the layout that the backbone wants"
    seen,colours = [],Colours((.3, .4, .5), (.2, .3, .4))
    jitter = Colours((.3, .4, .5), (.2, .3, .4), amounts=((1.2, .8, 1.1, .1),)*3, order=(2, 0, 3, 1))
    pieces = [(0, torch.randint(256, (5, 3, 2, 8, 8), dtype=torch.uint8), colours), (1, None), (2, torch.randint(256, (3, 3, 2, 8, 8), dtype=torch.uint8), jitter), (3, torch.rand(2, 3, 2, 8, 8), None)]
    def net(x):
        assert x.is_contiguous(memory_format=torch.channels_last_3d) and x.dtype == torch.float32
        seen.append(len(x)); return x.flatten(1)
    got = dict(run_pieces(net, pieces, 99))
    assert seen == [10] and got[1] is None
    for k,clips,*left in pieces:
        if clips is not None: assert torch.equal(got[k], (left[0](clips) if left[0] else clips).flatten(1))

@pytest.mark.parametrize('net', [lambda x: x[:,:,0,0,0], lambda x: x.flatten(1), lambda x: x.mean((2, 3, 4))])
def test_rows_outlive_the_memory_of_their_pass(net):
    "Kept all together, as somebody who makes a list does, also where a backbone gives a part of its input back"
    pieces = [(k, torch.randn(1 + k%3, 3, 2, 4, 4)) for k in range(7)]
    for (_,f),(_,c) in zip(list(run_pieces(net, pieces, 2)), pieces): torch.testing.assert_close(f, net(c))

def test_packing_mixed_sizes():
    pieces = [(0, torch.ones(2, 3, 2, 4, 4)), (1, torch.ones(1, 3, 2, 6, 6)), (2, torch.ones(1, 3, 2, 6, 6))]
    net = Mean()
    assert len(list(run_pieces(net, pieces, 9))) == 3 and net.seen == [2, 2]

@pytest.mark.parametrize('workers', [0, 1, 3])
def test_extraction_equals_a_plain_loop(tmp_path, items, queries, workers):
    net,views = Mean().eval(), [None, Noise()]
    folder = extract_features(net, items, tmp_path, size=(16, 16), views=views, batch_clips=3, workers=workers, progress=False)
    for o in items:
        clips = read_clips(o.path, size=(16, 16))
        f = load_features(folder, o.id)
        assert f.shape == (2, len(clips), 3)
        torch.testing.assert_close(f[0], net(clips/255))
    again = load_features(extract_features(net, items, tmp_path/'again', size=(16, 16), views=views, batch_clips=3, workers=0, progress=False), 'v50')
    assert torch.equal(again, load_features(folder, 'v50'))
    assert len(FeatureDataset(folder, items, queries, view='random')) == len(items)

def test_memory_is_bounded_by_the_piece(tmp_path, items):
    net = Mean().eval()
    extract_features(net, items, tmp_path, batch_clips=2, progress=False)
    assert max(net.seen) <= 3

def test_extraction_continues_and_notices_new_files(tmp_path, items):
    write_video(tmp_path/'w.mp4', np.zeros((8, 16, 16, 3), np.uint8))
    mine = [*items, Item('w', tmp_path/'w.mp4')]
    net = Mean().eval()
    folder = extract_features(net, mine, tmp_path/'c', batch_clips=4, progress=False)
    net.seen.clear()
    extract_features(net, mine, tmp_path/'c', batch_clips=4, progress=False)
    assert net.seen == []
    write_video(tmp_path/'w.mp4', np.full((16, 16, 16, 3), 200, np.uint8))
    extract_features(net, mine, tmp_path/'c', batch_clips=4, progress=False)
    assert net.seen == [2] and load_features(folder, 'w').mean() > .5
    from tqn.data.batches import feature_path
    feature_path(folder, 'v8').write_bytes(b'half')
    extract_features(net, mine, tmp_path/'c', batch_clips=4, progress=False)
    assert load_features(folder, 'v8').shape == (1, 1, 3)

def test_other_weights_or_preprocessing_another_folder(tmp_path, items):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3*8*16*16, 2)).eval()
    def run(**kw): return extract_features(net, items[:1], tmp_path, **{'size': (16, 16), 'progress': False, **kw})
    folders = {run(), run(stride=2), run(views=[Noise()]), run(seed=1), run(dtype=torch.float16)}
    with torch.no_grad(): net[1].bias[0] += 1
    folders.add(run())
    assert len(folders) == 6

def test_two_data_sets_with_the_same_ids_never_share_features(tmp_path, items, queries):
    other = [Item(items[0].id, items[3].path)]  # the same id, another video
    mine = extract_features(Mean().eval(), items[:1], tmp_path, progress=False)
    before = FeatureDataset(mine, items[:1], queries)
    assert before[0]['features'].shape == (1, 3)
    with pytest.raises(ValueError, match=f"another file than .*{items[3].path.name}.*'v8'.*extract"): FeatureDataset(mine, other, queries)[0]
    assert extract_features(Mean().eval(), other, tmp_path, progress=False) == mine
    assert FeatureDataset(mine, other, queries)[0]['features'].shape == (7, 3)
    with pytest.raises(ValueError, match="a cache of its own"): FeatureDataset(mine, items[:1], queries)[0]
    assert FeatureDataset(mine, [Item('v8')], queries)[0]['features'].shape == (7, 3)  # without a file there is nothing to compare

def test_extraction_refuses_what_it_cannot_do(tmp_path, items):
    with pytest.raises(ValueError, match="on_error='raise' or 'skip', got 'skpi'"): extract_features(Mean().eval(), items, tmp_path, on_error='skpi')
    with pytest.raises(ValueError, match=r"have no path, such as \['x'\]"): extract_features(Mean().eval(), [*items, Item('x')], tmp_path)
    assert not list(tmp_path.iterdir())

def test_damaged_file_is_named_or_skipped(tmp_path, items, queries):
    (tmp_path/'torn.mp4').write_bytes(items[3].path.read_bytes()[:400])
    torn = Item('torn', tmp_path/'torn.mp4')
    for workers in (0, 2):
        with pytest.raises(ValueError, match="video 'torn'"): extract_features(Mean().eval(), [*items, torn], tmp_path/f'r{workers}', workers=workers, progress=False)
    folder = extract_features(Mean().eval(), [torn, *items], tmp_path/'s', on_error='skip', progress=False)
    assert list(json.loads((folder/'features.json').read_text())['skipped']) == ['torn']
    with pytest.raises(ValueError, match="1 of 5 videos have no features"): FeatureDataset(folder, [torn, *items], queries)

def test_no_thread_outlives_an_error(tmp_path, items):
    import threading
    class Broken(Mean):
        def forward(self, x): raise RuntimeError('broken backbone')
    before = threading.active_count()
    with pytest.raises(RuntimeError, match='broken backbone'): extract_features(Broken().eval(), items, tmp_path, batch_clips=1, workers=2, progress=False)
    end = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < end: time.sleep(.05)
    assert threading.active_count() <= before

def test_killed_extraction_leaves_whole_files_only(tmp_path, items, queries):
    code = f"""
import os, torch
from tqn.data.items import Item
from tqn.features.store import extract
class Mean(torch.nn.Module):
    n = 0
    def __repr__(self): return 'Mean()'
    def forward(self, x):
        self.n += 1
        if self.n == 4: os.kill(os.getpid(), 9)
        return x.mean((2, 3, 4))
items = [Item(i, p) for i,p in {[(o.id, str(o.path)) for o in items]!r}]
extract(Mean().eval(), items, {str(tmp_path)!r}, dict(clip_len=8, stride=1), views=[None], subfolder=True, batch_clips=1, workers=0, progress=False)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=600)
    assert done.returncode == -signal.SIGKILL, done.stderr
    class Mean(nn.Module):
        def __repr__(self): return 'Mean()'
        def forward(self, x): return x.mean((2, 3, 4))
    folder = extract_features(Mean().eval(), items, tmp_path, batch_clips=1, workers=0, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]
    assert sorted(p.name for p in folder.iterdir()) == sorted([*(f'{o.id}.safetensors' for o in items), 'features.json'])
    for o in items: torch.testing.assert_close(load_features(folder, o.id)[0], read_clips(o.path).float().div(255).mean((2, 3, 4)))

def test_digest_does_not_depend_on_the_process():
    code = "import torch; from tqn.core.files import weights_digest; torch.manual_seed(0); print(weights_digest(torch.nn.Linear(2, 3), size=(4, 4)))"
    torch.manual_seed(0)
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=600).stdout.strip() == weights_digest(nn.Linear(2, 3), size=(4, 4))

def test_real_videos_of_all_kinds(tmp_path):
    if not VIDEOS.is_dir(): pytest.skip(MISSING)
    items = [Item(p.name, p) for p in sorted(VIDEOS.glob('m*test*.*'))[:3]]
    out = extract_features(Mean().eval(), items, tmp_path, stride=2, size=(32, 32), batch_clips=16, progress=False)
    for o in items: assert load_features(out, o.id).shape[1] == open_video(o.path).n_clips(8, 2)

def test_features_in_hdf5_are_named(tmp_path):
    (tmp_path/'a.h5').write_bytes(b'HDF')
    with pytest.raises(ValueError, match='a.h5 is HDF5, which is not read: write each array with numpy.save'): FeatureDataset(tmp_path, [Item('a')], QuerySet({'q': ['x', 'y']}))

def test_training_and_streams_are_the_same_to_the_bit_with_any_number_of_readers(tmp_path, items, queries):
    from tqn.features.stream import stream
    from tqn.models.backbone import S3D
    from tqn.models.tqn import TQN
    from tqn.training.loop import fit
    def train(folder, workers):
        torch.manual_seed(0)
        model = TQN(queries, backbone=S3D(width=.0625), d_model=8, n_layers=1, n_heads=2, d_ff=8)
        ds = ClipDataset(items, queries, transform=TrainTransform(32), max_clips=2, random_clips=True, seed=2)
        fit(model, make_loader(ds, 2, True, seed=2, workers=workers), None, folder, epochs=2, device='cpu', progress=False, callbacks=[])
        return model
    a,b = (train(tmp_path/str(w), w) for w in (0, 2))
    assert all(torch.equal(x, y) for x,y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    rows = [{o.video.id: o.rows for o in stream(a.backbone.eval(), items, dict(clip_len=8, size=32), batch_clips=3, workers=w)} for w in (0, 1, 3)]
    assert list(rows[0]) == [o.id for o in items] == list(rows[2]) and all(torch.equal(rows[0][k], r[k]) for r in rows for k in rows[0])
