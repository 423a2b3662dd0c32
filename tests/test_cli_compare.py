"Grids from the shell: one's own videos, Diving48, presets, a second time, and what is refused"
import json, os, signal, subprocess, sys, time
from pathlib import Path
import numpy as np, pandas as pd, pytest
from made_grids import QUESTIONS, save_toys, toys
from PIL import Image
from tqn.studies.grid import feature_source, grid_paths
from tqn.studies.grid import Experiment, load_grid, preset_row, run_name

SCRIPT = '''
import json, sys
from tqn.cli.main import run
for args in json.loads(sys.argv[1]):
    print('$ tqn', *args, flush=True)
    print('status', run(args), file=sys.stderr, flush=True)
'''

def tqn(cwd, *lines):
    "Type lines after `tqn`, one after the other, in one new process: status, what was said, and what was complained of, a line each"
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'COLUMNS': '100', 'CUDA_VISIBLE_DEVICES': ''}
    r = subprocess.run([sys.executable, '-W', 'ignore', '-c', SCRIPT, json.dumps([l.split() for l in lines])], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, env=env)
    assert r.returncode == 0 and r.stderr.count('status ') == len(lines), r.stderr
    said, told = r.stdout.split('$ tqn ')[1:], r.stderr.split('status ')
    return [(int(after.split('\n', 1)[0]), out, before.split('\n', 1)[-1] if i else before) for i, (out, before, after) in enumerate(zip(said, told, told[1:]))]

def make_diving48(root):
    "The label files of Diving48, no videos, and features in a folder beside it"
    (root/'rgb').mkdir(parents=True); (root.parent/'dive_features').mkdir()
    (root/'Diving48_vocab.json').write_text(json.dumps([['Back', '15som', '05Twis', 'FREE'], ['Forward', '25som', 'NoTwis', 'PIKE'], ['Back', '25som', 'NoTwis', 'TUCK']]))
    for split, n in (('train', 12), ('test', 5)):
        rows = [{'vid_name': f'meet{i%4}{split}_{i:05d}', 'label': i%3, 'start_frame': 0, 'end_frame': 30} for i in range(n)]
        (root/f'Diving48_V2_{split}.json').write_text(json.dumps(rows))
        for i, r in enumerate(rows): np.save(root.parent/'dive_features'/f"{r['vid_name']}.npy", np.random.default_rng(i).normal(size=(1 + i%4, 6)).astype('f4'))
    return root

GRIDS = {
    'tiny': 'title: A tiny grid\nbase: plain\nseeds: [0, 1]\ndefaults: {d_model: 8, n_layers: 1, n_heads: 2, epochs: 1}\ntune: {lr: [0.01, 0.03]}\n'
            'rows:\n  plain: {}\n  "a, \\"thin\\" <b>": {every: 2}\n  plain again: {}\nfigures: {"Is it thin?": ["a, \\"thin\\" <b>"], "Is it the same?": [plain again]}\n',
    'one': 'seeds: [3]\ndefaults: {epochs: 1, d_model: 16}\nrows: {a: {}}\n', 'small': 'seeds: [3]\ndefaults: {epochs: 1, d_model: 8, n_layers: 1, n_heads: 2}\nrows: {a: {}, b: {model: class}}\n',
    'three': 'seeds: [5, 6, 7]\ndefaults: {d_model: 8, n_layers: 1, n_heads: 2}\ntune: {lr: [0.01, 0.03]}\nrows: {a: {}}\n',
    'word': 'rows: {a: {d_modle: 8}}', 'base': 'base: c\nrows: {a: {}}', 'figure': 'rows: {a: {}}\nfigures: {"Why?": [abc]}', 'preset': 'preset: divng48\nrows: {a: {}}', 'text': 'rows: [', 'list': '- 1',
    'shred': 'seeds: [0]\ndefaults: {d_model: 8, n_layers: 1, n_heads: 2, epochs: 1}\nrows: {a: {heads: shred}}', 'ask': 'rows: {a: {questions: [colur]}}'}

MINE = '--data mine/manifest.csv --features mine/features'
LINES = [f'compare tiny.yaml {MINE} --out out --workers 2', f'compare tiny.yaml {MINE} --out out --tables again --workers 0', f'compare one.yaml {MINE} --out dives --workers 0 --preset dives',
         f'compare three.yaml {MINE} --out quick --workers 0 --quick', 'compare small.yaml --data diving48 --features dive_features --out d48 --workers 0 --preset diving48']
REFUSED = [(f'compare word.yaml {MINE} --out x', ["'d_modle'", "'d_model'", 'word.yaml']), (f'compare base.yaml {MINE} --out x', ["'c'", 'base']), (f'compare figure.yaml {MINE} --out x', ["'Why?'", "'abc'", 'figure']),
           (f'compare preset.yaml {MINE} --out x', ["'divng48'", "'diving48'"]), (f'compare one.yaml {MINE} --out x --preset gym9', ["'gym9'", "'gym99'"]), (f'compare text.yaml {MINE} --out x', ['text.yaml', 'read as YAML']),
           (f'compare list.yaml {MINE} --out x', ['list.yaml', 'rows']), (f'compare nowhere.yaml {MINE} --out x', ['nowhere.yaml']), ('compare one.yaml --data nowhere.csv --features mine/features --out y', ['nowhere.csv']),
           ('compare one.yaml --data mine/manifest.csv --features mine --out y', ['no features in mine', 'such as']), ('compare one.yaml --data mine/untested.csv --features mine/features --out y', ['train, val and test', "'test'"]),
           (f'compare shred.yaml {MINE} --out y --workers 0', ["'shred'", 'heads']), (f'compare ask.yaml {MINE} --out y --workers 0', ["'colur'", "'colour'"]), (f'compare one.yaml {MINE} --out one.yaml', ['one.yaml', 'a folder is needed'])]

@pytest.fixture(scope='module')
def world(tmp_path_factory):
    "A folder where all lines were typed"
    folder = tmp_path_factory.mktemp('compare')
    manifest, _ = save_toys(folder/'mine')
    head, *rows = manifest.read_text().splitlines()
    (folder/'mine/untested.csv').write_text('\n'.join([head, *(r for r in rows if ',test,' not in r), '']))
    for name, text in GRIDS.items(): (folder/f'{name}.yaml').write_text(text)
    make_diving48(folder/'diving48')
    return folder, tqn(folder, *LINES, *(line for line, _ in REFUSED))

def results(folder): return {f'{p.parent.parent.name}/{p.parent.name}': json.loads(p.read_text()) for p in (folder/'runs').rglob('result.json')}

def test_a_grid_in_two_processes(world):
    "Rows that are the same are one run; what was tuned goes on with every seed; the tables name every row as the grid does"
    folder, lines = world
    status, said, told = lines[0]
    assert status == 0 and said.split('\n')[1] == 'A tiny grid', told
    grid, found = load_grid(folder/'tiny.yaml'), results(folder/'out')
    rows = {n: [run_name(Experiment(**{**vars(e), 'lr': v})) for v in (.01, .03)] for n, e in grid.rows.items()}
    assert {k.split('/')[0] for k in found} == {r for rs in rows.values() for r in rs} and len(found) == 6        # two rows tried with two rates, then one more seed of the better one
    score = lambda r: found[f'{r}/seed0']['val']['scores']['mean answer']
    better = {n: max(rs, key=score) for n, rs in rows.items()}
    assert {k for k in found if k.endswith('seed1')} == {f'{r}/seed1' for r in better.values()}
    t = pd.read_csv(folder/'out/tiny_test.csv')
    assert list(t.row.unique()) == ['plain', 'a, "thin" <b>', 'plain again'] and set(t.seeds) == {2}
    for n, r in better.items():
        mine = t[(t.row == n) & (t.question == 'count')].iloc[0]
        assert mine['mean'] == pytest.approx(np.mean([found[f'{r}/seed{s}']['test']['scores']['count'] for s in (0, 1)]), rel=1e-4) and mine.lr == found[f'{r}/seed0']['settings']['lr'] and mine.n == len(toys()['test'])
    files = ['tiny_test.csv', 'tiny_gains.csv', 'tiny_where.csv', 'tiny_squares.csv', 'tiny_confusions.csv', 'tiny_maps.csv', *(f'tiny_{k}.png' for k in ('overview', 'scores_is-it-thin', 'where_is-it-thin', 'scores_is-it-the-same', 'where_is-it-the-same', 'squares', 'maps'))]
    assert sorted(files) == sorted(p.name for p in (folder/'out').iterdir() if p.is_file()) and all(f'  out/{n}\n' in said for n in files)
    assert all(min(Image.open(folder/'out'/n).size) > 50 for n in files if n.endswith('.png'))
    assert list(pd.read_csv(folder/'out/tiny_where.csv').row.unique()) == ['plain', 'plain again']        # a row that leaves clips out cannot be looked at

def test_a_second_time_nothing_is_trained_and_the_tables_are_the_same(world):
    folder, lines = world
    assert lines[1][0] == 0, lines[1][2]
    first = min(p.stat().st_mtime_ns for p in (folder/'out').glob('*.csv'))
    assert all(p.stat().st_mtime_ns <= first for p in (folder/'out/runs').rglob('*') if p.is_file())
    tables = {p.name: p.read_bytes() for p in (folder/'out').glob('*.csv')}
    assert {p.name: p.read_bytes() for p in (folder/'again').glob('*.csv')} == tables and len(list((folder/'again').glob('*.png'))) == len(list((folder/'out').glob('*.png')))
    assert not (folder/'again/runs').exists()

def test_rows_begin_with_the_preset_that_is_asked_for(world):
    folder, lines = world
    assert lines[2][0] == 0, lines[2][2]
    found, = results(folder/'dives').values()
    want = Experiment(**{**preset_row('dives'), 'epochs': 1, 'd_model': 16})
    assert Experiment(**found['settings']) == want and (want.n_layers, want.batch_size, want.class_weight) == (3, 16, .3)
    assert {p.name for p in (folder/'dives').glob('*.csv')} == {f'one_{k}.csv' for k in ('test', 'gains', 'where', 'squares', 'confusions', 'maps')} and set(pd.read_csv(folder/'dives/one_where.csv').by) >= {'layer 0', 'layer 2'}

def test_quick_takes_two_passes_two_seeds_and_tunes_nothing(world):
    folder, lines = world
    assert lines[3][0] == 0, lines[3][2]
    found = results(folder/'quick')
    assert {(r['settings']['epochs'], r['settings']['lr']) for r in found.values()} == {(2, .001)} and sorted(r['seed'] for r in found.values()) == [5, 6]
    assert 'lr' not in pd.read_csv(folder/'quick/three_test.csv').columns

def test_diving48_with_features_and_no_videos(world):
    "Questions and classes come from the vocabulary, val from train, competition by competition; nobody knows where to look"
    folder, lines = world
    assert lines[4][0] == 0, lines[4][2]
    t = pd.read_csv(folder/'d48/small_test.csv')
    assert set(t.question) >= {'takeoff', 'somersault', 'twist', 'position', 'class', 'mean answer'} and set(t[t.question == 'class'].n) == {5}
    assert {p.name for p in (folder/'d48').glob('*.csv')} == {'small_test.csv', 'small_confusions.csv'} and set(pd.read_csv(folder/'d48/small_confusions.csv').question) == {'somersault', 'twist'}
    for r in results(folder/'d48').values(): assert r['settings']['config'] == 'published' and r['settings']['response_dropout'] == .8 and r['settings']['d_model'] == 8 and 'extents' in r['not_looked']
    data = feature_source(folder/'diving48', folder/'dive_features')
    assert {o.group for o in data['train'].items}.isdisjoint({o.group for o in data['val'].items}) and len(data['train']) + len(data['val']) == 12 and len(data['test']) == 5
    assert data['test'].queries.names == ['takeoff', 'somersault', 'twist', 'position'] and data['test'][3]['features'].shape == (4, 6)

@pytest.mark.parametrize('i', range(len(REFUSED)), ids=[' '.join(l.split()[1:3:2]) or l for l, _ in REFUSED])
def test_what_is_wrong_is_named(world, i):
    "One message, status 2, and no folder of results where the grid itself is wrong"
    folder, lines = world
    status, said, told = lines[len(LINES) + i]
    message = told[told.index('tqn: '):]
    assert status == 2 and 'Traceback' not in told and message.count('tqn: ') == 1, told
    assert not [w for w in REFUSED[i][1] if w not in message], message
    assert not (folder/'x').exists() and not list((folder/'y').rglob('result.json'))

@pytest.mark.skipif(not Path('/proc/self').exists(), reason='looks at processes in /proc')
def test_ctrl_c_ends_a_grid_and_its_processes(world, tmp_path):
    "As from a terminal, where it reaches all of them: one line, 130, nobody left, and what is not finished has no result"
    (tmp_path/'long.yaml').write_text('seeds: [0]\ndefaults: {d_model: 8, n_layers: 1, n_heads: 2, epochs: 100000}\nrows: {a: {}}')
    p = subprocess.Popen([sys.executable, '-c', 'from tqn.cli.main import main; main()', 'compare', 'long.yaml', *MINE.replace('mine/', f'{world[0]}/mine/').split(), '--workers', '1', '--out', 'out'], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
                         start_new_session=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    try:
        until = time.time() + 120
        while not list(tmp_path.glob('out/runs/*/seed0/train/log.csv')) and p.poll() is None and time.time() < until: time.sleep(.05)
        os.killpg(p.pid, signal.SIGINT)
        _, err = p.communicate(timeout=60)
        assert (p.returncode, err.strip().split('\n')[-1]) == (130, 'tqn: stopped') and 'Traceback' not in err, err
        until = time.time() + 10
        while alive(p.pid) and time.time() < until: time.sleep(.05)
        assert not alive(p.pid) and not list(tmp_path.rglob('result.json'))
    finally:
        if alive(p.pid): os.killpg(p.pid, signal.SIGKILL)

def alive(group):
    "Processes of this group that have not ended"
    def of(stat): return stat.rpartition(')')[2].split()
    found = []
    for f in Path('/proc').glob('[0-9]*/stat'):
        try: state, _, its = of(f.read_text())[:3]
        except (OSError, ValueError): continue
        if int(its) == group and state not in 'ZX': found.append(f.parent.name)
    return found


# Sources

def test_features_of_a_manifest_are_those_of_its_videos(tmp_path):
    manifest, folder = save_toys(tmp_path/'mine')
    want = toys()
    for where in (manifest, tmp_path/'mine'):
        data = feature_source(where, folder)
        assert list(data) == ['train', 'val', 'test'] and data['test'].queries.names == QUESTIONS.names and data['test'].queries['count'].kind == 'count'
        for s in data:
            assert [(o.id, o.answers, o.class_name, o.n_frames, {q: tuple(e) for q, e in o.extents.items()}) for o in data[s].items] == [(o.id, o.answers, o.class_name, o.n_frames, o.extents) for o in want[s].items]
            assert all((data[s][i]['features'] == want[s][i]['features']).all() for i in range(len(data[s])))

def test_finegym_is_the_one_that_is_asked_for(tmp_path):
    from test_finegym import CATEGORIES
    (tmp_path/'elements').mkdir(); (tmp_path/'f').mkdir()
    names = [f'{v}_E_{i:06d}_{i+6:06d}_A_0000_0002' for v in ('A0xAXXysHUo', 'b_c-d_efghi') for i in range(1, 4)]
    for w, n in (('gym99', 3), ('gym288', 2)):
        (tmp_path/f'{w}_categories.txt').write_text(''.join(CATEGORIES.splitlines(True)[:n]))
        (tmp_path/f'{w}_train_element_v1.1.txt').write_text(''.join(f'{e} {i%n}\n' for i, e in enumerate(names[:5]))); (tmp_path/f'{w}_val_element.txt').write_text(f'{names[5]} 0\n')
    for e in names: np.save(tmp_path/'f'/f'{e}.npy', np.zeros((2, 6), 'f4'))
    for w, n in (('gym99', 3), ('gym288', 2)):
        data = feature_source(tmp_path, tmp_path/'f', w)
        assert len(data['test'].queries.class_names) == n and [len(data[s]) for s in ('train', 'val', 'test')] in ([3, 2, 1], [2, 3, 1])
    with pytest.raises(ValueError, match='say which'): feature_source(tmp_path, tmp_path/'f')

def test_the_grids_of_the_kit_are_run_where_none_is_named(tmp_path):
    assert [p.stem for p in grid_paths()] == sorted(p.stem for p in grid_paths([])) and {'ablations', 'architectures', 'evidence', 'supervision'} <= {p.stem for p in grid_paths()}
    assert grid_paths([tmp_path/'a.yaml']) == [tmp_path/'a.yaml']

def test_help():
    from typer.testing import CliRunner
    from tqn.cli.main import app, load_commands
    load_commands()
    r = CliRunner().invoke(app, ['compare', '--help'], env={'COLUMNS': '100'})
    assert r.exit_code == 0 and not [w for w in ('[grids]', '--data', '--features', '--out', '--tables', '--preset', '--workers', '--quick', 'diving48', 'manifest') if w not in r.output], r.output
    assert '...' not in r.output.replace('[grids]...', '').replace('grids... <', '')
