"Processes: children end with their parent, SIGTERM is 143 and speaks of flags, and a reader that is lost is named"
import os, signal, subprocess, sys, time
from pathlib import Path
import pytest
import torch
from torch.utils.data import Dataset
from tqn.data import batches as B
from tqn.models.tqn import TQN
from tqn.questions.queries import QuerySet
from tqn.training.run import Run
from tqn.training.settings import TrainConfig

pytestmark = pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='reads the processes of Linux')

def lives(pid):
    try: return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except OSError: return False

def children(pid): return [int(p) for t in Path(f'/proc/{pid}/task').glob('*/children') for p in t.read_text().split()]

BODY = {'features': "extract(small(), [Item(f'v{{i}}', {film!r}) for i in range(5000)], {out!r}, dict(clip_len=8, stride=1), processes=2, batch_clips=1, progress=False)",
        'dives': "SyntheticDives({out!r}, n=5000, workers=2, progress=False)"}
SCRIPT = '''
import sys
from tqn.cli.main import app, command, run
def work():
    from tqn.data.items import Item
    from tqn.dives.dives import SyntheticDives
    from tqn.features.store import extract
    from tqn.models.adapters import small_backbone as small
    BODY
if __name__ == '__main__':
    app.command('work')(command(work))
    sys.exit(run(['work']))
'''

@pytest.mark.parametrize('what', ['features', 'dives'])
@pytest.mark.parametrize('sig, code', [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_children_end_with_their_parent(tmp_path, what, sig, code):
    from tqn.video.video import write_video
    write_video(tmp_path/'film.mp4', [torch.full((32, 32, 3), i, dtype=torch.uint8).numpy() for i in range(32)])
    (tmp_path/'s.py').write_text(SCRIPT.replace('BODY', BODY[what].format(film=str(tmp_path/'film.mp4'), out=str(tmp_path/'out'))))
    p = subprocess.Popen([sys.executable, str(tmp_path/'s.py')], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not any(f.suffix in ('.mp4', '.safetensors') for f in (tmp_path/'out').rglob('*')) and p.poll() is None and time.monotonic() < end: time.sleep(.2)
    found = children(p.pid)
    assert len(found) >= 2, p.stderr.read() if p.poll() is not None else found
    p.send_signal(sig)
    assert p.wait(60) == code
    while any(map(lives, found)) and time.monotonic() < end: time.sleep(.1)
    assert not list(filter(lives, found))
    if sig == signal.SIGTERM: assert 'tqn: stopped' in (err := p.stderr.read()) and 'Traceback' not in err

def test_a_stop_speaks_of_flags(capsys):
    from tqn.cli.main import Stopped, command
    def work(
        resume:bool=False, # Continue
    ): raise KeyboardInterrupt('the run is saved: pass resume=True to continue')
    with pytest.raises(Stopped): command(work)()
    err = capsys.readouterr().err
    assert '--resume' in err and 'resume=True' not in err

class Stuck(Dataset):
    "Its second video kills or stops the process that reads it"
    def __init__(self, sig): self.sig = sig
    def __len__(self): return 8
    def __getitem__(self, key): os.kill(os.getpid(), self.sig)

@pytest.mark.parametrize('sig, said', [(signal.SIGKILL, r'process that reads videos \(\d+\) was ended from outside'), (signal.SIGSTOP, 'no process that reads videos has given a batch for 3 seconds')])
def test_a_lost_reader_is_named(tmp_path, monkeypatch, sig, said):
    monkeypatch.setattr(B, 'PATIENCE', 3)
    run = Run(tmp_path, TrainConfig())
    run.n_steps,run.acc = 1,type('Acc', (), dict(is_main_process=False))
    with pytest.raises(OSError, match=said + '.*fewer workers'):
        with run.running(False):
            loader = B.make_loader(Stuck(sig), 2, workers=1)
            try: next(iter(loader))
            finally:
                for w in loader._iterator._workers: w.kill()

def test_configurations_without_bound_are_refused():
    side = QuerySet({'side': ['left', 'right']})
    for name in ('n_layers', 'd_model', 'd_ff'):
        with pytest.raises(ValueError, match=f'expected {name} from 1 to [0-9,]+, got 1,000,000,000'): TQN(side, **{'d_features': 4, 'd_model': 8, 'n_heads': 2, name: 10**9})
    with pytest.raises(ValueError, match='at most 2,000 questions, got 200,000'): QuerySet({f'q{i}': ['left', 'right'] for i in range(200_000)})

@pytest.mark.parametrize('first,env,want', [('', {}, 'PASSIVE'), ('', {'GOMP_SPINCOUNT': '5'}, 'None'), ('', {'OMP_WAIT_POLICY': 'ACTIVE'}, 'ACTIVE'), ('import torch; ', {}, 'None')])
def test_threads_that_wait_sleep(first, env, want):
    "Set before torch is loaded, and only where nobody has said otherwise; once torch is there it would say nothing"
    clean = {k: v for k,v in os.environ.items() if k not in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME')}
    out = subprocess.run([sys.executable, '-c', f"{first}import os, tqn; print(os.environ.get('OMP_WAIT_POLICY'))"], env={**clean, **env}, capture_output=True, text=True, check=True)
    assert out.stdout.split() == [want]
