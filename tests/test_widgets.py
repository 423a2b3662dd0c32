"The viewer without a browser: what it is given, what it refuses, what it answers, what it stores"
import base64, io, json, os, threading
from dataclasses import replace
from pathlib import Path
import matplotlib; matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest, torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from torch import nn
from traitlets import TraitError
import av
import tqn
from outside import MISSING, VIDEOS
from tqn.attention.answer import Answer, answer
from tqn.data.items import Item
from tqn.features.stream import clip_features
from tqn.attention.figure import pool_max
from tqn.models.tqn import TQN
from tqn.widgets.lanes import STATE, ViewData, film_part, fit_budget, focus, front_end, hand_on, lane_order, lanes, playable, shown_maps, stretches, strip_frames, view_data, why_copy
from tqn.questions.queries import Query, QuerySet
from tqn.video.video import Excerpt, FrameFolder, Video, write_video
from tqn.attention.whatif import ask_again, shown
from tqn.attention.marks import write_moments
from tqn.attention.moments import Finder, lost_by_hiding, moments, span_clips
from tqn.widgets.viewer import AttentionViewer, page, respond, view

QS = QuerySet([Query('takeoff', ['Back','Forward']), Query('twist', ['0','1','2'], kind='count'), Query('seen', ['board','pool','crowd'], kind='many')],
              classes=[('plain', ['Back','0',None]), ('hard', ['Forward','2',None])])

class Mean(nn.Module):
    "Mean colour, and its change"
    d_out = 6
    def forward(self, x): return torch.cat([x.mean((2,3,4)), x[:,:,-1].mean((2,3))-x[:,:,0].mean((2,3))], 1)

@pytest.fixture(scope='module', autouse=True)
def cache(tmp_path_factory):
    old = os.environ.get('TQN_CACHE')
    os.environ['TQN_CACHE'] = str(tmp_path_factory.mktemp('cache'))
    yield
    if old is None: os.environ.pop('TQN_CACHE')
    else: os.environ['TQN_CACHE'] = old

@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    m = TQN(QS, Mean(), d_model=16, n_layers=3, n_heads=2).eval()
    m.preprocess = dict(clip_len=8, stride=1, size=16, resize=16)
    return m

@pytest.fixture(scope='module')
def mp4(tmp_path_factory):
    path = tmp_path_factory.mktemp('v')/'ramp.mp4'
    t = np.arange(100)[:,None,None,None]
    write_video(path, np.broadcast_to(20+2*t, (100,48,64,3)).astype('u1'), fps=20.)
    return path

@pytest.fixture(scope='module')
def features(model, mp4): return clip_features(model, Video(mp4))

@pytest.fixture
def viewer(model, mp4, features):
    v = view(model, mp4, {'takeoff':'Back','seen':['pool']}, {'takeoff':(8,40)}, features=features)
    yield v
    v.close()

def numbers(data, kind, shape=None):
    a = np.frombuffer(data, kind)
    return a if shape is None else a.reshape(shape)

# ---------------------------------------------------------------- what the browser is given

def test_bytes_are_the_arrays(viewer, model, mp4, features):
    said, video, m = answer(model, mp4), Video(mp4), viewer.meta
    assert viewer.error == '' and (m['n_frames'], m['n_clips'], m['layers'], m['heads'], m['bin']) == (100, 13, 3, 2, 1)
    np.testing.assert_array_equal(numbers(viewer.times, '<f8'), video.timestamps)
    np.testing.assert_array_equal(numbers(viewer.spans, '<i4', (13,2)), said.frames)
    np.testing.assert_allclose(numbers(viewer.attn, '<f4', (3,2,4,13)), said.attn, atol=1e-6)
    np.testing.assert_allclose(numbers(viewer.rollout, '<f4', (4,13)), torch.stack(list(said.maps(how='rollout').values())), atol=1e-6)
    picture = Image.open(io.BytesIO(viewer.strip))
    assert picture.width % len(numbers(viewer.strip_times, '<f8')) == 0
    assert json.loads(json.dumps(m)) == m and m['has_kernel'] and m['video'] and m['mime'] == 'video/mp4'

def test_lanes_say_what_the_answer_says(viewer, model, mp4):
    said = answer(model, mp4)
    for q, row in zip(said.names, viewer.meta['questions']):
        assert row['name'] == q and row['p'] == said.answers[q][0][1] and row['ranked'][0][0] == said.answers[q][0][0]
    by = {q['name']: q for q in viewer.meta['questions']}
    assert by['takeoff']['right'] == (said.said('takeoff') == 'Back') and by['twist']['right'] is None
    assert by['takeoff']['extent'] == [8,40] and by['seen']['truth'] == 'pool' and by['seen']['kind'] == 'many' and by['class']['kind'] == 'class'

def test_untrusted_names_stay_text(model, mp4, features, tmp_path):
    path = tmp_path/'<img src=x onerror=alert(1)>.mp4'
    path.write_bytes(mp4.read_bytes())
    v = view(model, path, features=features)
    assert v.meta['name'] == path.name and '<img' not in v._repr_mimebundle_()[0].get('text/html', '')

@settings(max_examples=25, deadline=None)
@given(st.integers(1, 400), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(200, 60_000))
def test_budget_is_kept_and_no_peak_is_lost(n, layers, heads, queries, budget):
    a = np.random.default_rng(n).random((layers, heads, queries, n)).astype('f4')
    small, flow, k = fit_budget(a, a[0,0], budget)
    assert small.shape[-1] == -(-n//k) == flow.shape[-1]
    assert small.nbytes + flow.nbytes <= budget or small.shape[-1] == 1
    np.testing.assert_allclose(small.max(-1), a.max(-1), rtol=1e-3, atol=1e-6)   # the steps of a half float near 0
    for c in range(small.shape[-1]): np.testing.assert_allclose(small[...,c], a[...,c*k:(c+1)*k].max(-1), rtol=1e-3, atol=1e-6)

def test_the_largest_case_stays_within_two_megabytes():
    n, names = 2500, [f'question number {i}' for i in range(12)]+['class']
    spans = np.stack([np.arange(n)*8, np.arange(1, n+1)*8], -1)
    attn = torch.rand(4, 4, 13, n); attn = attn/attn.sum(-1, keepdim=True)
    said = Answer('long', {q: [('a rather long answer', .5)]*48 for q in names}, names, attn, spans, spans/25, torch.full((4,4,13,13), 1/13))
    data = view_data(said)
    data = replace(data, strip=b'0'*150_000)                                    # a filmstrip of real pictures
    assert sum(len(v) for v in data.traits().values() if isinstance(v, bytes)) + len(json.dumps(data.meta)) <= 2_000_000
    assert data.meta['bin'] == 1 and data.meta['attn_dtype'] == 'float16'
    many = view_data(replace(said, attn=attn.repeat(1, 4, 1, 1), self_attn=None))
    assert sum(len(v) for v in many.traits().values() if isinstance(v, bytes)) <= 2_000_000 and many.meta['bin'] > 1 and 'share a column' in many.meta['notes'][0]

# ---------------------------------------------------------------- films

def test_copies_are_made_once_and_follow_the_film(mp4, tmp_path):
    import av
    late = tmp_path/'late.mkv'
    with av.open(str(mp4)) as old, av.open(str(late), 'w') as new:
        s = new.add_stream_from_template(old.streams.video[0])
        for p in old.demux(old.streams.video[0]):
            if p.dts is not None: p.stream = s; new.mux(p)
    video = Video(late)
    film = playable(video, tmp_path/'c', progress=False)
    assert film.reason and film.path.parent == tmp_path/'c' and len(film.times) == len(video) and film.times[0] == 0
    written = film.path.stat().st_mtime_ns
    assert playable(Video(late), tmp_path/'c', progress=False).path.stat().st_mtime_ns == written
    film.path.write_bytes(film.path.read_bytes()[:-400])                        # damaged in the cache: made again
    assert len(playable(Video(late), tmp_path/'c', progress=False).times) == 100
    os.utime(late, ns=(1, 1))
    assert playable(Video(late), tmp_path/'c', progress=False).path != film.path # the film is another one now

def test_a_copy_that_cannot_be_finished_leaves_nothing(tmp_path, monkeypatch):
    folder = tmp_path/'pictures'; folder.mkdir()
    for i in range(12): Image.fromarray(np.full((32,32,3), 20*i, 'u1')).save(folder/f'{i}.png')
    video = FrameFolder(folder)
    (folder/'7.png').write_bytes(b'no picture')
    with pytest.raises(ValueError, match='7.png'): playable(video, tmp_path/'c', progress=False)
    assert not list((tmp_path/'c').iterdir())

def test_strip_takes_keyframes_and_covers_the_film(mp4):
    video = Video(mp4)
    for n in (1, 7, 40, 1000):
        at = strip_frames(video, n)
        assert len(at) <= min(n, 100) and (np.diff(at) > 0).all() and at.min() >= 0 and at.max() < 100
    assert set(strip_frames(video, 5)) <= set(video.index.keys)

@pytest.mark.parametrize('most', [200_000, 60_000])
def test_a_copy_of_hours_fits(tmp_path, most):
    "Whatever the film weighs, its copy has every frame and about the bytes that a page is given; what is seen is still the film"
    g = np.random.default_rng(0)
    ground = g.integers(0, 255, (30, 40, 3)).repeat(8, 0).repeat(8, 1).astype('u1')
    write_video(tmp_path/'a.mp4', (np.roll(ground, 3*i, 1) + g.integers(0, 40, ground.shape, dtype='u1') for i in range(300)), crf=10)
    video = Video(tmp_path/'a.mp4')
    large = video.path.stat().st_size
    film = playable(Excerpt(video), tmp_path/'c', progress=False, most=most)
    assert large > 20*most and .5*most < film.path.stat().st_size < 1.15*most and len(film.times) == 300
    assert max(film.size) <= 320 and abs(film.size[1]/film.size[0] - 4/3) < .05
    at = [0, 150, 299]
    shown = Video(film.path).frames(at).float()
    want = torch.nn.functional.interpolate(video.frames(at).permute(0, 3, 1, 2).float(), film.size, mode='area').permute(0, 2, 3, 1)
    off = lambda want: (shown[:, :want.shape[1], :want.shape[2]] - want).abs().mean()
    assert off(want) < .6*off(want[[1, 2, 0]])                                  # nearer than another frame

def test_film_in_pieces_and_gone(viewer, mp4, tmp_path):
    parts = []
    while True:
        m, piece = film_part(viewer.data, len(parts), size=700)
        parts.append(piece)
        if len(parts) == m['parts']: break
    assert b''.join(parts) == mp4.read_bytes()
    moved = replace(viewer.data, film=replace(viewer.data.film, path=tmp_path/'gone.mp4'))
    with pytest.raises(ValueError, match='cannot be read any more'): film_part(moved, 0)
    changed = tmp_path/'changed.mp4'; changed.write_bytes(b'1234')
    with pytest.raises(ValueError, match='has changed'): film_part(replace(viewer.data, film=replace(viewer.data.film, path=changed)), 0)

def encoded(path, n=60, late=0, **options):
    "A film whose frames no one takes for each other"
    g = np.random.default_rng(n)
    with av.open(str(path), 'w') as f:
        s = f.add_stream('libx264', rate=25, options={'sc_threshold': '0', **options})
        s.width, s.height, s.pix_fmt = 64, 48, 'yuv420p'
        for i in range(n):
            p = av.VideoFrame.from_ndarray(g.integers(0, 255, (6, 8, 3)).repeat(8, 0).repeat(8, 1).astype('u1'), format='rgb24')
            p.pts = i + late
            f.mux(s.encode(p))
        f.mux(s.encode())
    return Video(path)

@settings(max_examples=12, deadline=None)
@given(st.integers(1, 70), st.integers(2, 20), st.integers(0, 3), st.sampled_from([0, 7]), st.sampled_from(['mp4', 'mkv', 'mov']), st.data())
def test_packets_handed_on_are_the_same_film(tmp_path_factory, n, gop, b, late, kind, data):
    "Any stretch from keyframe to keyframe decodes to the same pixels at the same distances, as a file of its own and as a fragment"
    folder = tmp_path_factory.mktemp('h')
    video = encoded(folder/f'a.{kind}', n, late, g=str(gop), bf=str(b))
    edges = [*video.index.keys.tolist(), n]
    i = data.draw(st.integers(0, len(edges)-2)); j = data.draw(st.integers(i+1, len(edges)-1))
    first, last = edges[i], edges[j]
    assert hand_on(video, folder/'b.mp4', first, last) == 0
    made = Video(folder/'b.mp4')
    want, times = video.frames(range(first, last)), video.timestamps[first:last]-video.timestamps[first]
    assert why_copy(made) == '' and torch.equal(made.frames(range(len(made))), want)
    np.testing.assert_allclose(made.timestamps, times, atol=1e-3)
    behind = hand_on(video, out := io.BytesIO(), first, last, fragments=True)
    out.seek(0)
    with av.open(out) as f: shown = [(float(o.pts*o.time_base)-behind, o.to_ndarray(format='rgb24')) for o in f.decode(video=0)]
    assert behind >= 0 and len(shown) == last-first
    np.testing.assert_allclose([t for t, _ in shown], times, atol=1e-3)

def test_a_film_in_stretches(tmp_path, model):
    "Nothing is copied; what is asked for beyond it, or of a film that changed, is refused; a saved page has the film whole"
    video = encoded(tmp_path/'a.mp4', 200, g='25', bf='2')
    film = playable(video, tmp_path/'c', progress=False, most=1000)
    assert film.firsts.tolist() == list(range(0, 200, 25)) and film.mime.startswith('video/mp4; codecs="avc1.') and not (tmp_path/'c').exists()
    said = answer(model, video)
    data = view_data(said, video, film=film)
    assert data.meta['video'] and data.meta['mime'] == film.mime and not data.meta['notes']
    head, piece = film_part(data, 3)
    assert (head['part'], head['parts'], head['firsts']) == (3, 8, film.firsts.tolist()) and len(piece) < video.path.stat().st_size/4
    with pytest.raises(ValueError, match='from 0 to 7, got 8'): film_part(data, 8)
    text = page(data)
    parts = [base64.b64decode(o.split('<')[0]) for o in text.split('class="tqn-part">')[1:]]
    (tmp_path/'page.mp4').write_bytes(b''.join(parts))
    assert torch.equal(Video(tmp_path/'page.mp4').frames(range(200)), video.frames(range(200)))
    video.path.write_bytes(video.path.read_bytes()+b'more')
    with pytest.raises(ValueError, match='has changed'): film_part(data, 0)
    video.path.unlink()
    with pytest.raises(ValueError, match='cannot be read any more'): film_part(data, 0)

def test_stretches_have_an_even_length_and_a_film_of_one_keyframe_has_none(tmp_path):
    video = encoded(tmp_path/'a.mp4', 400, g='10')
    rate = video.path.stat().st_size/16
    mime, firsts = stretches(video, size=4*rate)
    assert set(firsts) <= set(video.index.keys) and firsts[0] == 0 and np.diff([*firsts, 400]).tolist() == [100]*4
    assert stretches(video, size=4*rate, most=.3*rate) is None                  # packets that do not come apart
    lone = encoded(tmp_path/'lone.mp4', 120, g='500')
    assert stretches(lone, most=100) is None and stretches(lone)[1].tolist() == [0]

def test_a_copy_of_another_container_is_the_film_to_the_bit(tmp_path):
    video = encoded(tmp_path/'a.mkv', 60, late=9, g='20', bf='3')
    film = playable(video, tmp_path/'c', progress=False, encode=False)
    assert film.reason == 'browsers play mp4 and webm' and film.times[0] == 0
    assert torch.equal(Video(film.path).frames(range(60)), video.frames(range(60)))

@pytest.mark.parametrize('name', ['decord__flipping_a_pancake.mkv', 'torchcodec__av1_video.mkv', 'torchcodec__nasa_13013.mp4', 'vfeat__v_ZNVhz7ctTq0.mp4'])
def test_real_films_in_stretches(name):
    "Every stretch of a real film, one behind the other, is the film: each frame to the bit and at its moment"
    if not (VIDEOS/name).is_file(): pytest.skip(f'{VIDEOS/name} is not there; {MISSING}')
    video = Video(VIDEOS/name, check=False)
    firsts, times = stretches(video, size=1)[1], []
    for a, b in zip(firsts.tolist(), [*firsts[1:].tolist(), len(video)]):
        late = hand_on(video, out := io.BytesIO(), a, b, fragments=True)
        out.seek(0)
        with av.open(out) as f: shown = [(float(o.pts*o.time_base)-late, o.to_ndarray(format='rgb24')) for o in f.decode(video=0)]
        assert len(shown) == b-a and torch.equal(torch.from_numpy(np.stack([o for _, o in shown])), video.frames(range(a, b)))
        times += [t+video.timestamps[a] for t, _ in shown]
    np.testing.assert_allclose(times, video.timestamps, atol=1e-6)

def test_real_films_as_they_are():
    if not VIDEOS.is_dir(): pytest.skip(f'{VIDEOS} is not there; {MISSING}')
    as_is = {'mmaction2__demo.mp4', 'vfeat__v_ZNVhz7ctTq0.mp4', 'askany__making_cake.mp4'}
    for name in (*as_is, 'decord__video_90.mov', 'mmaction2__test.avi', 'torchcodec__h264_10bits.mp4', 'torchcodec__nasa_13013.mp4'):
        assert (why_copy(Video(VIDEOS/name, check=False)) == '') == (name in as_is), name

# ---------------------------------------------------------------- state

def test_state_is_checked_whoever_sets_it(viewer):
    for name, good, bad in (('frame', 99, 100), ('frame', 0, -1), ('layer', 2, 3), ('head', -2, -3), ('lane', 3, 4), ('speed', 4, 4.5), ('how', 'rollout', 'mean'), ('order', 'focus', 'size'),
                            ('scale', 'shared', 'log'), ('theme', 'dark', 'pink'), ('hidden', [[0,13]], [[0,14]]), ('hidden', [], [[3,3]]), ('frame', 7, 'x'), ('hidden', [[1,2]], [[1.5,2]])):
        setattr(viewer, name, good)
        with pytest.raises(TraitError): setattr(viewer, name, bad)
        assert getattr(viewer, name) == good

def test_moments_that_are_moved_are_checked_and_come_back_as_a_table(model, mp4, features, tmp_path):
    t = moments(model, Item(mp4.name, mp4, n_frames=100, fps=20.), features={mp4.name: features}, finder=Finder(least=1.), most=2, progress=False)
    v = view(model, mp4, moments=t, features=features)
    assert v.moments().to_csv() == t.to_csv()                        # nothing moved, nothing changed
    given = {q['name']: q['moments'] for q in v.data.meta['questions'] if 'moments' in q}
    q = next(iter(given))
    for bad in ({q: [[0,9]]*(len(given[q])+1)}, {q: [[9,9]]*len(given[q])}, {q: [[0,101]]*len(given[q])}, {q: [[0,9.5]]*len(given[q])}, {q: 3}, {q: [[True,9]]*len(given[q])}):
        with pytest.raises(TraitError, match='as frames'): v.moved = bad
    with pytest.raises(ValueError, match='no moment of'): v.moved = {'nobody asked': [[0,9]]}
    assert v.moved == {}
    v.set_state({'moved': {q: [[16,40], *given[q][1:]]}})            # as the browser sends it
    new = v.moments()
    changed = [i for i in range(len(t)) if new.iloc[[i]].to_csv() != t.iloc[[i]].to_csv()]
    assert changed == [t.question.tolist().index(q)]
    row = new.iloc[changed[0]]
    assert (row['first'], row['last']) == (16, 40) and row.remark.startswith('moved by hand') and np.isnan(row.trust)
    np.testing.assert_allclose([row.start, row.end], Video(mp4).timestamps[[16,40]])
    lost = lost_by_hiding(model, features, np.array([span_clips((16,40), v.data.answer.frames)]))[q][0]
    np.testing.assert_allclose(row.needed, lost, atol=1e-6)          # what hiding the new span costs
    lane = [o['name'] for o in v.data.meta['questions']].index(q)
    reply, _ = respond(v, dict(type='needed', id=4, question=lane, span=[16,40]))
    assert abs(reply['needed']-lost) < 1e-6 and json.loads(json.dumps(reply)) == reply
    assert 'expected a moment' in respond(v, dict(type='needed', id=4, question=lane, span=[40,16]))[0]['error']
    assert write_moments(new, tmp_path/'m.vtt')[0].read_text().count('-->') == t['first'].notna().sum()
    kept = page(v.data, dict(moved=v.moved))
    assert '"moved"' in kept and '[16,40]' in kept.replace(', ', ',')
    v.moved = {}
    assert v.moments().to_csv() == t.to_csv()
    plain = AttentionViewer(view_data(v.data.answer, Video(mp4), moments={q: [(8,24)]}), moved={q: [[10,24]]})   # no model, no table
    assert plain.moments()[['question','first','last','remark']].values.tolist() == [[q, 10, 24, 'moved by hand']]
    assert 'no model' in respond(plain, dict(type='needed', id=4, question=lane, span=[16,40]))[0]['error']

def test_what_the_browser_sends_is_state(viewer):
    viewer.set_state({'frame': 41, 'hidden': [[2,4]], 'layer': 1})
    assert (viewer.frame, viewer.hidden, viewer.layer) == (41, [[2,4]], 1)

def test_unknown_words_raise(model, mp4, features):
    with pytest.raises(ValueError, match="'layers'.*nearest known spelling: 'layer'"): view(model, mp4, features=features, layers=1)
    with pytest.raises(TraitError, match='layer from -1 to 2'): view(model, mp4, features=features, layer=3)
    v = view(model, mp4, features=features, layer=1, order='peak', theme='dark', frame=5)
    assert (v.layer, v.order, v.theme, v.frame) == (1, 'peak', 'dark', 5)
    assert all(v.trait_metadata(k, 'sync') for k in STATE)

# ---------------------------------------------------------------- questions of the browser

@pytest.mark.parametrize('hidden,keep', [([], False), ([[2,5]], False), ([[2,5]], True), ([[0,3],[7,13]], False)])
def test_whatif_is_a_direct_computation(viewer, model, features, hidden, keep):
    reply, buffers = respond(viewer, dict(type='whatif', id=3, hidden=hidden, keep=keep))
    want = ask_again(model, features, shown(13, [tuple(r) for r in hidden], keep))
    assert reply['id'] == 3 and not buffers and [r['name'] for r in reply['answers']] == list(want)
    for r in reply['answers']: assert r['ranked'] == [[a, p] for a, p in want[r['name']]][:6] and r['p'] == want[r['name']][0][1]
    assert json.loads(json.dumps(reply)) == reply
    if not hidden: assert all(r['said'] == r['was'] and abs(r['p']-r['p_was']) < 1e-6 for r in reply['answers'])

@pytest.mark.parametrize('message,words', [(dict(type='whatif', hidden=[[0,13]]), 'at least one'), (dict(type='whatif', hidden=[[0,99]]), 'last ≤ 13'), (dict(type='curves', question=17), 'range'),
    (dict(type='curves'), 'question'), (dict(type='video', part=99), 'expected a piece'), (dict(type='eval', code='1'), 'expected a message'), (dict(), 'expected a message'), (dict(type='whatif', hidden='abc'), '')])
def test_bad_messages_are_answered(viewer, message, words):
    reply, buffers = respond(viewer, {**message, 'id': 5})
    assert words in reply['error'] and reply['error'] and reply['id'] == 5 and not buffers

def test_replies_go_out(viewer, monkeypatch):
    sent = []
    monkeypatch.setattr(AttentionViewer, 'send', lambda self, m, b=None: sent.append((m, b)))
    viewer._handle_custom_msg(dict(type='curves', id=1, question=1), [])
    viewer._handle_custom_msg(dict(type='video', part=0), [])
    assert [m['type'] for m, _ in sent] == ['curves', 'video'] and len(sent[1][1]) == 1
    assert len({len(sent[0][0][k]) for k in ('share','insertion','deletion','random','low','high')}) == 1

# ---------------------------------------------------------------- tables, pictures, figures

@pytest.mark.parametrize('layer,head,how', [(-1,-1,'attn'), (0,1,'attn'), (2,-2,'attn'), (-1,-2,'attn'), (-1,-1,'rollout')])
def test_table_and_figure_follow_the_state(viewer, model, mp4, layer, head, how):
    said = answer(model, mp4)
    viewer.layer, viewer.head, viewer.how, viewer.order = layer, head, how, 'peak'
    A = said.attn
    h = A.amax(1) if head == -2 else A.mean(1) if head == -1 else A[:,head]
    want = torch.stack(list(said.maps(how='rollout').values())) if how == 'rollout' else h.mean(0) if layer == -1 else h[layer]
    table = viewer.table()
    for q, a in zip(said.names, want): np.testing.assert_allclose(table[q], a, atol=1e-6)
    peaks = [int(np.argmax(a)) for a in viewer.maps().values()]
    assert peaks == sorted(peaks) and list(viewer.table('answers').peak_clip) == peaks
    fig = viewer.figure()
    names = [t.get_text() for ax in fig.axes for t in ax.texts if t.get_text() in said.names]
    assert names == list(viewer.maps())
    for kind in ('pdf', 'svg'): fig.savefig(out := io.BytesIO(), format=kind); assert out.tell() > 2000
    plt.close(fig)

def test_saved_notebook_has_a_picture(viewer):
    data, _ = viewer._repr_mimebundle_()
    assert {'application/vnd.jupyter.widget-view+json', 'image/png', 'text/plain'} == set(data)
    picture = Image.open(io.BytesIO(base64.b64decode(data['image/png'])))
    assert picture.width >= 900 and len(np.unique(np.asarray(picture.convert('L')))) > 20 and len(data['image/png']) < 150_000
    a = np.asarray(viewer.still()).astype(int)
    viewer.layer = 0
    assert (np.asarray(viewer.still()) != a).any()

@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 200))
def test_columns_hold_every_peak(n, width):
    a = np.random.default_rng(n*width).random(n)
    got = pool_max(a, np.linspace(0, 7, n+1), width)
    assert got.shape == (width,) and got.max() == a.max() and set(got) <= set(a)
    if width >= 2*n: assert set(got) == set(a)

def test_orders_and_focus():
    maps = {'a': np.eye(9)[5], 'b': np.ones(9)/9, 'c': np.eye(9)[2]*.5+.5/9}
    rows = [dict(name=k, p=p) for k, p in zip('abc', (.2,None,.9))]
    name = lambda by: ''.join('abc'[i] for i in lane_order(rows, maps, by))
    assert (name('given'), name('probability'), name('peak'), name('focus')) == ('abc','cab','bca','acb')
    assert focus(np.eye(9)[1]) == 1 and abs(focus(np.ones(9))) < 1e-9 and focus(np.ones(1)) == 1

def test_stored_notebooks_hold_no_widget_that_is_gone():
    "A live view without its kernel is an error in JupyterLab; pictures stay, and bars that are full leave nothing behind"
    nbs = Path(__file__).parents[1]/'nbs'
    gone = [p.relative_to(nbs).as_posix() for p in nbs.rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts and 'application/vnd.jupyter.widget-view+json\": {' in p.read_text()]
    assert not gone, f'outputs with a live view: {gone}'

# ---------------------------------------------------------------- input at fault

def test_faults_of_the_input_are_messages(model, mp4, features, tmp_path):
    (tmp_path/'empty.mp4').touch(); (tmp_path/'text.mp4').write_text('hello'*99)
    write_video(tmp_path/'short.mp4', np.zeros((5,32,32,3), 'u1'))
    write_video(tmp_path/'other.mp4', np.zeros((60,32,32,3), 'u1'))
    said = answer(model, mp4, n_thumbs=0)
    for v, words in ((view(model, tmp_path/'missing.mp4'), 'no such file'), (view(model, tmp_path/'empty.mp4'), 'the file is empty'), (view(model, tmp_path/'text.mp4'), 'not a video'),
                     (view(model, tmp_path/'short.mp4'), 'fewer than one clip'), (view(model, mp4, features=features[:-2]), '13 clips'), (view(model, mp4, features=torch.randn(13, 5)), 'features'),
                     (view(said, tmp_path/'other.mp4'), 'the attention covers 100 frames'), (view(replace(said, attn=None), mp4), 'no attention was captured'), (view(model), 'got neither'),
                     (view(replace(said, attn=said.attn*float('nan'))), 'not numbers'), (view(model, mp4, {'weg':'1'}, features=features), "no question 'weg'"),
                     (view(model, mp4, extents={'twist':(90,120)}, features=features), 'within 100'), (view(replace(said, frames=said.frames[:0])), 'differ in length')):
        assert words in v.error, v.error
        assert v.meta == {} and v._repr_mimebundle_()[0]['text/plain'] == f'AttentionViewer: {v.error}'
        for act in (v.table, v.figure, v.still, lambda: v.save(tmp_path/'x.html'), lambda: v.save_video(tmp_path/'x.mp4')):
            with pytest.raises(ValueError, match='.'): act()
        v.close()
    assert not (tmp_path/'x.html').exists()

def test_a_model_without_attention_is_named(mp4, features):
    class Blind(TQN):
        def forward(self, *args, **kwargs): return replace(super().forward(*args, **kwargs), attn=None)
    assert 'no attention' in view(Blind(QS, d_model=16, n_layers=1, n_heads=1, d_features=6), features).error

# ---------------------------------------------------------------- what can be viewed

def test_rows_answers_and_features_can_be_viewed(model, mp4, features):
    row = dict(path=str(mp4), answers={'takeoff':'Back','twist':None}, class_name='plain', extents={'takeoff':(0,16)})
    v = view(model, row, features=features.numpy())
    by = {q['name']: q for q in v.meta['questions']}
    assert by['class']['truth'] == 'plain' and by['takeoff']['extent'] == [0,16] and by['twist']['right'] is None
    said = answer(model, mp4, n_thumbs=0)
    still = view(said, mp4)
    assert not still.meta['has_kernel'] and still.meta['video'] and 'no model' in respond(still, dict(type='whatif', hidden=[]))[0]['error']
    bare = view(model, features)
    assert not bare.meta['video'] and bare.meta['has_kernel'] and bare.meta['n_frames'] == 104 and len(numbers(bare.times, '<f8')) == 104
    assert 'there is no film' in respond(bare, dict(type='video', part=0))[0]['error']

class Gate(Mean):
    "Goes no further than the first pass until it is opened, and then perhaps breaks"
    def __init__(self): super().__init__(); self.open,self.passes,self.broken = threading.Event(),0,False
    def forward(self, x):
        self.passes += 1
        if self.passes > 1: assert self.open.wait(60)
        return super().forward(x)*(float('nan') if self.broken else 1)

@pytest.fixture
def gated(model, monkeypatch):
    monkeypatch.setattr('tqn.features.stream.PASS', 4*3*8*16**2)                                  # four clips in a pass
    torch.manual_seed(0)
    m = TQN(QS, Gate(), d_model=16, n_layers=3, n_heads=2).eval()
    m.preprocess = model.preprocess
    yield m
    m.backbone.open.set()

def test_a_long_film_is_shown_before_it_is_read(gated, mp4, features, tmp_path):
    early = view(gated, mp4, {'takeoff': 'Back'}, wait=False)
    assert not early.error and early.meta['notes'][0].startswith('The film is being read: 4 of 13 clips') and early.meta['video']
    first = np.frombuffer(early.attn, early.meta['attn_dtype']).reshape(3, 2, -1, 13)
    assert (first[...,:4] > 0).all() and (first[...,4:] == 0).all()
    assert np.abs(first[...,:4] - answer(gated, features[:4]).attn.numpy()).max() < 1e-6            # what is said of a film that ends there
    assert 'image/png' in early._repr_mimebundle_()[0]                                            # does not wait
    assert 'still being read' in early.now(respond, early, dict(type='whatif', hidden=[[0,1]]))[0]['error']
    assert 'error' not in early.now(respond, early, dict(type='video', part=0))[0]
    threading.Timer(.2, gated.backbone.open.set).start()
    table = early.table()                                                                         # waits
    full = view(gated, mp4, {'takeoff': 'Back'}, features=features)
    pd.testing.assert_frame_equal(table, full.table(), rtol=1e-5)
    assert early.features is not None and {**early.meta, 'fps': 0} == {**full.meta, 'fps': 0}
    assert 'answers' in respond(early, dict(type='whatif', hidden=[[0,1]]))[0]
    assert early.save(tmp_path/'page.html').stat().st_size > 1000

def test_moments_of_a_film_that_is_being_read_say_what_they_cost(gated, mp4):
    "From the first clips on, as in a film that was read before"
    table = pd.DataFrame([dict(film=mp4.name, question='takeoff', answer='Back', probability=.9, start=.4, end=1.2, first=8, last=24, peak=16, score=2., needed=n, elsewhere=.1, remark='') for n in (.25, np.nan)])
    early = view(gated, mp4, moments=table, wait=False)
    told = lambda: next(q for q in early.meta['questions'] if q['name'] == 'takeoff')
    assert (told()['moments'], told()['needed']) == ([[8, 24]]*2, [.25, None]) and early.features is None
    gated.backbone.open.set(); early.wait()
    assert (told()['moments'], told()['needed']) == ([[8, 24]]*2, [.25, None]) and early.features is not None

def test_a_film_that_breaks_while_it_is_read_says_so(gated, mp4):
    early = view(gated, mp4, wait=False)
    gated.backbone.broken = True; gated.backbone.open.set()
    with pytest.raises(ValueError, match='not finite'): early.table()
    assert 'not finite' in early.error

def test_a_viewer_that_is_closed_reads_no_further(gated, mp4):
    early = view(gated, mp4, wait=False)
    early.close(); gated.backbone.open.set(); early.wait()
    assert gated.backbone.passes <= 3 and early.features is None

def test_who_waits(gated, model, mp4):
    gated.backbone.open.set()
    assert view(gated, mp4)._reader is None                                                       # short, and no notebook
    assert view(model.train(), mp4, wait=False)._reader is None; model.eval()                     # would change while it is asked
    assert 'no such file' in view(gated, mp4.parent/'none.mp4', wait=False).error
    assert 'no question' in view(gated, mp4, {'weg': 'x'}, wait=False).error

def test_names_come_lazily_and_files_are_packed():
    assert tqn.view is view and tqn.AttentionViewer is AttentionViewer
    js, _ = front_end('viewer')
    assert 'innerHTML' not in js and 'http://' not in js.replace('http://www.w3.org', '') and 'https://' not in js
