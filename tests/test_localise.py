"Localisation against naive loops"
import json, math
from types import SimpleNamespace
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from made_scores import Fake, fake_loader
from numpy.testing import assert_allclose
from tqn.video.transforms import clip_spans
from tqn.attention.localise import (ClipMaps, best_fixed, bootstrap, clip_overlap, clip_scores, collect_maps, cosines, localisation_dict, localise, map_scores,
    plot_localisation, score_square)

fast = settings(max_examples=40, deadline=None)
grids = st.tuples(st.integers(1, 300), st.integers(1, 16), st.integers(1, 4))

def an_extent(g, n_frames): a = int(g.integers(0, n_frames)); return a, int(g.integers(a+1, n_frames+1))

@fast
@given(grids, st.integers(0, 10**6))
def test_clip_scores_equal_frame_by_frame_counting(grid, seed):
    n_frames,clip_len,stride = grid
    g = np.random.default_rng(seed)
    n = math.ceil(n_frames/(clip_len*stride))
    spans,(start,stop) = clip_spans(n, n_frames, clip_len, stride), an_extent(g, n_frames)
    clips = [[f for f in range(i*clip_len*stride, (i+1)*clip_len*stride) if f<n_frames] for i in range(n)]
    assert sum(map(len, clips))==n_frames and [[c[0],c[-1]+1] for c in clips]==spans.tolist()
    inside = [[f for f in c if start<=f<stop] for c in clips]
    assert clip_overlap((start,stop), spans).tolist()==[len(o) for o in inside]
    hit,mass,iou = clip_scores((start,stop), spans)
    for i,(c,o) in enumerate(zip(clips, inside)):
        assert hit[i]==(len(o)>=.5*min(len(c), stop-start))
        assert_allclose((mass[i], iou[i]), (len(o)/len(c), len(o)/len(set(c)|set(range(start, stop)))))
    assert hit.any()                                      # every extent has a clip that counts as inside
    a = g.choice([0.,.25,.5,1.], n); a[g.integers(n)] = 1.
    h,m,u = map_scores(a, (start,stop), spans)
    peaks = [i for i in range(n) if a[i]==max(a)]
    chosen = set().union(*(clips[i] for i in range(n) if a[i]>=.5*max(a)))
    assert_allclose(h, np.mean([hit[i] for i in peaks]))
    assert_allclose(m, sum(a[i]*len(inside[i])/len(clips[i]) for i in range(n))/sum(a))
    assert_allclose(u, len(chosen & set(range(start, stop)))/len(chosen | set(range(start, stop))))

@fast
@given(grids, st.lists(st.integers(1, 3), max_size=3), st.sampled_from([.1, .5, 1.]), st.integers(0, 10**6))
def test_maps_scored_together_are_scored_one_by_one(grid, before, threshold, seed):
    "Any axes may stand before the clips; each map keeps its own peak and its own mass"
    n_frames,clip_len,stride = grid
    g = np.random.default_rng(seed)
    n = math.ceil(n_frames/(clip_len*stride))
    spans,extent = clip_spans(n, n_frames, clip_len, stride), an_extent(g, n_frames)
    a = g.choice([0.,.25,.5,1.], (*before,n))*g.uniform(.1, 9, (*before,1)); a[...,g.integers(n)] += .1
    got = map_scores(a, extent, spans, threshold)
    assert got.shape==(3,*before)
    for at in np.ndindex(*before): assert_allclose(got[(slice(None),*at)], map_scores(a[at], extent, spans, threshold), rtol=1e-12)
    names = [f'q{i}' for i in range(before[0] if before else 1)]
    flat = a.reshape(len(names), -1, n)[:,0]
    square = score_square(ClipMaps('v', dict(zip(names, flat)), {names[-1]: extent}, n_frames, clip_len, stride), names, threshold)
    assert_allclose(square[:,-1], np.stack([map_scores(o, extent, spans, threshold) for o in flat], 1))
    assert np.isnan(square[:,:-1]).all()

def some_maps(n_videos, seed, names=('takeoff','twist','entry','class'), none=.2, clip_len=8):
    g,out = np.random.default_rng(seed),[]
    for i in range(n_videos):
        n_frames = int(g.integers(1, 120))
        n = math.ceil(n_frames/clip_len)
        ext = {e: None if g.random()<none else an_extent(g, n_frames) for e in (*names,'somersault')}
        out.append(ClipMaps(f'v{i}', {q: g.dirichlet(np.ones(n)) for q in names}, ext, n_frames, clip_len))
    return out

@fast
@given(st.integers(1, 9), st.integers(0, 10**6), st.sampled_from(['hit','mass','iou']))
def test_localise_equals_naive_loops(n, seed, measure):
    maps = some_maps(n, seed)
    loc = localise(maps, n_boot=50)
    f,mat = loc.to_frame(measure),loc.matrix(measure)
    k = ['hit','mass','iou'].index(measure)
    for e in loc.names:
        with_it = [m for m in maps if m.extents[e] is not None]
        assert f.loc[e,'n']==len(with_it)
        if not with_it: assert f.loc[e].drop(['n','cosine']).isna().all(); continue
        val = {q: [map_scores(m.attn[q], m.extents[e], m.spans)[k] for m in with_it] for q in loc.names}
        for q in loc.names: assert_allclose(mat.loc[e,q], np.mean(val[q]))
        others = [q for q in loc.names if q not in (e,'class')]
        assert_allclose(f.loc[e,'own'], np.mean(val[e]))
        assert_allclose(f.loc[e,'wrong'], np.mean([np.mean(val[q]) for q in others]))
        assert_allclose(f.loc[e,'gap'], np.mean([val[e][i]-np.mean([val[q][i] for q in others]) for i in range(len(with_it))]), atol=1e-12)
        assert_allclose(f.loc[e,'uniform'], np.mean([clip_scores(m.extents[e], m.spans)[k].mean() for m in with_it]))
        drawn = [np.mean([clip_scores(m.extents[e], m.spans)[k,fr//8] for fr in range(*m.extents['somersault'])]) for m in with_it if m.extents['somersault']]
        if drawn: assert_allclose(f.loc[e,'flight'], np.mean(drawn))
        else: assert math.isnan(f.loc[e,'flight'])
        cos = [[np.dot(m.attn[e], m.attn[q])/math.sqrt(np.dot(m.attn[e], m.attn[e])*np.dot(m.attn[q], m.attn[q])) for q in others] for m in maps]
        assert_allclose(f.loc[e,'cosine'], np.mean(cos))
        assert math.isnan(f.loc[e,'fixed'])==(len(with_it)<2)
    text = str(loc)
    for word in ('uniform','fixed','flight','wrong','gap','low','high','cosine', f'{n} videos'): assert word in text

def test_one_video_one_clip():
    loc = localise([ClipMaps('v', {'a': [1.], 'b': [1.]}, {'a': (0,2), 'b': None}, 3)], flight='a')
    f = loc.to_frame()
    assert f.loc['a',['own','uniform','flight','wrong']].tolist()==[1,1,1,1] and f.loc['a','gap']==0
    assert math.isnan(f.loc['a','low']) and math.isnan(f.loc['a','fixed']) and f.loc['b','n']==0
    plot_localisation(loc)

def test_padding_changes_nothing_and_one_question_has_no_wrong_one():
    one = localise([ClipMaps(f'v{i}', {'a': [.2,.8]}, {'a': (8,16)}, 16) for i in range(3)])
    assert one.to_frame().loc['a','own']==1 and math.isnan(one.to_frame().loc['a','wrong'])
    batch = next(iter(fake_loader(4, 4)))
    items = [SimpleNamespace(id=i, extents={'twist': (0,8)}, n_frames=8*int(v.sum())) for i,v in zip(batch['id'], batch['valid'])]
    maps = collect_maps(Fake(), [batch], items)
    assert [len(m.attn['twist']) for m in maps]==[3,4,3,4] and list(maps[0].attn)==['takeoff','twist','class']
    short = [SimpleNamespace(id=o.id, extents=o.extents, n_frames=100) for o in items]
    with pytest.raises(ValueError, match='expected 13 clips'): collect_maps(Fake(), [batch], short)

def test_a_model_that_only_finds_the_dive_gains_nothing():
    g = np.random.default_rng(0)
    def video(i, knows):
        t = int(g.integers(0, 20)); e = {'twist': (8*t,8*t+16), 'entry': (8*t+24,8*t+32)}
        a = np.full(24, .01); a[t] = 1
        b = np.full(24, .01); b[t+3] = 1
        return ClipMaps(f'v{i}', {'twist': a, 'entry': b if knows else a}, e, 192)
    finds,knows = localise([video(i, False) for i in range(40)]),localise([video(i, True) for i in range(40)])
    assert finds.to_frame().loc['twist',['own','gap','low','high']].tolist()==[1,0,0,0] and finds.to_frame().loc['twist','cosine']>.999
    assert knows.to_frame().loc['twist',['own','gap','low','high']].tolist()==[1,1,1,1]
    assert knows.to_frame().loc['twist','uniform']==pytest.approx(2/24) and knows.to_frame().loc['twist','fixed']<.4

def test_fixed_clip_is_not_chosen_on_what_it_scores():
    g = np.random.default_rng(0)
    scores = [best_fixed(np.eye(20)[g.integers(0, 20, 30)], seed=s).mean() for s in range(100)]
    hindsight = np.mean([np.eye(20)[g.integers(0, 20, 30)].sum(0).max()/30 for _ in range(100)])
    assert abs(np.mean(scores)-.05)<.015 < hindsight-.05      # every rule is worth 1/20; the best in hindsight looks like 1/8
    own = np.array([[1.,0],[1,0],[0,1]])
    assert best_fixed(own, np.array([[0.,1]])).tolist()==[0,0,1]
    maps = some_maps(8, 1, none=0.)
    assert 'on 3 other videos' in str(localise(maps, other=some_maps(3, 2, none=0.)))
    assert localise(maps, other=[]).to_frame()['fixed'].isna().all()

def test_bootstrap_covers_and_widens_over_runs():
    inside = 0
    for s in range(200):
        d = np.random.default_rng(s).normal(.2, 1, (1,60))
        lo,hi = bootstrap(d, 300, seed=s)
        inside += lo<.2<hi
    assert 178<=inside<=200                                   # 95% of 200, give or take
    d = np.random.default_rng(0).normal(0, 1, (1,60))
    same,differ = np.concatenate([d,d,d]),np.concatenate([d-1,d,d+1])
    assert_allclose(bootstrap(same), bootstrap(d), atol=.05)
    assert np.diff(bootstrap(differ))>2*np.diff(bootstrap(d))
    holes = np.concatenate([d, np.full((1,7), np.nan)], 1)
    assert bootstrap(holes)==bootstrap(d)
    naive = [np.mean([d[0,i] for i in np.random.default_rng(b).integers(0, 60, 60)]) for b in range(2000)]
    assert_allclose(bootstrap(d), np.quantile(naive, [.025,.975]), atol=.04)

def test_runs_are_aligned_by_id():
    a = some_maps(6, 0, none=0.)
    shuffled = [ClipMaps(m.id, m.attn, m.extents, m.n_frames) for m in a[::-1]]
    two = localise([a, shuffled])
    assert_allclose(two.square[0], two.square[1])
    assert_allclose(two.matrix().to_numpy(), localise(a).matrix().to_numpy())
    d = localisation_dict(two)
    json.dumps(d['names']); assert d['runs']==2 and d['gap_per_run']['hit'].shape==(2,4)
    with pytest.raises(ValueError, match='id twice'): localise([a[0], a[0]])
    with pytest.raises(ValueError, match='same videos'): localise([a, a[:-1]])

@pytest.mark.parametrize('attn', [[np.nan,1], [-.1,1], [0,0], [[1.,0]]])
def test_what_is_not_a_map_is_refused(attn):
    with pytest.raises(ValueError, match='v: expected'): ClipMaps('v', {'a': attn}, {}, 16)

def test_square_and_cosines_of_equal_maps():
    m = ClipMaps('v', {'a': [.3,.7], 'b': [.6,1.4]}, {'a': (0,8), 'b': (8,16)}, 16)
    assert_allclose(cosines(m, ['a','b']), 1)
    s = score_square(m, ['a','b'])
    assert_allclose(s[:,:,0], s[:,:,1])                       # scale does not matter

def test_one_film_has_no_interval_and_nothing_says_nan():
    from tqn.attention.localise import said_gain
    assert said_gain(.5, *bootstrap(np.array([[.5]]))) == '+0.50 [–]' and said_gain(-.5, -.75, .25) == '-0.50 [-0.75, +0.25]' and said_gain(*[float('nan')]*3) == '–'
