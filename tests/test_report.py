"Tables of grids against naive loops, their CSV and Markdown, and what their figures show"
import io, re
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from made_grids import QUESTIONS, SMALL, made_run, toys
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from numpy.testing import assert_allclose
from PIL import Image
from tqn.studies.report import make_tables, write_tables
from tqn.studies.grid import Experiment, Grid, example_maps, run_grid
from tqn.attention.localise import bootstrap
from tqn.questions.queries import Query, QuerySet
from tqn.studies.report import confusions, headline, attention_scores, squares, steps_off, summary
from tqn.attention.figure import ACCENT, FAINT
from tqn.studies.report import grid_figures, plot_counts, plot_differences, plot_layers, plot_attention_scores, plot_maps, plot_overview, plot_squares

STRANGE = ['TQN', 'a, b', 'say "x"', '<b>bold</b> & co', "it's; ü – é", 'C:\\row', '*a* _b_ `c`', '100 %', 'a|b']
FEW = QuerySet([Query('count', ['0', '1', '2'], kind='count')])

@pytest.fixture(autouse=True)
def no_figures(): yield; plt.close('all')

def made(rows, n_seeds=2, n=9, seed=0, **settings):
    "Results of a grid; 'few' answers one question only"
    rng, ids = np.random.default_rng(seed), [f'v{i}' for i in range(n)]
    return {r: [made_run(rng, ids, FEW if r == 'few' else QUESTIONS, **settings) for _ in range(n_seeds)] for r in rows}

def number(v): return np.nan if v is None else v

def mean(values):
    "Of what is there"
    known = [v for v in map(number, values) if not np.isnan(v)]
    return sum(known)/len(known) if known else np.nan

# Scores

def share(run, q, id, names=QUESTIONS.names):
    "What a video counts in a question: right or wrong, or a share of its questions; None where it is not known"
    right = run['test']['right']
    if q in right: return right[q].get(id)
    asked = [right[k].get(id) for k in names if k in right]
    known = [o for o in asked if o is not None]
    if q == 'all answers': return all(asked) if len(known) == len(asked) else None
    return sum(known)/len(known) if known else None

@settings(max_examples=25)
@given(n=st.integers(1, 12), n_seeds=st.integers(1, 3), missing=st.sampled_from([0., .3, .8]), seed=st.integers(0, 999))
def test_summary_against_loops(n, n_seeds, missing, seed):
    results = made(['few', 'base', 'b'], n_seeds, n, seed, missing=missing, where=False)
    table = summary(results, 'base')
    assert list(zip(table.row, table.question)) == [(r, q) for r in results for q in [*(['count'] if r == 'few' else QUESTIONS.names), 'class', 'class (query)', 'mean answer', 'all answers']]
    for t in table.itertuples():
        runs, base = results[t.row], results['base']
        ids = [f'v{i}' for i in range(n)]
        known = [[share(r, t.question, i) for i in ids] for r in runs]
        acc = [number(r['test']['scores'][t.question]) if t.question in r['test']['scores'] else mean(k) for r, k in zip(runs, known)]
        acc = [a for a in acc if not np.isnan(a)]
        assert (t.n, t.seeds, t.parameters) == (sum(k is not None for k in known[0]), n_seeds, runs[0]['parameters']) and t.reading == 'query'
        assert_allclose((t.mean, t.sd, t.cpu_s), (mean(acc), np.std(acc, ddof=1) if len(acc) > 1 else np.nan, mean([r['cpu_s'] for r in runs])))
        names = ['count'] if t.row == 'few' else QUESTIONS.names     # both sides of a difference are asked the same
        both = [i for i in ids if all(share(r, t.question, i, names) is not None for r in [*runs, *base])]
        if t.row == 'base' or not both: assert np.isnan([t.difference, t.low, t.high]).all()
        else:
            d = np.array([[float(share(a, t.question, i, names)) - float(share(b, t.question, i, names)) for i in sorted(both)] for a, b in zip(runs, base)])
            assert_allclose(t.difference, d.mean(), atol=1e-12); assert_allclose((t.low, t.high), bootstrap(d), atol=1e-12)

def test_summary_reads_the_split_and_shows_the_settings_it_is_told_to():
    results = made(['base', 'b'])
    for r in results['b']: r.update(settings={**r['settings'], 'lr': .5, 'epochs': 7}, reading='product')
    results['b'][1]['reading'] = 'both'
    val, test = (summary(results, 'base', s, ['lr', 'epochs']) for s in ('val', 'test'))
    assert not val['mean'].equals(test['mean']) and {'lr', 'epochs'} <= set(val.columns)
    assert set(zip(val[val.row == 'b'].lr, val[val.row == 'b'].epochs, val[val.row == 'b'].reading)) == {(.5, 7, 'product/both')}

@pytest.mark.parametrize('n_seeds, n', [(1, 1), (1, 2), (3, 1)])
def test_one_seed_has_no_spread_and_one_video_no_interval(n_seeds, n):
    t = summary(made(['base', 'b'], n_seeds, n, missing=0., where=False), 'base')
    assert t.sd.isna().all() == (n_seeds == 1)
    b = t[t.row == 'b']
    assert b.difference.notna().all() and b.low.isna().all() == b.high.isna().all() == (n == 1)

def test_a_question_nobody_can_be_asked_has_no_score():
    t = summary(made(['base', 'b'], missing=1., where=False), 'base').set_index(['row', 'question'])
    for q in (*QUESTIONS.names, 'mean answer', 'all answers'): assert t.loc[('b', q), 'n'] == 0 and t.loc[('b', q), ['mean', 'difference', 'low', 'high']].isna().all()
    assert t.loc[('b', 'class'), ['mean', 'difference']].notna().all()


# Where a row looked

@settings(max_examples=10)
@given(n=st.integers(1, 8), n_seeds=st.integers(1, 3), seed=st.integers(0, 999))
def test_looks_and_squares_against_loops(n, n_seeds, seed):
    results = made(['base', 'few'], n_seeds, n, seed)
    results['blind'] = made(['x'], n_seeds, n, seed, where=False)['x']
    table, square = attention_scores(results), squares(results)
    ways = ['attention', 'layer 0', 'layer 1', 'gradient', 'hidden']
    asked = {r: [*(FEW if r == 'few' else QUESTIONS).names, 'class'] for r in ('base', 'few')}
    assert list(zip(table.row, table.by, table.question)) == [(r, w, q) for r in asked for w in ways for q in asked[r]]
    for t in table.to_dict('records'):
        runs = [r['where'] for r in results[t['row']]]
        rows = [r['by'][t['by']]['rows'][t['question']] for r in runs]
        for k in ('own', 'wrong', 'gap', 'uniform', 'fixed', 'flight', 'cosine', 'mass', 'elsewhere'): assert_allclose(t[k], mean([r.get(k) for r in rows]))
        gaps = np.array([[number(v) for v in r['by'][t['by']]['videos'][t['question']]['gap']] for r in runs], float)
        assert_allclose((t['low'], t['high']), bootstrap(gaps)); assert t['n'] == rows[0]['n']
        for k in ('insertion', 'deletion', 'random'): assert_allclose(t[k], mean([r['curves'].get(t['by'], {}).get(t['question'], {}).get(k) for r in runs]))
        assert_allclose(t['agreement'], mean([r['agreement'][t['question']] for r in runs]) if t['by'] == 'gradient' else np.nan)
    assert list(zip(square.row, square.by, square.extent, square.question)) == [(r, w, e, q) for r in asked for w in ('attention', 'gradient', 'hidden') for e in asked[r] for q in asked[r]]
    for t in square.itertuples():
        i, j = asked[t.row].index(t.extent), asked[t.row].index(t.question)
        if t.by == 'hidden': i, j = j, i        # there a line is whose answer, and a column what is hidden
        assert_allclose(t.value, mean([r['where']['by'][t.by]['square'][i][j] for r in results[t.row]]))

def test_without_extents_there_are_no_tables_of_looks():
    results = made(['base', 'b'], where=False)
    assert not len(attention_scores(results)) and not len(squares(results))


# Which counts are mixed up

@settings(max_examples=40)
@given(pairs=st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30), min_size=1, max_size=3))
def test_confusions_and_steps_against_loops(pairs):
    "pairs: (truth, said) of every video, for every seed"
    labels = ['none', '1', '2', '10']        # in the order of the question, which is not that of the letters
    def run(p): return {'test': {'confusion': {'somersault': dict(labels=labels, counts=[[sum(o == (i, j) for o in p) for j in range(4)] for i in range(4)])}}}
    table = confusions({'a': [run(p) for p in pairs], 'b': [run(pairs[0])]})
    for name, ps in (('a', sum(pairs, [])), ('b', pairs[0])):
        t = table[table.row == name]
        assert {(r.truth, r.said): r.n for r in t.itertuples() if r.n} == {(labels[i], labels[j]): ps.count((i, j)) for i, j in set(ps)}
        assert list(t[t.truth == t.said].truth) == labels and t.n.sum() == len(ps)
        s = steps_off(table).set_index('row').loc[name]
        off = [abs(i-j) for i, j in ps]
        assert s.question == 'somersault' and s.n == len(ps)
        assert_allclose(s[['right', 'neighbour', 'far', 'steps']].astype(float), [np.mean([o == 0 for o in off]), np.mean([o == 1 for o in off]), np.mean([o > 1 for o in off]), np.mean(off)])

def test_confusions_of_the_split_that_is_asked_for():
    results = made(['base'])
    want = {s: sum(np.sum(r[s]['confusion']['count']['counts']) for r in results['base']) for s in ('val', 'test')}
    assert {s: confusions(results, s).n.sum() for s in want} == want and not len(confusions(made(['x'], n_seeds=1, where=False) | {'x': [{'test': {'confusion': {}}}]}))


# Text

def test_rows_of_any_name_come_back_from_csv():
    results = made(STRANGE)
    for t in (summary(results, 'TQN'), attention_scores(results), squares(results), confusions(results)):
        text = t.to_csv(index=False, float_format='%.5g')
        back = pd.read_csv(io.StringIO(text))
        assert list(back.row) == list(t.row) and list(back.columns) == list(t.columns) and list(back.row.unique()) == STRANGE
        for c in t.select_dtypes('number'): assert_allclose(back[c], t[c], rtol=1e-4)
        assert back.to_csv(index=False, float_format='%.5g') == text

def cells(text):
    "Lines and cells of a Markdown table, every line as wide as the first"
    lines = [[c.strip().replace('\\|', '|') for c in re.split(r'(?<!\\)\|', l)[1:-1]] for l in text.split('\n')]
    assert len({len(l) for l in lines}) == 1 and all(set(c) == {'-'} for c in lines[1])
    return [lines[0], *lines[2:]]

def said(t, row, q):
    "Mean and spread, and the difference, as a headline says them"
    if (row, q) not in t.index: return '–', '–'
    o = t.loc[(row, q)]
    return f"{o['mean']:.3f} ± {o.sd:.3f}", '' if row == 'TQN' else f'{100*o.difference:+.1f} [{100*o.low:+.1f}, {100*o.high:+.1f}]'

def test_headline_against_its_tables():
    "Rows of any name, in the order of the first column, from two splits"
    results = made([*STRANGE, 'few'], 3, 40, missing=.1)
    test, val = summary(results, 'TQN'), summary(results, 'TQN', 'val')
    columns = {'all | test': (test, 'mean answer'), 'colour': (test, 'colour'), 'class, val': (val, 'class')}
    head, *rows = cells(headline(columns, ['all | test', 'colour']))
    by = {h: t.set_index(['row', 'question']) for h, (t, _) in columns.items()}
    n = {h: int(t[t.question == q].n.max()) for h, (t, q) in columns.items()}
    assert head == ['', *(f'{h} (N {n[h]})' for h in columns), 'all | test: difference in points [95%]', 'colour: difference in points [95%]', 'parameters'] and n['class, val'] == 40
    assert [r[0] for r in rows] == list(test[test.question == 'mean answer'].sort_values('mean', ascending=False, kind='stable').row) and set(STRANGE) < {r[0] for r in rows}
    for r in rows:
        want = {h: said(by[h], r[0], q) for h, (_, q) in columns.items()}
        assert r[1:-1] == [*(want[h][0] for h in columns), *(want[h][1] for h in ('all | test', 'colour'))] and r[-1] == f"{by['colour'].loc[(r[0], 'class'), 'parameters']/1e6:.2f} M"
    back = pd.read_csv(io.StringIO(test.to_csv(index=False, float_format='%.5g')))
    small = cells(headline({'mean': (back, 'mean answer')}, [], size=False))
    assert small[0] == ['', f"mean (N {n['all | test']})"] and [r[0] for r in small[1:]] == [r[0] for r in rows]
    assert cells(headline({'mean': (back, 'mean answer')}))[0][2:] == ['mean: difference in points [95%]', 'parameters']

def test_headline_of_one_seed_has_no_spread():
    for k in (1, 2): assert ('±' in headline({'a': (summary(made(['base', 'b'], k, missing=0.), 'base'), 'mean answer')})) == (k > 1)


# Figures

def labels(fig): return [t.get_text() for t in fig.axes[0].get_yticklabels()]

def titles(fig): return [a.get_title().split('\n')[0] for a in fig.axes]

def across(points): return np.ma.filled(points.get_offsets()[:, 0].astype(float), np.nan)

def test_differences_as_drawn():
    t = summary(made(['b', 'base', 'c', 'few'], 2, 30, seed=3), 'base')
    fig = plot_differences(t, title='What is it?')
    assert titles(fig) == ['colour', 'count', 'class', 'mean answer'] and fig._suptitle.get_text() == 'What is it?' and labels(fig) == ['b', 'c', 'few']
    for ax, q in zip(fig.axes, ['colour', 'count', 'class', 'mean answer']):
        o = t[t.question == q].set_index('row').reindex(['b', 'c', 'few'])
        assert ax.get_title() == f"{q}\nbase {t[(t.row == 'base') & (t.question == q)]['mean'].iloc[0]:.3f}"
        lines, points = ax.collections
        assert_allclose(across(points), 100*o.difference); assert_allclose(ax.get_yticks(), range(3))
        there = o.difference.notna().to_numpy()
        clear = ((o.low > 0) | (o.high < 0)).to_numpy()
        assert [to_hex(c) for c in points.get_facecolors()] == [ACCENT if c else FAINT for c in clear] and [to_hex(c) for c in lines.get_colors()] == [ACCENT if c else FAINT for c in clear]
        for s, low, high, ok in zip(lines.get_segments(), 100*o.low, 100*o.high, there):
            if ok: assert_allclose(s[:, 0], [low, high])
    assert ax.get_ylim()[0] > ax.get_ylim()[1]         # the first row is at the top
    one = plot_differences(t, ['count'], rows=['few', 'b'])
    assert titles(one) == ['count'] and labels(one) == ['few', 'b'] and one._suptitle is None

def test_overview_as_drawn():
    "Every split that is there, and what the class's map has no part in"
    results = made(['b', 'base', 'few'], splits=('test', 'long_test'))
    tables = {'test': summary(results, 'base'), 'long_test': summary(results, 'base', 'long_test'), 'where': attention_scores(results)}
    fig = plot_overview(tables, title='All')
    best = tables['test'][tables['test'].question == 'mean answer'].set_index('row')['mean'].sort_values(ascending=False).index
    assert titles(fig) == ['mean answer', 'class', 'own − wrong question (hits)'] and labels(fig) == list(best)
    for ax, q in zip(fig.axes, ('mean answer', 'class')):
        want = [t[t.question == q].set_index('row')['mean'].reindex(best) for t in (tables['test'], tables['long_test'])]
        line, *points = ax.collections
        for p, w in zip(points, want, strict=True): assert_allclose(across(p), w)
        for s, ends in zip(line.get_segments(), zip(*want)): assert_allclose(s[:, 0], sorted(ends))
    for p, by in zip(fig.axes[2].collections, ('attention', 'gradient'), strict=True):
        w = tables['where'][tables['where'].by == by]
        assert_allclose(across(p), [mean(w[(w.row == r) & (w.question != 'class')].gap) for r in best])
    few = plot_overview({'test': tables['test']}, rows=['few', 'b'], questions=['count', 'nothing'])
    assert titles(few) == ['count'] and sorted(labels(few)) == ['b', 'few']
    only = plot_overview(tables, attended=['count'])
    w = tables['where']
    assert_allclose(across(only.axes[2].collections[0]), w[(w.by == 'attention') & (w.question == 'count')].set_index('row').gap.reindex(best))

@pytest.mark.parametrize('by', ['attention', 'layer 1', 'gradient', 'hidden'])
def test_looks_as_drawn(by):
    where = attention_scores(made(['base', 'b', 'few']))
    fig = plot_attention_scores(where, ['few', 'base', 'few', 'nobody'], by, ['count', 'colour', 'class'])
    assert [a.get_title() for a in fig.axes] == ['count\nN 9', 'colour\nN 9', 'class\nN 0'] and labels(fig) == ['few', 'base']
    for ax, q in zip(fig.axes, ('count', 'colour', 'class')):
        o = where[(where.by == by) & (where.question == q)].set_index('row').reindex(['few', 'base'])
        assert_allclose(across(ax.collections[-1]), o.own); assert_allclose(across(ax.collections[-2]), o.wrong)
        assert len(ax.collections) == 3 + (1 if by == 'hidden' else 2)          # the line, its ends, and the controls
        assert (ax.get_xlim() == (-.05, 1.05)) == (by != 'hidden')
    with pytest.raises(ValueError, match="'attention'.*'layer 2'"): plot_attention_scores(where, by='layer 2')
    assert titles(plot_attention_scores(where)) == ['colour', 'count', 'class'] and labels(plot_attention_scores(where)) == ['base', 'b', 'few']

def test_layers_as_drawn():
    where = attention_scores(made(['base', 'b']))
    fig = plot_layers(where, ['b', 'base', 'nobody'])
    assert titles(fig) == ['b', 'base']
    for ax, r in zip(fig.axes, ('b', 'base')):
        drawn = {tuple(np.round(l.get_ydata(), 9)) for l in ax.lines if len(l.get_xdata()) == 2 and list(l.get_xdata()) == [0, 1]}
        for q in QUESTIONS.names: assert tuple(np.round([where[(where.row == r) & (where.by == f'layer {l}') & (where.question == q)].gap.iloc[0] for l in (0, 1)], 9)) in drawn
    assert [t.get_text() for t in fig.axes[1].get_legend().get_texts()] == ['colour', 'count', 'class'] and fig.axes[0].get_legend() is None
    with pytest.raises(ValueError, match='several layers.*nobody'): plot_layers(where, ['nobody'])

def test_squares_as_drawn():
    table = squares(made(['base', 'b']))
    fig = plot_squares(table, 'b', ['hidden', 'attention', 'nothing'])
    assert titles(fig) == ['probability lost, evidence hidden', 'attention'] and fig._suptitle.get_text() == 'b'
    for ax, by, word in zip(fig.axes, ('hidden', 'attention'), ('whose answer', 'whose map')):
        t = table[(table.row == 'b') & (table.by == by)]
        assert [x.get_text() for x in ax.texts] == [f'{v:.2f}' for v in t.value] and ax.get_xlabel() == word and len(ax.patches) == 3
        assert [x.get_text() for x in ax.get_xticklabels()] == ['colour', 'count', 'class']

def test_confusions_as_drawn():
    table = confusions(made(['base', 'b']))
    fig = plot_counts(table, ['b', 'base'])
    assert titles(fig) == ['b', 'base'] and fig.axes[0].get_ylabel() == 'count, truth'
    for ax, r in zip(fig.axes, ('b', 'base')):
        n = table[table.row == r].pivot(index='truth', columns='said', values='n').fillna(0).to_numpy()
        p = n/np.maximum(n.sum(1, keepdims=True), 1)
        assert [x.get_text() for x in ax.texts] == [f'{v:.2f}'.lstrip('0') if v >= .005 else '' for v in p.flatten()]

def some_maps(rows, n=7):
    "Maps of two videos, the second of which is shorter"
    g = np.random.default_rng(0)
    return pd.DataFrame([dict(row=r, id=v, question=q, start=s, end=e, **{str(i): g.random() for i in range(k)}) for r in rows for v, k in (('v', n), ('w', n-2)) for q, s, e in (('colour', 0., 1.), ('count', 2.5, 4.), ('class', np.nan, np.nan))])

def test_maps_as_drawn():
    maps = some_maps(['a', 'b'])
    fig = plot_maps(maps, ['b', 'nobody'], 'w')
    ax, = fig.axes
    o = maps[(maps.row == 'b') & (maps.id == 'w')][['0', '1', '2', '3', '4']]
    assert_allclose(ax.collections[0].get_array().reshape(3, 5), o.div(o.max(axis=1), axis=0)); assert labels(fig) == ['colour', 'count', 'class']
    assert [(p.get_x(), p.get_width(), int(p.get_y())) for p in ax.patches] == [(0, 1, 0), (2.5, 1.5, 1)]        # nobody knows where the class is
    assert titles(plot_maps(maps)) == ['a', 'b']
    with pytest.raises(ValueError, match="expected rows of.*'a'"): plot_maps(maps, ['nobody'])


# Files

def grid_of(rows, base, **settings): return Grid('A grid', {r: Experiment(**SMALL, **({'loss': 'ordinal'} if 'ordinal' in r else {})) for r in rows}, base, (0, 1), **settings)

def tables_of(results, base): return dict(test=summary(results, base), where=attention_scores(results), squares=squares(results), confusions=confusions(results))

def test_a_grid_has_a_figure_for_each_question_it_asks():
    rows = ['b', 'base', 'c', 'ordinal']
    results = made(rows)
    found = grid_figures(grid_of(rows, 'base', figures={'Is it b?': ['b', 'base'], 'Or c, after all?': ['c', 'ordinal']}), tables_of(results, 'base'))
    assert list(found) == ['overview', 'scores_is-it-b', 'where_is-it-b', 'scores_or-c-after-all', 'where_or-c-after-all', 'layers', 'squares', 'confusions']
    assert labels(found['scores_is-it-b']) == ['b'] and labels(found['where_is-it-b']) == ['base', 'b'] and labels(found['where_or-c-after-all']) == ['base', 'c', 'ordinal']
    assert found['scores_is-it-b']._suptitle.get_text() == 'Is it b?' and titles(found['confusions']) == ['base', 'ordinal']
    plain = grid_figures(grid_of(rows, 'base'), tables_of(results, 'base'))
    assert labels(plain['scores']) == ['b', 'c', 'ordinal'] and labels(plain['where']) == ['base', 'b', 'c', 'ordinal'] and plain['scores']._suptitle.get_text() == 'A grid'

def test_a_grid_that_cannot_be_looked_at_has_scores_alone():
    results = made(['base', 'b'], where=False)
    assert list(grid_figures(grid_of(results, 'base'), dict(test=summary(results, 'base'), confusions=confusions(results)))) == ['overview', 'scores']

def test_tables_and_figures_of_rows_of_any_name_are_written(tmp_path):
    "Every picture can be opened, every table is what it was, and no figure stays open"
    results = made(STRANGE, missing=0.)
    tables = tables_of(results, 'TQN') | {'maps': some_maps(STRANGE)}
    files = write_tables('my grid', grid_of(STRANGE, 'TQN', figures={'What, "then"?': STRANGE[1:]}), tables, tmp_path/'out')
    assert sorted(p.name for p in files) == sorted(p.name for p in (tmp_path/'out').iterdir()) == sorted([*(f'my grid_{k}.csv' for k in tables), *(f'my grid_{k}.png' for k in ('overview', 'scores_what-then', 'where_what-then', 'layers', 'squares', 'maps'))])
    for p in files:
        if p.suffix == '.png': assert min(Image.open(p).convert('RGB').size) > 100
        else: pd.testing.assert_frame_equal(pd.read_csv(p, dtype={'truth': str, 'said': str}), tables[p.stem.removeprefix('my grid_')], check_dtype=False, rtol=1e-4)
    assert not plt.get_fignums()

def test_tables_of_a_grid_that_was_run(tmp_path):
    "All that was scored is there: splits of one's own too, and the setting that was tuned"
    data = toys()
    data |= {'unseen': data['val'], 'long_test': data['test']}
    grid = Grid('g', {'a': Experiment(**SMALL), 'b': Experiment(**SMALL, trained=False)}, 'a', (0, 1), tune={'lr': [.01]})
    results = run_grid(grid, data, tmp_path, progress=False)
    tables = make_tables(grid, results, example_maps(grid, results, data, tmp_path))
    assert list(tables) == ['test', 'unseen', 'long_test', 'gains', 'where', 'squares', 'confusions', 'maps']
    for s in ('test', 'unseen', 'long_test'): pd.testing.assert_frame_equal(tables[s], summary(results, 'a', s, ['lr']))
    assert list(tables['maps'].id.unique()) == [data['long_test'].items[0].id] and set(tables['where'].by) == {'attention', 'gradient', 'hidden'}
    blind = toys(extents=False)
    results = run_grid(grid, blind, tmp_path/'blind', progress=False)
    assert list(make_tables(grid, results, example_maps(grid, results, blind, tmp_path/'blind'))) == ['test', 'confusions']

@pytest.mark.parametrize('rows', [['base', 'b'], ['base', 'b', 'c']])
def test_figures_of_few_rows_have_room(rows, recwarn):
    "Titles and labels of one row of points once left no room for them"
    for where in (False, True):
        grid = Grid('A title that says what the grid asks', {r: Experiment() for r in rows}, 'base')
        for figure in grid_figures(grid, make_tables(grid, made(rows, n_seeds=1, n=4, missing=0., where=where), pd.DataFrame())).values(): figure.savefig(io.BytesIO(), format='png', dpi=110, bbox_inches='tight')
    assert not [str(o.message) for o in recwarn if 'constrained_layout' in str(o.message)]
