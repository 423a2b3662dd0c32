"Moments: spans and average precision against naive loops, times against the film's own, and what films can do wrong"
import math
import numpy as np, pandas as pd, pytest, torch
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose
from tqn.video.transforms import clip_spans
from tqn.attention.moments import (
    METHODS, Finder, Reading, average_precision, choose_finder, clip_maps, density, find_films, lost_by_hiding, moments, places_elsewhere,
    read_spans, roc_area, score_moments, smooth, span_clips, span_iou, windows)
from tqn.attention.whatif import ask_again, drops, shown
from tqn.data.items import Item
from tqn.models.backbone import S3D
from tqn.models.tqn import TQN
from tqn.questions.queries import QuerySet
from tqn.video.transforms import Preprocess
from tqn.video.video import open_video, write_video
from made_films import later, uneven

fast = settings(max_examples=40, deadline=None)
frames_pairs = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=5)

@fast
@given(frames_pairs, frames_pairs)
def test_overlap_equals_counting_frames(one, other):
    one,other = ([(a, a+n) for a,n in o] for o in (one, other))
    got = span_iou(np.array(one).reshape(-1, 2), np.array(other).reshape(-1, 2))
    assert got.shape==(len(one), len(other))
    for i,a in enumerate(one):
        for j,b in enumerate(other):
            x,y = set(range(*a)),set(range(*b))
            assert_allclose(got[i,j], len(x&y)/len(x|y))

def naive_ap(found, truth, iou):
    "By the book: walk down the list, match greedily, then integrate the monotone precision over recall"
    total,taken,points,tp = sum(map(len, truth.values())),set(),[],0
    for n,(film,a,b,_) in enumerate(sorted(found, key=lambda o: -o[3]), 1):
        best,at = -1,None
        for j,(c,d) in enumerate(truth.get(film, [])):
            x,y = set(range(int(a), int(b))),set(range(c, d))
            if (film,j) not in taken and len(x&y)/len(x|y)>best: best,at = len(x&y)/len(x|y),j
        if at is not None and best>=iou: taken.add((film, at)); tp += 1
        points.append((tp/total, tp/n))
    area,before = 0.,0.
    for i,(recall,_) in enumerate(points):
        area += (recall-before)*max(p for _,p in points[i:]); before = recall
    return area

@fast
@given(st.integers(0, 10**6), st.sampled_from([.3, .5, .7]))
def test_average_precision_equals_a_naive_loop(seed, iou):
    g = np.random.default_rng(seed)
    truth = {f'v{i}': [(a, a+n) for a,n in zip(g.integers(0, 40, k), g.integers(1, 20, k))] for i,k in enumerate(g.integers(0, 3, 6))}
    scores = g.permutation(30)
    found = [(f'v{g.integers(7)}', a, a+n, s) for a,n,s in zip(g.integers(0, 40, 30), g.integers(1, 20, 30), scores)][:g.integers(0, 31)]
    got = average_precision(found, truth, iou)
    if not any(truth.values()): assert math.isnan(got)
    else: assert_allclose(got, naive_ap(found, truth, iou), atol=1e-12)

@fast
@given(st.integers(1, 60), st.integers(0, 10**6), st.floats(0, 3), st.floats(.05, .95), st.integers(1, 4))
def test_spans_lie_in_the_film_apart_and_in_order(n, seed, width, threshold, most):
    g = np.random.default_rng(seed)
    frames,score = clip_spans(n, 8*n-3 if n>1 else 8),g.gamma(.3, 1, n)
    got = read_spans(score, frames, Reading(smooth=width, threshold=threshold, least=1.2, again=.2), most)
    assert len(got)<=most and (np.diff(got[:,2])<=1e-12).all()
    assert (got[:,0]<got[:,1]).all() and (got[:,0]>=0).all() and (got[:,1]<=frames[-1,1]).all() and (got[:,:2]==got[:,:2].round()).all()
    for a,b in zip(got, got[1:]): assert not span_iou([a[:2]], [b[:2]]).any()
    d = density(smooth(score, width))
    assert_allclose(d.mean(), 1)
    for a,b,peak,at in got: assert a<=at<=b and np.isclose(d[(frames[:,0]<=at)&(at<frames[:,1])], peak).any()
    assert n>1 or not len(got)

def test_a_mirrored_map_has_mirrored_spans():
    g = np.random.default_rng(3)
    score = g.gamma(.5, 1, 30)
    a,b = read_spans(score, clip_spans(30, 240), most=3), read_spans(score[::-1], clip_spans(30, 240), most=3)
    assert len(a)==len(b)>1
    assert np.abs(a[:,0]-(240-b[:,1])).max()<=1 and np.abs(a[:,1]-(240-b[:,0])).max()<=1       # but for rounding

@fast
@given(st.integers(1, 40), st.integers(0, 39), st.integers(1, 40))
def test_places_elsewhere_never_touch_the_span(n, a, size):
    a,b = min(a, n-1),min(min(a, n-1)+size, n)
    got = places_elsewhere((a,b), n)
    assert len(got)<=6
    for c,d in got: assert 0<=c<d<=n and d-c==b-a and (d<=a or c>=b)
    assert len(got) or n-b<b-a and a<b-a                                                        # none only where there is no room

def model_of(seed=0, backbone=False, **kw):
    torch.manual_seed(seed)
    net = S3D(width=.125).eval() if backbone else None
    questions = QuerySet({'way': ['left','right'], 'far': ['no','yes','=1+1']})
    return TQN(questions, backbone=net, d_model=32, n_layers=2, n_heads=2, preprocess=Preprocess(size=32), **({} if backbone else {'d_features': 8}), **kw).eval()

def test_lost_by_hiding_is_asking_again():
    model,x = model_of(),torch.randn(9, 8)
    spans = windows(9, 3)
    lost = lost_by_hiding(model, x, spans)
    before = ask_again(model, x)
    for i,(a,b) in enumerate(spans):
        after = ask_again(model, x, shown(9, [(a,b)]))
        for q in ('way','far'): assert_allclose(lost[q][i], before[q][0][1]-dict(after[q])[before[q][0][0]], atol=1e-6)

@pytest.mark.parametrize('n', [1, 5, 40, 200])
@pytest.mark.parametrize('kw', [dict(), dict(convolution=5, n_convs=3), dict(convolution=3, positions='rotary'), dict(convolution=9, positions='sine', temperature=True), dict(positions='learned')])
def test_one_film_in_many_versions_is_as_many_copies(n, kw):
    "What a convolution sees far from the hidden part is computed once; the numbers are those of every version for itself"
    torch.manual_seed(1)
    model,x,g = model_of(**kw),torch.randn(n, 8),np.random.default_rng(n)
    first = g.integers(0, n, 12)
    masks = np.stack([~((a<=np.arange(n))&(np.arange(n)<b)) for a,b in zip(first, np.minimum(n, first+g.integers(1, 9, 12)))])
    masks = np.concatenate([masks, g.random((3, n))>.3, np.arange(n)[None]%3==0])        # hidden here and there, too
    masks = masks[masks.any(1)]
    if not len(masks): return
    found = drops(model, x, masks)
    model.decoder.versions = False
    for q,lost in drops(model, x, masks).items(): assert_allclose(found[q], lost, atol=1e-6)
    if n>1: assert max(np.abs(v).max() for v in found.values())>1e-4                     # hiding does something

def test_needed_is_what_hiding_the_clips_of_the_span_costs():
    model,x = model_of(),torch.randn(20, 8)
    item = Item('v', None, n_frames=160)
    t = moments(model, [item], features={'v': x}, progress=False, finder=Finder(smooth=0, least=1., threshold=.99))
    assert len(t.dropna(subset='needed'))==len(t)>=2
    frames = clip_spans(20, 160)
    for r in t.itertuples():
        a,b = span_clips((r.first, r.last), frames)
        before,after = ask_again(model, x),ask_again(model, x, shown(20, [(a,b)]))
        assert_allclose(r.needed, before[r.question][0][1]-dict(after[r.question])[r.answer], atol=1e-6)
        assert r.start==r.first/25 and r.end==r.last/25

@pytest.mark.parametrize('method', METHODS)
def test_every_method_gives_a_map_for_every_question(method):
    found = clip_maps(model_of(), torch.randn(7, 8), finder=Finder(method=method))
    assert {'way','far'} <= set(found) and all(m.shape==(7,) and (m>=0).all() and np.isfinite(m).all() for m in found.values())

@pytest.fixture(scope='module')
def films(tmp_path_factory):
    "Three films; the second has a rate that is not even"
    folder = tmp_path_factory.mktemp('films')
    g = np.random.default_rng(0)
    for i,n in enumerate((80, 64, 40)): write_video(folder/f'f{i}.mp4', g.integers(0, 255, (n, 48, 64, 3), dtype=np.uint8), fps=20.)
    uneven(folder/'f1.mp4', folder/'uneven.mkv')
    (folder/'f1.mp4').unlink()
    return folder

def test_times_are_those_of_the_film(films):
    model = model_of(1, backbone=True)
    t = moments(model, films, finder=Finder(least=1.), progress=False)
    assert t.film.unique().tolist()==['f0.mp4','f2.mp4','uneven.mkv'] and len(t)>=6
    for r in t.dropna().itertuples():
        video = open_video(films/r.film)
        assert 0<=r.first<r.last<=len(video) and r.start==video.timestamps[r.first]
        assert r.end==(video.timestamps[r.last] if r.last<len(video) else video.timestamps[-1]+1/video.fps)
    assert np.ptp(np.diff(open_video(films/'uneven.mkv').timestamps))>1                        # the rate is not even
    assert (t[t.film=='uneven.mkv'].end<=open_video(films/'uneven.mkv').timestamps[-1]+1).all()

def test_kept_features_give_the_same_table_without_reading_films(films, tmp_path, monkeypatch):
    model = model_of(1, backbone=True)
    fresh = moments(model, films, progress=False)
    made = moments(model, films, features=tmp_path/'kept', progress=False)
    monkeypatch.setattr(model.backbone, 'forward', None)
    kept = moments(model, films, features=tmp_path/'kept', progress=False)
    pd.testing.assert_frame_equal(made, kept)
    pd.testing.assert_frame_equal(fresh, kept, rtol=1e-4, atol=1e-4)

def test_kept_features_of_another_film_are_made_anew(films, tmp_path):
    "A film that was replaced under its name: rows of the old one would be silently wrong"
    model,film = model_of(1, backbone=True),tmp_path/'a.mp4'
    film.write_bytes((films/'f0.mp4').read_bytes())
    old = moments(model, film, features=tmp_path/'kept', finder=Finder(least=1.), progress=False)
    film.write_bytes((films/'f2.mp4').read_bytes())
    now,want = (moments(model, film, features=f, finder=Finder(least=1.), progress=False) for f in (tmp_path/'kept', None))
    pd.testing.assert_frame_equal(now, want, rtol=1e-4, atol=1e-4)
    assert not np.allclose(now.probability, old.probability)
    film.unlink()                                                                              # its features are all that is left
    assert_allclose(moments(model, Item('a.mp4', film), features=tmp_path/'kept', finder=Finder(least=1.), progress=False).probability, now.probability, rtol=1e-4)

def test_features_of_another_backbone_are_refused(films, tmp_path):
    moments(model_of(1, backbone=True), films/'f0.mp4', features=tmp_path/'kept', progress=False)
    with pytest.raises(ValueError, match='another backbone or preprocessing'): moments(model_of(2, backbone=True), films/'f0.mp4', features=tmp_path/'kept', progress=False)
    other = model_of(1, backbone=True); other.preprocess = Preprocess(size=40)
    with pytest.raises(ValueError, match='another backbone or preprocessing'): moments(other, films/'f0.mp4', features=tmp_path/'kept', progress=False)

def test_the_clock_begins_with_the_first_frame(films, tmp_path):
    "A film whose own clock begins after ten hours has the moments of the same film from zero, and so has an excerpt"
    model,late = model_of(1, backbone=True),later(films/'f0.mp4', tmp_path/'f0.mkv', 36000)
    assert open_video(late).index.pts[0]*open_video(late).index.tick>=36000 and open_video(late).timestamps[0]==0
    columns = ['question', 'answer', 'start', 'end', 'first', 'last', 'peak']
    for cut in (dict(), dict(start=1., end=3.)):
        want,got = (moments(model, [Item('e', f, **cut)], finder=Finder(least=1.), progress=False)[columns] for f in (films/'f0.mp4', late))
        assert want.start.notna().any()
        pd.testing.assert_frame_equal(got, want, rtol=1e-3, atol=1e-3)

def test_an_excerpt_is_timed_in_its_film(films):
    model = model_of(1, backbone=True)
    t = moments(model, [Item('e', films/'f0.mp4', start=1., end=3.)], finder=Finder(least=1.), progress=False).dropna(subset='start')
    assert len(t) and (t.start>=1).all() and (t.end<=3.0001).all() and (t['first']<40).all()

def test_a_damaged_film_is_named_and_the_rest_is_done(films, tmp_path):
    for i in range(3): (tmp_path/f'{i}.mp4').write_bytes((films/'f0.mp4').read_bytes())
    (tmp_path/'1.mp4').write_bytes((films/'f0.mp4').read_bytes()[:900])
    model = model_of(1, backbone=True)
    with pytest.raises(ValueError, match="1.mp4"): moments(model, tmp_path, progress=False)
    with pytest.warns(UserWarning, match='1 of 3 films could not be read'): t = moments(model, tmp_path, on_error='skip', progress=False)
    assert t.film.unique().tolist()==['0.mp4','2.mp4'] and list(t.attrs['damaged'])==['1.mp4']
    with pytest.warns(UserWarning, match='1 of 3'): kept = moments(model, tmp_path, features=tmp_path/'kept', on_error='skip', progress=False)
    assert kept.film.unique().tolist()==['0.mp4','2.mp4']

def test_films_of_one_name_in_two_folders_are_told_apart(films, tmp_path):
    (tmp_path/'f0.mp4').write_bytes((films/'f0.mp4').read_bytes())
    assert [o.id for o in find_films([films/'f0.mp4', tmp_path/'f0.mp4', films/'f2.mp4'])]==[str(films/'f0.mp4'), str(tmp_path/'f0.mp4'), 'f2.mp4']

def test_features_of_another_width_are_refused(films):
    with pytest.raises(ValueError, match='8'): moments(model_of(), [Item('v', None, n_frames=160)], features={'v': torch.randn(20, 9)}, progress=False)

def test_no_film_is_no_row(tmp_path):
    model = model_of()
    assert len(moments(model, [], features={}, progress=False))==0

def table_of(rows): return pd.DataFrame([dict(film=f, question=q, answer=a, probability=.9, first=x, last=y, peak=x, score=s, needed=0., elsewhere=0., trust=np.nan, remark='') for f,q,a,x,y,s in rows])

@fast
@given(st.integers(0, 10**6), st.sampled_from([.3, .5, .7]))
def test_recall_equals_counting(seed, iou):
    "First spans of every film and question, the others' on the same extents, a place of the same length, and the film itself"
    g = np.random.default_rng(seed)
    names,n = ['a','b','c'],80
    spans = lambda: (lambda a: (a, a+int(g.integers(1, 30))))(int(g.integers(0, 50)))
    items = [Item(f'v{i}', None, {q: 'yes' for q in names}, None, {q: None if g.random()<.3 else spans() for q in names}, n) for i in range(6)]
    items.append(Item('sure', None, {q: 'yes' for q in names}, None, {q: spans() for q in names}, n))
    rows = [(o.id, q, 'yes', *spans(), float(s)) for o in items for q in names for s in g.random(2)]
    found = score_moments(table_of(rows), items, draws=n)
    cover = lambda x,y: len(set(range(*x))&set(range(*y)))/len(set(range(*x))|set(range(*y)))
    for j,q in enumerate(names):
        for i,o in enumerate(o for o in items if o.id in found.ids):
            first = {k: max((r for r in rows if r[:2]==(o.id,k)), key=lambda r: r[5])[3:5] for k in names}
            if o.extents[q] is None: assert np.isnan(found.hits('own', iou)[0,i,j]); continue
            assert found.hits('own', iou)[0,i,j]==(cover(first[q], o.extents[q])>=iou)
            assert_allclose(found.hits('wrong', iou)[0,i,j], np.mean([cover(first[k], o.extents[q])>=iou for k in names if k!=q]))
            assert found.hits('uniform', iou)[0,i,j]==(cover((0,n), o.extents[q])>=iou)
            assert found.inside[0,i,j]==(o.extents[q][0]<=first[q][0]<o.extents[q][1])
    assert np.isnan(found.over['fixed']).all()                                                  # no training films, no such rule

def test_films_without_a_moment_count_as_missed():
    items = [Item(i, None, {'q': 'yes'}, None, {'q': (0,10)}, 20) for i in 'ab']
    t = table_of([('a','q','yes',0,10,2.)])
    t.loc[1] = dict(film='b', question='q', answer='yes', probability=.9, score=np.nan, needed=np.nan, elsewhere=np.nan, remark='nothing stands out')
    assert score_moments(t, items).recall()==.5

def test_what_is_chosen_on_val_and_a_finder_survive_a_file(tmp_path):
    model,x = model_of(),{f'v{i}': torch.randn(12, 8) for i in range(4)}
    items = [Item(i, None, {'way': 'left'}, None, {'way': (24, 48)}, 96) for i in x]
    finder,trials = choose_finder(model, items, x, among=[Finder(), Finder(layer=1)], grid=dict(smooth=(0, 1.), threshold=(.5, .9)), progress=False)
    assert len(trials)==8 and finder.least==Finder().least
    best = trials.loc[trials['mean'].idxmax()]
    assert (finder.smooth, finder.threshold)==(best.smooth, best.threshold) and trials['mean'].max()==best['mean']
    assert Finder.load(finder.save(tmp_path/'f.json'))==finder
    (tmp_path/'f.json').write_text('{"smoth": 1}')
    with pytest.raises(ValueError, match="f.json.*smooth"): Finder.load(tmp_path/'f.json')
    (tmp_path/'f.json').write_text('{"smooth": "wide"}')
    with pytest.raises(ValueError, match="f.json"): Finder.load(tmp_path/'f.json')

def test_one_film_has_a_dash_for_an_interval():
    t = table_of([('a','q','yes',0,10,2.)])
    said = str(score_moments(t, [Item('a', None, {'q': 'yes'}, None, {'q': (0,10)}, 20)]))
    assert 'nan' not in said and '[–]' in said, said
