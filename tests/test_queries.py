"Questions: round trips, errors, files, and Diving48's own vocabulary against the kit's table of its classes"
import json, os, re, subprocess, sys
from pathlib import Path
import pytest, torch, yaml
from hypothesis import HealthCheck, given, settings, strategies as st
from outside import MISSING, VOCAB
from tqn.dives.diver import CLASSES, class_name, turns
from tqn.questions.queries import Query, QuerySet, decode_answer, encode_answer, queries_from_rows
from tqn.core.text import nearest, refuse_unknown
from tqn.core.files import write_atomic

# ---------------------------------------------------------------- any questions at all
label = st.text(min_size=1, max_size=8).filter(lambda s: s==s.strip() and s!='class' and len(s.splitlines())==1 and not any('\ud800'<=c<='\udfff' for c in s))
def tricky(): return st.one_of(label, st.sampled_from(['no','Yes','null','~','1.5','1e3','05','<b>','- a',': x','{','#','&a','*a','!!str','2020-01-01','é','日本','"',"'",'a: b','=']))

@st.composite
def query_sets(draw):
    names = draw(st.lists(tricky(), min_size=1, max_size=4, unique=True))
    queries = [Query(n, draw(st.lists(tricky(), min_size=1, max_size=5, unique=True)), draw(st.sampled_from(['one','many','count'])),
                     draw(st.none()|tricky())) for n in names]
    classes = [(c, [None if q.kind=='many' else draw(st.none()|st.sampled_from(q.answers)) for q in queries])
               for c in draw(st.lists(tricky(), max_size=5, unique=True))]
    return QuerySet(queries, classes)

fast = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

@fast
@given(qs=query_sets(), suffix=st.sampled_from(['.json','.yaml','.yml']))
def test_file_round_trip(tmp_path, qs, suffix):
    path = tmp_path/f'q{suffix}'
    assert qs.save(path)==path
    back = QuerySet.load(path)
    assert back==qs and back.names==qs.names and list(back)==list(qs) and back.class_names==qs.class_names
    torch.testing.assert_close(back.class_table, qs.class_table)
    assert [p.name for p in tmp_path.iterdir()]==[path.name]     # no temporary file left
    path.unlink()

@fast
@given(qs=query_sets())
def test_sorted_json_keeps_the_order(qs):
    assert QuerySet.from_dict(json.loads(json.dumps(qs.to_dict(), sort_keys=True)))==qs

@fast
@given(qs=query_sets(), data=st.data())
def test_encode_decode(qs, data):
    answers = {q.name:data.draw(st.none()|(st.lists(st.sampled_from(q.answers), unique=True) if q.kind=='many' else st.sampled_from(q.answers))) for q in qs}
    targets = qs.encode(answers)
    for q in qs:
        t = targets[q.name]
        if q.kind=='many': assert t.dtype==torch.float and t.shape==(len(q),)
        else: assert t.dtype==torch.long and t.shape==()
    back = qs.decode(targets)
    assert {k:sorted(v) if isinstance(v, list) else v for k,v in back.items()}=={k:sorted(v) if isinstance(v, list) else v for k,v in answers.items()}

@fast
@given(qs=query_sets())
def test_class_table_spells_the_classes(qs):
    assert qs.class_table.shape==(len(qs.class_names), len(qs)) and qs.class_table.dtype==torch.long
    rows = qs.class_table.tolist()
    for i,name in enumerate(qs.class_names):
        assert qs.class_index(name)==i
        answers = qs.answers_of(name)
        assert [-1 if a is None else qs[q].answers.index(a) for q,a in answers.items()]==rows[i]
        assert qs.class_of(answers)==(i if rows.count(rows[i])==1 else -1)

@fast
@given(qs=query_sets())
def test_html_is_escaped(qs):
    shown = qs._repr_html_()
    tags = set(re.findall(r'</?([a-zA-Z!][^\s>/]*)', shown))
    assert tags<={'div','table','thead','tbody','tr','th','td','b','br','span','details','summary'}
    assert '<b>&lt;' in QuerySet({'<img src=x onerror=alert(1)>': ['a']})._repr_html_()

# ---------------------------------------------------------------- Diving48
def turns_of(answer): # an independent reading of the data set's spelling
    if answer in ('Dive','NoTwis'): return .5 if answer=='Dive' else 0.
    digits = re.match(r'\d+', answer)[0]
    return int(digits)/10 if len(digits)==2 else float(digits)

@pytest.fixture(scope='module')
def diving48():
    if not VOCAB.exists(): pytest.skip(MISSING)
    return QuerySet.diving48(VOCAB)

def test_diving48_against_the_dives_that_are_rendered(diving48):
    "The kit's own table of the 48 classes, the file's rows, and what they count, read in two ways"
    rows = [tuple(row) for row in json.loads(VOCAB.read_text())]
    assert rows==CLASSES and diving48.class_names==[class_name(dict(zip(diving48.names, row))) for row in CLASSES]
    for i,row in enumerate(CLASSES):
        a = diving48.answers_of(diving48.class_names[i])
        assert tuple(a.values())==row and diving48.class_of(a)==i
        for q in ('somersault','twist'): assert turns_of(a[q])==turns(a[q])

def test_diving48_questions(diving48):
    assert diving48.names==['takeoff','somersault','twist','position']
    assert [q.kind for q in diving48]==['one','count','count','one']
    assert diving48['takeoff'].answers==('Back','Forward','Inward','Reverse')
    assert diving48['somersault'].answers==('Dive','1som','15som','2som','25som','3som','35som','45som')
    assert diving48['twist'].answers==('NoTwis','05Twis','1Twis','15Twis','2Twis','25Twis','3Twis','35Twis')
    assert sorted(diving48['position'].answers)==['FREE','PIKE','STR','TUCK']
    assert diving48.class_table.shape==(48,4) and (diving48.class_table>=0).all()
    assert len({tuple(r) for r in diving48.class_table.tolist()})==48
    for q in ('somersault','twist'):
        counts = [turns_of(a) for a in diving48[q].answers]
        assert counts==sorted(set(counts))

def test_diving48_round_trip(diving48, tmp_path):
    for suffix in ('.yaml','.json'): assert QuerySet.load(diving48.save(tmp_path/f'd{suffix}'))==diving48

@pytest.mark.parametrize('text, message', [('[]', 'expected rows of 4 answers'), ('[["Back","15som","05Twis"]]', 'expected rows of 4 answers'),
    ('["Back"]', 'expected a list of'), ('{"a": 1}', 'expected a list of'), ('[["Back","many","05Twis","FREE"]]', "got 'many'"),
    ('[["Back","15som","05Twis","FREE"],["Back","15som","05Twis","FREE"]]', 'occurs more than once'), ('[[1,2,3,4]]', 'got 2'), ('[[', 'cannot be read as JSON'), ('', 'cannot be read as JSON')])
def test_diving48_refuses(tmp_path, text, message):
    path = tmp_path/'vocab.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as e: QuerySet.diving48(path)
    assert str(path) in str(e.value)

# ---------------------------------------------------------------- what is refused
AB = dict(a=['x','y'], b=['z'])

@pytest.mark.parametrize('make, message', [
    (lambda: QuerySet({}), 'at least one question'), (lambda: QuerySet('twist'), 'expected a dictionary'), (lambda: QuerySet(None), 'expected a dictionary'),
    (lambda: QuerySet({'a':[]}), 'at least one'), (lambda: QuerySet({'a':'xyz'}), 'must be a list of text'), (lambda: QuerySet({'a':['x','x']}), "'x' occurs more than once"),
    (lambda: QuerySet([Query('a',['x'])]*2), "'a' occurs more than once"), (lambda: QuerySet({'a':['x',1]}), 'got 1 (int); put it in quotes'),
    (lambda: QuerySet({'a':['x',None]}), 'got None'), (lambda: QuerySet({'a':['x ','y']}), 'without blanks'), (lambda: QuerySet({'':['x']}), 'without blanks'), (lambda: QuerySet({'a':['x\ny']}), 'one line of text'),
    (lambda: QuerySet({1:['x']}), 'must be text'), (lambda: QuerySet({'class':['x']}), 'cannot be called'), (lambda: QuerySet({'a':{'answer':['x']}}), "nearest known spelling: 'answers'"),
    (lambda: QuerySet({'a':{'answers':['x'],'kind':'ordered'}}), 'cannot be of kind'), (lambda: QuerySet([['a',['x']]]), 'expected a question such as'),
    (lambda: QuerySet(AB, [('c',['x'])]), 'expected 2 answers (a, b)'), (lambda: QuerySet(AB, [('c',['x','z','z'])]), 'expected 2 answers (a, b)'), (lambda: QuerySet(AB, [('c','xz')]), 'expected 2 answers'),
    (lambda: QuerySet(AB, [('c',['X','z'])]), "class 'c': question 'a' has no answer 'X'; nearest known spelling: 'x'"), (lambda: QuerySet(AB, [{'name':'c','answers':{'A':'x'}}]), "no question 'A'; nearest known spelling: 'a'"),
    (lambda: QuerySet(AB, [('c',['x','z'])]*2), "'c' occurs more than once"), (lambda: QuerySet(AB, [{'answers':{}}]), 'the name of a class must be text'),
    (lambda: QuerySet(AB, [{'name':'c','answer':{}}]), "nearest known spelling: 'answers'"), (lambda: QuerySet(AB, [('c',)]), 'expected a class as (name, [answers])'), (lambda: QuerySet(AB, [3]), 'expected a class as'), (lambda: QuerySet(AB, 'c'), 'list of classes'),
    (lambda: QuerySet(AB)['c'], 'there is no question'), (lambda: QuerySet(AB).class_index('c'), 'none are known'), (lambda: QuerySet(AB).encode({'a':'q'}), "question 'a' has no answer 'q'"),
    (lambda: QuerySet(AB).encode({'c':'q'}), "no question 'c'"), (lambda: QuerySet(AB).encode({'a':['x']}), 'has no answer'), (lambda: QuerySet(AB).decode({'a':2}), 'answers 0 to 1'), (lambda: QuerySet(AB).decode({'a':-2}), 'answers 0 to 1'),
    (lambda: QuerySet(AB).encode({'a':True}), 'has no answer True'),
])
def test_refuses(make, message):
    with pytest.raises(ValueError, match=re.escape(message)): make()

@pytest.mark.parametrize('name, text, message', [
    ('q.yaml', 'queries: {a: [x]}\nclasess: []', "unknown key 'clasess'; nearest known spelling: 'classes'"), ('q.yaml', 'queries: {a: [yes, no]}', 'got True (bool); put it in quotes'),
    ('q.yaml', 'queries: {a: [x], a: [y]}', "the key 'a' occurs more than once"), ('q.json', '{"queries": {"a": ["x"], "a": ["y"]}}', "the key 'a' occurs more than once"),
    ('q.yaml', '!!python/object/apply:os.system ["true"]', 'cannot be read as YAML'), ('q.yaml', '', 'expected {'), ('q.json', 'null', 'expected {'), ('q.json', '['*100_000, 'cannot be read as JSON'),
    ('q.yaml', '['*5_000, 'cannot be read as YAML'), ('q.txt', '', 'ends in .yaml, .yml or .json'), ('q.yaml', 'queries: [a, b]', 'expected a question such as'), ('q.yaml', '{[a]: b}', 'cannot be read as YAML'), ('q.yaml', '? {a: b}\n: c', 'cannot be read as YAML')])
def test_bad_files(tmp_path, name, text, message):
    path = tmp_path/name
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as e: QuerySet.load(path)
    assert str(path) in str(e.value)

def test_bad_suffix_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match='ends in .yaml'): QuerySet(AB).save(tmp_path/'q.pkl')
    assert not list(tmp_path.iterdir())

# ---------------------------------------------------------------- whole or not at all
@pytest.mark.parametrize('broken', ['replace', 'fsync'])
def test_failed_write_keeps_what_was_there(tmp_path, monkeypatch, broken):
    path = QuerySet(AB).save(tmp_path/'q.yaml')
    before = path.read_bytes()
    def fail(*a, **k): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match='cannot write .*q.yaml: No space left on device'): QuerySet({'other':['x']}).save(path)
    assert path.read_bytes()==before and [p.name for p in tmp_path.iterdir()]==['q.yaml']

def test_write_follows_a_link_and_makes_folders(tmp_path):
    real = write_atomic(tmp_path/'new/deep/real.txt', 'a')
    (tmp_path/'link.txt').symlink_to(real)
    write_atomic(tmp_path/'link.txt', b'b')
    assert real.read_bytes()==b'b' and (tmp_path/'link.txt').is_symlink()

# ---------------------------------------------------------------- small parts
@given(st.lists(label, min_size=1, unique=True), st.data())
@settings(max_examples=40, deadline=None)
def test_nearest_finds_an_exact_name(known, data):
    word = data.draw(st.sampled_from(known))
    assert nearest(word, known).casefold()==word.casefold()
    refuse_unknown([word], known, 'no')

def test_missing_and_none_of_them_differ():
    q = Query('touched', ['floor','beam'], 'many')
    assert encode_answer(q, None).isnan().all() and decode_answer(q, encode_answer(q, None)) is None
    assert encode_answer(q, []).eq(0).all() and decode_answer(q, encode_answer(q, [])) == []

def test_rows_keep_missing_answers():
    qs = QuerySet(*queries_from_rows(['a','b'], [['x',None],['y','2'],['x','1']], counts={'b':int}, class_names=['p','q','r']))
    assert qs.class_table.tolist()==[[0,-1],[1,1],[0,0]] and qs['b'].answers==('1','2')

def test_import_is_cheap():
    code = "import torch, sys; before=set(sys.modules); import tqn.questions.queries; print(sorted(m.split('.')[0] for m in set(sys.modules)-before))"
    new = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    for heavy in ('pandas','matplotlib','av','decord','ipywidgets','accelerate','fastcore','seaborn'): assert repr(heavy) not in new
