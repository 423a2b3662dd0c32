"Grids of experiments: what a row reads, how it is named, what a run says, and what happens when one fails"
import json, re
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from made_grids import QUESTIONS, SMALL, dying, refusing, toy, toys
from torch.testing import assert_close
from tqn.attention.whatif import clip_gradients
from tqn.data.batches import collate
from tqn.dives.dives import dives_queries
from tqn.studies.grid import (
    Experiment, FeatureView, Grid, attention_run, build_losses, build_model, example_maps, grid_paths, load_grid, load_run, some_questions, make_experiment, preset_row, run_digest,
    run_grid, run_name, run_one, score_run)
from tqn.video.transforms import clip_spans
from tqn.attention.localise import map_scores
from tqn.core.files import write_json
from tqn.questions.queries import Query, QuerySet
from tqn.studies.report import summary
from tqn.training.settings import PRESETS, resolve
from tqn.attention.whatif import ask_again

# What a row reads

def label(o): return o.class_name, *sorted(o.answers.items())

@settings(max_examples=40)
@given(n=st.integers(1, 12), every=st.integers(1, 6), n_train=st.integers(0, 14), only=st.sampled_from(['', 'class']), split=st.sampled_from(['train', 'val', 'test']),
    questions=st.sampled_from([(), ('count',), ('count', 'colour')]), seed=st.integers(0, 999))
def test_what_a_row_reads_against_a_loop(n, every, n_train, only, split, questions, seed):
    data = toy(n, seed, gaps=True)
    rows = FeatureView(data, Experiment(every=every, n_train=n_train, only=only, questions=questions), split)
    want = [o for o in data.items if split == 'test' or not only or o.class_name is not None]
    if split == 'train' and n_train: want = want[:n_train]
    kept = [q for q in QUESTIONS if q.name in (questions or QUESTIONS.names)]
    assert [o.id for o in rows.items] == [o.id for o in want] and len(rows) == len(want) and rows.queries.names == [q.name for q in kept]
    for i, o in enumerate(want):
        got, f = rows[7, i], data.kept[o.id]
        assert got['id'] == rows[i]['id'] == o.id and int(got['class']) == (-1 if o.class_name is None else 'abc'.index(o.class_name))
        assert_close(got['features'], torch.stack([f[j] for j in range(len(f)) if j%every == 0]), rtol=0, atol=0)
        assert {q: int(a) for q, a in got['answers'].items()} == {q.name: q.answers.index(o.answers[q.name]) if q.name in o.answers else -1 for q in kept}
    if want: assert collate([rows[i] for i in range(len(rows))])['x'].shape[0] == len(want)

@settings(max_examples=30)
@given(n=st.integers(1, 12), split=st.sampled_from(['train', 'val']), only=st.sampled_from(['', 'class']), seed=st.integers(0, 999))
def test_shuffled_labels_are_whole_labels_of_other_videos(n, split, only, seed):
    "Class and answers move together, features and extents stay, the test keeps its labels, and it is the same every time"
    data, row = toy(n, seed, gaps=True), Experiment(labels='shuffled', only=only)
    rows, plain = FeatureView(data, row, split), FeatureView(data, Experiment(only=only), split)
    assert sorted(map(str, map(label, rows.items))) == sorted(map(str, map(label, plain.items)))
    assert [(o.id, o.extents, o.n_frames) for o in rows.items] == [(o.id, o.extents, o.n_frames) for o in plain.items]
    for i in range(len(rows)): assert_close(rows[i]['features'], data.kept[rows.items[i].id], rtol=0, atol=0)
    assert [label(o) for o in FeatureView(data, row, split).items] == [label(o) for o in rows.items]
    assert [label(o) for o in FeatureView(data, row, 'test').items] == [label(o) for o in data.items]

def test_shuffling_moves_labels():
    data = toy(40, 0)
    assert sum(label(a) != label(b) for a, b in zip(FeatureView(data, Experiment(labels='shuffled'), 'train').items, data.items)) > 15

@given(st.lists(st.sampled_from(QUESTIONS.names), unique=True))
def test_some_questions_keep_their_answers_and_the_classes(names):
    some = some_questions(QUESTIONS, names)
    assert some.names == [q for q in QUESTIONS.names if q in names or not names] and some.class_names == QUESTIONS.class_names
    for q in some: assert (q.answers, q.kind) == (QUESTIONS[q.name].answers, QUESTIONS[q.name].kind)
    for c in some.class_names: assert some.answers_of(c) == {q: a for q, a in QUESTIONS.answers_of(c).items() if q in some.names}
    assert some_questions(QUESTIONS, ()) == QUESTIONS

def test_questions_that_are_not_there():
    with pytest.raises(ValueError, match="'colur'.*nearest.*'colour'"): some_questions(QUESTIONS, ['colur'])
    bare = QuerySet([Query('q', ['x', 'y']), Query('r', ['x', 'y'])])
    assert some_questions(bare, ['r']).names == ['r'] and not some_questions(bare, ['r']).class_names


# Settings of a row

@pytest.mark.parametrize('name', PRESETS)
def test_a_preset_is_what_training_makes_of_it(name):
    row, said = preset_row(name), resolve(1, preset=name).settings
    assert row.pop('config') == said.recipe and row == {k: getattr(said, k) for k in row}
    assert {'d_model', 'n_layers', 'n_heads', 'lr', 'epochs', 'batch_size', 'class_weight', 'smoothing', 'dropout'} <= set(row) <= set(Experiment.model_fields)

def test_a_grid_fills_rows_from_below(tmp_path):
    "Preset, then what the grid says of all rows, then the row; a preset that is asked for stands in for the grid's own"
    path = tmp_path/'g.yaml'
    path.write_text('preset: dives\ndefaults: {epochs: 3, n_heads: 2}\nrows: {1: , b: {n_heads: 8}}\nseeds: [5]\nfigures: {"What is b?": [b, 1]}\ntune: {lr: [.1, .2]}')
    grid, dives, large = load_grid(path), preset_row('dives'), load_grid(path, 'diving48')
    assert (grid.title, grid.base, grid.seeds, list(grid.rows), grid.figures, grid.tune) == ('g', '1', (5,), ['1', 'b'], {'What is b?': ['b', '1']}, {'lr': [.1, .2]})
    assert grid.rows['b'] == Experiment(**{**dives, 'epochs': 3, 'n_heads': 8}) and grid.rows['1'] == grid.rows['b'].replace(n_heads=2)
    assert large.rows['1'] == Experiment(**{**preset_row('diving48'), 'epochs': 3, 'n_heads': 2}) and large.rows['1'].d_model == 1024

some_settings = st.fixed_dictionaries({}, optional=dict(model=st.sampled_from(['tqn', 'reader', 'caption']), n_layers=st.integers(1, 4), lr=st.sampled_from([1e-3, 3e-3, .01]), questions=st.lists(st.text('abü/: ', min_size=1), max_size=3, unique=True),
    reader_settings=st.dictionaries(st.sampled_from(['n_layers', 'self_attention']), st.integers(0, 3)), trained=st.booleans(), every=st.integers(1, 3)))

@settings(max_examples=150)
@given(some_settings, some_settings)
def test_a_run_is_named_after_what_is_set(a, b):
    "The same name for the same settings however they are written, another for others; no file system minds it"
    one, two = Experiment(**a), Experiment(**b)
    assert (run_name(one) == run_name(two)) == (one == two)
    assert re.fullmatch(r'[\w-]{1,67}', run_name(one)) and run_name(one).lower() == run_name(one)
    assert run_name(Experiment(**dict(one))) == run_name(one) == run_name(Experiment(**json.loads(json.dumps(dict(one)))))
    assert (run_name(one) == 'defaults') == (one == Experiment())

@pytest.mark.parametrize('text, message', [('rows: {}', 'a row or more'), ('rows: {a: {d_modle: 3}}', "'d_modle'.*'d_model'"), ('base: b\nrows: {a: {}}', "base.*'b'"), ('- 1', 'expected title'), ('rows: [', 'read as YAML'),
    ('', 'expected title'), ('rows: {a: {}}\ntitel: x', "'titel'.*'title'"), ('seeds: [0, 0]\nrows: {a: {}}', 'different seeds'), ('rows: {a: {model: tnq}}', "model.*'tnq'.*'tqn'"), ('rows: {a: {loss: ordnal}}', "loss.*'ordinal'"),
    ('rows: {a: {attn_loss: ordr}}', 'attn_loss'), ('rows: {a: {only: classes}}', "only.*'class'"), ('rows: {a: {labels: shufled}}', "labels.*'shuffled'"), ('rows: {a: {every: 0}}', 'every'), ('preset: divng48\nrows: {a: {}}', "'divng48'.*'diving48'"),
    ('tune: {lr: [1], epochs: [2]}\nrows: {a: {}}', 'one setting'), ('tune: {lr: []}\nrows: {a: {}}', 'values to try'), ('tune: {lrr: [1]}\nrows: {a: {}}', "'lrr'.*'lr'"),
    ('figures: {"Why?": [aa]}\nrows: {a: {}}', "'Why[?]' has no row 'aa'.*'a'"), ('figures: {"Why?": }\nrows: {a: {}}', "'Why[?]'.*none"), ('rows: {a: 3}', 'g.yaml')])
def test_grids_that_are_wrong_say_why(tmp_path, text, message):
    (tmp_path/'g.yaml').write_text(text)
    with pytest.raises(ValueError, match=message) as e: load_grid(tmp_path/'g.yaml')
    assert str(tmp_path/'g.yaml') in str(e.value)

def test_grids_that_are_not_there_or_ask_for_no_preset(tmp_path):
    with pytest.raises(ValueError, match='no file.*nowhere.yaml'): load_grid(tmp_path/'nowhere.yaml')
    (tmp_path/'g.yaml').write_text('rows: {a: {}}')
    with pytest.raises(ValueError, match="'gym9'.*'gym99'"): load_grid(tmp_path/'g.yaml', 'gym9')

def test_the_grids_of_the_kit_make_models_that_answer():
    "Every row, on the questions of the dives, and with every preset that is small"
    queries, x = dives_queries(), torch.randn(2, 3, 16)
    for path in grid_paths():
        grid = load_grid(path)
        for e in {run_name(e): e for e in grid.rows.values()}.values():
            some = some_questions(queries, e.questions)
            model = build_model(e, some, 16).eval()
            with torch.no_grad(): out = model(x)
            assert list(out.responses) == some.names and callable(build_losses(e, model)['loss'])
        assert list(load_grid(path, 'dives').rows) == list(grid.rows)


# Runs

@pytest.fixture(scope='module')
def data(): return toys(gaps=True)

@pytest.mark.parametrize('row', [{}, dict(model='reader', reader='gru'), dict(model='reader', reader='encoder', reader_settings=dict(n_encoder=1, n_layers=1)),
    dict(model='reader', reader='queries', reader_settings=dict(n_layers=1, self_attention=False)), dict(model='class'), dict(model='words'), dict(model='caption', beam=2), dict(every=2), dict(questions=['count']), dict(attn_loss='order', attn_weight=1., attn_order=['count', 'colour']), dict(attn_loss='focus', attn_weight=1.), dict(loss='ordinal'), dict(text_queries=True),
    dict(heads='shared'), dict(class_query=False), dict(trained=False), dict(n_train=3), dict(only='class'), dict(labels='shuffled')], ids=lambda s: ' '.join(map(str, s.values())) or 'tqn')
def test_every_kind_of_row_runs_and_its_model_comes_back(data, tmp_path, row):
    e = make_experiment({**SMALL, **row})
    r = run_one(e, 3, data, tmp_path)
    wanted, known = list(row.get('questions', QUESTIONS.names)), {q: sum(q in o.answers for o in data['test'].items) for q in QUESTIONS.names}
    assert {q: len(r['test']['right'][q]) for q in wanted} == {q: known[q] for q in wanted}
    assert 0 <= r['test']['scores']['mean answer'] <= 1 and r['reading'] in ('query', 'product', 'both') and r['n_train'] == row.get('n_train', 16 if 'only' in row else 24)
    saved = json.loads((tmp_path/'result.json').read_text())
    assert ('leaves clips out' in saved.pop('not_looked', '')) == ('every' in row) == ('where' not in r) and not list(tmp_path.rglob('checkpoint-*'))
    assert saved == json.loads(json.dumps({k: v for k, v in r.items() if k != 'not_looked'}, allow_nan=False))
    model = load_run(tmp_path, data)
    assert not model.training and sum(p.numel() for p in model.parameters()) == r['parameters']
    again = score_run(model, {s: FeatureView(d, e, s) for s, d in data.items()})
    assert again['test'] == r['test'] and again['val'] == r['val']

def scores_by_hand(model, data):
    "Right or wrong of every split, and how often each count was taken for which, video by video"
    right, counts = {}, np.zeros((3, 3), int)
    for split in ('val', 'test'):
        right[split] = {q: {} for q in [*QUESTIONS.names, *(f'class ({w})' for w in ('query', 'product', 'both'))]}
        for o in data[split].items:
            with torch.no_grad(): out = model(data[split].kept[o.id][None])
            said = {q.name: q.answers[int(out.responses[q.name][0].argmax())] for q in QUESTIONS}
            for q, truth in o.answers.items(): right[split][q][o.id] = said[q] == truth
            if split == 'test' and 'count' in o.answers: counts[int(o.answers['count']), int(said['count'])] += 1
            if o.class_name is not None:
                for w in ('query', 'product', 'both'): right[split][f'class ({w})'][o.id] = 'abc'[int(model.read_classes(out, w)[0].argmax())] == o.class_name
    return right, counts

def test_scores_of_runs_against_a_loop():
    "The class is read in the way that is best on val, the first of equals"
    data, chosen = toys(gaps=True), set()
    for seed in range(5):
        model = build_model(Experiment(**SMALL), QUESTIONS, 6, seed).eval()
        got, (right, counts) = score_run(model, {s: FeatureView(d, Experiment(), s) for s, d in data.items()}), scores_by_hand(model, data)
        share = lambda split, q: np.mean(list(right[split][q].values()))
        best = max(('query', 'product', 'both'), key=lambda w: share('val', f'class ({w})'))
        chosen.add(best)
        assert got['reading'] == best and set(got) == {'reading', 'val', 'test'}
        for split in ('val', 'test'):
            right[split]['class'] = right[split][f'class ({best})']
            assert got[split]['right'] == right[split]
            want = {q: share(split, q) for q in right[split]}
            assert got[split]['scores'] == pytest.approx(want | {'mean answer': np.mean([want[q] for q in QUESTIONS.names])})
        assert got['test']['confusion'] == {'count': dict(labels=['0', '1', '2'], counts=counts.tolist())}
    assert len(chosen) > 1

def test_a_split_without_an_answer_has_no_score(tmp_path):
    data = toys()
    for o in data['test'].items: o.answers.pop('count'); o.class_name = None
    r = run_one(Experiment(**SMALL, trained=False), 0, data, tmp_path)
    assert r['test']['scores']['count'] is None and r['test']['scores']['class'] is None and r['test']['right']['count'] == {}
    assert r['test']['scores']['mean answer'] == r['test']['scores']['colour'] and r['reading'] in ('query', 'product', 'both')

def test_where_a_run_attends_against_loops(tmp_path):
    data = toy(9, 5)
    data.items[2] = replace(data.items[2], extents={'colour': (0, 8), 'count': None})
    model = build_model(Experiment(**{**SMALL, 'n_layers': 2}), QUESTIONS, 6, 1).eval()
    got = json.loads(write_json(tmp_path/'where.json', attention_run(model, FeatureView(data, Experiment()), 'product', n_curves=4)).read_text())
    assert got['names'] == ['colour', 'count', 'class'] and got['ids'] == [o.id for o in data.items] and set(got['by']) == {'attention', 'layer 0', 'layer 1', 'gradient', 'hidden'}
    maps, lost = {w: [] for w in got['by']}, []
    for o in data.items:
        f = data.kept[o.id]
        with torch.no_grad(): a = model(f[None]).attn[0].mean(1).numpy()          # (layers, questions, clips)
        g = clip_gradients(model, f[None], torch.ones(1, len(f), dtype=torch.bool))
        for w, m in {'attention': a.mean(0), 'layer 0': a[0], 'layer 1': a[1], 'gradient': np.stack([g[q][0].numpy() for q in got['names']])}.items(): maps[w].append(m)
        whole = ask_again(model, f, reading='product')
        def cost(q, e):
            if o.extents.get(e) is None: return np.nan
            hidden = ask_again(model, f, torch.arange(len(f)) != o.extents[e][0]//8, 'product')     # an extent is one clip here
            return whole[q][0][1] - dict(hidden[q])[whole[q][0][0]]
        lost.append([[cost(q, e) for e in ('colour', 'count')] for q in got['names']])
    def scored(m, o, e): return np.full((2, 3), np.nan) if o.extents[e] is None else map_scores(m, o.extents[e], clip_spans(m.shape[1], o.n_frames))[:2]     # hit and mass of every map
    for w, by in got['by'].items():
        square = np.array(by['square'], float)
        if w == 'hidden':
            each = np.swapaxes(lost, 1, 2)                    # by video, extent and question
            np.testing.assert_allclose(square[:3, :2], np.nanmean(lost, 0), atol=1e-5)     # here lines are whose answer
        else:
            each, mass = np.moveaxis([[scored(m, o, e) for e in ('colour', 'count')] for m, o in zip(maps[w], data.items)], 2, 0)
            np.testing.assert_allclose(square[:2], np.nanmean(each, 0), atol=1e-5)
            for i, q in enumerate(('colour', 'count')): assert by['rows'][q]['mass'] == pytest.approx(np.nanmean(mass[:, i, i]), rel=1e-4)
        for i, q in enumerate(('colour', 'count')):
            seen, gap = np.array(by['videos'][q]['own'], float), np.array(by['videos'][q]['gap'], float)
            np.testing.assert_allclose(seen, each[:, i, i], atol=2e-5)
            other = each[:, 1-i, i] if w == 'hidden' else each[:, i, 1-i]     # wrong is another extent hidden, or another map
            np.testing.assert_allclose(gap, each[:, i, i] - other, atol=2e-5)
            assert by['rows'][q]['n'] == (9 if q == 'colour' else 8) and by['rows'][q]['own'] == pytest.approx(np.nanmean(each[:, i, i]), abs=1e-5)
        assert by['videos']['class']['own'] == [None]*9 and by['rows']['class']['n'] == 0
    assert set(got['curves']) == {'attention', 'gradient'} and {c['n'] for c in got['curves']['attention'].values()} == {4} and set(got['agreement']) == {'colour', 'count', 'class'}

@pytest.mark.parametrize('change, words', [(dict(extents=None), 'without extents'), (dict(n_frames=None), 'without n_frames'), (dict(n_frames=80), 'not of clips of 8 frames')])
def test_a_run_that_cannot_be_looked_at_is_scored_and_says_why(tmp_path, change, words):
    data = toys()
    data['test'].items[:] = [replace(o, **change) for o in data['test'].items]
    r = run_one(Experiment(**SMALL, trained=False), 0, data, tmp_path)
    assert 'where' not in r and words in json.loads((tmp_path/'result.json').read_text())['not_looked'] and r['test']['scores']['colour'] is not None

def test_maps_of_the_first_videos_are_those_of_the_runs(data, tmp_path):
    grid = Grid('g', {'a': Experiment(**SMALL), 'thin': Experiment(**SMALL, every=2), 'b': Experiment(**SMALL, model='caption')}, 'a', (4,))
    table = example_maps(grid, run_grid(grid, data, tmp_path, progress=False), data, tmp_path, n=2)
    items = data['test'].items[:2]
    assert list(table.row.unique()) == ['a', 'b'] and list(table.id.unique()) == [o.id for o in items]
    for name in ('a', 'b'):
        model = load_run(tmp_path/run_name(grid.rows[name])/'seed4', data)
        for o in items:
            t = table[(table.row == name) & (table.id == o.id)]
            with torch.no_grad(): attn = model(data['test'].kept[o.id][None]).attn[0].mean((0, 1))
            assert list(t.question) == [*QUESTIONS.names, 'class'][:len(attn)]
            np.testing.assert_allclose(t[[str(i) for i in range(attn.shape[1])]], attn, atol=6e-5)
            spans = t.set_index('question')[['start', 'end']]
            assert spans.loc['colour'].tolist() == [0, 1] and spans.loc['count'].tolist() == [1, 2] and (name == 'b' or spans.loc['class'].isna().all())
    with pytest.raises(ValueError, match='run the grid first'): load_run(tmp_path/'nowhere', data)

def test_a_digest_tells_settings_seeds_videos_and_labels_apart():
    def digest(change=lambda d: None, seed=0, **row):
        d = toys()
        change(d)
        return run_digest(Experiment(**row), seed, d)
    def rename(d): d['test'].kept['x'] = d['test'].kept[d['test'].items[0].id]; d['test'].items[0].id = 'x'
    def relabel(d): d['val'].items[0].answers['colour'] = 'green'
    def reclass(d): d['train'].items[0].class_name = None
    def fewer(d): d['train'].items.pop()
    found = [digest(), digest(seed=1), digest(n_layers=4), digest(questions=['count']), digest(reader_settings={'self_attention': False}), *(digest(c) for c in (rename, relabel, reclass, fewer))]
    assert len(set(found)) == len(found) and digest() == found[0]


# Grids

def finished(folder): return {p.parent.parent.name + '/' + p.parent.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob('result.json')}

def test_a_grid_goes_on_where_it_stopped(data, tmp_path):
    grid = Grid('g', {'a': Experiment(**SMALL), 'b': Experiment(**SMALL, model='reader', reader='mean')}, 'a', (0, 1))
    first = run_grid(grid, data, tmp_path, progress=False)
    before, lost = finished(tmp_path), f"{run_name(grid.rows['b'])}/seed1"
    (tmp_path/lost/'result.json').unlink()
    again = run_grid(grid, data, tmp_path, progress=False)
    now = finished(tmp_path)
    assert set(now) == set(before) and {k for k in now if now[k] != before[k]} == {lost}
    assert again['b'][1]['test'] == first['b'][1]['test']        # the same seed gives the same scores
    table = summary(again, 'a')
    assert table[table.row == 'b'].difference.notna().all() and (table[table.row == 'b'].low <= table[table.row == 'b'].high).all()

def test_a_run_that_was_killed_is_run_again(data, tmp_path):
    "Half a folder of training, with a checkpoint of more steps than this run has, gives what an empty one gives"
    e = Experiment(**SMALL)
    want = run_one(e, 0, data, tmp_path/'whole')
    (tmp_path/'half'/'train'/'checkpoint-0009-00000999').mkdir(parents=True)
    for name in ('log.csv', 'checkpoint-0009-00000999/progress.json', 'checkpoint-0009-00000999/model.safetensors'): (tmp_path/'half'/'train'/name).write_text('{')
    (tmp_path/'half'/'train'/'config.json').write_text(json.dumps(dict(epochs=9, lr=.1, decoder_lr=1.)))
    (tmp_path/'half'/'.result.json.12.tmp').write_text('{"digest": ')
    got = run_one(e, 0, data, tmp_path/'half')
    assert got['test'] == want['test'] and got['best_epoch'] == want['best_epoch'] and not list(tmp_path.rglob('checkpoint-*'))
    assert json.loads((tmp_path/'half'/'result.json').read_text())['digest'] == want['digest']

def test_changed_settings_and_changed_labels_are_run_again(tmp_path):
    data, row = toys(), Experiment(**SMALL, trained=False)
    one = run_one(row, 0, data, tmp_path)
    two = run_one(row.replace(response_dropout=.5), 0, data, tmp_path)
    assert one['digest'] != two['digest'] and two['settings']['response_dropout'] == .5
    before = finished(tmp_path)
    assert run_one(row.replace(response_dropout=.5), 0, data, tmp_path) == json.loads(json.dumps(two)) and finished(tmp_path) == before
    for o in data['test'].items: o.answers['colour'] = 'red'
    assert run_one(row.replace(response_dropout=.5), 0, data, tmp_path)['digest'] != two['digest'] and finished(tmp_path) != before

def test_rows_that_are_the_same_are_run_once(data, tmp_path):
    grid = Grid('g', {'a': Experiment(**SMALL, trained=False), 'A again': make_experiment({**SMALL, 'trained': False, 'dropout': .1, 'questions': []}), '<b>, "c"|/..': Experiment(**SMALL, trained=False, every=2)}, 'a', (0, 3))
    results = run_grid(grid, data, tmp_path, progress=False)
    assert len(finished(tmp_path)) == 4 and results['a'] == results['A again'] != results['<b>, "c"|/..'] and list(results) == list(grid.rows)
    assert [r['seed'] for r in results['a']] == [0, 3] and {p.name for p in tmp_path.iterdir()} == {run_name(e) for e in grid.rows.values()}

def made_to_try(scores, calls):
    "A `run_one` that knows its score on val, and notes what it was asked for"
    def run(e, seed, data, folder):
        calls.append((run_name(e), seed))
        return {'seed': seed, 'settings': dict(e), 'val': {'scores': {'mean answer': scores[e.d_model, e.lr, seed]}}}
    return run

@settings(max_examples=60)
@given(values=st.lists(st.sampled_from([.1, .2, .3, .4]), min_size=1, max_size=4, unique=True), seeds=st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True), data=st.data())
def test_what_is_tuned_is_chosen_on_val_with_the_first_seed(values, seeds, data):
    "The first of the best values goes on with the other seeds; the others do not, and what is not trained is not tuned"
    rows = {'a': Experiment(d_model=8), 'b': Experiment(d_model=16), 'raw': Experiment(d_model=32, lr=.5, trained=False)}
    scores = {(e.d_model, v, s): data.draw(st.sampled_from([.2, .5, .7])) for e in rows.values() for v in [*values, .5] for s in seeds}
    calls = []
    with pytest.MonkeyPatch.context() as m:
        m.setattr('tqn.studies.grid.run_one', made_to_try(scores, calls))
        found = run_grid(Grid('g', rows, 'a', tuple(seeds), tune={'lr': values}), {}, 'nowhere', progress=False)
    best = {'raw': .5}
    for n in ('a', 'b'):
        best[n] = values[0]
        for v in values[1:]:
            if scores[rows[n].d_model, v, seeds[0]] > scores[rows[n].d_model, best[n], seeds[0]]: best[n] = v
    tried = [(rows[n].replace(lr=v), seeds[0]) for n in rows for v in (values if n != 'raw' else [.5])]
    kept = [(rows[n].replace(lr=best[n]), s) for n in rows for s in seeds[1:]]
    assert sorted(calls) == sorted((run_name(e), s) for e, s in [*tried, *kept])
    assert {n: [(r['settings']['lr'], r['seed']) for r in rs] for n, rs in found.items()} == {n: [(best[n], s) for s in seeds] for n in rows}

def test_a_tuned_row_says_what_was_chosen(data, tmp_path):
    rows = {'a': Experiment(**{**SMALL, 'epochs': 3}), 'b': Experiment(**SMALL, trained=False)}
    grid = Grid('g', rows, 'a', (0, 1), tune={'lr': [1e-9, .05]})
    results = run_grid(grid, data, tmp_path, progress=False)
    score = {v: json.loads((tmp_path/run_name(rows['a'].replace(lr=v))/'seed0'/'result.json').read_text())['val']['scores']['mean answer'] for v in (1e-9, .05)}
    best = max(score, key=score.get)
    assert score[.05] != score[1e-9]
    assert {r['settings']['lr'] for r in results['a']} == {best} and not (tmp_path/run_name(rows['a'].replace(lr=min(score, key=score.get)))/'seed1').exists()
    table = summary(results, 'a', show=grid.tune)
    assert set(table[table.row == 'a'].lr) == {best} and set(table[table.row == 'b'].lr) == {.001}

def test_a_run_that_fails_in_a_process_leaves_those_that_are_done(data, tmp_path):
    "The error comes to the caller as it was, nothing half is kept, and the next call begins after what is done"
    rows = {'good': Experiment(**SMALL), 'bad': Experiment(**SMALL, model='reader', reader='prob')}
    with pytest.raises(ValueError, match="'prob'; nearest"): run_grid(Grid('g', rows, 'good', (0,)), data, tmp_path, 1, progress=False)
    before = finished(tmp_path)
    assert list(before) == [f"{run_name(rows['good'])}/seed0"]
    results = run_grid(Grid('g', {**rows, 'bad': Experiment(**SMALL, model='reader', reader='probe')}, 'good', (0,)), data, tmp_path, progress=False)
    assert before.items() < finished(tmp_path).items() and results['bad'][0]['settings']['reader'] == 'probe'
    with pytest.raises(ValueError, match="'prob'"): run_grid(Grid('g', rows, 'good', (0,)), data, tmp_path, progress=False)

def test_a_process_that_dies_and_data_that_is_gone_are_told(tmp_path):
    grid = Grid('g', {'a': Experiment(**SMALL)}, 'a', (0,))
    with pytest.raises(BrokenProcessPool): run_grid(grid, dying, tmp_path, 1, progress=False)
    with pytest.raises(ValueError, match='disk with the features is gone'): run_grid(grid, refusing, tmp_path, progress=False)
    assert not finished(tmp_path)

def test_data_is_made_once_in_a_process(tmp_path):
    made = []
    def source(n): made.append(n); return toys()
    grid = Grid('g', {'a': Experiment(**SMALL, trained=False), 'b': Experiment(**SMALL, trained=False, every=2)}, 'a', (0, 1))
    run_grid(grid, partial(source, 1), tmp_path, progress=False)
    assert made == [1]
