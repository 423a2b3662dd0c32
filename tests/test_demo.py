"The whole kit in one run, as a user starts it, and the model that ships with it"
import json, os, re, shlex, shutil, signal, subprocess, sys, time
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tqn.studies.demo import FILM, dive_features, localise_dives
from tqn.models.tqn import small_model
from tqn.models.adapters import DIVE_CLIPS
from tqn.dives.dives import SyntheticDives
from tqn.data.batches import make_loader
from tqn.attention.scores import evaluate
from tqn.models.tqn import TQN


def tqn(*args, cwd, **env): return subprocess.run([sys.executable, '-c', 'from tqn.cli.main import main; main()', *map(str, args)], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=600)

@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    "A folder in which `tqn demo --quick` ran twice, on two threads and on one, and what it printed"
    folder = tmp_path_factory.mktemp('demo')
    return folder, [tqn('demo', '--quick', cwd=folder, OMP_NUM_THREADS=n) for n in '21']

def test_quick_demo_writes_what_it_says(demo):
    folder, (r, _) = demo
    assert r.returncode == 0, r.stderr
    out = folder/'runs/demo'
    for name in ['metrics.json', 'tables.json', 'scores_test.json', 'training.png', 'confusion.png', 'localisation.png', 'train/log.csv', 'checkpoint/model.safetensors', 'first.png']:
        assert (out/name).stat().st_size > 0, name
    assert sorted(p.name for p in (out/'attention').iterdir()) == [f'{s}_{i:05d}.png' for s in ('long_test', 'test') for i in range(3)]
    assert 'mean answer' in r.stdout and 'own question' in r.stdout and 'tqn lab' in r.stdout
    assert r.stdout.index('A first picture of attention, by the weights that come with the kit: runs/demo/first.png') < r.stdout.index('mean answer')
    view = re.search(r'Look at a film: (tqn view .+)', r.stdout)[1]        # as it is printed
    assert tqn(*shlex.split(view)[1:], '--no-open', cwd=folder).returncode == 0

def test_printed_scores_are_the_scores_of_the_checkpoint(demo):
    folder, _ = demo
    out = folder/'runs/demo'
    model, dives = TQN.from_pretrained(out/'checkpoint'), SyntheticDives(folder/'data/demo-quick', 'test', n=8, workers=0, progress=False, **FILM)
    assert model.preprocess == DIVE_CLIPS
    data = dive_features(model.backbone, {'test': dives}, folder/'data/demo-quick/features', progress=False)['test']
    table = {r[0]: r[3] for r in json.loads((out/'tables.json').read_text())[0]['rows']}
    frame = evaluate(model, make_loader(data, 3)).to_frame()        # other batches, same scores
    for q in model.queries.names: assert table[q] == f'{frame.accuracy[q]:.3f}'

def test_stage_2_stands_beside_stage_1_on_the_same_long_videos(demo):
    folder, (r, _) = demo
    second, first = json.loads((folder/'runs/demo/second/table.json').read_text()), json.loads((folder/'runs/demo/tables.json').read_text())[0]
    assert second['title'] in r.stdout
    one = {row[0]: row[5] for row in first['rows']}                  # of long_test
    for name, before, after in second['rows']:
        assert one[name] == f'{before:.3f}' and 0 <= after <= 1
    assert TQN.from_pretrained(folder/'runs/demo/second/checkpoint').preprocess == DIVE_CLIPS

@pytest.mark.parametrize('best', [0., 1.])
def test_stage_2_keeps_the_start_where_it_gained_nothing(best, tmp_path, monkeypatch):
    import tqn.studies.demo as stage
    dives = SyntheticDives(tmp_path, 'long_train', n=1, size=64, workers=0, progress=False)
    model = small_model()
    monkeypatch.setattr(stage, 'fit_stage2', lambda *args, **kw: SimpleNamespace(best=best))
    kept, how = stage.train_second(model, dives, dives, tmp_path/'run', None, progress=False)
    assert how['trained'] == (kept is not model) == (best > how['start']), how

def test_a_second_demo_overwrites_nothing_and_repeats_the_scores(demo):
    folder, (_, r) = demo
    assert r.returncode == 0, r.stderr
    first, second = (json.loads((folder/'runs'/d/'tables.json').read_text()) for d in ('demo', 'demo-2'))
    assert first == second                                          # same seed, same data: the same numbers
    first, second = (load_file(folder/'runs'/d/'train/best/model.safetensors') for d in ('demo', 'demo-2'))
    for k in first: assert torch.equal(first[k], second[k]), f'{k} depends on the number of threads'

@pytest.mark.skipif(os.name == 'nt', reason='signals as on POSIX')
@pytest.mark.parametrize('when', ['rendering', 'training'])
def test_a_demo_that_was_stopped_goes_on_and_ends_with_the_same_scores(demo, tmp_path, when):
    "Stopped by Ctrl-C as soon as a step has begun; the films of the demo above are taken, so that its numbers can be compared"
    folder, _ = demo
    if when == 'training': shutil.copytree(folder/'data', tmp_path/'data')
    p = subprocess.Popen([sys.executable, '-c', 'from tqn.cli.main import main; main()', 'demo', '--quick'], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(6000):
        said = tmp_path/'runs/demo/demo.json'
        if said.exists() and json.loads(said.read_text())['step'] == when and (when != 'training' or (tmp_path/'runs/demo/train/run.json').exists()) and (when != 'rendering' or list(tmp_path.glob('data/*/*/*/*.mp4'))): break
        time.sleep(.05)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=300)
    assert p.returncode == 130 and 'the same command goes on where this one stood' in err, err
    r = tqn('demo', '--quick', cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    assert f'Going on with runs/demo, which was stopped while {when}' in r.stdout and not (tmp_path/'runs/demo-2').exists()
    assert json.loads((tmp_path/'runs/demo/tables.json').read_text()) == json.loads((folder/'runs/demo/tables.json').read_text())
    assert json.loads((tmp_path/'runs/demo/demo.json').read_text())['step'] == 'finished'

def test_the_shipped_model_answers_and_looks_where_the_evidence_is(tmp_path):
    "On dives of another seed, so on videos that nobody trained, chose or tested anything on"
    torch.manual_seed(0)
    dives = {s: SyntheticDives(tmp_path, s, n=n, seed=11, workers=0, progress=False) for s, n in (('test', 32), ('long_test', 8))}
    model = small_model()
    data = dive_features(model.backbone, dives, tmp_path/'features', progress=False)
    frame = evaluate(model, make_loader(data['test'], 16)).to_frame()
    assert frame.accuracy['mean answer'] > .8, frame
    gaps = localise_dives([model], data['long_test']).to_frame('hit').gap
    assert gaps[['approach', 'twist', 'position', 'entry']].mean() > .3, gaps      # measured: see the README

def test_small_weights_stay_small():
    import tqn as kit
    files = list((Path(kit.__file__).parent/'weights').glob('*.safetensors'))
    assert len(files) == 2 and sum(f.stat().st_size for f in files) <= 3e6, [(f.name, f.stat().st_size) for f in files]
