"A box in the picture, one a film or one a size: every reader sees what a film of that part alone would show"
import json
import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close
from tqn import QuerySet, TQN
from tqn.attention.answer import answer
from tqn.data.batches import ClipDataset, FrameCache, WholeVideos, WindowDataset, load_features, read_clips, source_stamp
from tqn.data.check import check, cut_items, fix
from tqn.data.items import DataError, Item, load_items, open_item, write_manifest
from tqn.features.bank import build_bank
from tqn.features.store import extract
from tqn.features.stream import stream
from tqn.video.transforms import BoxError, Preprocess, read_box
from tqn.video.video import Video, write_video
from tqn.widgets.lanes import playable

QS = QuerySet({'colour': ['red', 'blue']})
BOX = (8, 4, 32, 20)

class Mean(nn.Module):
    "The mean colour of a clip"
    d_out = 3
    def __init__(self): super().__init__(); self.layer = nn.Linear(3, 3)
    def forward(self, x): return self.layer(x.mean((2, 3, 4)))
    def __repr__(self): return 'Mean()'

@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch): monkeypatch.setenv('TQN_CACHE', str(tmp_path_factory.getbasetemp()/'cache'))

@pytest.fixture(scope='module')
def films(tmp_path_factory):
    folder,rng = tmp_path_factory.mktemp('films'),np.random.default_rng(0)
    for name,size in (('a', (24, 40)), ('b', (48, 64))): write_video(folder/f'{name}.mp4', rng.integers(0, 255, (24, *size, 3), dtype='u1'), fps=10)
    return folder

def model(**more):
    torch.manual_seed(0)
    return TQN(QS, backbone=Mean(), d_model=8, n_layers=1, n_heads=1, preprocess=dict(clip_len=4, size=16, resize=16, **more)).eval()

def test_every_reader_sees_the_box_of_a_film(films, tmp_path):
    "Loaders, stream, store, bank and answers, with frames cut out by hand beside them; the box comes before any resizing"
    item,m = Item('a', films/'a.mp4', {'colour': 'red'}, box=BOX),model()
    frames = Video(films/'a.mp4').frames(range(24))[:,4:20,8:32]
    clips = frames.unflatten(0, (6, 4)).permute(0, 4, 1, 2, 3)
    how = dict(clip_len=4)
    assert torch.equal(read_clips(item, **how), clips) and torch.equal(FrameCache()(item).frames(range(24)), frames)
    for data in (ClipDataset([item], QS, **how), WindowDataset([item], QS, 'full', jitter=False, **how)): assert_close(data[0]['clips'], clips/255)
    with torch.no_grad(): rows = m.backbone(m.preprocess.clean_view()(clips))
    found, = stream(m.backbone, [item], m.preprocess)
    whole, = WholeVideos([item], QS, transform=m.preprocess.clean_view(), **how)
    again, = stream(m.backbone, [whole['video']], **whole['reading'])
    store,bank = extract(m.backbone, [item], tmp_path/'store', m.preprocess, progress=False),build_bank(m, [item], tmp_path/'bank', progress=False)
    for o in (found.rows, again.rows[0], store.read('a'), bank.read(['a'])[0][0]): assert_close(o, rows)
    bank.close()
    assert answer(m, item, n_thumbs=2).thumbs.shape[-3:-1] != answer(m, Item('a', films/'a.mp4'), n_thumbs=2).thumbs.shape[-3:-1]
    assert playable(open_item(item), tmp_path, progress=False).size == (16, 24)

def test_features_and_banks_of_another_box_are_refused(films, tmp_path):
    "The box is part of what features are features of"
    boxed,other,plain = (Item('a', films/'a.mp4', {'colour': 'red'}, box=o) for o in (BOX, (8, 4, 32, 22), None))
    assert len({source_stamp(o) for o in (boxed, other, plain)}) == 3 and source_stamp(plain) == source_stamp(films/'a.mp4')
    m = model()
    extract(m.backbone, [boxed], tmp_path/'s', m.preprocess, progress=False)
    for o in (other, plain):
        with pytest.raises(ValueError, match='another file'): load_features(tmp_path/'s', 'a', o)
    rows = load_features(tmp_path/'s', 'a', boxed)
    assert not torch.equal(extract(m.backbone, [other], tmp_path/'s', m.preprocess, progress=False).read('a'), rows)     # made anew
    build_bank(m, [boxed], tmp_path/'b', progress=False).close(); build_bank(m, [boxed], tmp_path/'b', progress=False).close()
    for o in (other, plain):
        with pytest.raises(ValueError, match='was built with'): build_bank(m, [o], tmp_path/'b', progress=False)

def test_a_table_holds_boxes(films, tmp_path):
    "The column `box`: pixels or shares, written and read again; wrong ones named by line"
    (tmp_path/'t.csv').write_text(f'path,colour,box\n{films}/a.mp4,red,"8,4,32,20"\n{films}/b.mp4,blue,"0.25, .5, .75, 1"\n')
    items = load_items(tmp_path/'t.csv', root=films)
    assert [o.box for o in items] == [BOX, (.25, .5, .75, 1)] and [open_item(o).size for o in items] == [(16, 24), (24, 32)]
    for end in ('csv', 'jsonl'): assert [o.box for o in load_items(write_manifest(films/f'again.{end}', items))] == [o.box for o in items]
    (films/'wrong.csv').write_text('path,colour,box\na.mp4,red,left\nb.mp4,blue,"5,5,5,9"\nb.mp4,blue,"64x48:0,0,9,9"\n')
    with pytest.raises(DataError) as e: load_items(films/'wrong.csv')
    said = str(e.value)
    assert all(f'line {n}' in said for n in (2, 3, 4)) and "expected a box x0,y0,x1,y1" in said and "got 'left'" in said and 'one for each size' in said
    (films/'outside.csv').write_text('path,colour,box\na.mp4,red,"8,4,32,25"\nb.mp4,blue,"8,4,32,25"\n')
    report = check(load_items(films/'outside.csv'), QS, films/'outside.csv', progress=False)
    assert not report.ok and 'a.mp4' in str(report) and 'the box (8, 4, 32, 25) (x0, y0, x1, y1) does not lie in a picture of 40 x 24 pixels' in str(report) and 'b.mp4' not in str(report)

def test_boxes_of_one_film_are_two_videos_and_a_cut_needs_none(films, tmp_path):
    items = [Item('l', films/'a.mp4', {'colour': 'red'}, box=(0, 0, .5, 1)), Item('r', films/'a.mp4', {'colour': 'blue'}, box=(.5, 0, 1, 1))]
    assert check(items, QS, progress=False).ok
    done,problems = cut_items(items, tmp_path, progress=False)
    assert not problems and [(o.box, Video(o.path).size) for o in done] == [(None, (24, 20))]*2

def test_one_box_for_each_size(films, tmp_path):
    "A data set in two sizes; a third is refused by name"
    m = model(box={'40x24': (8, 4, 32, 20), '64x48': (0, 0, 32, 24)})
    items = [Item(o, films/f'{o}.mp4', {'colour': 'red'}) for o in 'ab']
    m.save_pretrained(tmp_path/'m')
    assert TQN.from_pretrained(tmp_path/'m', backbone=Mean()).preprocess == m.preprocess
    assert Preprocess.from_dict(json.loads(json.dumps(m.preprocess.to_dict()))) == m.preprocess == Preprocess(**{**m.preprocess.to_dict(), 'box': read_box('40x24:8,4,32,20;64x48:0,0,32,24')})
    for o,box in zip(items, ((8, 4, 32, 20), (0, 0, 32, 24))):
        by_size, = stream(m.backbone, [o], m.preprocess)
        by_film, = stream(m.backbone, [Item(o.id, o.path, box=box)], model().preprocess)
        assert_close(by_size.rows, by_film.rows)
    small = Preprocess(clip_len=4, size=16, box={'40x24': (8, 4, 32, 20)})
    with pytest.raises(ValueError, match="video 'b'.*no box for a picture of 64 x 48 pixels, only for 40x24"): list(stream(m.backbone, items, small))
    assert [o.rows is None for o in stream(m.backbone, items, small, on_error='skip', workers=0)] == [False, True]
    with pytest.raises(ValueError, match="video 'b'.*no box for a picture"): ClipDataset(items, QS, 4, transform=small.clean_view())[1]

@pytest.mark.parametrize('box', ['left', '1,2,3', (5, 0, 2, 1), {'small': (0, 0, 1, 1)}, 'nan,0,1,1', 7])
def test_what_is_no_box(box):
    with pytest.raises(ValueError, match='expected'): Preprocess(box=box)
