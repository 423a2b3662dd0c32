"Bank building: the rows are those of a plain loop, nothing kills it for good, nothing grows, and nobody's bank is mistaken for another's"
import os, signal, zlib
import pytest
import torch
from einops import rearrange
from torch import nn
from torch.testing import assert_close
from tqn.features.bank import (
    FeatureBank, bank_digest, bank_parts, build_bank, count_clips, open_bank, own_videos, part_folder, read_notes, ready_items)
from tqn.data.items import Item
from tqn.core.processes import sample_generator
from tqn.models import backbone as backbone_room
from tqn.models.backbone import S3D
from tqn.models.tqn import TQN
from tqn.questions.queries import QuerySet
from tqn.video.transforms import EvalTransform, Preprocess, TrainTransform
from tqn.video.video import write_video
from tqn.video.transforms import clip_grid
from tqn.video.decode import VideoError

qs = QuerySet({'colour': ['red', 'blue']})

class Film:
    "A video in memory; a name that begins with 'bad' does not decode after its third clip"
    def __init__(self, item): self.n,self.seed,self.bad = item.n,zlib.crc32(item.id.encode()) % 1000,item.id.startswith('bad')
    size = (12, 16)
    def __len__(self): return self.n
    def frames(self, at, size=None):
        if self.bad and max(at) > 24: raise VideoError('bad.mp4', 25, 'cut short')
        return torch.stack([torch.randint(0, 256, (12, 16, 3), generator=sample_generator(self.seed, int(i)), dtype=torch.uint8) for i in at])

class Shots(Item):
    "An item that knows how long it is without saying so in n_frames"
    def __init__(self, id, n, **kw): super().__init__(id, f'{id}.mp4', **kw); self.n = n

class Mean(nn.Module):
    "A backbone of a few numbers that can be told to die"
    d_out = 6
    def __init__(self): super().__init__(); self.layer,self.passes,self.most,self.last = nn.Linear(3, 6),0,0,10**9
    def forward(self, x):
        if self.passes >= self.last: os.kill(os.getpid(), signal.SIGKILL)
        self.passes,self.most = self.passes + 1,max(self.most, len(x))
        return self.layer(x.mean((2, 3, 4)))
    def __repr__(self): return 'Mean()'

@pytest.fixture(autouse=True)
def films(monkeypatch):
    for where in ('tqn.features.stream.open_item', 'tqn.data.items.open_item'): monkeypatch.setattr(where, Film)

def tiny(seed=0):
    torch.manual_seed(seed)
    return TQN(qs, backbone=Mean(), d_model=8, n_layers=1, n_heads=1, preprocess=dict(size=8, resize=8)).eval()

items = [Shots('a', 8), Shots('b', 83), Shots('c', 40), Shots('d', 201), Shots('e', 3)]

@torch.no_grad()
def plain(model, item, view, stride=1, seed=0):
    "All clips of a video at once"
    grid = clip_grid(item.n, 8, stride)
    clips = rearrange(Film(item).frames(grid.flatten()), '(n t) h w c -> n c t h w', t=8)
    return model.backbone(view(clips, generator=sample_generator(seed, 0, *item.id.encode())))

@pytest.mark.parametrize('workers, batch_clips', [(0, 1), (1, 4), (2, 7), (3, 100)])
def test_rows_are_those_of_a_plain_loop(tmp_path, workers, batch_clips):
    model = tiny()
    with build_bank(model, items, tmp_path/'bank', workers=workers, batch_clips=batch_clips, progress=False).lock: pass
    bank = FeatureBank.open(tmp_path/'bank', bank_digest(model), writable=False)
    for o in items: assert_close(bank.read([o.id])[0][0], plain(model, o, model.preprocess.clean_view()))
    assert read_notes(tmp_path/'bank')['skipped'] == {}

def test_every_second_frame(tmp_path):
    model = tiny()
    bank = build_bank(model, [items[3]], tmp_path/'bank', dict(stride=2), progress=False)
    assert bank.index.lengths == {'d': 13}
    assert_close(bank.read(['d'])[0][0], plain(model, items[3], EvalTransform(8, resize=8), 2))
    bank.close()

@pytest.mark.parametrize('batch_clips', [1, 3, 26, 50])
def test_augmented_rows_do_not_depend_on_the_pieces(tmp_path, batch_clips):
    model = tiny()
    view = model.preprocess.train_view(2)
    bank = build_bank(model, items, tmp_path/'bank', view=view, seed=3, batch_clips=batch_clips, progress=False)
    for o in items: assert_close(bank.read([o.id])[0][0], plain(model, o, view, seed=3))
    bank.close()
    assert isinstance(view, TrainTransform) and view.scale == (.6, 1.)

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system cannot fork a process to kill it')
@pytest.mark.parametrize('passes', [0, 1, 5, 8])
def test_a_killed_build_continues_and_repeats_nothing_whole(tmp_path, passes):
    model = tiny()
    if not (child := os.fork()):
        model.backbone.last = passes
        try: build_bank(model, items, tmp_path/'bank', batch_clips=4, workers=0, progress=False)
        finally: os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    with FeatureBank.open(tmp_path/'bank').lock: pass
    left = FeatureBank.open(tmp_path/'bank', writable=False).missing()
    bank = build_bank(model, items, tmp_path/'bank', batch_clips=4, workers=0, progress=False)
    todo,done = sum(map(len, left.values())),model.backbone.passes
    assert todo <= 44 and (passes == 0) == (todo == 44)
    assert todo/9 <= done <= todo/4 + len(left), 'more passes than there were clips left'
    for o in items: assert_close(bank.read([o.id])[0][0], plain(model, o, model.preprocess.clean_view()))
    bank.close()
    model.backbone.passes = 0
    build_bank(model, items, tmp_path/'bank', progress=False).close()
    assert model.backbone.passes == 0, 'a whole bank was built again'

def test_no_more_than_a_few_pieces_are_ever_in_memory(tmp_path, monkeypatch):
    model,ahead,most = tiny(),0,0
    def frames(self, at, size=None):
        nonlocal ahead,most
        ahead += len(at)//8; most = max(most, ahead)
        return torch.zeros(len(at), 12, 16, 3, dtype=torch.uint8)
    monkeypatch.setattr(Film, 'frames', frames)
    forward = model.backbone.forward
    def counted(x):
        nonlocal ahead
        ahead -= len(x)
        return forward(x)
    monkeypatch.setattr(model.backbone, 'forward', counted)
    build_bank(model, [Shots('long', 8*2048)], tmp_path/'bank', batch_clips=4, progress=False).close()
    assert most <= 4*7 and model.backbone.most <= 8, f'{most} clips were waiting'

def test_damaged_videos_are_named_or_left_out(tmp_path):
    model,bad = tiny(),Shots('bad', 80)
    with pytest.raises(ValueError, match="video 'bad'.*cut short"): build_bank(model, [*items, bad], tmp_path/'strict', progress=False)
    build_bank(model, [*items, bad], tmp_path/'bank', on_error='skip', progress=False).close()
    assert 'cut short' in read_notes(tmp_path/'bank')['skipped']['bad']
    assert [o.id for o in ready_items(tmp_path/'bank', [*items, bad])] == [o.id for o in items]
    with pytest.raises(ValueError, match="'raise' or 'skip'"): build_bank(model, items, tmp_path/'none', on_error='ignore', progress=False)

def test_a_strict_build_continues_after_the_damaged_video_was_repaired(tmp_path, monkeypatch):
    model,bad = tiny(),Shots('bad', 80)
    with pytest.raises(ValueError): build_bank(model, [items[0], bad], tmp_path/'bank', progress=False)
    monkeypatch.setattr(Film, '__init__', lambda self, item: self.__dict__.update(n=item.n, seed=1, bad=False))
    bank = build_bank(model, [items[0], bad], tmp_path/'bank', progress=False)
    assert bank.missing() == {}
    bank.close()

def test_a_wrong_count_never_shifts_a_row(tmp_path):
    model,wrong = tiny(),Shots('b', 83, n_frames=160)
    with pytest.raises(ValueError, match='11 clips, not the 20'): build_bank(model, [wrong], tmp_path/'strict', progress=False)
    build_bank(model, [items[0], wrong], tmp_path/'bank', on_error='skip', progress=False).close()
    assert [o.id for o in ready_items(tmp_path/'bank', [items[0], wrong])] == ['a']
    assert count_clips([wrong], Preprocess.of(model), progress=False)[0] == {'b': 20}

def test_another_bank_is_refused_and_left_as_it_was(tmp_path):
    model = tiny()
    build_bank(model, items, tmp_path/'bank', progress=False).close()
    before = {p.name: p.read_bytes() for p in (tmp_path/'bank').iterdir()}
    for match,call in [('again with these weights', lambda: build_bank(tiny(1), items, tmp_path/'bank', progress=False)),
                       ('was built with', lambda: build_bank(model, items, tmp_path/'bank', view=model.preprocess.train_view(2), progress=False)),
                       ('was built with', lambda: build_bank(model, items, tmp_path/'bank', dtype='float16', progress=False)),
                       ("of other videos: 'new'", lambda: build_bank(model, [*items, Shots('new', 9)], tmp_path/'bank', progress=False)),
                       ('another number of processes', lambda: build_bank(model, items, tmp_path/'bank', rank=0, world=2, progress=False))]:
        with pytest.raises(ValueError, match=match): call()
    assert {p.name: p.read_bytes() for p in (tmp_path/'bank').iterdir() if p.name in before} == before
    bank = build_bank(tiny(1), items[:2], tmp_path/'bank', overwrite=True, progress=False)
    assert list(bank.index.lengths) == ['a', 'b']
    bank.close()

def test_overwrite_takes_nothing_but_a_bank(tmp_path):
    model = tiny()
    build_bank(model, items, tmp_path/'bank', progress=False).close()
    (tmp_path/'bank'/'thesis.txt').write_text('mine')
    build_bank(model, items, tmp_path/'bank', overwrite=True, progress=False).close()
    assert (tmp_path/'bank'/'thesis.txt').read_text() == 'mine'

@pytest.mark.parametrize('world', [2, 3, 5])
def test_parts_hold_every_video_once(tmp_path, world):
    model = tiny()
    for r in range(world): build_bank(model, items, tmp_path/'bank', rank=r, world=world, progress=False).close()
    parts = [FeatureBank.open(p, writable=False) for p in bank_parts(tmp_path/'bank')]
    assert sorted(id for p in parts for id in p.index.lengths) == [o.id for o in items]
    for p in parts:
        for id in p.index.lengths: assert_close(p.read([id])[0][0], plain(model, next(o for o in items if o.id == id), model.preprocess.clean_view()))
    with pytest.raises(ValueError, match='another number'): build_bank(model, items, tmp_path/'bank', progress=False)
    with pytest.raises(ValueError, match='too few'): own_videos(items, 0, 6)
    assert part_folder('x', world - 1, world).name == f'part-{world-1:03d}-of-{world:03d}'

def test_half_precision_says_so(tmp_path):
    model = tiny()
    bank = build_bank(model, items, tmp_path/'bank', dtype='float16', progress=False)
    assert_close(bank.read(['d'])[0][0], plain(model, items[3], model.preprocess.clean_view()), rtol=1e-3, atol=1e-3)
    assert (bank.index.dtype, read_notes(tmp_path/'bank')['dtype']) == ('float16', 'float16')
    bank.close()

def test_features_that_are_not_finite_name_the_video(tmp_path):
    model = tiny()
    with torch.no_grad(): model.backbone.layer.weight.fill_(float('nan'))
    with pytest.raises(ValueError, match="video 'a': feature 0 .* not finite"): build_bank(model, items, tmp_path/'bank', workers=0, progress=False)

def test_from_files_and_excerpts(tmp_path, monkeypatch):
    monkeypatch.undo()
    write_video(tmp_path/'film.mp4', torch.randint(0, 256, (50, 16, 16, 3), dtype=torch.uint8))
    model,whole,part = tiny(),Item('whole', tmp_path/'film.mp4'),Item('part', tmp_path/'film.mp4', start=.32, end=.96)
    bank = build_bank(model, [whole, part], tmp_path/'bank', progress=False)
    assert bank.index.lengths == {'whole': 7, 'part': 2}
    assert_close(bank.read(['part'])[0][0], bank.read(['whole'])[0][0,1:3])    # frames 8 to 23
    bank.close()

@pytest.mark.parametrize('name, text', [('index.json', '{"pages": 7}'), ('features.npy', 'x'), ('build.json', '{"steps": []}')])
@pytest.mark.parametrize('overwrite', [False, True])
def test_files_of_somebody_else_are_not_taken_for_a_bank(tmp_path, name, text, overwrite):
    (tmp_path/name).write_text(text)
    with pytest.raises(ValueError, match=f'holds {name}, which no bank of this kit wrote; nothing was changed'): open_bank(tmp_path, {'a': 2}, 4, 'float32', 'x', {}, overwrite)
    assert [p.name for p in tmp_path.iterdir()] == [name] and (tmp_path/name).read_text() == text

def test_overwriting_a_bank_leaves_the_rest_and_waits_for_its_writer(tmp_path):
    open_bank(tmp_path, {'a': 2}, 4, 'float32', 'x', {}).close()
    for name in ('log-of-mine.bin', 'log-1.bin.txt'): (tmp_path/name).write_text('mine')
    living = open_bank(tmp_path, {'a': 2}, 4, 'float32', 'x', {})
    with pytest.raises(ValueError, match='open for writing already'): open_bank(tmp_path, {'b': 3}, 4, 'float32', 'y', {}, True)
    living.write(['a'], [0], torch.ones(1, 2, 4))
    living.close()
    assert list((bank := open_bank(tmp_path, {'b': 3}, 4, 'float32', 'y', {}, True)).index.lengths) == ['b']
    bank.close()
    assert [(tmp_path/name).read_text() for name in ('log-of-mine.bin', 'log-1.bin.txt')] == ['mine', 'mine']

def test_a_bank_in_bf16_says_so_and_is_continued_in_nothing_else(tmp_path, monkeypatch):
    "One of earlier days says nothing and is float32; where bf16 is refused, nothing is begun"
    torch.manual_seed(0)
    net = S3D(width=.0625)
    for _ in range(2): net(1 + 2*torch.randn(8, 3, 8, 32, 32))
    model = TQN(qs, backbone=net, d_model=16, n_layers=1, n_heads=2, preprocess=dict(size=32, resize=32)).eval()
    films = [Shots('a', 40)]
    monkeypatch.setattr(backbone_room, 'has_bf16', lambda device='cpu': False)
    with pytest.raises(ValueError, match="pass precision='no'"): build_bank(model, films, tmp_path/'bf16', precision='bf16', progress=False)
    assert not (tmp_path/'bf16').exists()
    monkeypatch.setattr(backbone_room, 'has_bf16', lambda device='cpu': True)
    rows = {}
    for p in ('no', 'bf16'):
        bank = build_bank(model, films, tmp_path/p, precision=p, progress=False)
        rows[p] = bank.read(['a'])[0]; bank.close()
    assert 0 < float((rows['no'] - rows['bf16']).abs().max()/rows['no'].abs().max()) < .02
    assert 'precision' not in read_notes(tmp_path/'no') and read_notes(tmp_path/'bf16')['precision'] == 'bf16'
    for folder,asked in (('no', 'bf16'), ('bf16', 'no')):
        with pytest.raises(ValueError, match='was built with'): build_bank(model, films, tmp_path/folder, precision=asked, progress=False)
