"Comparisons: what must be refused in words, made again, or told apart."
import json
from dataclasses import replace
from functools import partial
import numpy as np, pandas as pd, pytest, torch
from made_grids import QUESTIONS, SMALL, save_toys, toys
from safetensors.torch import save_file
from tqn.cli.main import run
from tqn.studies.grid import example_maps, feature_source
from tqn.studies.report import make_tables, write_tables
from tqn.data.batches import FeatureDataset
from tqn.studies.grid import Experiment, Grid, load_grid, run_grid, run_name, run_one
from tqn.studies.report import headline, summary
from tqn.studies.report import plot_maps
from test_report import made, some_maps

RAW = dict(SMALL, trained=False)

def written(tmp_path, rows, base, **settings):
    data, grid = toys(), Grid('g', {n: Experiment(**{**RAW, **r}) for n, r in rows.items()}, base, (0,), **settings)
    results = run_grid(grid, data, tmp_path/'runs', progress=False)
    return [p.name for p in write_tables('g', grid, make_tables(grid, results, example_maps(grid, results, data, tmp_path/'runs')), tmp_path)]

@pytest.mark.parametrize('text', ['', '{"digest": "ab', '[1]', 'null', '{"digest": 3}', '\xff'])
def test_a_result_that_cannot_be_read_is_made_again(tmp_path, text):
    data, e = toys(), Experiment(**RAW)
    want = run_one(e, 0, data, tmp_path)
    (tmp_path/'result.json').write_bytes(text.encode('latin1'))
    assert run_one(e, 0, data, tmp_path)['test'] == want['test'] and json.loads((tmp_path/'result.json').read_text())['digest'] == want['digest']

def test_two_grids_of_one_name_are_refused(tmp_path):
    for d in 'ab': (tmp_path/d).mkdir(); (tmp_path/d/'g.yaml').write_text('rows: {x: {}}')
    save_toys(tmp_path/'mine')
    assert run(['compare', str(tmp_path/'a/g.yaml'), str(tmp_path/'b/g.yaml'), '--data', str(tmp_path/'mine'), '--features', str(tmp_path/'mine/features'), '--out', str(tmp_path/'o'), '--workers', '0', '--quick']) == 2

def test_numbers_as_yaml_reads_them(tmp_path):
    (tmp_path/'g.yaml').write_text('rows: {a: {lr: 1e-3}}\ntune: {lr: [1e-3, 3e-3]}')
    g = load_grid(tmp_path/'g.yaml')
    assert g.rows['a'].lr == .001 and isinstance(g.rows['a'].lr, float)

@pytest.mark.parametrize('text', ['tune: {lr: 0.1}', 'tune: [lr]', 'tune: {model: tqn}', 'figures: [a]', 'figures: {t: a}', 'seeds: [x]', 'seeds: [.5]'])
def test_more_grids_that_are_wrong(tmp_path, text):
    (tmp_path/'g.yaml').write_text(text + '\nrows: {a: {}}')
    with pytest.raises(ValueError, match='g.yaml'): load_grid(tmp_path/'g.yaml')

@pytest.mark.parametrize('row', [dict(epochs='many'), dict(questions='count'), dict(n_train=-1), dict(d_model='wide'), dict(trained='perhaps')])
def test_values_of_the_wrong_kind_are_refused_before_anything_runs(row):
    with pytest.raises(ValueError, match=next(iter(row))): Experiment(**row)

def test_a_setting_that_a_reader_does_not_have_is_an_input_error():
    from tqn.models.baselines import make_reader
    with pytest.raises(ValueError, match='n_layer'): make_reader('probe', 2, 8, 8, n_layer=3)

def test_a_base_of_one_layer_beside_rows_with_more(tmp_path): assert 'g_squares.png' in written(tmp_path, {'a': {}, 'b': dict(n_layers=2)}, 'a')

def test_a_base_that_cannot_be_looked_at(tmp_path): assert 'g_where.csv' in written(tmp_path, {'a': dict(every=2), 'b': {}}, 'a')

def test_figures_whose_titles_make_one_name():
    with pytest.raises(ValueError, match='titles of figures that differ'): Grid('g', {'a': Experiment(), 'b': Experiment(every=2)}, 'a', figures={'Is it?': ['b'], 'is it!': ['b']})

def test_figures_with_numbers_for_titles(tmp_path):
    (tmp_path/'g.yaml').write_text('rows: {a: {}, b: {}}\nfigures: {2020: [b]}')
    assert list(load_grid(tmp_path/'g.yaml').figures) == ['2020']

def test_a_grid_of_one_row():
    t = summary(made(['a'], missing=0.), 'a')
    assert {'difference', 'low', 'high'} <= set(t.columns) and headline({'m': (t, 'mean answer')})

def test_figure_of_the_base_alone(tmp_path): assert written(tmp_path, {'a': {}}, 'a', figures={'t': ['a']})

@pytest.mark.parametrize('name', ['$_$', 'a $\\frac b$'])
def test_row_names_are_no_formulas(tmp_path, name): assert written(tmp_path, {'a': {}, name: dict(n_train=3)}, 'a')

def test_lanes_have_their_own_names():
    m = some_maps(['full', 'short'])
    fig = plot_maps(m[~((m.row == 'short') & (m.question == 'colour'))])
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ['colour', 'count', 'class']

def test_rows_without_maps_at_the_front(tmp_path): assert written(tmp_path, {**{f'thin {i}': dict(every=2, n_train=i) for i in range(1, 5)}, 'a': {}}, 'a')

def test_extents_that_nobody_knows(tmp_path):
    data = {s: FeatureDataset(d.kept, [replace(o, extents={'colour': None}) for o in d.items], d.queries) for s, d in toys().items()}
    assert 'where' not in run_one(Experiment(**RAW), 0, data, tmp_path)

def test_a_row_with_fewer_questions_is_compared_on_those():
    results = made(['base', 'few'], 3, 40, missing=0., where=False)
    t = summary(results, 'base').set_index(['row', 'question'])
    assert t.loc[('few', 'mean answer'), 'difference'] == pytest.approx(t.loc[('few', 'count'), 'difference'])

def test_data_that_changed_are_read_again(tmp_path):
    manifest, folder = save_toys(tmp_path/'mine')
    grid, source = Grid('g', {'a': Experiment(**RAW)}, 'a', (0,)), partial(feature_source, manifest, folder)
    first = run_grid(grid, source, tmp_path/'runs', progress=False)
    manifest.write_text(manifest.read_text().replace(',blue,', ',red,'))
    assert run_grid(grid, source, tmp_path/'runs', progress=False)['a'][0]['digest'] != first['a'][0]['digest']

def test_other_features_are_another_run(tmp_path):
    one, two = toys(), toys()
    for d in two.values(): d.kept.update({i: f*0 for i, f in d.kept.items()})
    assert run_one(Experiment(**RAW), 0, one, tmp_path)['digest'] != run_one(Experiment(**RAW), 0, two, tmp_path)['digest']

def test_diving48_without_its_folder_of_videos(tmp_path):
    from test_cli_compare import make_diving48
    root = make_diving48(tmp_path/'d')
    (root/'rgb').rmdir()
    assert list(feature_source(root, tmp_path/'dive_features')) == ['train', 'val', 'test']
