"The labeller's kernel side: what is pressed is on the disk, whatever happens next"
import json, resource, signal, subprocess, sys
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from tqn import Labeller, QuerySet
from tqn.data.items import extent_list, load_items
from tqn.widgets.label import Proposals, journal_of, load_marks, open_labels, read_journal, save_marks
from tqn.video.video import write_video
from test_viewer_js import LOAD, modules, run as node

QS = QuerySet([{'name': 'way', 'answers': ['left', 'right']}, {'name': 'with', 'answers': ['rope', 'ball', 'a|b'], 'kind': 'many'}])
TEXT = 'path,camera,way\na.mp4,"phone, old",left\nb.mp4,tripod,\n'

@pytest.fixture
def table(tmp_path):
    (tmp_path/'t.csv').write_text(TEXT)
    return tmp_path/'t.csv'

SCRIPT = '''
import sys
from tqn.widgets.label import open_labels
from tqn import QuerySet
labels = open_labels(sys.argv[1], QuerySet({'way': ['left', 'right']}))
print('open', flush=True)
for i in range(100_000):
    labels.change('b.mp4', 'extent', 'way', [i, i+1])
    if i % 7 == 0: labels.save()
    print(i, flush=True)
'''

def test_killed_at_any_time(table):
    "kill -9 in the middle of journal and table: every change that was confirmed is there, and both files are whole"
    for n in (3, 20):
        p = subprocess.Popen([sys.executable, '-c', SCRIPT, str(table)], stdout=subprocess.PIPE, text=True)
        assert p.stdout.readline() == 'open\n'
        confirmed = [int(p.stdout.readline()) for _ in range(n)]
        p.send_signal(signal.SIGKILL)
        confirmed += [int(l) for l in p.stdout.read().split('\n')[:-1]]
        labels = open_labels(table, QuerySet({'way': ['left', 'right']}))
        assert labels.by_id['b.mp4'].extents['way'][0] in (confirmed[-1], confirmed[-1] + 1)
        assert labels.by_id['a.mp4'].answers == {'camera': 'phone, old', 'way': 'left'}
        labels.save()
    assert not journal_of(table).exists() and table.with_name('t.csv.before').read_text() == TEXT

def test_torn_and_foreign_lines(table):
    "A cut line, a line of something else and a video that is gone are left out"
    labels = open_labels(table, QS)
    labels.change('b.mp4', 'answer', 'way', 'right')
    with open(journal_of(table), 'ab') as f: f.write(b'[1]\n' + b'['*100_000 + b'\n{"id": "gone.mp4", "what": "answer", "question": "way", "new": "left"}\n{"id": "b.mp4", "what": "answer", "qu')
    again = open_labels(table, QS)
    assert again.recovered == 1 and again.by_id['b.mp4'].answers['way'] == 'right'

def test_other_programs_are_respected(table):
    "A table changed elsewhere is not written over; the work stays in the journal"
    labels = open_labels(table, QS)
    labels.change('b.mp4', 'answer', 'way', 'right')
    table.write_text(TEXT.replace('phone, old', 'phone'))
    with pytest.raises(ValueError, match='changed by another program'): labels.save()
    assert 'right' not in table.read_text()
    again = open_labels(table, QS)
    again.save()
    assert 'right' in table.read_text() and '"phone, old"' not in table.read_text()

def test_undo_and_many(table):
    labels = open_labels(table.with_suffix('.jsonl'), QS, videos=_film(table.parent))
    id = labels.items[0].id
    labels.change(id, 'answer', 'with', ['a|b', 'rope'])
    labels.change(id, 'answer', 'way', 'left')
    labels.change(id, 'answer', 'way', 'right')
    assert labels.by_id[id].answers == {'with': ['rope', 'a|b'], 'way': 'right'}
    assert labels.undo() == id and labels.by_id[id].answers['way'] == 'left'
    labels.undo(); labels.undo()
    assert labels.by_id[id].answers == {} and labels.undo() is None
    labels.change(id, 'answer', 'with', ['ball'])
    labels.save()
    assert load_items(table.with_suffix('.jsonl'))[0].answers == {'with': ['ball']}

def _film(folder):
    (folder/'films').mkdir()
    write_video(folder/'films'/'film.mp4', torch.randint(0, 255, (30, 32, 48, 3), dtype=torch.uint8), fps=20.)
    return folder/'films'

BAD = [dict(type='answer', question='way', value='lefft'), dict(type='answer', question='wey', value='left'), dict(type='extent', question='way', value=[5, 5]), dict(type='extent', question='way', value=['a', 2]), dict(type='extent', question='way', value=[[1, 5], [4, 9]]), dict(type='extent', question='way', value=[[1, 5], [7]]), dict(type='extent', question='way', value='1-5'),
       dict(type='answer', question='with', value='rope'), dict(type='dance', question='way', value=1), dict(type='go', at=99), dict(type='answer'), dict(type='go', at='x')]

@pytest.mark.parametrize('message', BAD, ids=str)
def test_nonsense_from_the_page(table, message):
    "Refused with a reason, confirmed as dealt with, and the table stays as it is"
    w = Labeller(table, QS)
    sent = []
    w.send = lambda m, buffers=None: sent.append(m)
    w._receive(None, {**message, 'id': 'b.mp4', 'seq': 5}, [])
    assert w.notice and sent == [{'type': 'refused', 'seq': 5, 'error': w.notice}] and not read_journal(table) and table.read_text() == TEXT

def test_a_full_disk_is_never_called_kept(table):
    "Every write fails for a while: what was pressed is said not to be kept, no half line and no empty backup stay behind, and tried again it is kept"
    w, sent = Labeller(table, QS), []
    w.send = lambda m, buffers=None: sent.append(m)
    press = lambda seq, value, question='way': w._receive(None, dict(type='answer', id='b.mp4', question=question, value=value, seq=seq), [])
    press(1, 'right')
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for size in (0, journal_of(table).stat().st_size + 9):       # nothing fits, or nine bytes of the line
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
            press(2, ['rope'], 'with')
            assert sent[-1]['type'] == 'failed' and 'NOT kept: ' in w.notice == w.saved == sent[-1]['error'] and w.row['answers']['with'] is None
            if size: continue
            w.save()
            assert 'kept in its journal' in w.saved and 'is not written' in w.saved
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, old); signal.signal(signal.SIGXFSZ, handler)
    assert not table.with_name('t.csv.before').exists() and table.read_text() == TEXT and not [p for p in table.parent.iterdir() if 'tmp' in p.name]
    assert [c['question'] for c in read_journal(table)] == ['way']
    press(2, ['rope'], 'with')
    assert sent[-1] == {'type': 'kept', 'seq': 2} and w.saved.startswith('all kept') and [c['question'] for c in read_journal(table)] in (['way', 'with'], [])
    assert open_labels(table, QS).by_id['b.mp4'].answers['with'] == ['rope']

def test_the_next_film_is_opened_ahead(tmp_path):
    folder = _film(tmp_path)
    for name in ('later', 'most'): (folder/f'{name}.mp4').write_bytes((folder/'film.mp4').read_bytes())
    w = Labeller(tmp_path/'t.csv', QS, videos=folder)
    thread, found = w.ahead[1]
    thread.join()
    assert found[2].path.name == 'later.mp4' and found[0]['n_frames'] == 30
    w.labels.change('later.mp4', 'answer', 'way', 'left')
    w.go(1)
    assert w.film is found[2] and w.row['answers']['way'] == 'left' and [*w.ahead] == [2]     # what was answered meanwhile is there
    w.go(0)
    assert w.row['id'] == 'film.mp4' and w.film.path.name == 'film.mp4'

def test_pieces_of_the_film(tmp_path):
    "The bytes that the page puts together are the file's"
    w = Labeller(tmp_path/'t.csv', QS, videos=_film(tmp_path))
    sent = []
    w.send = lambda m, buffers=None: sent.append((m, buffers))
    w._receive(None, dict(type='film', id=w.row['id'], part=0), [])
    assert sent[0][1][0] == (tmp_path/'films/film.mp4').read_bytes() and sent[0][0]['parts'] == 1 and len(w.times) == 8*w.row['n_frames'] == 240
    w._receive(None, dict(type='film', id=w.row['id'], part=7), [])
    assert 'expected a piece' in sent[1][0]['error']
    w._receive(None, dict(type='film', id='another', part=0), [])
    assert len(sent) == 2

def test_messages_in_place_of_the_widget(tmp_path):
    for make, message in [(lambda: Labeller(tmp_path/'no.csv'), 'pass videos='), (lambda: Labeller(tmp_path/'no.csv', QS, videos=tmp_path), 'there are no videos')]: assert message in make().error
    (tmp_path/'t.csv').write_text('path,way\na.mp4\nb.mp4,x,y\n')
    assert 'line 2' in Labeller(tmp_path/'t.csv').error and 'line 3' in Labeller(tmp_path/'t.csv').error
    with pytest.raises(ValueError, match='has no setting'): Labeller(tmp_path/'t.csv', thme='dark')

JS = '''
const out = {}, key = (key, code, more = {}) => v.action({key, code, ...more})
out.keys = [key('3', 'Digit3'), key('#', 'Digit3', {shiftKey: true}), key('0', 'Digit0'), key('I', 'KeyI'), key('i', 'KeyI', {ctrlKey: true}), key('ArrowLeft', '', {shiftKey: true}), key('q', 'KeyQ')]
out.extents = [v.extentAfter(null, 'begin', 5, 30), v.extentAfter(null, 'end', 5, 30), v.extentAfter([10, 20], 'begin', 25, 30), v.extentAfter([10, 20], 'end', 4, 30), v.extentAfter([10, 20], 'begin', 29, 30)]
const two = [[10, 20], [30, 40]]
out.shared = [[], ['a'], ['a/b/c', 'a/b/d'], ['a/b/c', 'a/bd/d'], ['a/b/c', 'x'], ['a/b/c'], ['/a', '/b']].map(v.sharedFolder)
out.listed = [v.listed(null), v.listed([1, 2]), v.listed(two)]
out.after = [v.extentsAfter(two, 0, null), v.extentsAfter([[1, 2]], 0, null), v.extentsAfter(two, -1, [25, 26]), v.extentsAfter(two, 0, [10, 31]), v.extentsAfter(two, 1, [20, 40]), v.extentsAfter([], -1, [3, 4])]
out.at = [[0, 15, 19, 22, 28, 35, 50].map(f => v.extentAt(two, f)), [0, 15, 25, 50].map(f => v.extentAt(two, f, 'begin')), [0, 15, 25, 35, 50].map(f => v.extentAt(two, f, 'end')), v.extentAt([], 3, 'end')]
let state = 7, kept = true
const draw = n => (state = (state * 1103515245 + 12345) % 2147483648) % n
for (let run = 0; run < 300; run++) {                       // whatever is pressed, a row keeps extents that the table takes
  let row = null
  for (let i = 0; i < 12; i++) {
    const list = v.listed(row), f = draw(30), what = ['begin', 'end', 'another', 'off', 'draw'][draw(5)], k = v.extentAt(list, f, what)
    row = what === 'off' ? v.extentsAfter(list, k, null) : what === 'another' ? v.extentsAfter(list, -1, [f, f + 1])
      : what === 'draw' ? v.extentsAfter(list, k, v.extentDrawn(list[k], k < 0 ? '' : 'end', f, draw(30))) : v.extentsAfter(list, k, v.extentAfter(list[k], what, f, 30))
    const now = v.listed(row)
    kept &&= now.every(([a, b], i) => a >= 0 && a < b && b <= 30 && (!i || now[i - 1][1] <= a)) && (now.length > 1 || row === null || row.length === 2)
    if (what === 'begin' || what === 'end') kept &&= now.length <= Math.max(1, list.length) && now.some(([a, b]) => a <= f && f < b)
  }
}
out.kept = kept
out.answers = [v.answerAfter('a', 'b', false), v.answerAfter(null, 'b', true), v.answerAfter(['a', 'b'], 'b', true), v.answerAfter(['b'], 'b', true)]
const times = Float64Array.from(JSON.parse(process.argv[2])), n = times.length
out.frames = Array.from({length: n}, (_, i) => v.frameAt(times, v.seekTime(times, i, times[n - 1] + .04)))
console.log(JSON.stringify(out))
'''

def test_plain_functions_of_the_page(modules):
    "Keys, extents, answers, and every frame found again from its own time, at uneven rates"
    times = np.cumsum(np.r_[0, np.random.default_rng(0).uniform(.004, .2, 60)])
    done = node('--input-type=module', '-e', LOAD + JS, modules/'label.js', json.dumps(times.tolist()))
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    assert out['keys'] == [['answer', 2], ['answer', 11], ['clear', 0], ['begin', 0], None, ['step', -10], None]
    assert out['shared'] == [0, 0, 4, 2, 0, 4, 1]
    assert out['listed'] == [[], [[1, 2]], [[10, 20], [30, 40]]] and out['kept']
    assert out['after'] == [[30, 40], None, [[10, 20], [25, 26], [30, 40]], [10, 40], [[10, 20], [20, 40]], [3, 4]]
    assert out['at'] == [[0, 0, 0, 0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1, 1], -1]
    assert out['extents'] == [[5, 30], [0, 6], [25, 26], [4, 5], [29, 30]]
    assert out['answers'] == ['b', ['b'], ['a'], None] and out['frames'] == list(range(61))

changes = st.lists(st.tuples(st.sampled_from(['a.mp4', 'b.mp4']), st.one_of(st.tuples(st.just('answer'), st.just('way'), st.sampled_from(['left', 'right', None])),
    st.tuples(st.just('answer'), st.just('with'), st.sampled_from([['rope'], ['ball', 'rope'], None])), st.tuples(st.just('extent'), st.just('way'), st.sampled_from([[0, 3], [2, 9], [[0, 3], [5, 9]], [[5, 9], [1, 2], [2, 3]], None]))), st.booleans()), max_size=12)

@settings(max_examples=25)
@given(changes)
def test_reopened_at_any_point(tmp_path_factory, todo):
    "Saved or not, what was changed is what is read again"
    path = tmp_path_factory.mktemp('l')/'t.csv'
    path.write_text(TEXT)
    labels = open_labels(path, QS)
    for id, change, save in todo:
        labels.change(id, *change)
        if save: labels.save()
        again = open_labels(path, QS)
        for o in labels.items:
            assert again.by_id[o.id].answers == o.answers and (again.by_id[o.id].extents or {}) == (o.extents or {})

def test_what_a_model_proposes_is_nobodys_word(table):
    "Shown where nobody has marked, taken and refused by a person, never in the table by itself, remembered"
    moments = table.parent/'moments.csv'
    moments.write_text('film,question,answer,first,last,trust\na.mp4,way,"=left, or so",3,9,0.5\na.mp4,way,left,20,30,0.1\nb.mp4,with,rope,,,\nb.mp4,way,right,5,6,\n')
    w = Labeller(table, QS, moments=moments)
    said = []
    w.send = lambda message, buffers=None: said.append(message)
    first = w.row['id']
    both = {'a.mp4': dict(span=[3, 9], said='=left, or so, trust 0.50', refused=False), 'b.mp4': dict(span=[5, 6], said='right', refused=False)}
    assert {id: w.proposals.of(id) for id in both}=={id: {'way': o} for id,o in both.items()} and w.row['proposals']=={'way': both[first]}
    before = table.read_text()
    w._receive(None, dict(type='refuse', id=first, question='way', seq=1), [])
    assert w.row['proposals']['way']['refused'] and said[-1]=={'type': 'kept', 'seq': 1}
    w.save()
    assert table.read_text()==before and not any(o.extents for o in load_items(table))
    assert Labeller(table, QS, moments=moments).row['proposals']['way']['refused']
    w._receive(None, dict(type='refuse', id=first, question='with', seq=2), [])
    assert said[-1]['type']=='refused' and 'nothing is proposed' in w.notice
    for wrong,message in ((table.parent/'moments.xls', '.csv or .jsonl'), (table.parent/'none.csv', 'none.csv')): assert message in Labeller(table, QS, moments=wrong).error
    (table.parent/'t.csv.refused.json').write_text('[1]')
    assert 't.csv.refused.json' in Labeller(table, QS, moments=moments).error

marks = st.dictionaries(st.sampled_from(['way', 'with', 'class']), st.sets(st.integers(0, 30), min_size=2, max_size=8).map(lambda s: [list(p) for p in zip(sorted(s)[::2], sorted(s)[1::2])]))

@pytest.fixture(scope='module')
def films(tmp_path_factory): return _film(tmp_path_factory.mktemp('films'))

@settings(max_examples=12, deadline=None)
@given(marks, st.sampled_from(['left', None]), st.sampled_from([['rope', 'ball'], None]))
def test_marks_come_back_from_other_programs(films, tmp_path_factory, extents, way, used):
    "Several extents a question, through CSV, ELAN and the table; an answer without an extent is kept by CSV"
    folder = tmp_path_factory.mktemp('m')
    table, other = (films.parent/f'{folder.name}{s}.csv' for s in ('', '_again'))           # beside the films
    labels = open_labels(table, QS, films)
    id = labels.items[0].id
    for q, e in extents.items(): labels.change(id, 'extent', q, e)
    for q, a in dict(way=way, **{'with': used}).items():
        if a: labels.change(id, 'answer', q, a)
    spoken = {q: a for q, a in labels.by_id[id].answers.items()}
    said = {q: sorted(tuple(p) for p in e) for q, e in extents.items()}
    def told(o): return {q: extent_list(e) for q, e in (o.extents or {}).items()}
    labels.save()
    assert told(open_labels(table, QS).by_id[id]) == said
    for path in save_marks(labels, folder/'out.csv')+save_marks(labels, folder/'elan'):
        again = open_labels(other.with_name(other.stem+path.suffix[1:]+'.csv'), QS, films)
        load_marks(again, path)
        assert told(again.by_id[id]) == said
        assert again.by_id[id].answers == (spoken if path.suffix == '.csv' else {q: a for q, a in spoken.items() if q in extents})

def test_excerpts_and_films_of_one_name_are_told_apart(films, tmp_path):
    "An excerpt's seconds are no extension: each has its own file in ELAN and its own proposal; a name of two films is refused"
    for n in ('n1.mp4', 'a/clip.mp4', 'b/clip.mp4'):
        (tmp_path/n).parent.mkdir(exist_ok=True)
        (tmp_path/n).write_bytes(next(films.rglob('*.mp4')).read_bytes())
    (tmp_path/'t.csv').write_text('path,start,end,way\nn1.mp4,0.1,0.62,\nn1.mp4,0.1,0.68,\na/clip.mp4,,,\nb/clip.mp4,,,\n')
    labels = open_labels(tmp_path/'t.csv', QS)
    one,other = 'n1.mp4@0.1-0.62','n1.mp4@0.1-0.68'
    for id,way in ((one, 'left'), (other, 'right')): labels.change(id, 'answer', 'way', way); labels.change(id, 'extent', 'way', [2, 5])
    files = save_marks(labels, tmp_path/'elan')
    assert [p.name for p in files]==['n1@0.1-0.62.eaf', 'n1@0.1-0.68.eaf']
    (tmp_path/'again.csv').write_text((tmp_path/'t.csv').read_text())
    again = open_labels(tmp_path/'again.csv', QS)
    for p in files: assert load_marks(again, p)==2
    assert [again.by_id[id].answers['way'] for id in (one, other)]==['left', 'right']
    files[0].rename(tmp_path/'clip.eaf')
    with pytest.raises(ValueError, match='more than one film of the table is called clip; pass id=, one of a/clip.mp4, b/clip.mp4'): load_marks(again, tmp_path/'clip.eaf')
    assert load_marks(again, tmp_path/'clip.eaf', id='b/clip.mp4')==2
    (tmp_path/'m.csv').write_text(f'film,question,answer,first,last\nelsewhere/{other},way,left,3,9\nclip.mp4,way,left,1,2\n')
    assert [*Proposals(labels, tmp_path/'m.csv').spans]==[other]

def test_earlier_journals_are_read(table):
    "A journal with the one extent that a question could have"
    journal_of(table).write_text('{"id": "b.mp4", "what": "extent", "question": "way", "new": [3, 9], "old": null}\n')
    labels = open_labels(table, QS)
    assert labels.recovered == 1 and labels.by_id['b.mp4'].extents == {'way': [3, 9]}
    labels.change('b.mp4', 'extent', 'way', [[12, 15], [3, 9]])
    assert labels.undo() == 'b.mp4' and labels.by_id['b.mp4'].extents == {'way': [3, 9]}
