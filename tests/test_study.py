"The study of four ways to train: its command runs, and what is committed agrees with itself"
import csv, importlib.util, json
from pathlib import Path
import numpy as np
import pytest
from tqn.models.tqn import small_model

ROOT = Path(__file__).parents[1]
RESULTS = ROOT/'nbs/results'

def load_study():
    "The command as a module"
    if not (ROOT/'tools/sufb_study.py').exists(): pytest.skip('only the repository holds tools/')
    spec = importlib.util.spec_from_file_location('sufb_study', ROOT/'tools/sufb_study.py')
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

def test_committed_results_agree_with_themselves():
    record = json.loads((RESULTS/'sufb.json').read_text())
    with open(RESULTS/'sufb.csv') as f: lines = list(csv.DictReader(f))
    assert [(r['gap'], r['way'], str(r['seed'])) for r in record['runs']] == [(l['gap'], l['way'], l['seed']) for l in lines]
    starts = {(r['gap'], r['seed']): r['test'] for r in record['runs'] if r['way'] == 'start'}
    for r, l in zip(record['runs'], lines):
        assert len(r['test']['videos']) == r['test']['n'] == record['about']['videos']['test']
        assert np.mean(r['test']['videos']) == pytest.approx(r['test']['answers'], abs=1e-4) == pytest.approx(float(l['answers']), abs=1e-4)
        assert r['best'] == int(np.argmax([o['answers'] for o in r['curve']]))
        if r['best'] == 0: assert r['test'] == starts[r['gap'], r['seed']]        # the start was kept, so its score was kept
        if r['way'] != 'start': assert r['seconds'] <= 1.3*record['about']['seconds']
