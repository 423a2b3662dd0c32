"The studies of four ways to train and of a convolution on dives: their commands run, and what is committed agrees with itself"
import csv, importlib.util, json
from pathlib import Path
import numpy as np
import pytest
from tqn.models.tqn import small_model

ROOT = Path(__file__).parents[1]
RESULTS = ROOT/'nbs/results'

def load_study(name='sufb_study'):
    "A command as a module"
    if not (ROOT/'tools'/f'{name}.py').exists(): pytest.skip('only the repository holds tools/')
    spec = importlib.util.spec_from_file_location(name, ROOT/'tools'/f'{name}.py')
    study = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(study)
    return study

@pytest.fixture(scope='module')
def study(tmp_path_factory):
    "The command, on three long videos"
    study = load_study()
    study.BATCH = 2
    folder = tmp_path_factory.mktemp('study')
    place = study.Place(folder/'data', folder/'work', dict(long_train=3, long_val=1, long_test=1))
    place.stage1 = lambda *args: small_model().requires_grad_(True)
    return study, place

@pytest.mark.parametrize('way', ['start', 'frozen', 'sparse', 'sufb', 'full'])
def test_every_way_runs_and_scores_what_it_kept(study, way):
    study, place = study
    r = json.loads(json.dumps(study.run_arm(place, 'gap', way, 0, .2, (1e-5, 1e-4))))
    assert r['test']['n'] == 1 and r['best'] == int(np.argmax([o['answers'] for o in r['curve']]))
    if way == 'start': return
    assert r['seconds'] >= .2 or way == 'frozen'
    assert r['steps'] == len(r['log']) or way == 'frozen'
    drifts = [o['drift'] for o in r['log']]
    assert (way == 'sufb') == any(np.isfinite(drifts)) == ('rows' in r)

@pytest.mark.parametrize('name', ['sufb', 'grid/sufb'])
def test_committed_results_agree_with_themselves(name):
    record = json.loads((RESULTS/f'{name}.json').read_text())
    with open(RESULTS/f'{name}.csv') as f: lines = list(csv.DictReader(f))
    assert [(r['gap'], r['way'], str(r['seed'])) for r in record['runs']] == [(l['gap'], l['way'], l['seed']) for l in lines]
    starts = {(r['gap'], r['seed']): r['test'] for r in record['runs'] if r['way'] == 'start'}
    for r, l in zip(record['runs'], lines):
        assert len(r['test']['videos']) == r['test']['n'] == record['about']['videos']['test']
        assert np.mean(r['test']['videos']) == pytest.approx(r['test']['answers'], abs=1e-4) == pytest.approx(float(l['answers']), abs=1e-4)
        assert r['best'] == int(np.argmax([o['answers'] for o in r['curve']]))
        if r['best'] == 0: assert r['test'] == starts[r['gap'], r['seed']]        # the start was kept, so its score was kept
        if r['way'] != 'start': assert r['seconds'] <= 1.3*record['about']['seconds']

def agree(record):
    "Differences are those of the means, every question of a film has an answer, and the convolution is the first of the best on val"
    about, rows = record['about'], {(r['arm'], r['films'], r['split']): r for r in record['rows']}
    best = max(about['tried'], key=lambda o: o['val'])
    assert about['chosen'] == {k: best[k] for k in ('convolution', 'n_convs')} and len(rows) == 12
    for g in record['gaps']:
        a, b = (rows[arm, g['films'], g['split']] for arm in ('as published', 'behind a convolution'))
        assert a['n'] == b['n'] == about['sizes'][g['films']][g['split']]
        assert g['gap'][0] == pytest.approx(np.mean(b['accuracy']['mean answer']) - np.mean(a['accuracy']['mean answer']), abs=1e-6) and g['gap'][1] <= g['gap'][0] <= g['gap'][2]
    for r in rows.values():
        asked = [v for q, v in r['accuracy'].items() if q != 'mean answer']
        np.testing.assert_allclose(np.mean(asked, 0), r['accuracy']['mean answer'], atol=1e-6)
        assert ('class' in r) == (r['split'] != 'unseen') and ('peaks' in r) == (r['split'] == 'long_test')

def test_committed_dives_agree_with_themselves(): agree(json.loads((RESULTS/'dives.json').read_text()))

def test_the_study_of_a_convolution_runs(tmp_path, monkeypatch):
    "On a few films, an epoch each"
    study = load_study('dives_study')
    monkeypatch.setattr(study, 'KNOWN', dict(train=8, val=4, test=4, unseen=3, long_test=2)); monkeypatch.setattr(study, 'SIZES', dict(test=4, unseen=3, long_test=2))
    monkeypatch.setattr(study, 'TRIED', study.TRIED[:2])
    train = study.train_dives
    monkeypatch.setattr(study, 'train_dives', lambda *args, **kw: train(*args, **kw, epochs=1, progress=False))
    study.study(tmp_path/'data', tmp_path/'work', tmp_path, [0, 1])
    found = json.loads((tmp_path/'dives.json').read_text())
    films = {s: [json.loads((tmp_path/where/'natatorium'/s/'index.json').read_text()) for where in ('data', 'data/fresh')] for s in ('test', 'unseen', 'long_test')}
    for known, fresh in films.values():
        assert (known['seed'], fresh['seed']) == (0, study.FRESH) and not {o['id'] for o in known['items']} & {o['id'] for o in fresh['items']}
        assert [o['extents'] for o in known['items']] != [o['extents'] for o in fresh['items']]
    agree(found)
    assert [len(r['accuracy']['twist']) for r in found['rows']] == [2]*12
