"Scores and baselines against naive loops"
import json, math, os
from types import SimpleNamespace
import numpy as np
import pytest, torch
from hypothesis import given, settings, strategies as st
from made_scores import Fake, fake_loader
from numpy.testing import assert_allclose
from tqn.core.files import write_json
from tqn.models.tqn import TQN
from tqn.questions.queries import Query, QuerySet
from tqn.attention.localise import collect_maps
from tqn.attention.scores import Evaluation, confusion_matrix, evaluate, majority_answers, per_class, plot_confusion, plot_scores, predictions

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

def test_one_class_is_all_classes(): assert per_class(np.array([True]), np.array([3]))==(1., 1)
