"The viewer's companions: records, browser, comparison, confusions; their JavaScript under node"
import base64, json, os, shutil, subprocess, tracemalloc, warnings
from pathlib import Path
import numpy as np, pytest, torch
import traitlets
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
import tqn
from tqn.attention.answer import answer
from tqn.widgets.compare import CompareViewer, KeepAttention, Side, align, epoch_sides, over_epochs, overlap, rebin, sample_attention, side_of
from tqn.widgets.browse import MANY, Confusions, DataBrowser, Opener, browse_model, busiest, confusion, opener, pack_page, unpack_page, videos_in
from tqn.data.items import Item
from tqn.data.batches import FeatureDataset, make_loader
from tqn.attention.scores import Evaluation, evaluate
from tqn.models.tqn import TQN
from tqn.models.losses import tqn_loss
from tqn.questions.queries import Query, QuerySet
from tqn.attention.records import SHAPES, SORTS, Records, choose, from_evaluation, heads_apart, load_records, record, save_records, sort_values, strip
from tqn.attention.localise import planted
from tqn.training.loop import fit
from safetensors.numpy import save_file
from made_records import made

JS = Path(__file__).parent/'js/companions.test.mjs'

@pytest.fixture(scope='module')
def small():
    "A model that has learned nothing, and planted videos"
    qs, features, items = planted(60, clips=(5, 14))
    torch.manual_seed(0)
    return TQN(qs, d_model=16, d_features=16, n_layers=2, n_heads=2).eval(), FeatureDataset(features, items, qs)

@pytest.fixture(scope='module')
def sets():
    "Records with a question of several answers, one without truths, and no classes"
    qs = QuerySet([Query('tools', ['rope', 'ball', 'hoop'], kind='many'), Query('mood', ['calm', 'wild'])])
    g = torch.Generator().manual_seed(0)
    items = [dict(id=f'v{i}', answers={} if i % 5 == 4 else {'tools': ['rope', 'hoop'][:i % 3], 'mood': ['calm', 'wild'][i % 2]}) for i in range(25)]
    features = {o['id']: torch.randn(3 + i % 4, 8, generator=g) for i, o in enumerate(items)}
    torch.manual_seed(0)
    model, data = TQN(qs, d_model=16, d_features=8, n_layers=1, n_heads=2, class_query=False).eval(), FeatureDataset(features, items, qs)
    return model, data, record(model, make_loader(data, 4), progress=False)


# Records

@settings(max_examples=60)
@given(arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 90)), elements=st.floats(0, 1).map(lambda v: v if v > 1e-9 else 0.)), st.integers(1, 60))
def test_strip_keeps_every_peak(a, m):
    s = strip(a, m)
    assert s.shape == (len(a), m) and s.dtype == np.uint8
    for row, out in zip(a, s): assert out.max() == (255 if row.max() else 0)
    n = a.shape[1]
    naive = np.array([[max(row[j*n//m:max(-(-(j+1)*n//m), j*n//m+1)]) for j in range(m)] for row in a])
    np.testing.assert_array_equal(s, np.rint(255*naive/np.maximum(naive.max(-1, keepdims=True), 1e-30)))

def test_records_agree_with_the_model_itself(small):
    model, data = small
    r = record(model, make_loader(data, 7), progress=False)
    assert r.ids == [o.id for o in data.items] and r.names == ['takeoff', 'twist', 'class']
    for i in (0, 13, 59):
        s = data[i]
        out = model(s['features'][None])
        loss, parts = tqn_loss(out, {q: t[None] for q, t in s['answers'].items()}, s['class'][None])
        for k, q in enumerate(model.queries.names):
            p = out.responses[q][0].softmax(-1)
            assert r.said[i, k] == p.argmax() and r.truth[i, k] == s['answers'][q]
            np.testing.assert_allclose([r.p[i, k], r.loss[i, k]], [p.max().item(), parts[q].item()], rtol=1e-4)
            np.testing.assert_allclose(r.entropy[i, k], -(p*p.log()).sum().item()/np.log(4), rtol=1e-4)
        mean = out.attn[0].mean((0, 1)).detach().numpy()
        assert (np.abs(strip(mean).astype(int) - r.strips[i]) <= 1).all()     # padding changed nothing but rounding
        np.testing.assert_allclose(r.heads[i], heads_apart(out.attn.detach())[0], atol=1e-5)
        assert r.clips[i] == len(s['features'])

def test_records_keep_the_mode_and_refuse_what_has_no_attention(small):
    model, data = small
    model.train()
    record(model, make_loader(data, 60), progress=False)
    assert model.training
    with pytest.raises(AttributeError): record(model, [{'x': 1}], progress=False)
    assert model.training
    model.eval()
    class Blind(torch.nn.Module):
        queries = model.queries
        def forward(self, x, valid): return type('Out', (), {'attn': None})()
    with pytest.raises(ValueError, match='gives no attention'): record(Blind(), make_loader(data, 60), progress=False)

def test_records_walk_in_constant_memory():
    "Features come from a loader one batch at a time; what stays a video is its row and nothing else"
    qs, features, items = planted(1, clips=(40, 40))
    x = next(iter(features.values())).repeat(1, 1)
    model = TQN(qs, d_model=16, d_features=16, n_layers=1, n_heads=2).eval()
    def batches(n):
        for i in range(n): yield {'id': [f'v{i}'], 'x': torch.randn(1, 400, 16), 'valid': torch.ones(1, 400, dtype=torch.bool),
                                  'answers': {q: torch.tensor([0]) for q in qs.names}, 'class': torch.tensor([-1])}
    def grown(n):
        tracemalloc.start()
        r = record(model, batches(n), progress=False)
        now = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return now, r
    grown(5)
    few, _ = grown(20)
    many, r = grown(220)
    assert (many - few)/200 < 1500, 'numpy alone needs 25,600 bytes a video for its features'   # measured: under 700
    assert sum(c.nbytes for c in r.columns.values())/220 < 400

def test_sets_of_answers(sets):
    _, data, r = sets
    assert r.names == ['tools', 'mood'] and r.parts == {'tools': ['rope', 'ball', 'hoop']}
    for i, o in enumerate(data.items):
        t = r.truth[i, 0]
        if o.answers: assert r.sets['tools'][t] == tuple(sorted(['rope', 'ball', 'hoop'].index(a) for a in o.answers['tools']))
        else: assert t == -1 and r.right[i, 0] == -1 and np.isnan(r.loss[i, 0])
    counts, rows, cols = confusion(r, 'tools')
    assert cols == MANY and counts.sum(1).tolist() == [20]*3
    for i in range(3):
        found = [videos_in(r, 'tools', i, j) for j in range(4)]
        assert [len(f) for f in found] == counts[i].tolist() and len(np.unique(np.concatenate(found))) == 20

def test_records_come_back_from_a_file(sets, tmp_path):
    r = sets[2]
    again = load_records(save_records(r, tmp_path/'r.safetensors'))
    assert (again.ids, again.names, again.labels, again.sets, again.parts, again.reading) == (r.ids, r.names, r.labels, r.sets, r.parts, r.reading)
    for k in SHAPES: np.testing.assert_array_equal(again.columns[k], r.columns[k])
    cut = (tmp_path/'r.safetensors').read_bytes()[:-9]
    (tmp_path/'cut.safetensors').write_bytes(cut)
    with pytest.raises(ValueError, match='holds no records'): load_records(tmp_path/'cut.safetensors')
    with pytest.raises(ValueError, match='holds no records'): load_records(tmp_path/'none')

def test_records_of_an_evaluation_are_those_of_the_model(small):
    model, data = small
    r, e = record(model, make_loader(data, 16), progress=False), from_evaluation(evaluate(model, make_loader(data, 16)))
    assert e.ids == r.ids and e.names == r.names
    np.testing.assert_array_equal(e.said[:, :2], r.said[:, :2])
    np.testing.assert_allclose(e.loss[:, :2], r.loss[:, :2], rtol=1e-4)
    w = DataBrowser(e)
    assert not w.error and unpack_page(w.head)['strips'].shape == (48, 3, 0)
    assert dict(w.meta['sorts']).keys() == SORTS.keys() - {'heads', 'readings'}   # an evaluation knows nothing of them

@settings(max_examples=40)
@given(st.sampled_from(['', 'takeoff', 'class']), st.sampled_from(['all', 'right', 'wrong', 'unknown']), st.sampled_from(list(SORTS)), st.booleans(), st.sampled_from(['', 'dive_0001', 'REVERSE', 'nothing']))
def test_filters_against_a_plain_loop(question, verdict, sort, descending, text):
    r = made(120)
    ks = [r.names.index(question)] if question else range(len(r.names))
    def keeps(i):
        right = [r.right[i, k] for k in ks]
        ok = {'all': True, 'wrong': 0 in right, 'right': 1 in right and 0 not in right, 'unknown': set(right) == {-1}}[verdict]
        words = [r.ids[i]] + [r.labels[q][r.said[i, k]] for k, q in enumerate(r.names)] + [r.labels[q][r.truth[i, k]] for k, q in enumerate(r.names) if r.truth[i, k] >= 0]
        return ok and any(text.lower() in w.lower() for w in words)
    at, values = choose(r, question, '', '', verdict, text, sort, descending), sort_values(r, sort, question)
    assert sorted(at) == [i for i in range(120) if keeps(i)]
    v = values[at]
    known = v[~np.isnan(v)]
    assert np.isnan(v[len(known):]).all()
    assert (np.diff(known) <= 0).all() if descending else (np.diff(known) >= 0).all()


# Browser

def test_a_page_is_read_as_it_was_written():
    r = made(100)
    at = choose(r)
    page = unpack_page(pack_page(r, at, 96, 48, sort_values(r, 'loss'), view=3))
    assert page['ids'] == [r.ids[i] for i in at[96:]] and page['total'] == 100 and page['start'] == 96
    for k in ('said', 'truth', 'p', 'loss', 'right', 'strips', 'clips'): np.testing.assert_array_equal(page[k], r.columns[k][at[96:]])

def test_traits_make_views():
    r = made(300)
    w = DataBrowser(r, sort='entropy')
    assert w.chosen == [r.ids[i] for i in choose(r, sort='entropy')] and not w.error
    w.question, w.answer = 'takeoff', 'Inward'
    assert all(r.labels['takeoff'][r.said[i, 1]] == 'Inward' for i in w.order) and len(w.order) > 10
    w.question = 'twist'                       # has no 'Inward'
    assert w.answer == '' and len(w.order) == 300 and not w.notice
    w.text = 'dive_0002'
    assert w.chosen and all(i.startswith('dive_0002') for i in w.chosen)
    view = w.view
    w.set_state({'text': '', 'verdict': 'wrong', 'sort': 'id', 'descending': False})    # as the front end does it
    assert w.chosen == sorted(w.chosen) and w.view > view and unpack_page(w.head)['view'] == w.view

def test_pages_are_sent_as_bytes_when_asked():
    w, sent = DataBrowser(made(1000)), []
    w.send = lambda content, buffers=None: sent.append((content, buffers))
    ask = dict(type='page', view=w.view, start=960, count=48)
    w._receive(w, ask, [])
    assert sent[0][0] == {'type': 'page', 'view': w.view, 'start': 960} and isinstance(sent[0][1][0], bytes)
    assert unpack_page(sent[0][1][0])['ids'] == w.chosen[960:]
    for bad in ({**ask, 'start': -1}, {**ask, 'start': 1000}, {**ask, 'view': 0}): w._receive(w, bad, [])
    w._receive(w, {**ask, 'count': 10**9}, [])
    assert len(sent) == 2 and len(unpack_page(sent[1][1][0])['ids']) == 40
    for junk in ({'type': 'page'}, {'type': 'page', 'view': 'x', 'start': [], 'count': None}, {'type': 'open', 'id': 'nobody'}, {}, {'type': 'what'}): w._receive(w, junk, [])
    assert 'nobody' in w.notice          # said in the widget, and nothing is raised
    assert max(len(pack_page(w.records, w.order, 0, 48, w.values)) for _ in [0]) < 48*800

def test_opening(small, tmp_path):
    model, data = small
    seen = []
    w = DataBrowser(made(10), on_open=seen.append)
    w.open_video('dive_00003')
    assert seen == ['dive_00003'] == [w.selected] and w.viewer is None
    w.on_open = lambda id: 1/0
    w.open_video('dive_00004')
    assert w.notice == 'dive_00004 cannot be opened: division by zero' and w.selected == 'dive_00004'
    w = browse_model(model, make_loader(data, 30), progress=False)
    w.open_video(w.chosen[0])
    first = w.viewer
    assert type(first).__name__ == 'AttentionViewer' and not first.error and not w.notice
    w.open_video(w.chosen[1])
    assert first.comm is None and w.viewer is not first    # what was opened before is gone, and with it its film
    w._receive(w, {'type': 'close'}, [])
    assert w.viewer is None
    gone = Opener(model, {'a': Item('a', tmp_path/'gone.mp4')})
    with pytest.raises(ValueError, match='not there any more'): gone('a')

def test_opener_of_a_loader(small):
    model, data = small
    o = opener(model, make_loader(data, 4))
    assert o.data is data and o.items['dive_00000'].id == 'dive_00000'


# What all have in common

@pytest.mark.parametrize('make', [lambda **k: DataBrowser(made(5), **k), lambda **k: Confusions(made(5), **k),
                                  lambda **k: CompareViewer([Side(n, np.ones((1, 1, 1, 4))/4, np.arange(5), ['q'], {}, {}) for n in 'ab'], **k)], ids=['browse', 'confusions', 'compare'])
def test_unknown_keywords_and_wrong_types_are_refused(make):
    with pytest.raises(ValueError, match="nearest known spelling: 'theme'"): make(themes='dark')
    with pytest.raises(traitlets.TraitError): make(theme='blue')
    with pytest.raises(ValueError, match='has no setting'): make(error='x')
    assert make(theme='dark').theme == 'dark'

@pytest.mark.parametrize('make, say', [
    (lambda: DataBrowser(None), 'expected records of a video or more, got None'), (lambda: DataBrowser(made(0)), 'got no videos'), (lambda: DataBrowser('x'), "got 'x'"),
    (lambda: Confusions(None), 'got None'), (lambda: Confusions(made(0)), 'got no videos'), (lambda: CompareViewer([]), 'two sides or more'), (lambda: CompareViewer([1, 2]), 'nothing to compare'),
    (lambda: CompareViewer([Side('a', np.ones((1, 1, 1, 2)), range(3), ['q'], {}, {})]*2, names=['one']), 'expected 2 names')])
def test_bad_input_is_said_in_the_widget(make, say):
    w = make()
    assert say in w.error
    assert 'image/png' not in w._repr_mimebundle_()[0] and 'widget-view' in str(w._repr_mimebundle_()[0])

def test_a_saved_notebook_shows_a_picture(tmp_path):
    "nbconvert stands for nbviewer and GitHub: without the widget's state the picture is shown"
    import nbformat
    from nbconvert import HTMLExporter
    from nbformat.v4 import new_code_cell, new_notebook, new_output
    side = lambda name, c: Side(name, np.exp(-.5*((np.arange(20.)-c)/2)**2)[None, None, None], np.arange(21), ['q'], {'q': [('yes', .9)]}, {'q': 'no'})
    for w in (DataBrowser(made(30)), Confusions(made(30)), CompareViewer([side('a', 4), side('b', 9)])):
        data, meta = w._repr_mimebundle_()
        png = base64.b64decode(data['image/png'])
        assert png[:8] == b'\x89PNG\r\n\x1a\n' and 2_000 < len(png) < 90_000
        assert ' at 0x' not in data['text/plain']
        html, _ = HTMLExporter().from_notebook_node(new_notebook(cells=[new_code_cell('w', outputs=[new_output('display_data', data)])]))
        assert 'data:image/png;base64,' in html

def test_untrusted_names_stay_text():
    r = made(5)
    r.ids[0] = '<img src=x onerror=alert(1)>'
    r.labels['takeoff'] = ['$x^2', '<b>', r'\frac', '']
    for w in (DataBrowser(r), Confusions(r, question='takeoff')):
        assert 'image/png' in w._repr_mimebundle_()[0]       # no markup, no mathematics
    assert unpack_page(DataBrowser(r, sort='given', descending=False).head)['ids'][0] == r.ids[0]


# Comparison

@settings(max_examples=60)
@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1)), st.integers(1, 60), st.randoms(use_true_random=False))
def test_rebinning_keeps_mass(a, m, random):
    edges = np.cumsum([0, *(.1 + random.random() for _ in a)])
    s = rebin(a, edges, m)
    assert s.shape == (m,) and (s >= -1e-12).all()
    np.testing.assert_allclose(s.sum(), a.sum(), atol=1e-9)
    np.testing.assert_allclose(rebin(a, np.arange(len(a)+1.), len(a)), a, atol=1e-12)
    at = np.linspace(edges[0], edges[-1], m+1)           # by hand: how much of each clip lies in each column
    by_hand = [sum(v*max(0, min(e1, t1)-max(e0, t0))/(e1-e0) for v, e0, e1 in zip(a, edges, edges[1:])) for t0, t1 in zip(at, at[1:])]
    np.testing.assert_allclose(s, by_hand, atol=1e-9)

def test_sides_on_one_grid():
    def side(n, layers=2, names=('q', 'r')): return Side('s', np.random.default_rng(n).dirichlet(np.ones(n), (layers, 3, len(names))), np.arange(n+1), list(names), {}, {})
    a, b = side(20), side(20)
    grid = align([a, b])
    assert grid.attn.shape == (2, 2, 3, 2, 20) and grid.same and grid.names == ['q', 'r'] and grid.counts == [20, 20]
    assert np.array_equal(grid.attn, np.stack([a.attn, b.attn])) and (grid.part == 1).all()                    # the same clips: nothing is done to them
    few, many = side(10), side(1000)
    grid = align([few, many])
    assert grid.attn.shape == (2, 2, 3, 2, 1000) and not grid.same                                            # every tenth edge is one of both
    grid = align([side(28), side(45)])
    assert grid.attn.shape[-1] == 28 + 45 - 1 and [len({*o}) for o in grid.attn[:, 0, 0, 0]] == [28, 45]
    for g in (grid, align([few, many]), align([few, many], most=480), align([side(3000), side(2000)])):
        np.testing.assert_allclose(np.einsum('slhqm,sm->slhq', g.attn, g.part), 1, rtol=1e-4)
        assert g.attn.shape[-1] <= 1200 and len(g.edges) == g.attn.shape[-1] + 1
    grid = align([side(8), side(8, layers=1, names=('r', 'x'))])   # other layers: their mean; common questions only
    assert grid.attn.shape == (2, 1, 1, 1, 8) and grid.names == ['r']

def test_compare_traits_stay_in_range(small):
    model, data = small
    a, b = (answer(model, data[i]['features']) for i in (0, 1))
    w = CompareViewer([a, b], names=['first', 'second'], layer=1, head=0)
    assert (w.layer, w.head, w.meta['shape'][:4]) == (1, 0, [2, 2, 2, 3])
    for bad in (dict(a=2), dict(layer=2), dict(head=-2)):
        with pytest.raises(traitlets.TraitError, match='expected'): setattr(w, *next(iter(bad.items())))
    attn, part = np.frombuffer(w.attn, np.float32).reshape(w.meta['shape']), np.frombuffer(w.part, np.float32).reshape(2, -1)
    np.testing.assert_allclose(np.einsum('slhqm,sm->slhq', attn, part), 1, rtol=1e-4)
    assert w.meta['sides'][0]['said'][0][0][0] == a.answers['takeoff'][0][0]
    wild = CompareViewer([a, b], layer=7)
    assert 'layer: expected -1 to 1, got 7' in wild.error

def test_keeping_attention_changes_nothing(tmp_path):
    "The same run with and without the callback ends in the same weights"
    qs, features, items = planted(32, clips=(5, 9))
    data = FeatureDataset(features, items, qs)
    def run(name, keep):
        torch.manual_seed(0)
        model = TQN(qs, d_model=16, d_features=16, n_layers=1, n_heads=2)
        fit(model, make_loader(data, 16, shuffle=True), None, tmp_path/name, epochs=3, callbacks=[KeepAttention(model, [data[2], data[4]], m=32)] if keep else [], progress=False)
        return model.state_dict()
    a, b = run('with', True), run('without', False)
    for k in a: assert torch.equal(a[k], b[k]), k
    sides = epoch_sides(tmp_path/'with', 'dive_00004')
    assert [s.name for s in sides] == ['epoch 0', 'epoch 1', 'epoch 2'] and sides[0].attn.shape == (1, 1, 3, len(data[4]['features']))
    assert sides[0].truth['takeoff'] == items[4]['answers']['takeoff']
    assert not list((tmp_path/'with'/'attention').glob('.*'))
    model = TQN(qs, d_model=16, d_features=16, n_layers=1, n_heads=2)
    model.load_state_dict(a)
    np.testing.assert_allclose(sides[-1].attn[0, 0], sample_attention(model, [data[4]], 32)['attn'][0], rtol=2e-3)   # what is in the file is what the model looks at
    direct = model.eval()(data[4]['features'][None]).attn[0].mean((0, 1)).detach().numpy()
    np.testing.assert_allclose(sides[-1].attn[0, 0], direct, atol=1e-3)
    old = tmp_path/'before'/'attention'                            # a file of an earlier commit: 32 equal columns, and no count of clips
    old.mkdir(parents=True)
    kept = sample_attention(model, [data[2], data[4]])
    columns = {**kept, 'attn': np.stack([rebin(o[:, :n].astype(float), np.arange(n + 1.), 32) for o, n in zip(kept['attn'], kept['clips'])]).astype(np.float16)}
    head = dict(epoch=0, ids=['dive_00002', 'dive_00004'], labels={**{q.name: [*q.answers] for q in qs}, 'class': [*qs.class_names]}, truth=[{}, {}])
    save_file({k: np.ascontiguousarray(v) for k, v in columns.items() if k != 'clips'}, old/'0000.safetensors', {'attention': json.dumps(head)})
    assert epoch_sides(old.parent, 'dive_00004')[0].attn.shape == (1, 1, 3, 32)
    w = over_epochs(tmp_path/'with')
    assert (w.a, w.b, w.meta['many'], w.error) == (0, 2, True, '')

def test_resuming_takes_later_epochs_away_and_faults_are_warnings(tmp_path, small):
    model, data = small
    keep = KeepAttention(model, [data[0]], m=16)
    class Run: folder = tmp_path
    for e in (0, 1, 2, 1):
        Run.log = staticmethod(lambda: [{'epoch': float(e)}])
        keep(Run)
    assert sorted(p.stem for p in (tmp_path/'attention').iterdir()) == ['0000', '0001']
    (tmp_path/'attention'/'notes.txt').write_text('mine')
    keep.samples = [{}]
    with pytest.warns(UserWarning, match='was not kept'): keep(Run)
    assert (tmp_path/'attention'/'notes.txt').exists() and len(epoch_sides(tmp_path)) == 2

def test_modes_and_random_state_are_put_back_after_a_fault(small):
    model, data = small
    model.train(); model.decoder.eval()
    modes, state = [o.training for o in model.modules()], torch.get_rng_state()
    with pytest.raises(KeyError): sample_attention(model, [data[0], {}])
    assert [o.training for o in model.modules()] == modes and torch.equal(torch.get_rng_state(), state)
    model.eval()


# Confusions

def test_every_cell_lists_its_videos():
    r = made(400)
    for q in ('takeoff', 'class'):
        counts, rows, _ = confusion(r, q)
        cells = [videos_in(r, q, i, j) for i in range(len(rows)) for j in range(len(rows))]
        assert [len(c) for c in cells] == counts.ravel().tolist()
        assert sorted(np.concatenate(cells)) == np.flatnonzero(r.truth[:, r.names.index(q)] >= 0).tolist()

def test_choosing_a_cell():
    r = made(500)
    w = Confusions(r, question='takeoff', limit=5)
    w.cell = [1, 1]
    at = videos_in(r, 'takeoff', 1, 1)
    assert w.found['total'] == len(at) > 5 and [v[0] for v in w.found['videos']] == [r.ids[i] for i in at[:5]] and w.chosen == [r.ids[i] for i in at]
    w.set_state({'limit': 20})
    assert len(w.found['videos']) == 20
    w.set_state({'cell': [7, 0]})
    assert 'there is no cell' in w.notice and w.found == {}
    w.set_state({'question': 'class'})
    assert w.cell == [] and w.grid['rows'] == r.labels['class'] and w.notice == ''

def test_many_classes_show_the_most_confused():
    r = made(900, ('class',))
    r.labels['class'] = [f'c{i}' for i in range(300)]
    g = np.random.default_rng(0)
    r.columns['truth'][:, 0], r.columns['said'][:, 0] = g.integers(0, 300, 900), 0
    r.columns['said'][:, 0] = np.where(g.random(900) < .9, r.truth[:, 0], g.integers(0, 300, 900))
    w = Confusions(r)
    assert len(w.grid['rows']) == 64 and w.grid['left_out'] == 236 and len(w.counts) == 4*64*64
    counts = confusion(r, 'class')[0]
    wrong = counts.sum(0) + counts.sum(1) - 2*counts.diagonal()
    assert wrong[w.shown].min() >= np.delete(wrong, w.shown).max()
    i, j = divmod(int(np.frombuffer(w.counts, '<i4').argmax()), 64)
    w.cell = [i, j]
    assert w.found['total'] == np.frombuffer(w.counts, '<i4').max() == len(w.chosen)
    assert len(w._repr_mimebundle_()[0]['image/png']) < 200_000


# JavaScript

def test_functions_of_the_front_end(tmp_path):
    if not (node := shutil.which('node')): pytest.skip('node is missing: apt-get install nodejs')
    r = made(60)
    r.ids[3], page = 'dive „drei“ 🤿', tmp_path/'page'
    data = pack_page(r, choose(r, sort='given', descending=False), 0, 48, sort_values(r, 'loss'), view=5)
    page.write_bytes(data)
    want = {k: np.where(np.isnan(v), None, v).tolist() if getattr(v, 'dtype', None) is not None and v.dtype.kind == 'f' else v.tolist() if isinstance(v, np.ndarray) else v for k, v in unpack_page(data).items()}
    Path(f'{page}.json').write_text(json.dumps(want))
    out = subprocess.run([node, '--test', str(JS)], capture_output=True, text=True, env={**os.environ, 'COMPANIONS_PAGE': str(page)}, timeout=120)
    assert out.returncode == 0, out.stdout[-4000:]
    assert 'skipped 0' in out.stdout
