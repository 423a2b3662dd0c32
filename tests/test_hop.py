"Clips that overlap, and clips of one frame: loaders, caches, bank, scores and spans against plain loops; a box in the picture"
import json
import numpy as np
import pytest
import torch
from einops import rearrange
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.testing import assert_close
from tqn import QuerySet, TQN
from tqn.attention.answer import answer, own_frames
from tqn.video.transforms import clip_spans
from tqn.attention.localise import ClipMaps, map_scores
from tqn.attention.scores import score_videos
from tqn.data.batches import ClipDataset, WholeVideos, WindowDataset, load_features, read_clips
from tqn.data.items import Item
from tqn.features.bank import build_bank, read_notes
from tqn.features.store import extract
from tqn.features.stream import stream
from tqn.video.transforms import EvalTransform, Preprocess
from tqn.video.video import Video, write_video
from tqn.video.transforms import fit_stride

QS = QuerySet({'colour': ['red', 'blue']})
GRIDS = [(8, 1, 3), (1, 1, 1), (4, 2, 2), (2, 1, 7)]           # clip_len, stride, hop

class Mean(nn.Module):
    "The mean colour of a clip, of every frame alike"
    d_out = 3
    def __init__(self): super().__init__(); self.layer = nn.Linear(3, 3)
    def forward(self, x): return self.layer(x.mean((2, 3, 4)))
    def __repr__(self): return 'Mean()'

@pytest.fixture(scope='module')
def items(tmp_path_factory):
    folder = tmp_path_factory.mktemp('films')
    rng = np.random.default_rng(0)
    for name,n in (('a', 40), ('b', 9), ('c', 61)): write_video(folder/f'{name}.mp4', rng.integers(0, 255, (n, 16, 24, 3), dtype='u1'), fps=10)
    return [Item('a', folder/'a.mp4', {'colour': 'red'}), Item('b', folder/'b.mp4'), Item('c', folder/'c.mp4', {'colour': 'blue'}), Item('part', folder/'c.mp4', start=1., end=3.5)]

def naive(item, clip_len, stride, hop):
    "Clips (n, 3, t, h, w), one frame after another"
    film = Video(item.path)
    first,n = (10, 25) if item.id == 'part' else (0, len(film))
    stride,clips,at = fit_stride(n, clip_len, stride),[],0
    while True:
        clips.append(torch.stack([film.frames([first+min(at+i*stride, n-1)])[0] for i in range(clip_len)]))
        at += hop
        if at >= n or at - hop + clip_len*stride >= n: break
    return rearrange(torch.stack(clips), 'n t h w c -> n c t h w')

def model(clip_len, stride, hop, **more):
    torch.manual_seed(0)
    return TQN(QS, backbone=Mean(), d_model=8, n_layers=1, n_heads=1, preprocess=dict(clip_len=clip_len, stride=stride, hop=hop, size=16, resize=16, **more)).eval()

@pytest.mark.parametrize('grid', GRIDS)
def test_loaders_caches_bank_and_answers_read_the_same_clips(items, tmp_path, grid):
    clip_len,stride,hop = grid
    m = model(*grid)
    how = dict(clip_len=clip_len, stride=stride, hop=hop)
    view,truth = m.preprocess.clean_view(),{o.id: naive(o, *grid) for o in items}
    with torch.no_grad(): rows = {id: m.backbone(view(c)) for id,c in truth.items()}
    for i,o in enumerate(items):
        assert torch.equal(read_clips(o, **how), truth[o.id])
        assert_close(ClipDataset(items, QS, **how)[i]['clips'], truth[o.id]/255)
        window = WindowDataset(items, QS, 'sufb', 2, jitter=False, **how)[i]
        assert_close(window['clips'], truth[o.id][window['start']:window['start']+window['count']]/255)
        assert window['total'] == len(truth[o.id]) == m.preprocess.n_clips({'a': 40, 'b': 9, 'c': 61, 'part': 25}[o.id])
    for o,whole in zip(items, WholeVideos(items, QS, **how)):
        found, = stream(m.backbone, [whole['video']], **whole['reading'], batch_clips=3)
        with torch.no_grad(): assert_close(found.rows[0], m.backbone(truth[o.id]/255))
    several = extract(m.backbone, items, tmp_path/'cache', m.preprocess, batch_clips=5, progress=False, views=(view, None))
    store = extract(m.backbone, items, tmp_path/'store', m.preprocess, progress=False)
    bank = build_bank(m, items, tmp_path/'bank', batch_clips=4, progress=False)
    for o in items:
        assert_close(load_features(several.folder, o.id)[0], rows[o.id]); assert_close(store.read(o.id), rows[o.id]); assert_close(bank.read([o.id])[0][0], rows[o.id])
        t,a = store.timing(o.id),answer(m, o, n_thumbs=3)
        assert (t.hop, t.span) == (hop, clip_len*fit_stride(t.n_frames, clip_len, stride))
        assert np.array_equal(t.frames(len(rows[o.id])), a.frames) and a.frames[0,0] == 0 and a.frames[-1,1] == t.n_frames
        assert (a.frames[1:,0] == a.frames[:-1,1]).all() and (a.frames[:,0] < a.frames[:,1]).all()
        assert a.attn.shape[-1] == len(a.frames) == len(a.times)
    assert read_notes(tmp_path/'bank')['hop'] == hop
    bank.close()
    ev = score_videos(m, items, batch_clips=3, progress=False).evaluation
    for o in items: assert_close(torch.from_numpy(ev.rows['colour'][o.id][0]).float(), m(rows[o.id][None]).responses['colour'].softmax(-1)[0].detach())
    again = model(clip_len, stride, hop + 1)                          # another hop is another bank
    with pytest.raises(ValueError, match='was built with'): build_bank(again, items, tmp_path/'bank', progress=False)

def test_without_a_hop_nothing_is_called_otherwise(items, tmp_path):
    "Folders and notes of caches and banks keep the names that they had before there were hops and boxes"
    m = model(8, 1, None)
    extract(m.backbone, items[:1], tmp_path/'store', m.preprocess, progress=False)
    build_bank(m, items[:1], tmp_path/'bank', progress=False).close()
    assert set(read_notes(tmp_path/'bank')) == {'clip_len', 'stride', 'view', 'seed', 'dtype', 'skipped'}
    assert set(json.loads((tmp_path/'store'/'features.json').read_text())['preprocess']) == {'clip_len', 'stride', 'size', 'resize', 'mean', 'std'}
    assert 'box' not in repr(m.preprocess.clean_view()) and 'box' not in repr(m.preprocess.train_view(2))
    assert 'box' in repr(EvalTransform(8, box=(0, 0, .5, .5)))

def test_a_model_keeps_hop_and_box(tmp_path):
    m = model(8, 2, 3, box=[0, 0, .5, 1])
    m.backbone = None
    TQN(QS, d_model=8, n_layers=1, n_heads=1, preprocess=m.preprocess).save_pretrained(tmp_path/'m')
    again = TQN.from_pretrained(tmp_path/'m').preprocess
    assert again == Preprocess(8, 2, 3, 16, 16, box=(0, 0, .5, 1))

def test_a_box_is_cut_before_anything_else(items, tmp_path):
    m,boxed = model(8, 1, 4),model(8, 1, 4, box=(8, 0, 24, 16))
    store = extract(boxed.backbone, items[:1], tmp_path/'store', boxed.preprocess, progress=False)
    with torch.no_grad(): want = m.backbone(m.preprocess.clean_view()(naive(items[0], 8, 1, 4)[...,8:24]))
    assert_close(store.read('a'), want)
    with pytest.raises(ValueError, match='another backbone or preprocessing'): extract(m.backbone, items[:1], tmp_path/'store', m.preprocess, progress=False)
    far = model(8, 1, 4, box=(8, 0, 99, 16))
    with pytest.raises(ValueError, match=r'does not lie in a picture of 24 x 16 pixels'): answer(far, items[0])
    for bad in ((0, 0, 1), (.5, 0, .5, 1), (-1, 0, 1, 1)):
        with pytest.raises(ValueError, match='expected a box'): Preprocess(box=bad)
    for bad in (0, -3, 2.5):
        with pytest.raises(ValueError, match='expected hop as a whole number of at least 1'): Preprocess(hop=bad)

@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(1, 9), st.integers(1, 12), st.data())
def test_scores_of_overlapping_clips_count_each_frame_once(n, clip_len, hop, data):
    p = Preprocess(clip_len, hop=hop)
    spans = clip_spans(p.n_clips(n), n, clip_len, 1, hop)
    a = np.array(data.draw(st.lists(st.integers(1, 9), min_size=len(spans), max_size=len(spans))), float)
    last = spans[-1,1]
    start = data.draw(st.integers(0, last-1)); stop = data.draw(st.integers(start+1, last))
    top = {f for (s,e),w in zip(spans.tolist(), a) if w >= .5*a.max() for f in range(s, e)}
    truth = set(range(start, stop))
    hit,mass,iou = map_scores(a, (start, stop), spans)
    assert iou == pytest.approx(len(top & truth)/len(top | truth))
    assert mass == pytest.approx(sum(w*len(truth & set(range(s, e)))/(e-s) for (s,e),w in zip(spans.tolist(), a))/a.sum())
    assert ClipMaps('v', {'q': a}, {}, n, clip_len, 1, hop).spans.tolist() == spans.tolist()
    own = own_frames(spans, n)
    assert own[0,0] == 0 and own[-1,1] == n and (own[1:,0] == own[:-1,1]).all() and (own[:,1] > own[:,0]).all()
