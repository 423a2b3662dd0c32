"The commands as people type them: in a new process, looked at from outside"
import json, os, signal, subprocess, sys, time
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = [sys.executable, '-c', 'import sys; sys.argv[0] = "tqn"; from tqn.cli import main; main()']

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
    took = []
    for _ in range(5):
        start = time.perf_counter()
        r = tqn('--help')
        took.append(time.perf_counter() - start)
        if min(took) < 1: break
    assert r.returncode == 0 and min(took) < 1, took
    for name in ['demo', 'predict', 'lab']: assert f'\n  {name} ' in r.stdout

@pytest.mark.parametrize('name, words', [('demo', ['--out', '--data', '--quick', '--seed', 'runs/demo']), ('predict', ['--checkpoint', '--out', 'video']),
                                         ('lab', ['JupyterLab', '--no-browser'])])
def test_help_of_a_command(name, words):
    r = tqn(name, '--help')
    assert (r.returncode, r.stderr) == (0, '')
    assert not [w for w in words if w not in r.stdout]
    assert '...' not in r.stdout, 'a sentence was cut'

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
def test_full_disk_and_closed_pipe():
    with open('/dev/full', 'w') as full:
        r = subprocess.run([*SCRIPT, '--version'], stdout=full, stderr=subprocess.PIPE, text=True)
    assert r.returncode != 0 and 'No space left' in r.stderr
