"Several extents for one question: written and read again by every program, moved along, scored against naive loops"
import json
from dataclasses import replace
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose
from tqn.attention.localise import ClipMaps, clip_overlap, clip_scores, map_scores
from tqn.data.items import Item, as_extent, extent_list, frame_spans, load_items, read_manifest, write_manifest
from tqn.data.batches import lengthened, moved
from tqn.video.transforms import clip_grid, clip_spans

@st.composite
def extents(draw, n=200, most=4):
    "Frames of one extent or several, in any order; they may touch"
    cuts = sorted(draw(st.sets(st.integers(0, n), min_size=2, max_size=2*most)))
    pairs = list(zip(cuts[::2], cuts[1::2]))
    if draw(st.booleans()) and len(cuts) > 2: pairs = [*pairs[:1], (cuts[1], cuts[2])]       # two that touch
    return draw(st.permutations(pairs))

@given(st.lists(st.dictionaries(st.sampled_from(['way', 'class', 'a b']), extents(), max_size=3), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_table_says_what_was_written(tmp_path_factory, given_):
    "Any extents, through CSV and JSON lines and through both in turn"
    folder = tmp_path_factory.mktemp('t')
    items = [Item(f'{i}.mp4', folder/f'{i}.mp4', {'way': 'x', 'a b': 'y'}, extents={q: as_extent(e) for q,e in d.items()} or None, n_frames=200) for i,d in enumerate(given_)]
    csv = load_items(write_manifest(folder/'m.csv', items))
    lines = load_items(write_manifest(folder/'m.jsonl', csv))
    for found in (csv, lines): assert [{q: extent_list(e) for q,e in (o.extents or {}).items()} for o in found] == [{q: sorted(e) for q,e in d.items()} for d in given_]
    assert (folder/'m.csv').read_bytes() == write_manifest(folder/'again.csv', lines).read_bytes()

def test_earlier_tables_mean_the_same(tmp_path):
    "One extent is written and kept as it always was"
    (tmp_path/'m.csv').write_text('path,way,way extent\na.mp4,x,12-57\n')
    (tmp_path/'m.jsonl').write_text(json.dumps({'path': 'a.mp4', 'answers': {'way': 'x'}, 'extents': {'way': [12, 57]}})+'\n')
    for name in ('m.csv', 'm.jsonl'): assert load_items(tmp_path/name)[0].extents == {'way': [12, 57]}
    assert '12-57' in write_manifest(tmp_path/'n.csv', load_items(tmp_path/'m.csv')).read_text()
    assert json.loads(write_manifest(tmp_path/'n.jsonl', load_items(tmp_path/'m.csv')).read_text())['extents'] == {'way': [12, 57]}

@pytest.mark.parametrize('cell,said', [('12-57|90', "expected frames such as 12-57, the first included and the last not, got '90'"), ('12-57|', "got ''"), ('12-57|50-80', 'got 12-57 and 50-80, which overlap; write them as one, 12-80'),
    ('12-57|12-57', 'which overlap'), ('1-2|9-3', "got '9-3'"), ('1-2|90-120', 'expected an end of at most 100 frames, got 120'), ('1-2-3|4-5', "got '1-2-3'")])
def test_what_is_wrong_is_named(tmp_path, cell, said):
    (tmp_path/'m.csv').write_text(f'path,n_frames,way,way extent\na.mp4,100,x,{cell}\n')
    p, = read_manifest(tmp_path/'m.csv').problems
    assert (p.line, p.column) == (2, 'way extent') and said in p.text

@pytest.mark.parametrize('value', [[[1, 2], [3]], [[1, 2], 3], [1, 2, 3, 4], [[1, 2], [True, 3]], [[1, 2], [2.5, 3]], [[[1, 2]]], {'a': 1}, [], 'x'])
def test_json_that_is_no_extent(tmp_path, value):
    (tmp_path/'m.jsonl').write_text(json.dumps({'path': 'a.mp4', 'answers': {'way': 'x'}, 'extents': {'way': value}})+'\n')
    p, = read_manifest(tmp_path/'m.jsonl').problems
    assert 'expected frames such as 12-57' in p.text

def test_other_signs_between_extents():
    assert frame_spans('90-120; 12–57') == frame_spans('12:57, 90-120') == [[12, 57], [90, 120]]

@given(extents(), st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_variants_move_all_of_them(e, wait):
    "The distance between extents stays, and all lie in the new film"
    items = [Item(f'v{i}', f'v{i}.mp4', {'way': 'x'}, extents={'way': as_extent(e), 'none': None}, n_frames=200+wait, fps=25., split='train') for i in range(3)]
    for make in (moved, lambda o: lengthened(o, (20, 30)) if wait+200-max(b for _,b in e)>=3 or min(a for a,_ in e)>=3 else moved(o)):
        for old, new in zip(items, make(items)):
            a, b = extent_list(old.extents['way']), extent_list(new.extents['way'])
            assert len({d[k]-c[k] for c,d in zip(a, b) for k in (0, 1)}) == 1 and len(a) == len(b) and 0 <= b[0][0] and b[-1][1] <= new.n_frames and new.extents['none'] is None

@given(extents(n=96), st.integers(0, 2**31), st.sampled_from([None, 1, 3]))
@settings(max_examples=60, deadline=None)
def test_scores_are_those_of_a_naive_loop(e, seed, hop):
    "Peaks in any extent, mass in all, IoU of the frames as sets"
    spans = clip_spans(len(clip_grid(96, 8, 1, hop)), 96, 8, 1, hop)
    attn = np.random.default_rng(seed).random(len(spans))+1e-3
    frames = {f for a,b in e for f in range(a, b)}
    inside = [sum(f in frames for f in range(a, b)) for a,b in spans]
    assert clip_overlap(e, spans).tolist() == inside
    hit = [any(sum(p <= f < q for f in range(a, b)) >= .5*min(b-a, q-p) for p,q in e) for a,b in spans]
    top = {f for (a,b),w in zip(spans, attn) if w >= .5*attn.max() for f in range(a, b)}
    assert_allclose(map_scores(attn, e, spans), [hit[attn.argmax()], sum(w*k/(b-a) for w,k,(a,b) in zip(attn, inside, spans))/attn.sum(), len(top & frames)/len(top | frames)])
    assert clip_scores(e, spans)[0].tolist() == hit
    one = max(e)
    for f in (clip_scores, clip_overlap): assert_allclose(f(one, spans), f([one], spans))

def test_maps_refuse_what_lies_outside():
    with pytest.raises(ValueError, match=r'extent of .way. as frames .* got \[90, 120\]'): ClipMaps('v', {'way': np.ones(12)}, {'way': [(1, 5), (90, 120)]}, 96)
    with pytest.raises(ValueError, match='which overlap'): ClipMaps('v', {'way': np.ones(12)}, {'way': [(1, 5), (4, 12)]}, 96)
    assert ClipMaps('v', {'way': np.ones(12)}, {'way': []}, 96).extents == {'way': None}
