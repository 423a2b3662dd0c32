"The picture of an answer: marks, bars, text, and peaks that no pooling may lose"
import matplotlib; matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import pytest, torch
from hypothesis import given, settings, strategies as st
from tqn.attention.answer import Answer, answer
from tqn.attention.figure import PALETTE, TONES, plot_attention, pool_max, tone_map
from tqn.models.tqn import TQN
from tqn.questions.queries import QuerySet

fast = settings(max_examples=25, deadline=None)

@fast
@given(st.integers(1, 400), st.integers(1, 50), st.integers(0, 99))
def test_pooling_keeps_every_peak(n, m, seed):
    a,edges = np.random.default_rng(seed).random((2,n)),np.sort(np.random.default_rng(seed+1).random(n+1))
    v,at = pool_max(a, edges, m),np.linspace(edges[0], edges[-1], m+1)
    assert v.shape==(2,m) and (v.max(-1)==a.max(-1)).all()
    slack = 2e-6*(at[1]-at[0])
    for j in range(m):
        surely = [i for i in range(n) if edges[i]<at[j+1]-slack and edges[i+1]>at[j]+slack]
        perhaps = [i for i in range(n) if edges[i]<=at[j+1]+slack and edges[i+1]>=at[j]-slack]
        for row,x in zip(a, v[:,j]): assert max(row[surely], default=0)<=x<=max(row[perhaps])

@fast
@given(st.integers(1, 300), st.integers(1, 80))
def test_pooling_of_equal_clips_is_that_of_counting(n, m):
    a = np.random.default_rng(n).random(n)
    want = [max(a[j*n//m:max(-(-(j+1)*n//m), j*n//m+1)]) for j in range(m)]
    assert pool_max(a, np.arange(n+1), m).tolist()==want

def made_up(k, n, film=True, seed=0):
    g = np.random.default_rng(seed)
    names = [f'question {i}' for i in range(k)]+['class']
    frames = np.stack([np.arange(n), np.arange(1, n+1)], -1)*8
    answers = {q: [('a rather long answer to this question',.6), ('b',.4)] for q in names}
    pictures = torch.from_numpy(g.integers(0, 255, (24,20,30,3), dtype='u1')) if film else None
    peaks = torch.from_numpy(g.integers(0, 255, (k+1,20,30,3), dtype='u1')) if film else None
    attn = torch.from_numpy(g.dirichlet(np.ones(n), (2,2,k+1))).float()
    return Answer('made up', answers, names, attn, frames, frames/25, None, pictures, np.linspace(0, n*8/25, 24), peaks)

@pytest.mark.parametrize('k,n,film', [(3,1,True), (3,24,False), (13,100,True), (5,2500,True)])
def test_figure_holds_from_few_to_many(k, n, film, tmp_path):
    a = made_up(k, n, film)
    fig = plot_attention(a, {q: (0, max(1, 2*n)) for q in a.names}, {q: 'b' if i%2 else a.said(q) for i,q in enumerate(a.names)})
    fig.savefig(tmp_path/'f.png', dpi=60)
    box = fig.get_window_extent()
    for ax in fig.axes:
        for t in ax.texts:
            b = t.get_window_extent()
            assert b.x0>=box.x0-1 and b.x1<=box.x1+1 and b.y0>=box.y0-1, f'{t.get_text()} leaves the figure'
    marks = [t.get_text() for ax in fig.axes for t in ax.texts]
    assert marks.count('✗')==(k+1)//2 and marks.count('✓')==k+1-(k+1)//2
    bars = fig.axes[0].collections[int(film):]                                # before them the gaps of the film
    assert len(bars)==k+1
    for i,(c,q) in enumerate(zip(bars, a.names)):                             # the highest bar stands over the peak, however they were pooled
        foot = (k-i)*(.4+.09)
        tops = [(p.vertices[:,1].max()-foot)/(.4/1.12) for p in c.get_paths()]
        top = c.get_paths()[int(np.argmax(tops))].vertices[:,0]
        j = int(a.maps()[q].argmax())
        assert max(tops)==pytest.approx(1) and len(tops)<=n and top.min()<=a.times[j,1] and a.times[j,0]<=top.max()
    plt.close(fig)

def test_sets_are_right_when_the_whole_set_is():
    a = made_up(1, 4)
    a.answers['question 0'] = [('board',.9), ('pool',.7), ('crowd',.1)]; a.several = ('question 0',)
    marks = lambda truth: [t.get_text() for ax in plot_attention(a, truth={'question 0': truth}).axes for t in ax.texts]
    assert '✓' in marks(['pool','board']) and '✗' in marks(['board']) and 'truth: board' in marks(['board']) and 'truth: none' in marks([])
    assert 'board 0.90, pool 0.70' in marks(['board'])
    plt.close('all')

def test_dollars_are_text_and_no_formulas():
    qs = QuerySet({r'cost $\frac$': ['$x_{$', '$5']})
    a = answer(TQN(qs, d_model=16, n_layers=1, n_heads=2), torch.randn(3, 16))
    fig = plot_attention(a, truth={qs.names[0]: '$5'}, title=r'dive_$\frac$_1.mp4')
    fig.canvas.draw()
    texts = [t for part in (fig, *fig.axes) for t in part.texts]
    assert sum('$' in t.get_text() for t in texts)>=3 and not any(t.get_parse_math() for t in texts if '$' in t.get_text())
    plt.close(fig)

def test_figure_refuses_and_leaves_no_figure_behind():
    a = made_up(3, 4)
    plt.close('all')
    for bad in (dict(questions=['weather']), dict(extents={'class': (0,99)}), dict(layer=7), dict(how='rollout'), dict(how='max')):
        with pytest.raises(ValueError, match='expected'): plot_attention(a, **bad)
    assert not plt.get_fignums()
    fig = plot_attention(a, {'class': None, 'somersault': (0,5)}, questions=['class'], layer=0, head=1, film=0)
    assert len(fig.axes[0].images)==len(plot_attention(a, questions=['class'], film=0).axes[0].images)-1     # the peak pictures belong to the mean map

@pytest.mark.parametrize('theme,ground', [('light',False), ('light',True), ('dark',False), ('dark',True)])
def test_tones_fall_steadily_in_grey_and_rise_on_a_dark_ground(theme, ground):
    grey = tone_map(theme, ground)(np.linspace(0, 1, 50))[:,:3]@[.2126,.7152,.0722]*(1 if theme=='light' else -1)
    assert (np.diff(grey)<0).all() and grey[0]-grey[-1]>.5
    assert PALETTE['light']['tones']==TONES and PALETTE['light'].keys()==PALETTE['dark'].keys()


def test_shared_scale_measures_all_bars_by_one_peak():
    a = made_up(3, 20, film=False)
    bars = plot_attention(a, scale='shared').axes[0].collections
    top = [(max(p.vertices[:,1].max() for p in c.get_paths())-(3-i)*(.4+.09))/(.4/1.12) for i,c in enumerate(bars)]
    highest = max(float(m.max()) for m in a.maps().values())
    np.testing.assert_allclose(top, [float(m.max())/highest for m in a.maps().values()], atol=1e-5)
    with pytest.raises(ValueError, match="'lane' or 'shared'"): plot_attention(a, scale='log')
    plt.close('all')

# how colours are seen without one kind of cone, in linear light: Machado, Oliveira and Fernandes 2009, severity 1
CONES = {'protan': [[.152286,1.052583,-.204868], [.114503,.786281,.099216], [-.003882,-.048116,1.051998]],
         'deutan': [[.367322,.860646,-.227968], [.280085,.672501,.047413], [-.011820,.042940,.968881]],
         'tritan': [[1.255528,-.076749,-.178779], [-.078411,.930809,.147602], [.004733,.691367,.303900]]}

def lab(hexes, cone=None):
    "CIE L*a*b* of colours, as somebody sees them who lacks a kind of cone"
    x = np.array([[int(h[i:i+2], 16)/255 for i in (1,3,5)] for h in hexes])
    x = np.where(x<=.04045, x/12.92, ((x+.055)/1.055)**2.4)
    if cone: x = np.clip(x@np.array(CONES[cone]).T, 0, 1)
    xyz = x@np.array([[.4124564,.3575761,.1804375], [.2126729,.7151522,.0721750], [.0193339,.1191920,.9503041]]).T/[.95047,1,1.08883]
    f = np.where(xyz>.008856, np.cbrt(xyz), 7.787*xyz+16/116)
    return np.stack([116*f[:,1]-16, 500*(f[:,0]-f[:,1]), 200*(f[:,1]-f[:,2])], -1)

@pytest.mark.parametrize('cone', [None, *CONES])
@pytest.mark.parametrize('theme', PALETTE)
def test_colours_are_told_apart_without_a_kind_of_cone(theme, cone):
    "Right from wrong, hits from errors, each tone from the next, and everything from its ground"
    p = PALETTE[theme]
    apart = lambda a, b: np.linalg.norm(np.subtract(*lab([a,b], cone)))
    assert apart(p['right'], p['wrong'])>20 and apart(p['head'], p['bg'])>40 and apart(p['head'], p['tones'][2])>20
    assert all(apart(p[k], p['bg'])>40 for k in ('right','wrong','accent','soft'))
    for tones in (p['tones'],p['errors']):
        assert all(apart(a, b)>10 for a,b in zip(tones, tones[1:])) and (np.diff(lab(tones, cone)[:,0])*(-1 if theme=='light' else 1)>0).all()
    assert all(apart(a, b)>12 for a,b in zip(p['tones'][1:4], p['errors'][:3]))
