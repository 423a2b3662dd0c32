"Hiding the evidence against naive loops: masks, lost probabilities, tables and curves"
from types import SimpleNamespace
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose
from torch import nn
from tqn.data.items import Item
from tqn.data.batches import FeatureDataset
from tqn.attention.localise import ClipMaps, bootstrap
from tqn.video.transforms import clip_spans
from tqn.models.tqn import TQN
from tqn.questions.queries import Query, QuerySet
from tqn.attention.whatif import Reliance, curve_areas, drops, hiding_masks, reliance
from tqn.attention.whatif import ask_again, curves

QS = QuerySet([Query('takeoff', ['Back', 'Forward']), Query('twist', ['0', '1', '2'], kind='count'), Query('seen', ['board', 'pool', 'crowd'], kind='many')],
              classes=[('plain', ['Back', '0', None]), ('hard', ['Forward', '2', None])])
NAMES = ['takeoff', 'twist', 'seen']

def small(seed=0, **kwargs):
    "A TQN that is sure of itself"
    torch.manual_seed(seed)
    m = TQN(QS, **{**dict(d_model=8, n_layers=1, n_heads=2, d_features=6), **kwargs})
    with torch.no_grad():
        for p in m.heads.parameters(): p.mul_(5)
    return m.eval()

def spread(g, n_frames, names=NAMES, none=.3):
    "An extent for each name, or None"
    ends = [sorted(g.choice(n_frames+1, 2, replace=False)) if n_frames else None for _ in names]
    return {q: None if g.random() < none else (int(a), int(b)) for q, (a, b) in zip(names, ends)}

def some(n_videos, seed, names=NAMES, longest=60, none=.3):
    "Features, and maps with extents, of videos of any length"
    g, items, maps, features = np.random.default_rng(seed), [], [], {}
    for i in range(n_videos):
        n_frames = int(g.integers(1, longest))
        n = -(-n_frames//8)
        items.append(Item(f'v{i}', None, extents=spread(g, n_frames, none=none), n_frames=n_frames))
        maps.append(ClipMaps(f'v{i}', {q: g.dirichlet(np.ones(n)) for q in names}, items[-1].extents, n_frames))
        features[f'v{i}'] = torch.tensor(g.normal(size=(n, 6)), dtype=torch.float32)
    return FeatureDataset(features, items, QS), maps

# Masks

@settings(max_examples=100)
@given(n_frames=st.integers(1, 90), seed=st.integers(0, 10**6), none=st.sampled_from([0., .3, 1.]))
def test_masks_against_frame_by_frame_counting(n_frames, seed, none):
    g = np.random.default_rng(seed)
    n, extents = -(-n_frames//8), spread(g, n_frames, none=none)
    maps = ClipMaps('v', {'q': np.ones(n)}, extents, n_frames)
    own, other = hiding_masks(maps, [*NAMES, 'class'], np.random.default_rng(seed))
    clips = [range(8*i, min(8*i+8, n_frames)) for i in range(n)]
    inside = {q: {i for i in range(n) if e is not None and any(e[0] <= f < e[1] for f in clips[i])} for q, e in extents.items()} | {'class': set()}
    rest = set(range(n)) - set.union(*inside.values())
    assert own.shape == other.shape == (4, n) and own.dtype == other.dtype == bool
    for q, a, b in zip([*NAMES, 'class'], own, other):
        mine = inside[q]
        assert {i for i in range(n) if a[i]} == (set(range(n)) - mine if 0 < len(mine) < n else set())
        if not 0 < len(mine) < n or len(rest) < len(mine): assert not b.any()
        else:
            hidden = {i for i in range(n) if not b[i]}
            assert len(hidden) == len(mine) and hidden <= rest                    # as many, and no evidence of anything
    again = hiding_masks(maps, [*NAMES, 'class'], np.random.default_rng(seed))
    assert (again[0] == own).all() and (again[1] == other).all()

def test_as_many_clips_elsewhere_are_drawn_evenly():
    maps, g = ClipMaps('v', {'q': np.ones(6)}, {'q': (0, 16)}, 48), np.random.default_rng(0)
    hidden = np.mean([~hiding_masks(maps, ['q'], g)[1][0] for _ in range(600)], 0)
    assert_allclose(hidden, [0, 0, .5, .5, .5, .5], atol=.08)

@pytest.mark.parametrize('extents', [{}, {'q': None}, {'q': (0, 5)}, {'q': (3, 8)}])
def test_one_clip_leaves_nothing_to_hide(extents):
    own, other = hiding_masks(ClipMaps('v', {'q': [1.]}, extents, 8), ['q'], np.random.default_rng(0))
    assert own.tolist() == other.tolist() == [[False]]

def test_an_extent_beyond_the_video_is_refused():
    with pytest.raises(ValueError, match='in a film of 16 frames'): hiding_masks(ClipMaps('v', {'q': [1., 1.]}, {'q': (8, 17)}, 16), ['q'], np.random.default_rng(0))


# Lost probability

@settings(max_examples=25)
@given(n=st.integers(1, 9), seed=st.integers(0, 999), reading=st.sampled_from([None, 'query', 'product', 'both']), data=st.data())
def test_drops_against_videos_that_never_had_the_clips(n, seed, reading, data):
    model, x = small(seed), torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    masks = np.array(data.draw(st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1, max_size=4)))
    lost, whole = drops(model, x, masks, reading), ask_again(model, x, reading=reading)
    assert list(lost) == [*NAMES, 'class']
    for q in lost:
        answer, p = whole[q][0]
        want = [p - dict(ask_again(model, x[torch.tensor(m)], reading=reading)[q])[answer] if m.any() else np.nan for m in masks]
        assert lost[q].shape == (len(masks),)
        assert_allclose(lost[q], want, atol=1e-5)
        assert_allclose(lost[q][masks.all(1)], 0, atol=1e-6)

@pytest.mark.parametrize('junk', [1e4, float('nan'), float('inf')])
def test_what_is_hidden_is_never_read(junk):
    model, x, seen = small(), torch.randn(5, 6), np.array([[True, False, True, True, False]])
    other = x.clone()
    other[~torch.tensor(seen[0])] = junk
    p = lambda f: {q: dict(r) for q, r in ask_again(model, f, torch.tensor(seen[0])).items()}
    whole, hidden = ask_again(model, x), p(other)
    for q, lost in drops(model, x, seen).items(): assert_allclose(lost[0], whole[q][0][1] - hidden[q][whole[q][0][0]], atol=1e-6)

def test_a_class_that_is_not_read_is_left_out():
    bare, x, masks = small(class_query=False), torch.randn(4, 6), np.array([[True, True, False, False], [False]*4])
    assert list(drops(bare, x, masks)) == NAMES and list(drops(bare, x, masks, 'product')) == [*NAMES, 'class']
    assert all(np.isnan(v).tolist() == [False, True] for v in drops(bare, x, masks).values())
    assert all(np.isnan(v).all() for v in drops(bare, x, np.zeros((3, 4), dtype=bool)).values())

def test_a_model_in_training_is_asked_without_dropout_and_goes_on_training():
    model, x, masks = small(dropout=.5).train(), torch.randn(4, 6), np.array([[True, False, True, True]])
    one, two = drops(model, x, masks), drops(model, x, masks)
    assert all((one[q] == two[q]).all() for q in one) and model.training
    with pytest.raises(ValueError): drops(model, torch.randn(4, 7), masks)
    assert model.training


# Tables

def table(b, names, seed, holes=.3):
    "Losses of b videos, some of them not there"
    g = np.random.default_rng(seed)
    return Reliance(list(names), [f'v{i}' for i in range(b)], *(np.where(g.random(s) < holes, np.nan, g.normal(size=s)) for s in [(b, len(names), len(names))]*2))

def mean(values):
    "Of what is there"
    known = [v for v in values if not np.isnan(v)]
    return sum(known)/len(known) if known else np.nan

@settings(max_examples=40)
@given(b=st.integers(1, 7), names=st.sampled_from([['a'], ['class'], ['a', 'class'], ['a', 'b'], ['a', 'b', 'c', 'class']]), seed=st.integers(0, 999), holes=st.sampled_from([0., .3, 1.]))
def test_tables_against_loops(b, names, seed, holes):
    r = table(b, names, seed, holes)
    frame, matrix, k = r.to_frame(), r.matrix(), len(names)
    assert list(frame.index) == list(matrix.index) == list(matrix.columns) == names
    for i, q in enumerate(names):
        own = [r.drop[v, i, i] for v in range(b)]
        wrong = [mean([r.drop[v, i, j] for j in range(k) if j != i and names[j] != 'class']) for v in range(b)]
        gap = [o - w for o, w in zip(own, wrong)]
        assert_allclose(r.own()[:, i], own); assert_allclose(r.gaps()[:, i], gap)
        for j, e in enumerate(names): assert_allclose(matrix.loc[q, e], mean([r.drop[v, i, j] for v in range(b)]))
        row = frame.loc[q]
        assert row.n == sum(not np.isnan(o) for o in own)
        assert_allclose(row[['own', 'elsewhere', 'gap']].astype(float), [mean(own), mean([r.elsewhere[v, i, i] for v in range(b)]), mean(gap)])
        assert_allclose(row.wrong, mean([w for w, o in zip(wrong, own) if not np.isnan(o)]), atol=1e-12)
        low, high = bootstrap(np.array([[g for g in gap if not np.isnan(g)]]))
        assert_allclose((row.low, row.high), (low, high))
        assert np.isnan(row.low) == (sum(not np.isnan(g) for g in gap) < 2)

@settings(max_examples=10)
@given(n_videos=st.integers(1, 4), seed=st.integers(0, 99), none=st.sampled_from([0., .4, 1.]), reading=st.sampled_from([None, 'product']))
def test_reliance_against_a_loop_over_videos_and_extents(n_videos, seed, none, reading):
    "The class has no extent; what hiding an extent costs is asked video by video and mask by mask"
    names, model = [*NAMES, 'class'], small(seed)
    data, maps = some(n_videos, seed, names, none=none)
    r = reliance(model, data, maps, reading, seed)
    assert r.names == names and r.ids == [m.id for m in maps] and r.drop.shape == r.elsewhere.shape == (n_videos, 4, 4)
    g = np.random.default_rng(seed)
    for v, m in enumerate(maps):
        f = data.kept[m.id]
        masks, whole = hiding_masks(m, names, g), ask_again(model, f, reading=reading)
        for got, ms in zip((r.drop[v], r.elsewhere[v]), masks):
            for i, q in enumerate(names):
                for j in range(4):
                    want = whole[q][0][1] - dict(ask_again(model, f, torch.tensor(ms[j]), reading)[q])[whole[q][0][0]] if ms[j].any() else np.nan
                    assert_allclose(got[i, j], want, atol=1e-5)
    again = reliance(model, data, maps, reading, seed)
    assert_allclose(again.elsewhere, r.elsewhere); assert_allclose(again.drop, r.drop)

class OneClip(nn.Module):
    "Knows an answer from one clip alone: the takeoff is the sign of feature 0 of the first, the twist that of feature 1 of the last one shown"
    queries = QuerySet({'takeoff': ['Back', 'Forward'], 'twist': ['0', '1']})
    def forward(self, x, valid=None):
        valid = torch.ones(x.shape[:2], dtype=torch.bool) if valid is None else valid
        x = x.masked_fill(~valid[..., None], 0)
        sure = lambda v: torch.stack([-v, v], -1)
        return SimpleNamespace(responses={'takeoff': sure(x[:, :, 0].sum(1)), 'twist': sure(x[:, :, 1].sum(1))}, classes=None, attn=None)

def test_an_answer_rests_on_its_own_evidence_alone():
    "Hiding it costs half of the certainty; hiding the other's, or as much elsewhere, costs nothing"
    items = [Item(f'v{i}', None, extents={'takeoff': (0, 8), 'twist': (24, 32)}, n_frames=40) for i in range(6)]
    features = {o.id: torch.zeros(5, 2) for o in items}
    for f in features.values(): f[0, 0], f[3, 1] = 20., -20.
    maps = [ClipMaps(o.id, {'takeoff': np.eye(5)[0] + .01, 'twist': np.eye(5)[3] + .01}, o.extents, 40) for o in items]
    model, data = OneClip(), FeatureDataset(features, items, OneClip.queries)
    t = reliance(model, data, maps).to_frame()
    assert_allclose(t[['own', 'wrong', 'elsewhere', 'gap', 'low', 'high']], [[.5, 0, 0, .5, .5, .5]]*2, atol=1e-6)
    area = curve_areas(model, data, maps, steps=5)
    assert set(area) == {'takeoff', 'twist'}
    for a in area.values(): assert a['n'] == 6 and a['insertion'] == pytest.approx(1) and a['deletion'] == pytest.approx(.5 + .5/8) and a['deletion'] < a['random'] < a['insertion']

def test_maps_that_do_not_fit_the_videos_are_refused():
    data, maps = some(3, 0)
    with pytest.raises(ValueError, match="order of the data set, got 'v2' where 'v0'"): reliance(small(), data, maps[::-1])
    with pytest.raises(ValueError, match='at least one video'): reliance(small(), data, [])


# Curves

@settings(max_examples=6)
@given(n_videos=st.integers(1, 4), most=st.integers(1, 3), steps=st.integers(1, 6), seed=st.integers(0, 99))
def test_areas_are_means_of_the_curves(n_videos, most, steps, seed):
    data, maps = some(n_videos, seed, [*NAMES, 'class'], longest=40)
    model = small(seed)
    found = curve_areas(model, data, maps, most, steps, repeats=2, seed=seed)
    assert set(found) == {*NAMES, 'class'}
    for q, a in found.items():
        each = [curves(model, data.kept[m.id], q, torch.as_tensor(m.attn[q]), steps, 2, seed+i).areas() for i, m in enumerate(maps[:most])]
        assert a['n'] == len(each) and set(a) == {'n', 'insertion', 'deletion', 'random'}
        for k in ('insertion', 'deletion', 'random'): assert a[k] == pytest.approx(np.mean([e[k] for e in each]), abs=1e-6)

def test_a_map_of_a_class_that_cannot_be_asked_has_no_curve():
    data, maps = some(2, 0, [*NAMES, 'class'])
    assert set(curve_areas(small(class_query=False), data, maps, steps=2, repeats=1)) == set(NAMES)
    assert curve_areas(small(), data, [], steps=2) == {}
