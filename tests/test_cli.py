"The commands as people type them: in a new process, looked at from outside"
import json, os, pickle, re, shutil, signal, subprocess, sys
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = [sys.executable, '-c', 'import sys; sys.argv[0] = "tqn"; from tqn.cli.main import main; main()']

def tqn(*args, cwd=None, **env):
    "Run `tqn args` and give back what came of it"
    return subprocess.run([*SCRIPT, *map(str, args)], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300,
                          env={**os.environ, 'OMP_NUM_THREADS': '1', 'COLUMNS': '100', **env})

def refused(result, *words):
    "One message on stderr that has `words`, status 2, no traceback"
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith('tqn: ') and 'Traceback' not in result.stderr
    missing = [w for w in words if w not in result.stderr]
    assert not missing, f'{missing} not in {result.stderr!r}'


def test_the_console_script_is_installed():
    script = Path(sys.executable).parent/'tqn'
    r = subprocess.run([script, '--version'], capture_output=True, text=True)
    assert (r.returncode, r.stderr) == (0, '') and r.stdout.startswith('tqn 0.')

def test_help_is_fast_and_names_every_command():
    "Torch takes seconds to import, and nothing that only prints help needs it"
    code = "import sys; from tqn.cli.main import run; status = run(['--help']); print('torch' in sys.modules, status)"
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=300)
    assert r.stdout.splitlines()[-1] == 'False 0', r.stderr
    for name in ['demo', 'predict', 'lab']: assert f'\n  {name} ' in r.stdout

@pytest.mark.parametrize('name, words', [('demo', ['--out', '--data', '--quick', '--seed', 'runs/demo']), ('predict', ['--checkpoint', '--out', 'video']),
                                         ('lab', ['JupyterLab', '--no-browser'])])
def test_help_of_a_command(name, words):
    r = tqn(name, '--help')
    assert (r.returncode, r.stderr) == (0, '')
    assert not [w for w in words if w not in r.stdout]
    assert '...' not in r.stdout.replace('{videos}...', '').replace('videos... <', ''), 'a sentence was cut'   # these two say that several may be named

def test_nothing_typed_shows_the_help():
    r = tqn()
    assert r.returncode == 2 and 'predict' in r.stdout + r.stderr

@pytest.mark.parametrize('args, words', [(['dance'], "No such command"), (['predict'], 'Missing argument'), (['demo', '--seed', 'x'], 'seed'),
                                         (['predict', 'a.mp4', '--chekpoint', 'b'], '--chekpoint')])
def test_a_wrong_command_line_gets_the_usage(args, words):
    r = tqn(*args)
    assert r.returncode == 2 and 'Usage: tqn' in r.stderr and words in r.stderr and 'Traceback' not in r.stderr

@pytest.mark.parametrize('command', [['demo'], ['predict', 'a.mp4']], ids=['demo', 'predict'])
def test_output_folder_that_is_a_file(tmp_path, command):
    (tmp_path/'out').write_text('mine')
    refused(tqn(*command, '--out', 'out', cwd=tmp_path), 'out', 'a folder is needed where a file stands')
    refused(tqn(*command, '--out', 'out/below', cwd=tmp_path), 'out/below', 'a folder is needed where a file stands')
    assert (tmp_path/'out').read_text() == 'mine'

@pytest.mark.skipif(not Path('/proc/self').exists(), reason='needs /proc, where nobody can make a folder')
@pytest.mark.parametrize('command', [['demo'], ['predict', 'a.mp4']], ids=['demo', 'predict'])
def test_output_folder_that_cannot_be_made(tmp_path, command): refused(tqn(*command, '--out', '/proc/nowhere', cwd=tmp_path), '/proc/nowhere', ';')

@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_results_that_cannot_be_printed_are_no_success():
    with open('/dev/full', 'w') as full:
        r = subprocess.run([*SCRIPT, '--version'], stdout=full, stderr=subprocess.PIPE, text=True)
    assert r.returncode != 0 and 'No space left' in r.stderr


# What `tqn predict` says of a video

@pytest.fixture(scope='module')
def world(tmp_path_factory):
    "A folder with a model that has learned nothing and a few videos, good and bad"
    import numpy as np, torch, tqn as kit
    from tqn.video.video import write_video
    folder = tmp_path_factory.mktemp('world')
    torch.manual_seed(0)
    queries = kit.QuerySet({'takeoff': ['Back', 'Forward'], 'twist': ['None', 'Half']}, classes=[('back dive', ['Back', 'None'])])
    model = kit.TQN(queries, backbone=kit.S3D(width=.0625), d_model=16, n_layers=1, n_heads=2)
    model.preprocess = dict(clip_len=8, stride=2, size=32, resize=36, mean=[.5]*3, std=[.25]*3)
    model.save_pretrained(folder/'model')
    frames = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype='u1')
    write_video(folder/'good.mp4', frames)
    write_video(folder/'short.mp4', frames[:3])
    good = (folder/'good.mp4').read_bytes()
    (folder/'cut.mp4').write_bytes(good[:len(good)//3])
    (folder/'empty.mp4').touch()
    (folder/'text.mp4').write_text('not a video at all\n'*100)
    return folder

def files(folder): return {p.name: p.read_bytes() for p in folder.iterdir()}

def test_two_videos_of_one_name_get_two_folders(world, tmp_path):
    (tmp_path/'other').mkdir()
    shutil.copy(world/'good.mp4', tmp_path/'other')
    for video in [world/'good.mp4', tmp_path/'other/good.mp4']: assert tqn('predict', video, '--checkpoint', world/'model', cwd=tmp_path).returncode == 0
    assert sorted(p.name for p in (tmp_path/'runs/predict').iterdir()) == ['good', 'good-2']

@pytest.mark.parametrize('name', ['..', '.', 'missing.mp4', 'short.mp4'])
def test_a_refused_video_leaves_no_folder(world, tmp_path, name):
    (tmp_path/'here').mkdir()
    shutil.copy(world/'short.mp4', tmp_path/'here')
    refused(tqn('predict', name, '--checkpoint', world/'model', cwd=tmp_path/'here'), name)
    refused(tqn('predict', name, '--checkpoint', world/'model', '--out', 'a/b', cwd=tmp_path/'here'), name)
    assert list(files(tmp_path/'here')) == ['short.mp4'] and [p.name for p in tmp_path.iterdir()] == ['here']

def test_predict_answers_and_writes(world, tmp_path):
    r = tqn('predict', world/'good.mp4', '--checkpoint', world/'model', cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    out = tmp_path/'runs/predict/good'
    assert sorted(files(out)) == ['answers.json', 'attention.png'] and (out/'attention.png').read_bytes()[1:4] == b'PNG'
    said = json.loads((out/'answers.json').read_text())
    assert said['clip_frames'] == [[0, 16], [16, 20]], 'the stride is not the one the model was saved with'
    assert set(said['attention']) == {'takeoff', 'twist', 'class'}
    for q in ['takeoff', 'twist']:
        assert abs(sum(p for _, p in said['answers'][q]) - 1) < 1e-4 and abs(sum(said['attention'][q]) - 1) < 1e-4
        assert said['answers'][q][0][0] in r.stdout

@pytest.mark.parametrize('name', ['missing.mp4', 'short.mp4', 'cut.mp4', 'empty.mp4', 'text.mp4', 'model'])
def test_predict_names_a_bad_video(world, tmp_path, name):
    (tmp_path/'answers.json').write_text('of last time')
    refused(tqn('predict', world/name, '--checkpoint', world/'model', '--out', tmp_path), name)
    assert files(tmp_path) == {'answers.json': b'of last time'}

def test_predict_without_a_checkpoint(world, tmp_path):
    refused(tqn('predict', world/'good.mp4', '--checkpoint', 'runs/none', cwd=tmp_path), 'runs/none', 'tqn demo', '--checkpoint')
    refused(tqn('predict', world/'good.mp4', '--checkpoint', 'user/name', cwd=tmp_path), 'user/name', '--checkpoint')

@pytest.mark.parametrize('harm', ['cut', 'garbage', 'config', 'shape', 'pickle'])
def test_predict_with_a_damaged_checkpoint(world, tmp_path, harm):
    model = Path(shutil.copytree(world/'model', tmp_path/'model'))
    weights, config = model/'model.safetensors', model/'config.json'
    if harm == 'cut': weights.write_bytes(weights.read_bytes()[:-100])
    if harm == 'garbage': weights.write_bytes(b'garbage')
    if harm == 'config': config.write_text(config.read_text()[:50])
    if harm == 'shape': config.write_text(json.dumps({**json.loads(config.read_text()), 'd_model': 32}))
    if harm == 'pickle': weights.write_bytes(pickle.dumps(Bomb(tmp_path/'ran')))
    refused(tqn('predict', world/'good.mp4', '--checkpoint', model, '--out', tmp_path/'out'), 'model')
    assert not (tmp_path/'ran').exists()

class Bomb:
    "A pickle that leaves a trace where it is executed"
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.mkdir, (str(self.path),)

def test_debug_shows_the_traceback(world, tmp_path):
    r = tqn('predict', world/'empty.mp4', '--checkpoint', world/'model', '--out', tmp_path, '--debug')
    assert r.returncode == 2 and 'Traceback' in r.stderr and 'empty.mp4' in r.stderr.splitlines()[-1]

@pytest.mark.skipif(os.name == 'nt', reason='signals as on POSIX')
def test_ctrl_c_is_one_line_and_130(world, tmp_path):
    "A demo that sleeps where the work would begin is stopped there"
    wait = 'import tqn.cli.films, tqn.cli.main, time; tqn.cli.films.writable = lambda folder: (print("here", flush=True), time.sleep(60))'
    p = subprocess.Popen([sys.executable, '-c', f'{wait}; {SCRIPT[2]}', 'demo', '--out', str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stdout.readline() == 'here\n'
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=30)
    assert (p.returncode, err.strip()) == (130, 'tqn: stopped')


def test_predict_without_a_checkpoint_uses_the_model_of_the_kit(world, tmp_path):
    r = tqn('predict', world/'good.mp4', cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    said = json.loads((tmp_path/'runs/predict/good/answers.json').read_text())
    assert list(said['attention']) == ['approach', 'takeoff', 'somersault', 'twist', 'position', 'entry', 'class']
    assert said['clip_frames'] == [[0, 8], [8, 16], [16, 20]]

# What cannot be written is refused before anything is read

NOWHERE = pytest.mark.skipif(not Path('/proc/self').exists(), reason='needs /proc, where nobody can make a folder')

@NOWHERE
@pytest.mark.parametrize('line', ['test {t} --checkpoint {m} --out /proc/t', 'view {w}/good.mp4 --checkpoint {m} --out /proc/x/y.html --no-open', 'view {w}/good.mp4 --checkpoint {m} --out /proc/y.html --no-open',
                                  'features {t} /proc/t', 'train {t} --out /proc/t --quiet', 'cut {t} --out /proc/t', 'check {t} --fix /proc/t.csv', 'predict {t} --checkpoint {m} --out out --table /proc/x/t.csv', 'moments {t} --out /proc/m.csv'])
def test_what_cannot_be_written_is_refused_before_films_are_read(world, tmp_path, line, monkeypatch, capsys):
    from tqn.cli.main import run
    import tqn.video.decode, tqn.video.video
    (tmp_path/'t.csv').write_text('path,split,takeoff,twist\n' + ''.join(f'good{i}.mp4,{s},{a},None\n' for i,(s,a) in enumerate([('train','Back'), ('train','Forward'), ('val','Back'), ('test','Back')])))
    for i in range(4): shutil.copy(world/'good.mp4', tmp_path/f'good{i}.mp4')
    def read(*a, **k): raise AssertionError('a film was read')
    for place in (tqn.video.decode, tqn.video.video):
        for o in vars(place).values():
            if isinstance(o, type) and 'frames' in vars(o): monkeypatch.setattr(o, 'frames', read)
    monkeypatch.setattr('tqn.data.check.scan', read)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob('*'))
    status,typed = run(line.format(t=tmp_path/'t.csv', w=world, m=world/'model').split()),next(w for w in line.split() if w.startswith('/proc'))
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2 and said.startswith('tqn: cannot write in /proc') and 'tmp' not in said, said
    assert re.search(r'in (/proc[^:]*):', said)[1] in (typed, str(Path(typed).parent))
    assert sorted(tmp_path.rglob('*')) == before


# A table whose answers are those of other questions

def test_predict_takes_a_table_whose_answers_the_model_does_not_know(world, tmp_path):
    shutil.copy(world/'good.mp4', tmp_path/'good.mp4')
    (tmp_path/'t.csv').write_text('path,takeoff,twst,takeoff extent\ngood.mp4,b,None,2-5\n')
    r = tqn('predict', tmp_path/'t.csv', '--checkpoint', world/'model', cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    said = [l for l in r.stdout.splitlines() if 'left out' in l]
    assert len(said) == 1 and 'left out: 2 ' in said[0] and 'no question' in said[0] and (tmp_path/'runs/predict/predictions.csv').exists()
    (tmp_path/'bad.csv').write_text('path,takeoff,start\ngood.mp4,b,never\n')
    refused(tqn('predict', tmp_path/'bad.csv', '--checkpoint', world/'model', cwd=tmp_path), "'never'")
