"A table of videos: every mistake with its place, all at once; checking, cleaning, cutting; the commands"
import json, os, pickle, random, shutil, subprocess, sys
from collections import Counter
from pathlib import Path
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from outside import FOLDER, MISSING, VIDEOS
from tqn.data.check import check, fix, scan_item, unused_files, cut_items, cut_path
from tqn.cli.main import run
from tqn.data.items import (
    DataError, Item, as_items, carve, encode_targets, guess_queries, inside, load_items, make_set, open_item, read_manifest, read_own,
    seconds, write_manifest)
from tqn.data.batches import ClipDataset, read_clips
from tqn.data.published import open_data, published_queries, published_rows, read_pickle
from tqn.questions.queries import Query, QuerySet
from tqn.video.video import write_video
from tqn.video.decode import VideoError

@pytest.fixture
def queries(): return QuerySet([Query('side', ['left', 'right']), Query('props', ['rope', 'ball', 'hoop'], kind='many')], classes=[('l', {'side': 'left'}), ('r', {'side': 'right'})])

@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch): monkeypatch.setenv('TQN_CACHE', str(tmp_path_factory.getbasetemp()/'cache'))

def film(path, n=20, shade=0):
    "A film whose frame i has the brightness shade + 4 i"
    write_video(path, np.broadcast_to(((shade + 4*np.arange(n)) % 256).astype(np.uint8)[:,None,None,None], (n, 32, 32, 3)))
    return path

# reading ---------------------------------------------------------------------------------------------------------------

def test_manifest(tmp_path, queries):
    (tmp_path/'m.csv').write_text(f'\ufeffid,path,class,n_frames,side,props\na,x.mp4,l,30,left,rope|hoop\nb,{tmp_path}/y.mp4,,,,\n', encoding='utf-8')
    a,b = load_items(tmp_path/'m.csv')
    assert (a.id, a.path, a.n_frames, b.path, b.n_frames, b.answers) == ('a', tmp_path/'x.mp4', 30, tmp_path/'y.mp4', None, {})
    assert encode_targets(a, queries)['answers']['props'].tolist() == [1, 0, 1]
    rows = [dict(id='a', path='x.mp4', answers={'side': 'left'}, fps=25, extents={'side': [0, 9]}, **{'class': 'l'})]
    (tmp_path/'m.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    assert load_items(tmp_path/'m.jsonl') == as_items([{**rows[0], 'path': tmp_path/'x.mp4'}])

@pytest.mark.parametrize('name,text,match', [
    ('m.csv', 'path,n_frames\nx.mp4,9\n,9\n', r"m\.csv, line 3, column 'path': expected the path of a video"),
    ('m.csv', 'path,n_frames\nx.mp4,0\n', r"m\.csv, line 2, column 'n_frames': .*'0'"),
    ('m.csv', 'path,n_frames\nx.mp4,9.5\n', r"m\.csv, line 2, column 'n_frames': .*'9.5'"),
    ('m.csv', 'path,start,end\n"x\ny.mp4",3,2\n', r"m\.csv, line 2, column 'path': expected one line of text"),
    ('m.csv', 'path,start,end\nx.mp4,3,2\n', r"m\.csv, line 2, column 'end': expected an end after 3 s, got 2"),
    ('m.csv', 'path,fps\nx.mp4,inf\n', r"m\.csv, line 2, column 'fps'"),
    ('m.csv', 'pth,side\nx.mp4,left\n', r"m\.csv, line 1: expected a column 'path'.*nearest: 'pth'"),
    ('m.csv', 'path\n', r'expected a line for each video'),
    ('m.csv', 'path,split\nx.mp4,valid\n', r"column 'split': expected train, val, test, got 'valid'; nearest: 'val'"),
    ('m.csv', 'path,sied\nx.mp4,left\n', r"line 1, column 'sied': there is no question 'sied'; nearest: 'side'"),
    ('m.csv', 'path,side\nx.mp4,lfet\n', r"line 2, column 'side': question 'side' has no answer 'lfet'; nearest: 'left'"),
    ('m.csv', 'path,class\nx.mp4,q\n', r"line 2, column 'class': there is no class 'q'"),
    ('m.csv', 'path,side extent\nx.mp4,9-3\n', r"line 2, column 'side extent': expected frames such as 12-57"),
    ('m.csv', 'path,side\nx.mp4,left\nx.mp4,right\n', r"line 3, column 'path': expected an id of its own, got 'x.mp4' as in line 2"),
    ('m.jsonl', '{"path": "x.mp4"}\n\n{"path": }\n', r'm\.jsonl, line 3: .*JSON'),
    ('m.jsonl', '["x.mp4"]\n', r'm\.jsonl, line 1: .*dict'),
    ('m.jsonl', '{"class": "l"}\n', r"m\.jsonl, line 1, column 'path'"),
    ('m.jsonl', '{"path": "x.mp4", "path": "y.mp4"}\n', r'line 1: .*occurs more than once'),
    ('m.jsonl', '{"path": "x.mp4", "answers": {"side": 3}}\n', r"line 1, column 'side': expected text, got 3"),
    ('m.jsonl', '{"path": "x.mp4", "answers": ["left"]}\n', r"line 1, column 'answers': expected a dict"),
    ('m.jsonl', '{"path": "x.mp4", "n_frames": [3]}\n', r"line 1, column 'n_frames'"),
    ('m.jsonl', '[' * 100000 + '\n', r'line 1: .*JSON')])
def test_a_bad_line_of_a_manifest_is_named(tmp_path, queries, name, text, match):
    (tmp_path/name).write_text(text)
    with pytest.raises(DataError, match=match): load_items(tmp_path/name, queries)

def test_only_a_question_with_several_answers_is_split(tmp_path):
    qs = QuerySet([Query('mood', ['glad|sad', 'calm']), Query('props', ['rope', 'ball', 'a|b'], kind='many')])
    (tmp_path/'m.csv').write_text('path,mood,props\n1.mp4,glad|sad,ball\n2.mp4,calm,rope | ball\n3.mp4,,a|b\n')
    for items in (load_items(tmp_path/'m.csv'), load_items(tmp_path/'m.csv', qs)):
        got = [encode_targets(o, qs)['answers'] for o in items]
        assert [int(a['mood']) for a in got] == [0, 1, -1]
        assert [a['props'].tolist() for a in got] == [[0, 1, 0], [1, 1, 0], [0, 0, 1]]

def test_all_mistakes_at_once_and_the_message_has_an_end(tmp_path, queries):
    (tmp_path/'m.csv').write_text('path,side,n_frames\n' + ''.join(f'{i}.mp4,lefft,-1\n' for i in range(300)))
    with pytest.raises(DataError) as e: load_items(tmp_path/'m.csv', queries)
    assert len(e.value.problems) == 600 and len(str(e.value).splitlines()) == 42
    assert {p.line for p in e.value.problems} == set(range(2, 302))
    assert isinstance(pickle.loads(pickle.dumps(e.value)), DataError)

@pytest.mark.parametrize('path', ['../x.mp4', 'a/../../x.mp4', '/etc/passwd', '..', '.', '..\\x.mp4', 'C:\\x.mp4', 'a/\0.mp4'])
def test_a_path_stays_in_its_root(tmp_path, path):
    (tmp_path/'m.jsonl').write_text(json.dumps({'path': path}) + '\n')
    with pytest.raises(DataError, match="line 1, column 'path': expected a path inside"): load_items(tmp_path/'m.jsonl')
    with pytest.raises(ValueError, match='expected a path inside'): inside(tmp_path, path)

def test_another_root_is_the_users_choice(tmp_path):
    (tmp_path/'tables').mkdir(); (tmp_path/'tables'/'m.csv').write_text(f'path\n{tmp_path}/films/x.mp4\ny.mp4\n')
    with pytest.raises(DataError, match='another root'): load_items(tmp_path/'tables'/'m.csv')
    assert [o.path for o in load_items(tmp_path/'tables'/'m.csv', root=tmp_path/'films')] == [tmp_path/'films'/'x.mp4', tmp_path/'films'/'y.mp4']

def test_what_spreadsheets_do(tmp_path):
    for sep in ',;\t':
        (tmp_path/'m.csv').write_bytes(f'path{sep}side{sep}note\r\n"a{sep}b.mp4"{sep} left {sep}"two\r\nlines"\r\n{sep}{sep}\r\n'.encode('utf-8-sig'))
        (o,) = load_items(tmp_path/'m.csv')
        assert o.id == f'a{sep}b.mp4' and o.answers['side'] == 'left'
    (tmp_path/'m.csv').write_bytes('path,side\nx.mp4,größer\n'.encode('latin-1'))
    with pytest.raises(DataError, match='line 2: expected UTF-8.*0xf6'): load_items(tmp_path/'m.csv')
    (tmp_path/'m.csv').write_text('path,side\n"x.mp4,left\ny.mp4,left\n')
    with pytest.raises(DataError, match='line 2: .*quotation mark'): load_items(tmp_path/'m.csv')

@settings(max_examples=40)
@given(st.integers(0, 5000), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_times_as_a_stopwatch_shows_them(h, m, s, ms):
    assert abs(seconds(f'{h}:{m:02}:{s:02}.{ms:03}') - (3600*h + 60*m + s + ms/1000)) < 1e-6 and seconds(f'{s}.{ms:03}') == s + ms/1000

word = st.text(st.characters(codec='utf-8', exclude_categories=['C', 'Z']), min_size=1, max_size=8).filter(lambda t: not set(t) & set('|\\/') and t not in ('.', '..'))
@settings(max_examples=20)
@given(st.data())
def test_what_is_written_is_read(tmp_path_factory, data):
    root = tmp_path_factory.mktemp('m')
    names = data.draw(st.lists(word.map(lambda t: 'q' + t), min_size=1, max_size=3, unique=True))
    def item(i):
        start = data.draw(st.one_of(st.none(), st.floats(0, 9e3).map(lambda x: round(x, 3))))
        return Item(f'{i}', root/data.draw(word), {q: data.draw(word) for q in names if data.draw(st.booleans())}, data.draw(st.one_of(st.none(), word)),
            {names[0]: [1, 5]} if data.draw(st.booleans()) else None, data.draw(st.one_of(st.none(), st.integers(5, 10**6))), data.draw(st.sampled_from([None, 'train', 'val', 'test'])),
            start, None if start is None else start + 1.5, data.draw(st.sampled_from([None, 25., 29.97])), data.draw(st.one_of(st.none(), word)))
    items = [item(i) for i in range(data.draw(st.integers(1, 4)))]
    assert load_items(write_manifest(root/'m.jsonl', items)) == items
    assert load_items(write_manifest(root/'m.csv', items)) == items

@settings(max_examples=80)
@given(st.binary(max_size=120), st.sampled_from(['.csv', '.jsonl']))
def test_no_file_is_met_by_anything_but_items_and_problems(tmp_path_factory, data, suffix):
    path = tmp_path_factory.getbasetemp()/f'any{suffix}'
    path.write_bytes(data)
    found = read_manifest(path)
    assert found.items or found.problems

def test_questions_of_a_table(tmp_path):
    (tmp_path/'m.csv').write_text('path,twists,side,props,class\na,10,left,x|y,A\nb,9,left,,B\nc,1.5,right,x,A\n')
    qs = guess_queries(load_items(tmp_path/'m.csv'))
    assert [(q.kind, list(q.answers)) for q in qs] == [('count', ['1.5', '9', '10']), ('one', ['left', 'right']), ('many', ['x', 'y'])]
    assert qs.class_table.tolist() == [[-1, -1, -1], [1, 0, -1]]
    with pytest.raises(ValueError, match='one column for each question'): guess_queries([Item('a')])

def test_nothing_is_overwritten_unasked(tmp_path):
    out = write_manifest(tmp_path/'m.csv', [Item('a', tmp_path/'a.mp4')])
    before = out.read_bytes()
    with pytest.raises(ValueError, match='was not changed'): write_manifest(out, [Item('b', tmp_path/'b.mp4')])
    assert out.read_bytes() == before and write_manifest(out, [Item('b', tmp_path/'b.mp4')], overwrite=True).read_bytes() != before

@pytest.mark.parametrize('header', ['Split', 'SPLIT', 'subset', 'set', 'fold', 'spilt', 'data_split', 'Split\u200b', 'phase'])
@pytest.mark.parametrize('written', [False, True])
def test_a_column_that_is_almost_split_is_refused(tmp_path, header, written):
    for i in range(4): (tmp_path/f'{i}.mp4').touch()
    (tmp_path/'m.csv').write_text(f'path,{header},side\n' + ''.join(f'{i}.mp4,{s},{"ab"[i%2]}\n' for i,s in enumerate(['train', 'Test', 'val', 'train'])), encoding='utf-8')
    if written: QuerySet([Query('side', ['a', 'b'])]).save(tmp_path/'queries.yaml')
    with pytest.raises(DataError, match="line 1, column .*expected 'split' to be written so.*rename it to 'split'"): read_own(tmp_path/'m.csv')
    QuerySet([Query('side', ['a', 'b']), Query(header, ['train', 'Test', 'val'])]).save(tmp_path/'other.yaml') if header.isascii() else None
    if header.isascii(): assert read_own(tmp_path/'m.csv', tmp_path/'other.yaml', val=0).queries.names[1] == header   # written down, it is a question

@pytest.mark.parametrize('header,meant', [('Start', 'start'), ('start_time', 'start'), ('time_end', 'end'), ('Stop (s)', 'end'), ('n frames', 'n_frames'), ('Frame rate', 'fps'), ('class_name', 'class'), ('video_id', 'id'), ('side_extent', 'side extent')])
def test_a_column_that_is_almost_reserved_is_refused(tmp_path, header, meant):
    (tmp_path/'m.csv').write_text(f'path,{header},side\na.mp4,3,l\nb.mp4,4,r\n')
    with pytest.raises(DataError, match=f"expected '{meant}' to be written so, got {header!r}".replace('(', '[(]').replace(')', '[)]')): load_items(tmp_path/'m.csv')

def test_columns_of_tools_are_no_questions_and_that_is_said(tmp_path):
    for i in range(4): (tmp_path/f'{i}.mp4').touch()
    (tmp_path/'m.csv').write_text('path,split,side,annotation_id,created_at,Unnamed: 0,notes\n' + ''.join(f'{i}.mp4,train,{"ab"[i%2]},{i},2024-01-0{i+1},{i},"one\nand {i}"\n' for i in range(4)))
    data = read_own(tmp_path/'m.csv', val=0)
    assert data.queries.names == ['side'] and [n for n in data.notes if 'annotation_id' in n] and all(o.answers.keys() == {'side'} for o in data['train'])
    QuerySet([Query('side', ['a', 'b']), Query('notes', ['x'])]).save(tmp_path/'q.yaml')
    assert 'notes' in read_manifest(tmp_path/'m.csv', QuerySet.load(tmp_path/'q.yaml')).problems[-1].column

def test_what_spreadsheets_leave_lying_about(tmp_path):
    (tmp_path/'m.csv').write_bytes('sep=;\r\npath;side;;\r\na.mp4;l;;\r\nb.mp4;r\r\nc.mp4;l;;;;;\r\n;;;\r\n;\r\n'.encode('utf-8-sig'))
    assert [(o.id, o.answers) for o in load_items(tmp_path/'m.csv')] == [('a.mp4', {'side': 'l'}), ('b.mp4', {'side': 'r'}), ('c.mp4', {'side': 'l'})]
    (tmp_path/'m.csv').write_text('"sep=|"\npath|Side, of it\na,b.mp4|l\n')
    assert load_items(tmp_path/'m.csv')[0].answers == {'Side, of it': 'l'}
    for text,line in (('sep=;\npath;side\na.mp4;l\n\nb.mp4;l;x\n', 5), ('path,side,props\na.mp4,l,x\nb.mp4,l\n', 3)):
        (tmp_path/'m.csv').write_text(text)
        with pytest.raises(DataError, match=f'line {line}: expected . cells'): load_items(tmp_path/'m.csv')
    (tmp_path/'m.csv').write_text(',path,side\n0,a.mp4,l\n')                       # as pandas writes an index
    found = read_manifest(tmp_path/'m.csv')
    assert found.items[0].answers == {'side': 'l'} and 'column 1 has values and no name' in found.problems[0].text

def test_spellings_are_named_and_joined(tmp_path):
    "Yes, YES and yes; 1, 1.0 and 01; a blank that does not break; letters in one sign or two: whatever their counts"
    pairs = dict(hit=['Yes', 'yes', 'YES', 'yes', 'no'], turns=['1', '1.0', '01', '1', '2'], who=['Jos\u00e9 A', 'Jose\u0301 A', 'Jos\u00e9\u00a0A', 'Jos\u00e9 A', 'Bo'], tags=['a|b', 'A|b', 'a', 'b', 'b|a'])
    for i in range(5): film(tmp_path/f'{i}.mp4', 9, 20*i)
    (tmp_path/'m.csv').write_text('path,class,' + ','.join(pairs) + '\n' + ''.join(f'{i}.mp4,{"Xxxxx"[i]},' + ','.join(v[i] for v in pairs.values()) + '\n' for i in range(5)), encoding='utf-8')
    table = read_manifest(tmp_path/'m.csv')
    report = check(table.items, None, table.path, table.lines, table.problems, progress=False)
    assert not report.ok and Counter(p.column for p in report.problems if 'differ only in' in p.text) == dict(hit=2, turns=2, who=2, tags=1, **{'class': 1})
    clean = load_items(fix(report, tmp_path/'clean.csv'))
    assert [o.answers['hit'] for o in clean] == ['yes']*4 + ['no'] and [o.answers['turns'] for o in clean] == ['1']*4 + ['2'] and {o.answers['who'] for o in clean} == {'Jos\u00e9 A', 'Bo'}
    assert clean[1].answers['tags'] == 'a|b' and {o.class_name for o in clean} == {'x'}
    assert len(guess_queries(clean)['hit'].answers) == 2 and check(clean, progress=False).ok
    asked = QuerySet([Query('hit', ['Yes', 'YES', 'yes', 'no'])])                    # written down, they are different
    assert check(load_items(tmp_path/'clean.csv', asked), asked, progress=False).ok

def test_letters_in_two_forms_are_one_name(tmp_path):
    film(tmp_path/'e\u0301te\u0301.mp4')                                            # as a Mac writes it
    (tmp_path/'m.csv').write_text('path,gr\u00f6\u00dfe\n\u00e9t\u00e9.mp4,caf\u00e9\n', encoding='utf-8')
    (o,) = load_items(tmp_path/'m.csv', QuerySet([Query('gro\u0308\u00dfe', ['cafe\u0301'])]))
    assert len(open_item(o)) == 20 and o.answers == {'gro\u0308\u00dfe': 'cafe\u0301'} and unused_files([o]) == []
    (tmp_path/'m.csv').write_text('path,a\n\u00e9t\u00e9.mp4,x\ne\u0301te\u0301.mp4,y\n', encoding='utf-8')
    with pytest.raises(DataError, match='line 3.*an id of its own'): load_items(tmp_path/'m.csv')

def test_many_answers_and_many_typing_errors_take_seconds(tmp_path):
    import time
    from tqn.data.check import rare_answers
    rng = random.Random(0)
    answers = sorted({''.join(rng.choices('abcdefghijklmnop', k=12)) for _ in range(3000)})
    (tmp_path/'m.csv').write_text('id,split,what\n' + ''.join(f'v{i},train,{a[:5]}z{a[6:]}\n' for i,a in enumerate(answers*2)))
    begin = time.perf_counter()
    found = read_manifest(tmp_path/'m.csv', QuerySet([Query('what', answers)]))
    with pytest.raises(DataError, match='nearest: ') as e: load_items(tmp_path/'m.csv', QuerySet([Query('what', answers)]))
    assert len(found.problems) == len(e.value.problems) == 2*len(answers)
    many = [Item(str(i), answers={'what': a}) for i,a in enumerate(answers*5 + [a[:5] + 'z' + a[6:] for a in answers])]
    list(rare_answers(many))
    assert time.perf_counter() - begin < 40

@pytest.mark.parametrize('answer,said', [(3, 'expected text or a list of text as answer, got 3; write text, such as "3"'), (True, 'got true'), ([1], 'got 1'), ([None, 'a'], 'got null'), ({'value': 'a'}, 'got {"value"'),
    ([], r'got \[\]'), ('two\nlines', 'one line'), (['a', 'two\nlines'], 'one line'), (' blank ', 'without blanks')])
def test_check_refuses_the_answers_that_training_refuses(tmp_path, capsys, answer, said):
    film(tmp_path/'a.mp4')
    (tmp_path/'m.jsonl').write_text(json.dumps(dict(path='a.mp4', split='train', answers={'q': answer})) + '\n')
    with pytest.raises(DataError, match=f"line 1, column 'q': .*{said}"): read_own(tmp_path/'m.jsonl')
    assert run(['check', str(tmp_path/'m.jsonl'), '--quiet']) == 1

def test_check_builds_the_questions_that_training_builds(tmp_path, capsys):
    for i in range(2): film(tmp_path/f'{i}.mp4', shade=99*i)
    (tmp_path/'m.csv').write_text('path,split\n0.mp4,train\n1.mp4,test\n')
    assert run(['check', str(tmp_path/'m.csv'), '--quiet']) == 1 and 'expected a column with answers' in capsys.readouterr().out
    (tmp_path/'m.csv').write_text('path,split\n0.mp4,test\n1.mp4,test\n')            # to be answered by a model: fine
    assert run(['check', str(tmp_path/'m.csv'), '--quiet']) == 0 and 'enough for tqn test' in capsys.readouterr().out

def test_a_link_out_of_the_root_is_refused(tmp_path):
    (tmp_path/'root').mkdir(); (tmp_path/'else').mkdir()
    film(tmp_path/'else'/'a.mp4'); (tmp_path/'root'/'a.mp4').symlink_to(tmp_path/'else'/'a.mp4'); (tmp_path/'root'/'d').symlink_to(tmp_path/'else')
    for path in ('a.mp4', 'd/a.mp4'):
        (tmp_path/'root'/'m.csv').write_text(f'path,q\n{path},x\n')
        with pytest.raises(DataError, match='a link that leads to .*else/a.mp4; .*--root'): load_items(tmp_path/'root'/'m.csv')
    (tmp_path/'link').symlink_to(tmp_path/'else')                                     # a root may itself be a link
    (tmp_path/'root'/'m.csv').write_text('path,q\na.mp4,x\n')
    assert len(load_items(tmp_path/'root'/'m.csv', root=tmp_path/'link')) == 1

def test_a_listed_folder_gives_what_looking_file_by_file_gives(tmp_path, monkeypatch):
    "Whatever lies in it: links, links to folders, blanks, letters in two forms, names that are refused, and files that are not there"
    import gc
    from tqn.data import items as room
    (tmp_path/'else').mkdir(); (tmp_path/'root'/'a').mkdir(parents=True); (tmp_path/'else'/'out.mp4').touch()
    names = [f'{i}.mp4' for i in range(12)] + ['with blank.mp4', 'e\u0301.mp4', '\u00e9t\u00e9.mp4', 'line\nbreak.mp4', 'back\\slash.mp4', ' ']
    for n in names: (tmp_path/'root'/'a'/n).touch(); (tmp_path/'root'/n).touch()
    (tmp_path/'root'/'a'/'out.mp4').symlink_to(tmp_path/'else'/'out.mp4'); (tmp_path/'root'/'a'/'in.mp4').symlink_to(tmp_path/'root'/'0.mp4')
    (tmp_path/'root'/'d').symlink_to(tmp_path/'else'); (tmp_path/'root'/'a'/'dead.mp4').symlink_to(tmp_path/'root'/'nothing.mp4')
    paths = [f'{f}{n}' for n in (*names, 'out.mp4', 'in.mp4', 'dead.mp4', '\u00e9.mp4', 'gone.mp4', '.', '..', '') for f in ('a/', '', './a/', 'd/', 'a/../a/', '../root/a/')]
    (tmp_path/'root'/'m.jsonl').write_text(''.join(json.dumps({'path': p, 'id': str(i), 'answers': {'q': 'x'}})+'\n' for i,p in enumerate(paths)))
    def read(many):
        monkeypatch.setattr(room.Folders.__init__, '__defaults__', (many,))
        table = read_manifest(tmp_path/'root'/'m.jsonl')
        return table.there, [(o.id, o.path) for o in table.items], [str(p) for p in table.problems]
    none,*alone = read(10**9)
    there,*listed = read(1)
    assert alone == listed and not none and len(there) > 40 and len(alone[1]) > 20
    assert gc.isenabled()
    lost = [o for o in read_manifest(tmp_path/'root'/'m.jsonl').items if not os.path.lexists(o.path)]
    assert lost and not there & {o.id for o in lost}                                   # nothing that is not there was seen
    with pytest.raises(DataError): read_own(tmp_path/'root'/'m.jsonl')
    (tmp_path/'root'/'n.csv').write_text('path,q\n' + ''.join(f'{i}.mp4,x{i%2}\n' for i in range(13)))
    with pytest.raises(DataError, match='no such file .*12.mp4'): read_own(tmp_path/'root'/'n.csv')
    gc.disable()
    try: read_manifest(tmp_path/'root'/'n.csv'); assert not gc.isenabled()             # as it was, whatever it was
    finally: gc.enable()

def test_cells_that_a_spreadsheet_would_run(tmp_path):
    import csv
    words = ['=1+1', '+a', '-side', '@x', "'=x", "''-y", '=HYPERLINK("http://x")']
    items = [Item(f'{w}{i}', tmp_path/f'{w.replace("/", "")}.mp4', {'=q': w, 'n': '-1'}, group=w) for i,w in enumerate(words)]
    write_manifest(tmp_path/'m.csv', items)
    cells = [c for row in csv.reader((tmp_path/'m.csv').open(newline='')) for c in row]
    assert not [c for c in cells if c[:1] in ('=', '+', '@') or c[:1] == '-' and c != '-1'] and '-1' in cells
    assert load_items(tmp_path/'m.csv') == items
    assert check([Item('x', answers={'n': a}) for a in ('-1', '1')], progress=False).ok

def test_an_index_of_dives_stays_in_its_folder(tmp_path):
    from tqn.dives.dives import SyntheticDives
    SyntheticDives(tmp_path, 'val', n=1, size=16, workers=0, progress=False)
    path = next(tmp_path.glob('*/*/index.json')); index = json.loads(path.read_text())
    film(tmp_path/'out.mp4'); (path.parent/'link.mp4').symlink_to(tmp_path/'out.mp4')
    for bad in ('../../out.mp4', str(tmp_path/'out.mp4'), 'link.mp4'):
        path.write_text(json.dumps({**index, 'items': [{**index['items'][0], 'path': bad}]}))
        with pytest.raises(ValueError, match='expected a path inside'): SyntheticDives(tmp_path, 'val', n=1, size=16, workers=0, progress=False)
        with pytest.raises(ValueError, match='expected a path inside'): open_data(tmp_path, missing='keep')

def test_nonsense_is_refused(tmp_path):
    "Extents outside the film, thousands of questions"
    from tqn.attention.localise import ClipMaps
    for e in ((4, 40), (-1, 3), (9, 9), (9, 4)):
        with pytest.raises(ValueError, match="extent of 'a' as frames"): ClipMaps('v', {'a': [.5, .5]}, {'a': e}, 16)
    film(tmp_path/'a.mp4')
    (tmp_path/'m.csv').write_text('path,side,side extent\na.mp4,l,4-40\n')
    table = read_manifest(tmp_path/'m.csv')
    assert [p.column for p in check(table.items, None, table.path, table.lines, table.problems, progress=False).problems if p.error] == ['side extent']
    with pytest.raises(ValueError, match='at most 2,000 questions'): QuerySet({f'q{i}': ['a'] for i in range(2001)})
    with pytest.raises(ValueError, match='at most 1,000 columns'): guess_queries([Item('a', answers={f'q{i}': 'a' for i in range(1001)})])

# splits ----------------------------------------------------------------------------------------------------------------

@settings(max_examples=40)
@given(st.lists(st.sampled_from('abcdefgh'), min_size=4, max_size=60), st.floats(.05, .6), st.integers(0, 50), st.randoms())
def test_a_validation_split_keeps_groups_whole(groups, share, seed, rng):
    items = [Item(f'{i}', group=g, split='train') for i,g in enumerate(groups)]
    if len(set(groups)) < 2: return
    kept,val = carve(items, share, seed)
    assert val and kept and {o.group for o in kept}.isdisjoint(o.group for o in val) and len(kept) + len(val) == len(items)
    assert len(val) <= max(1, round(share*len(items))) or len({o.group for o in val}) == 1
    mixed = items[:]; rng.shuffle(mixed)
    assert {o.id for o in carve(mixed, share, seed)[1]} == {o.id for o in val}

def test_test_is_never_touched(queries):
    items = [Item(f'{i}', split='test' if i%2 else 'train') for i in range(40)]
    data = make_set('x', '.', queries, items, val=.3)
    assert [o.id for o in data['test']] == [str(i) for i in range(1, 40, 2)] and {len(data['train']), len(data['val'])} == {14, 6}
    own = make_set('x', '.', queries, [*items, Item('v', split='val')], val=.3)
    assert len(own['train']) == 20 and [o.id for o in own['val']] == ['v']   # the data set has one: nothing is carved

# checking --------------------------------------------------------------------------------------------------------------

@pytest.fixture
def folder(tmp_path):
    for name,n,shade in (('a', 20, 0), ('b', 24, 90), ('short', 5, 30), ('d', 30, 150)): film(tmp_path/f'{name}.mp4', n, shade)
    shutil.copy(tmp_path/'a.mp4', tmp_path/'copy.mp4')
    whole = (tmp_path/'d.mp4').read_bytes()
    (tmp_path/'torn.mp4').write_bytes(whole[:len(whole)//2])
    bad = bytearray(whole); bad[len(bad)//2] ^= 255; (tmp_path/'flipped.mp4').write_bytes(bad)
    (tmp_path/'text.mp4').write_text('no film')
    return tmp_path

def test_check_finds_everything_and_fix_writes_what_is_left(folder, queries, capsys):
    (folder/'m.csv').write_text('''path,id,split,group,n_frames,side,class,side extent
a.mp4,a,train,,20,left,l,
copy.mp4,copy,test,,20,left,l,
b.mp4,b,train,g,30,left,r,
d.mp4,d,val,g,,right,r,20-40
torn.mp4,torn,train,,,,,
flipped.mp4,flipped,train,,,,,
text.mp4,text,train,,,,,
short.mp4,short,train,,,,,
gone.mp4,gone,train,,,,,
''')
    table = read_manifest(folder/'m.csv', queries)
    report = check(table.items, queries, table.path, table.lines, table.problems, progress=False)
    kinds = {(f.id, f.kind) for f in report.faults}
    assert kinds == {('a', 'double'), ('a', 'leak'), ('b', 'label'), ('b', 'leak'), ('d', 'label'), ('torn', 'corrupt'), ('flipped', 'corrupt'), ('text', 'corrupt'), ('short', 'short'), ('gone', 'missing')}
    assert {p.line for p in report.problems if p.kind == 'corrupt'} == {6, 7, 8} and not report.ok
    assert [(o.id, o.answers, o.class_name, o.extents) for o in report.clean()] == [('copy', {'side': 'left'}, 'l', None), ('d', {'side': 'right'}, 'r', None)]
    stamps = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
    clean = fix(report, folder/'clean.csv')
    assert check(load_items(clean, queries), queries, progress=False).ok
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir() if p != clean} == stamps
    with pytest.raises(ValueError, match='is there already'): fix(report, clean)

def test_a_copy_in_another_container_is_found(tmp_path):
    import av
    film(tmp_path/'a.mp4')
    with av.open(str(tmp_path/'a.mp4')) as src, av.open(str(tmp_path/'b.mkv'), 'w') as out:
        s = src.streams.video[0]; t = out.add_stream_from_template(s)
        for p in src.demux(s):
            if p.dts is not None: p.stream = t; out.mux(p)
    assert [f.kind for f in check([Item('a', tmp_path/'a.mp4'), Item('b', tmp_path/'b.mkv')], progress=False).faults] == ['double']

def test_excerpts_are_checked_alone(tmp_path):
    film(tmp_path/'a.mp4', 100)
    items = [Item('x', tmp_path/'a.mp4', start=0., end=1., split='train'), Item('y', tmp_path/'a.mp4', start=1., end=2., split='train'), Item('z', tmp_path/'a.mp4', start=2., end=2.2), Item('w', tmp_path/'a.mp4', start=5., end=6.)]
    report = check(items, progress=False)
    assert [(f.id, f.kind) for f in report.faults] == [('z', 'short'), ('w', 'corrupt')] and report.frames == 25 + 25 + 5
    leak = check([items[0], Item('t', tmp_path/'a.mp4', start=3., end=4., split='test')], progress=False)
    assert [(f.id, f.text.split(', and')[0]) for f in leak.faults] == [('x', 'is in train')]

def test_unused_files_and_remarks(tmp_path):
    film(tmp_path/'a.mp4'); film(tmp_path/'b.MOV.mp4'); (tmp_path/'notes.txt').touch()
    assert [p.name for p in unused_files([Item('a', tmp_path/'a.mp4')])] == ['b.MOV.mp4']
    assert check([Item('a', tmp_path/'a.mp4'), Item('f')], progress=False).ok

@pytest.mark.skipif(not VIDEOS.exists(), reason=f'no real clips: {MISSING}')
def test_real_clips(tmp_path):
    names = ['mmaction2__test.mp4', 'mmaction2__test.avi', 'decord__corrupted.mp4']
    report = check([Item(n, VIDEOS/n) for n in names], progress=False)
    assert [(f.id, f.kind) for f in report.faults] == [('decord__corrupted.mp4', 'corrupt')] and report.frames > 400

# cutting and commands --------------------------------------------------------------------------------------------------

def test_cuts_are_the_frames_of_the_excerpts(tmp_path):
    film(tmp_path/'a.mp4', 60)
    items = [Item('x/1', tmp_path/'a.mp4', start=.4, end=1.2), Item('whole', tmp_path/'a.mp4'), Item('gone', tmp_path/'g.mp4', start=0., end=1.)]
    done,problems = cut_items(items, tmp_path/'cuts', workers=1, progress=False)
    assert [(o.id, len(open_item(o)), o.start) for o in done] == [('x/1', 20, None), ('whole', 60, None)] and [p.kind for p in problems] == ['missing']
    a,b = (open_item(o).frames(range(20)).float().mean((1, 2, 3)) for o in (done[0], items[0]))
    assert (a-b).abs().max() < 2 and sorted(p.name for p in (tmp_path/'cuts').iterdir()) == ['whole.mp4', 'x%2F1.mp4']
    assert all(cut_path(tmp_path, Item(i)).parent == tmp_path for i in ('../x', '/etc/x', '..', 'a\\b', '\0'))

def test_cuts_of_long_titles(tmp_path):
    title = '【全程回放】2024巴黎奥运会跳水女子十米台决赛全红婵陈芋汐高清中文解说.mp4'
    film(tmp_path/title, 60)
    (tmp_path/'m.csv').write_text(f'path,start,end,side\n{title},0,0.8,a\n{title},0.8,1.6,b\n', encoding='utf-8')
    done,problems = cut_items(load_items(tmp_path/'m.csv'), tmp_path/'cuts', progress=False)
    assert not problems and len({o.path for o in done}) == 2 and [o.id for o in done] == [f'{title}@0-0.8', f'{title}@0.8-1.6']
    assert [o.id for o in load_items(write_manifest(tmp_path/'cuts'/'manifest.csv', done))] == [o.id for o in done]

def test_commands(folder, capsys):
    (folder/'m.csv').write_text('path,side\nb.mp4,left\nd.mp4,right\n')
    assert run(['check', str(folder/'m.csv')]) == 0 and 'can be used as they are' in capsys.readouterr().out
    (folder/'m.csv').write_text('path,side\nb.mp4,left\ngone.mp4,right\nd.mp4,right\n')
    assert run(['check', str(folder/'m.csv')]) == 1 and "line 3, column 'path'" in capsys.readouterr().out
    assert run(['check', str(folder/'m.csv'), '--fix', str(folder/'c.csv')]) == 0 and len(load_items(folder/'c.csv')) == 2
    assert run(['check', str(folder/'m.csv'), '--fix', str(folder/'c.csv')]) == 2 and '--overwrite' in capsys.readouterr().err
    assert run(['cut', str(folder/'c.csv'), '--height', '16']) == 0 and open_data(folder/'cuts').root == folder/'cuts'

def test_a_table_of_ones_own_becomes_batches(folder):
    (folder/'m.csv').write_text('path,split,start,side\nb.mp4,train,0.32,left\nd.mp4,test,,right\n')
    data = open_data(folder/'m.csv')
    sample = ClipDataset(data['train'], data.queries)[0]
    assert tuple(sample['clips'].shape) == (2, 3, 8, 32, 32) and sample['answers']['side'] == 0
    assert abs(float(read_clips(data['train'][0])[0,:,0].float().mean()) - (90 + 4*8)) < 3

# pickles ---------------------------------------------------------------------------------------------------------------

class Attack:
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.system, (f'touch {self.path}',)

@pytest.mark.parametrize('protocol', range(6))
def test_a_pickle_is_never_run(tmp_path, protocol):
    for evil in (Attack(tmp_path/'ran'), {'label': [Attack(tmp_path/'ran')]}, np.float64(3.), Path, Counter(a=1)):
        (tmp_path/'x.pkl').write_bytes(pickle.dumps(evil, protocol))
        with pytest.raises(ValueError, match='x.pkl: cannot be read as a pickle of plain data'): read_pickle(tmp_path/'x.pkl')
    assert not (tmp_path/'ran').exists()
    plain = {'a': [1, -2, 10**30, 1.5, None, True, ('ä', 'b')], 3: {4: []}}
    (tmp_path/'x.pkl').write_bytes(pickle.dumps(plain, protocol))
    assert read_pickle(tmp_path/'x.pkl') == plain

@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_junk_is_no_pickle(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp()/'junk.pkl'
    path.write_bytes(data)
    try: read_pickle(path)
    except ValueError as e: assert 'junk.pkl' in str(e)

@pytest.mark.skipif(not (FOLDER/'data'/'published').exists(), reason=f'no published label files: {MISSING}')
@pytest.mark.parametrize('name,n,different', [('gym99', 99, 98), ('gym288', 288, 282)])
def test_the_published_label_files(name, n, different):
    files = [FOLDER/'data'/'published'/f'{name}_{o}.pkl' for o in ('label2id', 'id2label')]
    rows = published_rows(*files)
    assert list(rows) == list(range(n)) and len({tuple(r) for r in rows.values()}) == different
    qs = published_queries(*files)
    assert len(qs.class_names) == n and list(qs['attribute 1'].answers) == ['VT', 'FX', 'BB', 'UB']
    assert qs.answers_of('class 0')['attribute 1'] == rows[0][0] == 'VT'

# one root, and tables without answers ----------------------------------------------------------------------------------

TINY = '--backbone dives --size 32 --epochs 1 --d-model 16 --n-layers 1 --n-heads 2 --batch-size 2 --device cpu --quiet'.split()

def test_annotations_beside_videos(tmp_path, capsys):
    "One --root for check, train, features and test"
    for d in ('annotations', 'videos'): (tmp_path/d).mkdir()
    for i in range(3): film(tmp_path/'videos'/f'v{i}.mp4', 24, 40*i)
    table,root = tmp_path/'annotations'/'m.csv',['--root', str(tmp_path/'videos')]
    table.write_text('path,split,side\nv0.mp4,train,a\nv1.mp4,train,b\nv2.mp4,test,a\n')
    assert run(['check', str(table), *root, '--quiet']) == 0
    assert run(['features', str(table), str(tmp_path/'f'), *root]) == 0 and len(list((tmp_path/'f').glob('*.safetensors'))) == 3
    assert run(['train', str(table), *root, *TINY, '--out', str(tmp_path/'run')]) == 0
    assert run(['test', str(table), *root, '--start', str(tmp_path/'run'), '--out', str(tmp_path/'t'), '--quiet', '--device', 'cpu']) == 0
    assert run(['train', str(table), *TINY, '--out', str(tmp_path/'run2')]) == 2 and 'no such file' in capsys.readouterr().err

def test_videos_that_nobody_has_answered(tmp_path, capsys):
    "test, predict and features take tables without answers, or without some; one with an unknown answer is named"
    for i in range(4): film(tmp_path/f'v{i}.mp4', 24, 40*i)
    (tmp_path/'t.csv').write_text('path,split,side\n' + ''.join(f'v{i}.mp4,train,{"abca"[i]}\n' for i in range(4)))
    assert run(['train', str(tmp_path/'t.csv'), *TINY, '--out', str(tmp_path/'run')]) == 0
    how = ['--start', str(tmp_path/'run'), '--quiet', '--device', 'cpu', '--overwrite', '--out', str(tmp_path/'out')]
    for name,text in (('none', 'path,split\nv0.mp4,test\nv1.mp4,test\n'), ('later', 'path,split,side\nv0.mp4,test,b\nv1.mp4,test,\n')):
        (tmp_path/f'{name}.csv').write_text(text)
        assert run(['test', str(tmp_path/f'{name}.csv'), *how]) == 0 and (tmp_path/'out'/'predictions.csv').is_file()
        assert run(['predict', str(tmp_path/f'{name}.csv'), '--checkpoint', str(tmp_path/'run'/'best'), '--out', str(tmp_path/name)]) == 0
        found = load_items(tmp_path/name/'answers.csv', root=tmp_path)
        assert [o.id for o in found] == ['v0.mp4', 'v1.mp4'] and all(o.answers['side'] in 'abc' for o in found)
        assert run(['features', str(tmp_path/f'{name}.csv'), str(tmp_path/'f')]) == 0
    assert run(['predict', str(tmp_path/'v0.mp4'), str(tmp_path/'v1.mp4'), '--checkpoint', str(tmp_path/'run'/'best'), '--out', str(tmp_path/'two')]) == 0
    (tmp_path/'odd.csv').write_text('path,split,side\nv0.mp4,test,d\n')
    capsys.readouterr()
    assert run(['test', str(tmp_path/'odd.csv'), *how]) == 2 and "line 2, column 'side': question 'side' has no answer 'd'" in capsys.readouterr().err

def test_skip_skips_what_check_refuses(tmp_path, capsys):
    "An excerpt that ends after its film, a film shorter than a clip, a torn one: left out and named, in train and val"
    for i in range(4): film(tmp_path/f'v{i}.mp4', 24, 40*i)
    film(tmp_path/'short.mp4', 3); (tmp_path/'torn.mp4').write_bytes((tmp_path/'v0.mp4').read_bytes()[:400])
    rows = [f'v{i}.mp4,train,0.2,{e},{"ab"[i%2]}' for i,e in enumerate([.9, .9, .9, 1.3])] + ['short.mp4,train,,,a', 'torn.mp4,train,,,a', 'short.mp4,val,,,b']
    for val in (rows[:6] + ['v0.mp4,val,0,0.9,b'], rows[:6] + ['torn.mp4,val,0,0.5,b']):       # of the second no val is left
        (tmp_path/'m.csv').write_text('path,split,start,end,side\n' + '\n'.join(val) + '\n')
        with pytest.warns(UserWarning, match="left out 3 of 6 videos.*v3.mp4.*end 1.3"): assert run(['train', str(tmp_path/'m.csv'), *TINY, '--damaged', 'skip', '--out', str(tmp_path/'run'), '--overwrite']) == 0

@pytest.mark.parametrize('name', ['2024-05-01T12:30:00.mp4', 'file:a.mp4', 'concat:a|b.mp4', 'http://a.mp4'.replace('/', ''), '-v.mp4', '=a.mp4', "it's 50% #1?.mp4"])
def test_a_name_that_looks_like_an_address_is_a_file(tmp_path, monkeypatch, name):
    "Relative and absolute, in a table and on the command line, read by both readers"
    from tqn.video.decode import scan
    from tqn.video.video import open_video
    monkeypatch.chdir(tmp_path)
    film('plain.mp4'); shutil.copy('plain.mp4', f'./{name}')
    Path('m.csv').write_text(f'path,start,end,side\n{name},0,0.4,l\n{name},0.4,0.8,r\n')
    want = open_video('plain.mp4').frames(range(20))
    for path in (name, Path(name), tmp_path/name): assert (open_video(path).frames(range(20)) == want).all() and scan(path, prove=True).ok
    assert run(['check', 'm.csv', '--quiet']) == 0
    assert run(['cut', 'm.csv', '--quiet']) == 0 and len(load_items('cuts/manifest.csv')) == 2
    assert run(['features', 'm.csv', 'f']) == 0
    assert run(['predict', '--', name]) == 0 and run(['view', '--no-open', '--', name]) == 0
    write_video(name, open_video(name).frames(range(20)).numpy())
    assert len(open_video(name)) == 20

@pytest.mark.parametrize('seen', [True, False])
def test_a_table_that_takes_long_shows_a_bar(tmp_path, monkeypatch, seen):
    "To a person, and only after three seconds: here every look at the clock is a second later"
    import io, itertools, tqdm.std
    (tmp_path/'t.csv').write_text('path,way\n' + ''.join(f'{i}.mp4,left\n' for i in range(50)))
    class Screen(io.StringIO):
        def isatty(self): return seen
    monkeypatch.setattr('sys.stderr', screen := Screen())
    read_manifest(tmp_path/'t.csv')
    assert screen.getvalue()==''
    monkeypatch.setattr(tqdm.std, 'time', lambda clock=itertools.count(): float(next(clock)))
    read_manifest(tmp_path/'t.csv')
    assert ('read the table' in screen.getvalue())==seen

def test_answers_that_mean_not_known_get_a_remark(tmp_path):
    for i in range(8): film(tmp_path/f'{i}.mp4', 9, 20*i)
    (tmp_path/'m.csv').write_text('path,side,prop,tags\n' + ''.join(f'{i}.mp4,{s},{p},{t}\n' for i,(s,p,t) in enumerate(zip(['left','-','?','NA','right','left','unknown','-'], ['none','ball']*4, ['a','a|nan','b','a|b']*2))))
    table = read_manifest(tmp_path/'m.csv')
    report = check(table.items, None, table.path, table.lines, table.problems, progress=False)
    told = {p.column: p for p in report.problems if 'not answered' in p.text}
    assert report.ok and set(told) == {'side', 'tags'} and not any(p.error for p in told.values()), [str(p) for p in report.problems]
    assert all(w in str(told['side']) for w in ("'-' (2 videos)", "'?' (1 video)", "'NA' (1 video)", "'unknown' (1 video)")) and "'nan' (2 videos)" in told['tags'].text
    asked = QuerySet([Query('side', ['left', 'right', '-', '?', 'NA', 'unknown']), Query('prop', ['none', 'ball']), Query('tags', ['a', 'b', 'nan'], kind='many')])
    table = read_manifest(tmp_path/'m.csv', asked)                                   # written down, they are meant
    assert not [p for p in check(table.items, asked, table.path, table.lines, table.problems, progress=False).problems if 'not answered' in p.text]

def test_a_column_that_fails_in_one_way_is_one_line(tmp_path):
    rows = ''.join(f'{i}.mp4,"{i},4","{i+1},5",a,"{i}.5-{i+1}.5"\n' for i in range(24))
    (tmp_path/'m.csv').write_text('path,start,end,way,way extent\n' + rows)
    for i in range(24): (tmp_path/f'{i}.mp4').touch()
    told = {p.column: p for p in read_manifest(tmp_path/'m.csv').problems}
    assert len(read_manifest(tmp_path/'m.csv').problems) == 3 and all(p.line == 2 and '24 cells' in p.text for p in told.values())
    assert "'0,4'" in told['start'].text and 'with a point' in told['end'].text and 'multiply seconds' in told['way extent'].text
    (tmp_path/'m.csv').write_text('path,start,way\n0.mp4,"0,4",a\n1.mp4,1.5,a\n2.mp4,"2,4",a\n')   # not all of them: each has its line
    assert [p.line for p in read_manifest(tmp_path/'m.csv').problems] == [2, 4]
