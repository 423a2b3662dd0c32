"The test protocol: the numbers of a loader that holds whole videos, two views averaged, memory that does not grow, every video once"
import csv, json, subprocess, sys
import pytest
import torch
from einops import rearrange
from torch import nn
from torch.testing import assert_close
from tqn.data.items import Item
from tqn.models.tqn import TQN
from tqn.attention.scores import Evaluation, Tested, evaluate, gather_scores, merge_scores, save_predictions, score_videos, view_frames
from tqn.questions.queries import Query, QuerySet
from tqn.video.video import write_video
from tqn.video.transforms import clip_grid
from tqn.video.decode import VideoError

qs = QuerySet([Query('colour', ['red', 'blue']), Query('seen', ['rope', 'ball', 'hoop'], kind='many'), Query('turns', ['0', '1', '2'], kind='count')],
              classes=[('a', ['red', None, '0']), ('b', ['blue', None, '1']), ('c', ['blue', None, '2'])])
LENGTHS = [8, 3, 83, 41, 200, 1, 12, 16]

class Film:
    "A video in memory"
    size = 8, 10
    def __init__(self, item): self.i,self.bad = int(str(item.path)),item.id.startswith('bad')
    def __len__(self): return LENGTHS[self.i]
    def frames(self, at, size=None):
        if self.bad: raise VideoError('bad.mp4', 2, 'cut short')
        return torch.stack([torch.randint(0, 256, (8, 10, 3), generator=torch.Generator().manual_seed(1000*self.i + int(k)), dtype=torch.uint8) for k in at])

class Mean(nn.Module):
    d_out = 6
    def __init__(self): super().__init__(); self.layer = nn.Linear(3, 6)
    def forward(self, x): return self.layer(4*x.mean((2, 3, 4)))

@pytest.fixture
def films(monkeypatch): monkeypatch.setattr('tqn.features.stream.open_item', Film)

def item(i, id=None): return Item(id or f'v{i}', str(i), {'colour': 'red', 'seen': ['ball'], 'turns': '1'} if i != 2 else {'colour': 'blue'}, 'abc'[i%3] if i != 4 else None)

items = [item(i) for i in range(len(LENGTHS))]
torch.manual_seed(0)
model = TQN(qs, backbone=Mean(), d_model=16, n_layers=2, n_heads=2, preprocess=dict(size=8, resize=8)).eval()

def clips(i, drop=0):
    "All clips of a view"
    film = Film(items[i])
    drop = min(drop, len(film) - 1)
    grid = clip_grid(len(film) - drop) + drop
    return rearrange(film.frames(grid.flatten()), '(n t) h w c -> n c t h w', t=8)

@torch.no_grad()
def probabilities(i, drops):
    "Mean probabilities of one video over views, the plain way"
    view = model.preprocess.clean_view()
    outs = [model(view(clips(i, d))[None]) for d in drops]
    one = {q.name: sum((o.responses[q.name].sigmoid() if q.kind == 'many' else o.responses[q.name].softmax(-1))[0] for o in outs)/len(outs) for q in qs}
    return one | {f'class ({how})': sum(model.read_classes(o, how).exp()[0] for o in outs)/len(outs) for how in ('query', 'product', 'both')}

@pytest.mark.parametrize('views, drops', [('full', [0]), ('two', [0, 4])])
@pytest.mark.parametrize('workers, batch_clips', [(0, 1), (2, 5), (1, 64)])
def test_scores_are_those_of_whole_videos(films, views, drops, workers, batch_clips):
    ev = score_videos(model, items, views, workers=workers, batch_clips=batch_clips, progress=False).evaluation
    assert len(ev) == len(items)
    for i,o in enumerate(items):
        for name,p in probabilities(i, drops).items():
            total,n,_ = ev.rows[name][o.id]
            assert n == len(drops)
            assert_close(torch.from_numpy(total/n).float(), p, rtol=1e-4, atol=1e-5)

def test_second_view_of_a_video_shorter_than_what_is_dropped(films):
    assert view_frames('two', model.preprocess) == [0, 4]
    ev = score_videos(model, [items[5], items[1]], 'two', progress=False).evaluation      # of 1 and 3 frames
    assert {o[1] for o in ev.rows['colour'].values()} == {2}

def test_n_counts_what_has_an_answer(films):
    frame = score_videos(model, items, progress=False).evaluation.to_frame()
    assert (frame.n['colour'], frame.n['seen'], frame.n['turns'], frame.n['class (query)']) == (8, 7, 7, 7)
    assert frame.n_classes['class (query)'] == 3

def test_majority_comes_from_the_training_items(films):
    tested = score_videos(model, items[:2], train=[item(2, 't')]*1, progress=False)
    assert tested.evaluation.to_frame().majority['colour'] == 0. and 'training set' in str(tested)

def test_the_model_is_not_changed(films):
    before = {k: v.clone() for k,v in model.state_dict().items()}
    score_videos(model, items, progress=False)
    for k,v in model.state_dict().items(): assert torch.equal(v, before[k]), k

def test_processes_together_score_every_video_once(films):
    alone = score_videos(model, items, 'two', progress=False)
    for world in (2, 3, 20):
        parts = [score_videos(model, items, 'two', rank=r, world=world, progress=False) for r in range(world)]
        assert str(merge_scores(parts, [o.id for o in items])) == str(alone)
        assert list(merge_scores(parts, [o.id for o in items]).evaluation.rows['colour']) == [o.id for o in items]
    with pytest.raises(ValueError, match='scored by two processes'): merge_scores([alone, parts[0]])
    assert gather_scores(alone) is alone

def test_damaged_videos_are_named_or_left_out(films):
    with pytest.raises(ValueError, match="video 'bad'.*cut short"): score_videos(model, [items[0], item(2, 'bad')], progress=False)
    tested = score_videos(model, [items[0], item(2, 'bad'), items[3]], 'two', on_error='skip', progress=False)
    assert len(tested.evaluation) == 2 and 'cut short' in tested.damaged['bad'] and '1 could not be read: bad' in str(tested)

def test_saved_files(films, tmp_path):
    strange = Item('films/a "b", c\nd', '0', {'colour': 'red', 'seen': ['rope', 'ball']})
    tested = score_videos(model, [strange, items[2]], progress=False)
    tested.save(tmp_path/'out')
    rows = list(csv.DictReader((tmp_path/'out'/'predictions.csv').open(newline='')))
    assert len(rows) == 2*(3 + 3)
    first = {r['question']: r for r in rows if r['video'] == strange.id}
    assert (first['colour']['truth'], first['seen']['truth'], first['turns']['truth'], first['turns']['right']) == ('red', 'rope|ball', '', '')
    assert first['colour']['right'] == str(int(first['colour']['answer'] == 'red'))
    saved = json.loads((tmp_path/'out'/'scores.json').read_text())
    assert (saved['views'], saved['damaged'], saved['n_videos']) == ('full', {}, 2)

def test_no_answer_of_several_is_an_empty_cell(films, tmp_path):
    tested = score_videos(model, [Item('none', '0', {'seen': []})], progress=False)
    save_predictions(tested.evaluation, tmp_path/'p.csv')
    row = next(r for r in csv.DictReader((tmp_path/'p.csv').open()) if r['question'] == 'seen')
    assert row['truth'] == '' and row['right'] in '01'

def test_excerpts(tmp_path):
    write_video(tmp_path/'film.mp4', torch.randint(0, 256, (48, 16, 16, 3), dtype=torch.uint8))
    write_video(tmp_path/'other.mp4', torch.randint(0, 256, (48, 16, 16, 3), dtype=torch.uint8))
    a,b = (score_videos(model, [Item('x', tmp_path/'film.mp4', **kw)], progress=False).evaluation.rows['colour']['x'][0] for kw in ({}, dict(start=0, end=.64)))
    assert abs(a - b).max() > 1e-7

@pytest.mark.parametrize('call, match', [(lambda: score_videos(model, []), 'a video or more'), (lambda: score_videos(model, items, 'three'), "'full' or 'two'"),
                                         (lambda: score_videos(TQN(qs, d_model=16, n_layers=1, n_heads=2), items), 'for features')])
def test_refused(call, match):
    with pytest.raises(ValueError, match=match): call()

MEMORY = '''
import resource, torch
import tqn.data.batches, tqn.data.items
from tqn import S3D, TQN, QuerySet
from tqn.features.bank import build_bank
from tqn.attention.scores import score_videos
torch.set_num_threads(1)
class Film:
    size = 32, 32
    def __init__(self, item): self.n = item.n_frames
    def __len__(self): return self.n
    def frames(self, at, size=None): return torch.zeros(len(at), 32, 32, 3, dtype=torch.uint8)
tqn.features.stream.open_item = Film
model = TQN(QuerySet({'q': ['a', 'b']}), backbone=S3D(width=.0625), d_model=64, preprocess=dict(size=32, resize=32)).eval()
def peak(n):
    item = tqn.data.items.Item(f'v{n}', 'film', {'q': 'a'}, n_frames=8*n)
    score_videos(model, [item], batch_clips=16, progress=False)
    build_bank(model, [item], f'bank{n}', batch_clips=16, progress=False).close()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
peak(16)
print(peak(32), peak(2048))
'''

@pytest.mark.skipif(sys.platform == 'win32', reason='this system does not say how much memory a process had')
def test_memory_does_not_grow_with_the_video(tmp_path):
    "In one process, where the highest mark of 32 clips is below that of 2,048, which hold 200 MB as floats"
    r = subprocess.run([sys.executable, '-c', MEMORY], capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert r.returncode == 0, r.stderr
    few,many = map(int, r.stdout.split())
    assert many <= 1.1*few, f'{few} KB for 32 clips, {many} KB for 2,048'
