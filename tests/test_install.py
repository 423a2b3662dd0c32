"An editable install is found from every folder, the one that contains the clone among them"
import os, shutil, subprocess, sys, sysconfig, zipfile
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_editable(sys.argv[1]))"

@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    "A clone in a folder of its own, and what `pip install -e` puts into site-packages for it"
    there = tmp_path_factory.mktemp('there')
    for name in ('setup.py', 'settings.ini', 'pyproject.toml', 'README.md', 'LICENSE'): shutil.copy(ROOT/name, (there/'tqn').mkdir(exist_ok=True) or there/'tqn')
    shutil.copytree(ROOT/'tqn', there/'tqn'/'tqn', ignore=shutil.ignore_patterns('__pycache__'))
    (there/'site').mkdir()
    r = subprocess.run([sys.executable, '-c', BUILD, there/'site'], cwd=there/'tqn', capture_output=True, text=True, timeout=300)
    assert r.returncode==0, r.stderr
    zipfile.ZipFile(next((there/'site').glob('*.whl'))).extractall(there/'site')
    return there

@pytest.mark.parametrize('where', ['.', 'tqn', 'tqn/tqn', '/'])
def test_import_from_any_folder(clone, where):
    "No site-packages but this one is read for .pth files, so no other install of the kit helps"
    code = f"import sys, site; sys.path.append({sysconfig.get_paths()['purelib']!r}); site.addsitedir({str(clone/'site')!r}); import tqn; print(tqn.__file__, tqn.TQN.__name__)"
    r = subprocess.run([sys.executable, '-S', '-c', code], cwd=clone/where, capture_output=True, text=True, timeout=300, env={k: v for k,v in os.environ.items() if k!='PYTHONPATH'})
    assert r.returncode==0, r.stderr
    assert r.stdout.split()==[str(clone/'tqn'/'tqn'/'__init__.py'), 'TQN']
