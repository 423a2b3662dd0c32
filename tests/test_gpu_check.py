"The script that is run where a GPU is lent works: all its parts at toy size on the CPU"
import json, os, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

def test_gpu_check_at_toy_size(tmp_path):
    done = subprocess.run([sys.executable, 'tools/gpu_check.py', '--toy', '--out', str(tmp_path/'a.json')], cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found == json.loads((tmp_path/'a.json').read_text())
    assert found['bf16']['largest_difference'] < .1 and 0 <= found['bf16']['same_answers'] <= 1
    assert found['stage1']['float32']['clips_a_second'] > 0 and found['stage2']['seconds'] > 0 and found['extraction']['float32'] > 0
    assert all(v > 0 for v in found['loading'].values()) and list(found['loading']) == ['0 workers', '1 workers']
    assert 'GPU' in found['tests']['left_out'] and 'GRID' in found['mouths']['left_out']
    none = subprocess.run([sys.executable, 'tools/gpu_check.py', '--toy', '--seconds', '-1'], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert none.returncode == 0 and 'over' in json.loads(none.stdout)['loading']['left_out']
