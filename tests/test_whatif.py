"Hiding clips is the same as never having had them; the curves are those of naive loops"
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from torch.testing import assert_close
from tqn.models.tqn import TQN
from tqn.questions.queries import Query, QuerySet
from tqn.attention.answer import read_answers
from tqn.attention.whatif import Curves, ask_again, changes, curves, first_clips, said, shown

QS = QuerySet([Query('takeoff', ['Back','Forward']), Query('twist', ['0','1','2'], kind='count'), Query('seen', ['board','pool','crowd'], kind='many')],
              classes=[('plain', ['Back','0',None]), ('hard', ['Forward','2',None])])
fast = settings(max_examples=20, deadline=None)

def small(seed=0, **kwargs):
    torch.manual_seed(seed)
    m = TQN(QS, **{**dict(d_model=16, n_layers=2, n_heads=2, d_features=6), **kwargs})
    with torch.no_grad():
        for p in m.heads.parameters(): p.mul_(5)
    return m.eval()

@fast
@given(st.integers(1, 30), st.data())
def test_shown_equals_a_loop(n, data):
    ranges = data.draw(st.lists(st.tuples(st.integers(0, n-1), st.integers(1, n)).filter(lambda r: r[0] < r[1]), max_size=4))
    keep = data.draw(st.booleans())
    inside = [any(a <= i < b for a, b in ranges) for i in range(n)]
    want = [i if keep and ranges else not i for i in inside]
    if not any(want):
        with pytest.raises(ValueError, match='at least one'): shown(n, ranges, keep)
    else: assert shown(n, ranges, keep).tolist() == want

@pytest.mark.parametrize('bad', [(3, 3), (-1, 2), (2, 11), (5, 4), (1, 2, 3)])
def test_ranges_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValueError, match='expected ranges'): shown(10, [bad])

@fast
@given(st.integers(2, 20), st.integers(0, 999), st.data())
def test_hidden_is_never_been_there(n, seed, data):
    model, x = small(), torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    seen = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any)))
    a, b = ask_again(model, x, seen), ask_again(model, x[seen])
    for q in a: assert_close(torch.tensor([p for _, p in sorted(a[q])]), torch.tensor([p for _, p in sorted(b[q])]), atol=1e-5, rtol=1e-5)

def test_places_in_time_stay_where_positions_are_used():
    model, x = small(positions='sine'), torch.randn(9, 6)
    seen = shown(9, [(0, 4)])
    a, b = ask_again(model, x, seen), ask_again(model, x[seen])
    assert any(abs(dict(a[q])[k] - p) > 1e-4 for q in a for k, p in b[q]), 'positions were forgotten: the clips that stay moved to the front'

def test_readings_of_the_class():
    plain, bare = small(), small(class_query=False)
    x = torch.randn(7, 6)
    with torch.no_grad(): out = bare(x[None])
    assert list(read_answers(bare, out)) == QS.names and list(read_answers(bare, out, 'product')) == [*QS.names, 'class']
    for how in ('query', 'product', 'both'):
        ranked = ask_again(plain, x, reading=how)['class']
        with torch.no_grad(): want = plain.read_classes(plain(x[None]), how).exp()[0]
        assert_close(torch.tensor([dict(ranked)[c] for c in QS.class_names]), want)
    assert abs(sum(p for _, p in ask_again(plain, x)['twist']) - 1) < 1e-5
    with torch.no_grad(): p, names = read_answers(plain, plain(x[None]))['seen']
    assert_close(p[0], plain(x[None]).responses['seen'][0].sigmoid().detach()); assert names == ['board','pool','crowd']

def test_a_model_in_training_answers_and_goes_on_training():
    model = small(dropout=.5).train()
    x = torch.randn(5, 6)
    assert ask_again(model, x) == ask_again(model, x) and model.training
    with pytest.raises(ValueError): ask_again(model, torch.randn(5, 7))
    assert model.training

@pytest.mark.parametrize('question', ['takeoff', 'twist', 'seen', 'class'])
def test_curves_equal_a_loop_over_orders(question):
    model, n = small(3), 11
    x = torch.randn(n, 6)
    attn = torch.rand(n)
    c = curves(model, x, question, attn, steps=7, repeats=2, seed=5)
    answer = ask_again(model, x)[question][0][0]
    assert c.answer == answer and c.random.shape == (2, len(c.share)) and c.share[-1] == 1
    counts = (c.share*n).round().astype(int)
    best = sorted(range(n), key=lambda i: -attn[i])
    for order, got in ((best, c.insertion), (best[::-1], c.deletion)):
        for k, p in zip(counts, got):
            seen = torch.zeros(n, dtype=torch.bool); seen[order[:k]] = True
            assert abs(dict(ask_again(model, x, seen)[question])[answer] - p) < 1e-5
    assert_close(torch.tensor(c.random[:,-1]), torch.full((2,), float(c.insertion[-1])))
    assert c.areas()['random'] == pytest.approx(np.mean([np.trapezoid(r, c.share) for r in c.random])/np.ptp(c.share), abs=1e-6)

def test_curves_do_not_depend_on_how_they_are_cut():
    model, x = small(), torch.randn(9, 6)
    a = curves(model, x, 'twist')
    b = curves(model, x, 'twist', most=1)                                        # one version of the video at a time
    np.testing.assert_allclose(a.insertion, b.insertion, atol=1e-6); np.testing.assert_allclose(a.random, b.random, atol=1e-6)

def test_one_clip():
    model, x = small(), torch.randn(1, 6)
    c = curves(model, x, 'twist')
    assert c.share.tolist() == [1] and c.insertion[0] == c.deletion[0] and set(c.areas()) == {'insertion','deletion','random'}
    with pytest.raises(ValueError, match='at least one'): shown(1, [(0, 1)])

def test_changes_and_words():
    before = {'twist': [('0',.7),('1',.2),('2',.1)], 'seen': [('board',.9),('pool',.8),('crowd',.1)]}
    after = {'twist': [('1',.6),('0',.3),('2',.1)], 'seen': [('pool',.4),('board',.2),('crowd',.1)]}
    a, b = changes(before, after, ('seen',), most=2)
    assert a == dict(name='twist', said='1', p=.6, ranked=[['1',.6],['0',.3]], was='0', p_was=.7)
    assert (b['said'], b['was']) == ('none', 'board, pool') and said([('a',.2)]) == 'a'

def test_masks_of_an_order():
    order = torch.tensor([3, 1, 0, 2])
    for k, mask in enumerate(first_clips(order, torch.arange(1, 5)), 1): assert sorted(mask.nonzero().flatten().tolist()) == sorted(order[:k].tolist())

def test_what_curves_refuse():
    model, x = small(class_query=False), torch.randn(5, 6)
    with pytest.raises(ValueError, match='expected a question of'): curves(model, x, 'height')
    with pytest.raises(ValueError, match='one value a clip'): curves(model, x, 'twist', torch.ones(4))
    with pytest.raises(ValueError, match='no attention of its own'): curves(model, x, 'class', reading='product')
    assert isinstance(curves(model, x, 'class', torch.rand(5), reading='product'), Curves)
