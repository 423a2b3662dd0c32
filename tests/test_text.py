"Class names as questions: FineGym's own file where it is there, names of the same kind, and names that nobody thought of"
import json, warnings
import pytest
from hypothesis import given, settings, strategies as st
from outside import FOLDER, MISSING
from tqn import QuerySet
from tqn.questions.phrases import DIVE_RULES, GYM_RULES, Rule, plain_words, read_categories, read_name, read_rules

GYM99 = FOLDER/'data'/'gym99_categories.txt'
gym99 = pytest.mark.skipif(not GYM99.exists(), reason=f'gym99_categories.txt is not here; {MISSING}')

def quiet(path, **kwargs):
    with warnings.catch_warnings(): warnings.simplefilter('ignore'); return QuerySet.from_categories(path, **kwargs)

@gym99
def test_gym99_rows():
    "Every class has its own row, every word is understood, and lost names are said"
    qs = quiet(GYM99)
    rows = [tuple(r) for r in qs.class_table.tolist()]
    assert len(qs.class_names) == len(set(qs.class_names)) == len(rows) == len(set(rows)) == 99
    assert not qs.report.left and not qs.report.too_coarse
    names = [c.name for c in read_categories(GYM99)]
    for group in qs.report.identical: assert len({names[i] for i in group}) == 1 and len(group) > 1
    told = {i for g in qs.report.identical for i in g}
    without = [r[:-1] if qs.names[-1] == 'namesake' else r for r in rows]
    assert {i for i, r in enumerate(without) if without.count(r) > 1} == told  # only identical names lean on the extra question
    assert [58, 70] in qs.report.by_group  # one name, two sets: the published mapping gives them one row

@gym99
def test_gym99_answers():
    "Some rows by hand"
    qs = quiet(GYM99)
    def row(i): return {k: a for k, a in qs.answers_of(qs.class_names[i]).items() if a != 'absent'}
    assert row(0) == {'apparatus': 'vault', 'group': 'vault', 'take-off': 'round-off, flic-flac', 'element': 'salto', 'direction': 'forward', 'saltos': '1 salto',
                      'position': 'stretched', 'turn on': '0.5 turn on', 'turn': '0.5 turn'}
    assert row(9) == {'apparatus': 'floor', 'group': 'leap, jump or hop', 'element': 'split leap', 'turn': '1.5 turn or more'}
    assert row(39) == {'apparatus': 'floor', 'group': 'salto', 'element': 'salto', 'direction': 'backward', 'saltos': '2 salto', 'position': 'piked', 'twist': '1 twist'}
    assert row(80) == {'apparatus': 'bars', 'group': 'circle', 'element': 'giant circle', 'direction': 'forward', 'turn': '1 turn', 'support': 'one arm', 'end': 'handstand'}
    assert row(94)['end'] == 'low bar' and row(95)['end'] == 'high bar'
    assert qs['turn'].kind == qs['twist'].kind == qs['saltos'].kind == 'count' and qs['element'].kind == 'one'
    assert qs['twist'].answers == ('absent', '0.5 twist', '1 twist', '1.5 twist', '2 twist', '2.5 twist', '3 twist')

@gym99
def test_round_trip(tmp_path):
    "The questions survive a file, and a class is found by its answers"
    qs = quiet(GYM99)
    for suffix in ('.yaml', '.json'): assert QuerySet.load(qs.save(tmp_path/f'q{suffix}')) == qs
    assert [qs.class_of(qs.answers_of(n)) for n in qs.class_names] == list(range(99))

NAMES = [(1, '(VT) round-off, flic-flac with 0.5 turn on, 0.5 turn to piked salto backward off'), (1, '(VT) tsukahara stretched salto'), (1, '(VT) tsukahara stretched without salto'),
         (21, '(FX) stag ring jump '), (21, '(FX) split leap with 1 turn or more to ring position'), (22, '(FX) illusion 1 turn through standing split'),
         (31, '(BB) stretched jump/hop with 1 turn'), (33, '(BB) salto backward stretched-step out (feet land successively)'), (34, '(BB) gainer flic-flac, also with support on one arm'),
         (41, '(UB) giant circle backward with hop 1 turn to handstand'), (42, '(UB) (pike sole circle backward) counter stretched (reverse hecht) in layout position over HB to hang'),
         (44, '(UB) (swing forward) salto with 0.5 turn into salto forward tucked'), (44, '(UB) (under-swing or clear under-swing) salto forward tucked with 0.5 turn')]

def test_names_of_the_long_list(tmp_path):
    "Names of the kind that only Gym288 has: all understood, all different"
    (tmp_path/'gym.txt').write_text('\n'.join(f'Clabel: {i:3d}; set: {s:2d}; Glabel: {i:3d}; {n}' for i, (s, n) in enumerate(NAMES)), encoding='utf-8-sig')
    with warnings.catch_warnings(): warnings.simplefilter('error'); qs = QuerySet.from_categories(tmp_path/'gym.txt')
    assert len({tuple(r) for r in qs.class_table.tolist()}) == len(NAMES) and not qs.report.left
    assert qs.answers_of(NAMES[1][1])['saltos'] == '1 salto' and qs.answers_of(NAMES[2][1])['saltos'] == 'absent'
    assert qs.answers_of(NAMES[10][1])['take-off'] == 'sole circle backward'

def test_not_understood_is_said(tmp_path):
    "A word without a rule is a warning, a report and a draft, and the other answers stay"
    (tmp_path/'gym.txt').write_text('Clabel: 0; set: 25; Glabel: 9; (FX) salto backward flabbergasted\nClabel: 1; set: 25; Glabel: 8; (FX) salto forward')
    with pytest.warns(UserWarning, match=r'flabbergasted \(1\)'): qs = QuerySet.from_categories(tmp_path/'gym.txt')
    assert qs.report.left == {'flabbergasted': ['(FX) salto backward flabbergasted']}
    assert 'flabbergasted | ?: flabbergasted' in qs.report.draft() and qs.answers_of(qs.class_names[0])['direction'] == 'backward'
    mine = GYM_RULES + read_rules('[position] Shape?\nflabbergasted | position: odd')
    assert not quiet(tmp_path/'gym.txt', rules=mine).report.left and quiet(tmp_path/'gym.txt', rules=mine)['position'].answers == ('absent', 'odd')

def test_too_coarse_is_no_namesake():
    "Different names with one row are the table's fault: said, and not papered over"
    qs = QuerySet.from_names(['open the fridge', 'open a fridge', 'close the fridge'], '[action] What?\nopen; close | action: *\nthe; a; fridge |', warn=False)
    assert qs.report.too_coarse == [[0, 1]] and 'namesake' not in qs.names and qs.class_of({'action': 'open'}) == -1
    twice = QuerySet.from_names(['open', 'open', 'close'], '[action] What?\nopen; close | action: *', warn=False)
    assert twice.report.identical == [[0, 1]] and twice['namesake'].answers == ('absent', 'class 0', 'class 1')

def test_diving48(tmp_path):
    "The same dive in the data set's words and in people's"
    rows = [['Back', '15som', '05Twis', 'FREE'], ['Forward', '45som', 'NoTwis', 'TUCK'], ['Inward', 'Dive', 'NoTwis', 'STR']]
    (tmp_path/'v.json').write_text(json.dumps(rows))
    qs = quiet(tmp_path/'v.json')
    assert qs.report.rules.name == 'DIVE_RULES' and not qs.report.left
    assert list(qs.answers_of('Inward Dive NoTwis STR').values()) == ['inward', '0.5 somersault', 'absent', 'straight']
    vocab = FOLDER/'data'/'Diving48_vocab.json'
    if vocab.exists():
        all48 = quiet(vocab)
        assert len({tuple(r) for r in all48.class_table.tolist()}) == 48 and not all48.report.left

BAD = {'two kinds of lines': ('Clabel: 0; set: 1; Glabel: 1; (VT) a\nsalto\nalso wrong', '2 are not:\n  line 2'), 'gap': ('Clabel: 1; set: 1; Glabel: 1; a\nClabel: 2; set: 1; Glabel: 1; b', r'missing \[0\]'),
       'twice': ('Clabel: 0; set: 1; Glabel: 1; a\nClabel: 0; set: 1; Glabel: 1; b', r'more than once \[0\]'), 'empty': ('\n\n', 'empty file'), 'no rule fits': ('qwer\nasdf', 'write rules')}

@pytest.mark.parametrize('text,message', BAD.values(), ids=BAD)
def test_bad_files(tmp_path, text, message):
    "The file, the line and the cure"
    (tmp_path/'c.txt').write_text(text)
    with pytest.raises(ValueError, match=message) as e: quiet(tmp_path/'c.txt')
    assert str(e.value).startswith(str(tmp_path/'c.txt'))

def test_bad_bytes_and_json(tmp_path):
    (tmp_path/'c.txt').write_bytes(b'\xff\xfe\x00salto')
    with pytest.raises(ValueError, match='UTF-8'): quiet(tmp_path/'c.txt')
    for text, message in {'{': 'JSON', '{"a": 1}': 'expected a list', '[1]': 'as text', '[' * 100_000: 'JSON'}.items():
        (tmp_path/'c.json').write_text(text)
        with pytest.raises(ValueError, match=message): quiet(tmp_path/'c.json')
    with pytest.raises(FileNotFoundError): quiet(tmp_path/'none.txt')
    with pytest.raises(ValueError, match="2 lines of your rules.*\n.*line 1.*\n.*line 3"): read_rules('a\n[q] Q?\nb | z: c')

words = st.lists(st.sampled_from(['salto', 'double', 'backward', '1.5', 'turn', 'on', 'off', ',', 'xyzzy', 'twist', '(pike)', 'pike', 'to', 'handstand']), min_size=1, max_size=9)

@settings(max_examples=60)
@given(words)
def test_every_word_is_accounted_for(ws):
    "Reading in pieces: each word is part of a phrase or reported, and the reading does not depend on blanks or case"
    name = ' '.join(ws)
    r, again = read_name(name, GYM_RULES), read_name('  '.join(ws).upper(), GYM_RULES)
    assert (r.answers, r.left) == (again.answers, again.left)
    assert ('xyzzy' in r.said.split()) == ('xyzzy' in r.left)
    assert all(w not in r.left for w in ('salto', 'backward', 'pike', 'on', 'off', 'to'))

@settings(max_examples=60)
@given(st.text(max_size=40))
def test_any_text(text):
    "No name breaks the reader, and writing it plainly twice changes nothing"
    assert plain_words(plain_words(text)) == plain_words(text)
    assert isinstance(read_name(text, DIVE_RULES).answers, dict)

def test_longest_phrase_wins_in_any_order():
    for lines in (['a | q: short', 'a b | q: long'], ['a b | q: long', 'a | q: short']):
        assert read_name('a b', read_rules('[q] Q?\n' + '\n'.join(lines))).answers == {'q': 'long'}
    assert read_rules('[q] Q?\na | q: one\na | q: two').rules == [Rule('a', {'q': 'two'})]

def test_html_is_text(tmp_path):
    (tmp_path/'c.txt').write_text('open <script>alert(1)</script>\nclose')
    qs = quiet(tmp_path/'c.txt', rules='[<i>] <b>?\nopen; close | <i>: *')
    for page in (qs._repr_html_(), qs.report._repr_html_(), qs.report.rules._repr_html_()): assert '<script' not in page and '<i>:' not in page and '<b>?' not in page
