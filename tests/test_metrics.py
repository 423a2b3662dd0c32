"Scores, baselines and localisation against naive loops"
import json, math, os, stat
from types import SimpleNamespace
import numpy as np
import pytest, torch
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose
from tqn.models.tqn import TQN
from tqn.questions.queries import Query, QuerySet
from tqn.attention.metrics import (ClipMaps, Evaluation, best_fixed, bootstrap, clip_overlap, clip_scores, clip_spans, collect_maps, confusion_matrix,
    cosines, evaluate, localisation_dict, localise, majority_answers, map_scores, per_class, plot_confusion, plot_localisation, plot_scores,
    predictions, score_square, write_json)

fast = settings(max_examples=40, deadline=None)
QS = QuerySet([Query('takeoff', ['Back','Forward']), Query('somersault', ['1','2','3'], kind='count'), Query('props', ['hat','ball','rope'], kind='many')],
              classes=[('plain', ['Back','1',None]), ('hard', ['Forward','3',None]), ('mid', ['Forward','2',None])])

def made_up(n, seed, missing=.3):
    "Logits and truths of n videos, some of them missing"
    g = np.random.default_rng(seed)
    y = {'takeoff': g.integers(0, 2, n), 'somersault': g.integers(0, 3, n), 'props': g.integers(0, 2, (n,3)).astype('f4'), 'class': g.integers(0, 3, n)}
    for k,v in y.items(): v[g.random(n)<missing] = np.nan if k=='props' else -1
    logits = {'takeoff': g.normal(size=(n,2)), 'somersault': g.normal(size=(n,3)), 'props': g.normal(size=(n,3)), 'class': g.normal(size=(n,3))}
    return {k: torch.tensor(v) for k,v in logits.items()}, {k: torch.tensor(v) for k,v in y.items()}

def fill(logits, y, n, size=4, train=None):
    ev = Evaluation(QS, train)
    for i in range(0, n, size):
        s = slice(i, i+size)
        ids = [f'v{j}' for j in range(n)[s]]
        ev.add(ids, {q: logits[q][s] for q in QS.names}, {q: y[q][s] for q in QS.names}, {'query': logits['class'][s]}, y['class'][s])
    return ev

# ---------------------------------------------------------------- accuracies

@fast
@given(st.integers(1, 23), st.integers(0, 10**6), st.sampled_from([0., .3, 1.]))
def test_table_equals_naive_loops(n, seed, missing):
    logits,y = made_up(n, seed, missing)
    f = fill(logits, y, n).to_frame()
    assert list(f.index)==['takeoff','somersault','props','mean answer','class (query)']
    accs,total = [],0
    for name in ['takeoff','somersault','props','class (query)']:
        key = 'class' if name.startswith('class') else name
        right,truth = [],[]
        for i in range(n):
            t = y[key][i]
            if key=='props':
                if math.isnan(float(t[0])): continue
                right.append(all((float(logits[key][i,j])>0)==bool(t[j]) for j in range(3))); truth.append(tuple(t.tolist()))
            else:
                if int(t)<0: continue
                right.append(max(range(logits[key].shape[1]), key=lambda a: float(logits[key][i,a]))==int(t)); truth.append(int(t))
        r = f.loc[name]
        assert r.n==len(right)
        if not right: assert math.isnan(r.accuracy) and math.isnan(r.majority); continue
        acc,common = sum(right)/len(right), max(truth.count(t) for t in truth)/len(truth)
        assert_allclose((r.accuracy, r.majority), (acc, common))
        if common<1: assert_allclose(r.share, (acc-common)/(1-common))
        else: assert math.isnan(r.share)
        if key!='props':
            each = [np.mean([o for o,t in zip(right, truth) if t==c]) for c in set(truth)]
            assert_allclose((r.per_class, r.n_classes), (np.mean(each), len(each)))
        if key!='class': accs.append(acc); total += len(right)
    if accs: assert_allclose(f.loc['mean answer','accuracy'], np.mean(accs))
    assert f.loc['mean answer','n']==total

@fast
@given(st.integers(1, 17), st.integers(0, 10**6), st.integers(1, 20))
def test_batching_does_not_matter(n, seed, size):
    logits,y = made_up(n, seed)
    assert fill(logits, y, n, size).to_frame().equals(fill(logits, y, n, 1).to_frame())

@fast
@given(st.integers(1, 30), st.integers(2, 6), st.integers(0, 10**6))
def test_confusion_equals_naive_loops(n, k, seed):
    g = np.random.default_rng(seed); p,y = g.random((n,k)),g.integers(0, k, n)
    c = confusion_matrix(p, y)
    want = np.zeros((k,k), int)
    for i in range(n): want[y[i],p[i].argmax()] += 1
    assert (c==want).all()
    sets = g.integers(0, 2, (n,k)).astype(float)
    assert (confusion_matrix(p, sets).sum(1)==n).all()
    assert (confusion_matrix(p, sets)[:,0]==[sum(p[i,j]>.5 and sets[i,j]>.5 for i in range(n)) for j in range(k)]).all()

def test_majority_comes_from_the_training_set_when_given():
    train = [SimpleNamespace(answers={'takeoff': 'Forward', 'props': ['hat']}, class_name='hard')]*3
    assert majority_answers(train, QS)['somersault'] is None
    ev = Evaluation(QS, train)
    ev.add(['a','b','c'], {q.name: torch.zeros(3, len(q.answers)) for q in QS},
           {'takeoff': torch.tensor([0,0,1]), 'somersault': torch.tensor([0,0,0]), 'props': torch.tensor([[1.,0,0],[0,0,0],[1,0,0]])})
    f = ev.to_frame()
    assert_allclose(f.loc['takeoff','majority'], 1/3)       # in the scored set it would be 2/3
    assert_allclose(f.loc['props','majority'], 2/3)
    assert math.isnan(f.loc['somersault','majority'])       # no training video had an answer
    assert 'training set' in str(ev)
    assert 'scored videos themselves' in str(fill(*made_up(3, 0), 3))

def test_views_of_a_video_are_averaged_and_must_agree():
    logits,y = made_up(5, 0, 0.)
    ev = fill(logits, y, 5)
    other,_ = made_up(5, 1, 0.)
    ids = [f'v{i}' for i in range(5)]
    ev.add(ids, {q: other[q] for q in QS.names}, {q: y[q] for q in QS.names})
    p,_ = ev.truth('somersault')
    assert_allclose(p, (logits['somersault'].softmax(-1)+other['somersault'].softmax(-1))/2)
    assert len(ev)==5
    flipped = {**{q: y[q] for q in QS.names}, 'takeoff': 1-y['takeoff']}
    before = ev.to_frame()
    with pytest.raises(ValueError, match='unique to a video'): ev.add(ids, {q: other[q] for q in QS.names}, flipped)
    assert ev.to_frame().loc['takeoff'].equals(before.loc['takeoff'])

def test_bad_batches_are_refused_and_leave_nothing():
    logits,y = made_up(3, 0, 0.)
    good = {q: logits[q] for q in QS.names}, {q: y[q] for q in QS.names}
    for change,message in [(({**good[0], 'props': torch.full((3,3), torch.nan)}, good[1]), 'NaN'),
                           (({**good[0], 'props': logits['props'][:2]}, good[1]), 'expected scores and answers for 3 ids'),
                           ((good[0], {**good[1], 'takeoff': torch.tensor([0,1,2])}), 'different questions'),
                           ((good[0], {'takeoff': y['takeoff']}), 'is missing')]:
        ev = Evaluation(QS)
        with pytest.raises(ValueError, match=message): ev.add(['a','b','c'], *change)
        assert len(ev)==0

class Fake(torch.nn.Module):
    "A model whose outputs are its inputs"
    queries = QuerySet({'takeoff': ['Back','Forward'], 'twist': ['0','1','2']}, classes=[('a', ['Back','0']), ('b', ['Forward','2'])])
    def __init__(self, fail=False): super().__init__(); self.fail,self.was = fail,[]
    def forward(self, x, valid):
        self.was.append((self.training, torch.is_grad_enabled()))
        if self.fail: raise RuntimeError('out of memory')
        b,n = valid.shape
        attn = torch.softmax(x[:,:,0], -1)[:,None,None,None].expand(b, 2, 2, 3, n)*valid[:,None,None,None]
        return SimpleNamespace(responses={'takeoff': x[:,0,:2], 'twist': x[:,0,:3]}, classes=x[:,0,:2], attn=attn)
    def read_classes(self, out, how): return out.classes if how=='query' else -out.classes if how=='product' else 0*out.classes

def fake_loader(n, size, seed=0):
    g = torch.Generator().manual_seed(seed)
    for i in range(0, n, size):
        b = min(size, n-i)
        valid = torch.ones(b, 4, dtype=torch.bool); valid[::2,3] = False
        yield dict(id=[f'v{i+j}' for j in range(b)], x=torch.randn(b, 4, 3, generator=g), valid=valid, **{'class': torch.randint(-1, 2, (b,), generator=g)},
                   answers=dict(takeoff=torch.randint(-1, 2, (b,), generator=g), twist=torch.randint(-1, 3, (b,), generator=g)))

def test_evaluate_scores_every_video_in_eval_mode_and_restores_training():
    model = Fake()
    ev = evaluate(model, fake_loader(11, 4))
    assert len(ev)==11 and model.was==[(False,False)]*3 and model.training
    f = ev.to_frame()
    n = f.loc['class (query)','n']
    assert_allclose(f.loc['class (query)','accuracy']+f.loc['class (product)','accuracy'], 1)   # made to be each other's opposite
    assert n==f.loc['class (both)','n']<11
    broken = Fake(fail=True)
    with pytest.raises(RuntimeError): evaluate(broken, fake_loader(3, 3))
    assert broken.training

@pytest.mark.parametrize('run', ['evaluate', 'collect_maps'])
def test_long_videos_pass_the_backbone_in_pieces(run):
    class Small(torch.nn.Module):
        d_out = 3
        def __init__(self): super().__init__(); self.seen = []
        def forward(self, x): self.seen.append(len(x)); return x.mean((2,3,4))
    q = QuerySet({'side': ['left','right']})
    model = TQN(q, backbone=Small(), d_model=8, n_layers=1, n_heads=2)
    x,valid = torch.randn(2, 40, 3, 1, 112, 112), torch.ones(2, 40, dtype=torch.bool)
    batch = {'id': ['a','b'], 'x': x, 'valid': valid, 'answers': {'side': torch.tensor([0,1])}, 'class': torch.tensor([-1,-1])}
    whole = model.eval()(x, valid)
    model.backbone.seen.clear()
    if run=='evaluate': torch.testing.assert_close(torch.as_tensor(evaluate(model, [batch]).truth('side')[0]).float(), whole.responses['side'].softmax(-1).detach(), atol=1e-5, rtol=1e-4)
    else:
        items = [SimpleNamespace(id=i, extents=None, n_frames=320) for i in 'ab']
        assert_allclose(collect_maps(model, [batch], items)[1].attn['side'], whole.attn.mean((1,2))[1,0].detach(), atol=1e-5)
    assert model.backbone.seen==[16]*5

def test_majority_of_several_answers_in_text():
    q = QuerySet([Query('props', ['rope','ball','hoop'], kind='many')])
    items = [SimpleNamespace(answers={'props': a}, class_name=None) for a in ('rope|hoop', ['hoop','rope'], 'ball')]
    assert majority_answers(items, q)['props'].tolist()==[1,0,1]

def test_json_holds_everything_and_is_whole_or_absent(tmp_path):
    logits,y = made_up(9, 3)
    ev = fill(logits, y, 9)
    path = ev.save(tmp_path/'deep'/'m.json', videos=True, seed=7)
    d = json.loads(path.read_text())
    assert (d['n_videos'], d['seed'], d['majority_from'])==(9, 7, 'scored') and len(d['videos'])==9
    assert sum(map(sum, d['confusion']['somersault']['counts']))==ev.to_frame().loc['somersault','n']
    n = {q: sum(o[q]['right'] is not None for o in predictions(ev).values()) for q in QS.names}
    assert n=={q: ev.to_frame().loc[q,'n'] for q in QS.names}
    with pytest.raises(TypeError): write_json(path, {'x': object()})
    assert json.loads(path.read_text())==d and os.listdir(path.parent)==['m.json']
    assert json.loads(write_json(path, {'a': [math.nan, math.inf, np.float32(.5)]}).read_text())=={'a': [None, None, .5]}

def test_figures_of_scores():
    ev = fill(*made_up(9, 3), 9)
    assert len(plot_scores(ev).get_yticklabels())==5
    assert [a.get_title().split()[0] for a in plot_confusion(ev).axes]==['takeoff','somersault','props']
    import matplotlib.pyplot as plt; plt.close('all')

# ---------------------------------------------------------------- localisation

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
    assert per_class(np.array([True]), np.array([3]))==(1., 1)
