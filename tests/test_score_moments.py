"`tqn test --moments`: chosen on val, scored on test, one pass over each film"
import json
import numpy as np, pandas as pd, pytest, torch
from tqn.attention.moments import Finder
from tqn.cli.main import run
from tqn.models.backbone import S3D
from tqn.models.tqn import TQN
from tqn.questions.queries import QuerySet
from tqn.video.transforms import Preprocess
from tqn.video.video import write_video

@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A table of films with extents, and a model that was never trained"
    p = tmp_path_factory.mktemp('place')
    g = np.random.default_rng(0)
    lines = ['path,way,way extent,far,split']
    for i in range(12):
        frames = np.full((64, 32, 32, 3), 60, np.uint8)
        at = int(g.integers(1, 5))*8
        frames[at:at+16] = 200
        write_video(p/f'{i}.mp4', frames, fps=10.)
        lines.append(f"{i}.mp4,{'left' if i%2 else 'right'},{at}-{at+16},no,{('train','train','val','test')[i%4]}")
    (p/'films.csv').write_text('\n'.join(lines)+'\n')
    queries = QuerySet({'way': ['left','right'], 'far': ['no','yes']})
    queries.save(p/'queries.yaml')
    torch.manual_seed(0)
    TQN(queries, backbone=S3D(width=.125), d_model=32, n_layers=1, n_heads=2, preprocess=Preprocess(size=32)).save_pretrained(p/'run/best')
    return p

def test_moments_are_scored_and_written(place, tmp_path, capsys, monkeypatch):
    opened = []
    import tqn.features.stream as s
    real = s.open_item
    monkeypatch.setattr(s, 'open_item', lambda item, *a, **k: opened.append(item.id) or real(item, *a, **k))
    line = ['test', str(place/'films.csv'), '--start', str(place/'run'), '--out', str(tmp_path/'out'), '--views', 'full', '--workers', '0', '--quiet', '--device', 'cpu']
    assert run([*line, '--moments'])==0
    said = capsys.readouterr().out
    assert 'moments: share of extents that the first span covers' in said
    assert sorted(opened)==sorted({o for o in opened}) and len(opened)==6                    # 3 of val and 3 of test, each once
    t = pd.read_csv(tmp_path/'out/moments.csv')
    assert sorted(t.film.unique())==['11.mp4','3.mp4','7.mp4'] and set(t.question)=={'way','far'}
    assert isinstance(Finder.load(tmp_path/'out/finder.json'), Finder)
    saved = json.loads((tmp_path/'out/moments.json').read_text())
    assert [r['extent'] for r in saved['rows']]==['way','mean'] and saved['rows'][0]['n']==3
    assert run(['moments', str(place/'films.csv'), '--split', 'test', '--checkpoint', str(place/'run'), '--finder', str(tmp_path/'out/finder.json'), '--out', str(tmp_path/'again.csv'), '--quiet'])==0
    again = pd.read_csv(tmp_path/'again.csv')
    pd.testing.assert_frame_equal(t.drop(columns=['film']), again.drop(columns=['film']), check_dtype=False, atol=2e-4)   # what a test found, the command finds
    assert run(['features', str(place/'films.csv'), str(tmp_path/'kept'), '--backbone', str(place/'run/best')])==0
    assert run([*[str(tmp_path/'kept-out') if a==str(tmp_path/'out') else a for a in line], '--moments', '--features', str(tmp_path/'kept')])==0
    kept = pd.read_csv(tmp_path/'kept-out/moments.csv')
    pd.testing.assert_frame_equal(t, kept, check_dtype=False, atol=2e-4)

def test_without_extents_it_says_so(place, tmp_path, capsys):
    (place/'plain.csv').write_text('\n'.join(','.join(l.split(',')[:2]+l.split(',')[3:]) for l in (place/'films.csv').read_text().splitlines())+'\n')
    assert run(['test', str(place/'plain.csv'), '--start', str(place/'run'), '--out', str(tmp_path/'out'), '--quiet', '--workers', '0', '--moments'])==2
    err = capsys.readouterr().err
    assert 'no extents are known' in err and 'leave --moments out' in err, err
