"Moments in files: every form read back, cuts decoded frame by frame, names that mean trouble, outputs that are there, and the command"
import io, json, os, resource, subprocess, sys
from xml.etree import ElementTree
import numpy as np, pandas as pd, pytest, torch
from hypothesis import given, settings, strategies as st
from tqn.attention.marks import as_csv, as_eaf, as_jsonl, as_srt, as_vtt, cut_moments, mark_paths, moments_of, plot_sheet, save_sheet, sheet_cells, write_moments
from tqn.attention.moments import Finder, moments
from tqn.cli.films import free_folder
from tqn.cli.main import run
from tqn.core.files import film_names, film_stem
from tqn.data.items import Item
from tqn.models.backbone import S3D
from tqn.models.tqn import TQN
from tqn.questions.queries import QuerySet
from tqn.video.transforms import Preprocess
from tqn.video.video import open_video, write_video
from made_films import uneven

def row(film, q, a, first, last, fps=20., score=2.): return dict(film=film, question=q, answer=a, probability=.9, start=first/fps, end=last/fps, first=first, last=last, peak=(first+last)//2, score=score, needed=.5, elsewhere=0., trust=np.nan, remark='')
def frame(*rows): return pd.DataFrame(rows).astype({k: 'Int64' for k in ('first','last','peak')})

HOSTILE = ['=1+1', '+cmd', '-2+3', '@sum', '<script>alert(1)</script>', 'a --> b', 'two\nlines', '{\\an8}up', '"quoted", and', 'ünï 語 🎬', '&amp;', "'=x", ']]>']

@pytest.mark.parametrize('name', HOSTILE)
def test_names_are_text_in_every_form(name):
    t = frame(row('f.mp4', name, name, 3, 9))
    cell = pd.read_csv(io.StringIO(as_csv(t)), keep_default_na=False).answer[0]
    assert cell.lstrip("'").startswith(name.lstrip("'")[:3]) and cell[:1] not in '=+-@'
    assert json.loads(as_jsonl(t))['answer']==name
    lines = as_vtt(t).split('\n')
    assert lines[0]=='WEBVTT' and sum('-->' in l for l in lines)==1 and '<' not in as_vtt(t)
    assert len(as_srt(t).strip().split('\n'))==3 and not set('<>{}') & set(as_srt(t).split('\n')[2])
    tree = ElementTree.fromstring(as_eaf(t))
    assert [e.text for e in tree.iter('ANNOTATION_VALUE')]==[f'{name} (0.90)'] and [e.get('TIER_ID') for e in tree.iter('TIER')]==[name]

@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400000), st.integers(1, 5000)), min_size=1, max_size=6))
def test_times_of_subtitles_are_those_of_the_table(spans):
    t = frame(*(row('f', 'q', 'a', a, a+n, 30.) for a,n in spans))
    def seconds(s): h,m,x = s.replace(',', '.').split(':'); return 3600*int(h)+60*int(m)+float(x)
    for text in (as_vtt(t), as_srt(t)):
        got = [tuple(map(seconds, l.split(' --> '))) for l in text.split('\n') if '-->' in l]
        assert np.allclose(sorted(got), sorted(zip(t.start, t.end)), atol=6e-4)

@pytest.fixture(scope='module')
def films(tmp_path_factory):
    "A film whose frames can be told apart, and the same at a rate that is not even"
    folder = tmp_path_factory.mktemp('films')
    frames = np.zeros((60, 48, 64, 3), np.uint8)
    for t in range(60): frames[t] = 4*t
    write_video(folder/'even.mp4', frames, fps=20., crf=1)
    uneven(folder/'even.mp4', folder/'uneven.mkv')
    return folder

@pytest.mark.parametrize('name', ['even.mp4', 'uneven.mkv'])
@pytest.mark.parametrize('margin', [0, .23])
def test_a_cut_holds_exactly_the_frames_that_the_table_names(films, tmp_path, name, margin):
    source = open_video(films/name)
    at = np.append(source.timestamps, source.timestamps[-1]+1/source.fps)
    spans = [(0, 7), (25, 36), (52, len(source))]
    t = frame(*(row(name, 'q', 'a', a, b) | dict(start=at[a], end=at[b]) for a,b in spans))
    cuts = cut_moments(t, [Item(name, films/name)], tmp_path/'cuts', margin, progress=False)
    assert len(cuts)==3
    for path,r in cuts.items():
        a,b = r['from'],r['to']
        assert a<=r['first'] and b>=r['last'] and (margin or (a,b)==(r['first'],r['last']))
        assert all(at[r['first']]-margin-1e-6<=at[i]<=r['end']+margin+1e-6 for i in range(a, b))
        assert a==0 or at[a-1]<at[r['first']]-margin                                          # and no frame is missing
        made = open_video(path)
        assert len(made)==b-a
        assert np.abs(made.frames(range(len(made)))[:,24,32,0].numpy().astype(int)-source.frames(range(a, b))[:,24,32,0].numpy()).max()<=2
        assert np.abs(source.frames(range(a, b))[:,24,32,0].numpy().astype(int)-4*np.arange(a, b)).max()<=4

def test_one_film_is_one_file_and_several_are_a_folder():
    assert [str(p) for p in mark_paths(['a.mp4'], 'x/m.srt').values()]==['x/m.srt']
    assert [str(p) for p in mark_paths(['a.mp4','b.mp4','a.mp4'], 'x/m.srt').values()]==['x/m/a.srt','x/m/b.srt']
    assert len(set(mark_paths(['a.mp4','a.mkv','A/../b'], 'm.vtt').values()))==3
    assert all(p.parent.name=='m' for p in mark_paths(['../../etc/passwd','b'], 'm.eaf').values())   # a name leads nowhere

EXCERPTS = ['n1.mp4@0.5-2.2', 'n1.mp4@0.5-2.8', 'n1.mp4@1.5-2.2']

def test_an_excerpt_keeps_its_seconds_in_every_name(tmp_path):
    "What stands behind the last point of n1.mp4@0.5-2.2 is no extension"
    assert [film_stem(f) for f in EXCERPTS]==['n1@0.5-2.2', 'n1@0.5-2.8', 'n1@1.5-2.2']
    assert [p.name for p in mark_paths(EXCERPTS, 'm.vtt').values()]==['n1@0.5-2.2.vtt', 'n1@0.5-2.8.vtt', 'n1@1.5-2.2.vtt']
    assert [free_folder(f, tmp_path).name for f in EXCERPTS]==['n1@0.5-2.2', 'n1@0.5-2.8', 'n1@1.5-2.2']
    t = frame(*(row(f, 'q', 'a', i, i+4) for i,f in enumerate(EXCERPTS)))
    titles = [ax.get_title() for ax in plot_sheet(sheet_cells(t, 'q', []), 'q').axes]
    assert [o.split()[-1] for o in titles]==['n1@0.5-2.2', 'n1@0.5-2.8', 'n1@1.5-2.2']
    assert moments_of(t, 'elsewhere/n1.mkv@0.5-2.8')['first'].tolist()==[1]
    with pytest.raises(ValueError, match='expected moments of'): moments_of(t, 'n1.mp4@0.5-2')
    for f in ('n1.mp4', 'a/b.c.mkv', 'folder', 'x@home.mp4', 'a@1-2.mp4'): assert film_stem(f)==os.path.splitext(os.path.basename(f))[0]

@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(['x', 'x.mp4', 'a/x.mp4', 'b/x.mp4', 'x.mp4.mkv', 'y.mp4', 'y.mp4@1-2.5', 'y.mkv@1-2.5', 'y.mp4@1-2.7', 'a/x.mp4.mkv']), unique=True))
def test_no_two_films_share_a_name(films): assert len({*film_names(films).values()})==len(films)

def test_moments_of_two_films_of_one_name_are_not_mixed_up():
    t = frame(row('a/clip.mp4', 'q', 'a', 3, 9), row('b/clip.mp4', 'q', 'a', 5, 11))
    with pytest.raises(ValueError, match=r"'a/clip.mp4' and 'b/clip.mp4'; pass only those of this film, such as table\[table.film=='a/clip.mp4'\]"): moments_of(t, 'clip.mp4')
    assert moments_of(t[t.film=='a/clip.mp4'], 'clip.mp4')['first'].tolist()==[3] and moments_of(t, 'b/clip.mp4')['first'].tolist()==[5]

def test_cuts_of_films_and_excerpts_of_one_name_are_their_own(films, tmp_path):
    "Two folders with a film of the same name, two excerpts that begin together: each cut holds its own frames"
    for k,shade in dict(a=40, b=200).items():
        (tmp_path/k).mkdir()
        write_video(tmp_path/k/'clip.mp4', np.full((20, 48, 64, 3), shade, np.uint8), fps=20.)
    items = [Item(f'{k}/clip.mp4', tmp_path/k/'clip.mp4') for k in 'ab']+[Item(f'n1.mp4@0.5-{t}', films/'even.mp4', start=.5, end=t) for t in (2.2, 2.8)]
    t = frame(*(row(o.id, 'q', 'a', 4, 9) | dict(start=.2+(o.start or 0), end=.45+(o.start or 0)) for o in items))
    cuts = cut_moments(t, items, tmp_path/'cuts', 0, progress=False)
    assert len(cuts)==len({*(tmp_path/'cuts').iterdir()})==4
    for path,r in cuts.items():
        seen,first = open_video(path),{'a/clip.mp4': 40, 'b/clip.mp4': 200}.get(r['film'], 4*14)      # an excerpt's frame 4 is the file's 14
        assert len(seen)==5 and abs(int(seen.frames([0])[0,24,32,0])-first)<=4, r['film']

def test_a_cut_of_yesterday_is_not_taken_for_the_film_of_today(tmp_path):
    "The film was replaced: refused and unchanged, or made anew"
    def film(shade): write_video(tmp_path/'f.mp4', np.full((20, 48, 64, 3), shade, np.uint8), fps=20.)
    def cut(**kw): return cut_moments(frame(row('f.mp4', 'q', 'a', 4, 9)), [Item('f.mp4', tmp_path/'f.mp4')], tmp_path/'cuts', progress=False, **kw)
    def shade(path): return int(open_video(path).frames([0])[0,24,32,0])
    film(40); path, = cut(margin=0)
    film(200)
    for margin in (0, .1):
        with pytest.raises(ValueError, match='f q a 4-9.mp4 is there already and was not changed; choose another name, or pass overwrite=True'): cut(margin=margin)
    assert abs(shade(path)-40)<=3 and [*(tmp_path/'cuts').iterdir()]==[path]
    assert [*cut(margin=0, overwrite=True)]==[path] and abs(shade(path)-200)<=3
    other = [Item('f.mp4', tmp_path/'f.mp4'), Item('g.mp4', tmp_path/'f.mp4')]
    assert len(cut_moments(frame(row('f.mp4', 'q', 'b', 4, 9), row('g.mp4', 'q', 'a', 4, 9)), other, tmp_path/'cuts', progress=False))==2   # of others, beside them
    two = cut_moments(frame(row('f.mp4', 'q', 'a', 4, 9), row('f.mp4', 'q', 'a', 10, 14)), [Item('f.mp4', tmp_path/'f.mp4')], tmp_path/'two', 9., progress=False)
    assert [r['first'] for r in two.values()]==[4, 10] and len({*(tmp_path/'two').iterdir()})==2           # the same frames, two moments

def test_nothing_that_is_there_changes(tmp_path, films):
    t = frame(row('even.mp4', 'q', 'a', 3, 9), row('b', 'q', 'a', 3, 9))
    (tmp_path/'m').mkdir(); (tmp_path/'m/b.vtt').write_text('mine')
    with pytest.raises(ValueError, match='b.vtt is there already'): write_moments(t, tmp_path/'m.vtt')
    assert [p.name for p in (tmp_path/'m').iterdir()]==['b.vtt'] and (tmp_path/'m/b.vtt').read_text()=='mine'
    (tmp_path/'s.png').write_bytes(b'mine')
    with pytest.raises(ValueError, match='s.png is there already'): save_sheet(t, 'q', [Item('even.mp4', films/'even.mp4')], tmp_path/'s.png')

def test_a_sheet_shows_what_it_can(tmp_path, films):
    "A film that is gone leaves an empty place; the page links films relative to itself and has no script"
    t = frame(row('even.mp4', 'q', '<b>', 3, 9), row('gone.mp4', 'q', '<b>', 3, 9))
    items = [Item('even.mp4', films/'even.mp4'), Item('gone.mp4', films/'gone.mp4')]
    page = save_sheet(t, 'q', items, films/'page.html').read_text()
    assert 'href="even.mp4#t=0.150,0.450"' in page and 'no picture' in page and '<script' not in page and '<b>' not in page
    assert save_sheet(t, 'q', items, tmp_path/'s.png').stat().st_size>1000

# The command

@pytest.fixture(scope='module')
def place(tmp_path_factory, films):
    p = tmp_path_factory.mktemp('command')
    (p/'films').mkdir()
    for n in ('a','b'): (p/f'films/{n}.mp4').write_bytes((films/'even.mp4').read_bytes())
    torch.manual_seed(0)
    model = TQN(QuerySet({'way': ['left','=right'], 'far': ['no','yes']}), backbone=S3D(width=.125), d_model=32, n_layers=1, n_heads=2, preprocess=Preprocess(size=32))
    model.save_pretrained(p/'run/best'); model.save_pretrained(p/'model')
    return p

def tqn(*args): return run(['moments', *map(str, args), '--quiet'])

def test_every_form_from_the_shell(place, tmp_path, capsys):
    kept = ['--features', tmp_path/'kept', '--checkpoint', place/'run']
    Finder(least=1., threshold=.99, smooth=0).save(tmp_path/'finder.json')
    for form in ('csv','jsonl','vtt','srt','eaf'): assert tqn(place/'films', *kept, '--out', tmp_path/f'm.{form}', '--finder', tmp_path/'finder.json')==0
    t = pd.read_csv(tmp_path/'m.csv')
    assert t.film.unique().tolist()==['a.mp4','b.mp4'] and t.start.notna().all() and t.needed.notna().all()
    assert len((tmp_path/'m.jsonl').read_text().splitlines())==len(t) and sorted(p.name for p in (tmp_path/'m').iterdir())==['a.eaf','a.srt','a.vtt','b.eaf','b.srt','b.vtt']
    assert tqn(place/'films', *kept, '--out', tmp_path/'n.csv', '--finder', tmp_path/'finder.json', '--cut', tmp_path/'cuts', '--sheet', tmp_path/'s.html', '--sheet-of', 'far', '--margin', '0')==0
    assert len(list((tmp_path/'cuts').glob('*.mp4')))==len(t) and 'far' in (tmp_path/'s.html').read_text()
    for r in t.itertuples(): assert any(f'{r.first}-{r.last}' in c.name and len(open_video(c))==r.last-r.first for c in (tmp_path/'cuts').iterdir())
    again = [place/'films', *kept, '--out', tmp_path/'o.csv', '--finder', tmp_path/'finder.json', '--cut', tmp_path/'cuts', '--margin', '0']
    capsys.readouterr()
    assert tqn(*again)==2 and 'is there already (and 3 more) and was not changed; choose another name, or pass --overwrite' in capsys.readouterr().err
    assert not (tmp_path/'o.csv').exists()                                                   # refused before the work
    assert tqn(*again, '--overwrite')==0 and len(list((tmp_path/'cuts').glob('*.mp4')))==len(t)==4

@pytest.mark.parametrize('args, said', [
    (['{p}/films', '--out', '{t}/there.csv'], 'there.csv is there already and was not changed; choose another name, or pass --overwrite'),
    (['{p}/films', '--out', '{t}/m.xlsx'], 'ends in .csv'), (['{p}/films', '--out', '{t}/m.csv', '--sheet', '{t}/s.gif'], '.png or .html'),
    (['{p}/films', '--out', '{t}/m.csv', '--questions', 'way,fra'], "'far'"), (['{p}/films', '--out', '{t}/m.csv', '--method', 'atention'], "'attention'"),
    (['{p}/films', '--out', '{t}/m.csv', '--split', 'tset'], "split 'tset'"), (['{p}/nothing', '--out', '{t}/m.csv'], 'no such file'),
    (['{p}/films', '--out', '{t}/m.csv', '--checkpoint', '{p}/films'], 'expected a checkpoint in'), (['{p}/films', '--out', '{t}/m.csv', '--finder', '{t}/there.csv'], 'there.csv'),
    (['{p}/films', '--out', '{t}/m.csv', '--most', '0'], 'at least one span'), (['{p}/films', '--out', '{t}/there.csv/m.csv'], 'there.csv')])
def test_mistakes_end_with_2_and_a_message(place, tmp_path, capsys, args, said):
    (tmp_path/'there.csv').write_text('mine')
    args = [a.format(p=place, t=tmp_path) for a in args]
    if '--checkpoint' not in args: args += ['--checkpoint', str(place/'model')]
    assert tqn(*args)==2
    err = capsys.readouterr().err
    assert said in err and 'Traceback' not in err
    assert (tmp_path/'there.csv').read_text()=='mine' and not (tmp_path/'m.csv').exists()

def test_a_damaged_film_among_others(place, tmp_path, capsys):
    for n in 'ac': (tmp_path/f'{n}.mp4').write_bytes((place/'films/a.mp4').read_bytes())
    (tmp_path/'b.mp4').write_bytes((place/'films/a.mp4').read_bytes()[:700])
    with_model = [tmp_path, '--checkpoint', place/'model', '--out', tmp_path/'m.csv']
    assert tqn(*with_model)==2
    err = capsys.readouterr().err
    assert 'b.mp4' in err and '--skip' in err and not (tmp_path/'m.csv').exists()
    assert tqn(*with_model, '--skip')==0
    assert 'left out b.mp4' in capsys.readouterr().err and pd.read_csv(tmp_path/'m.csv').film.unique().tolist()==['a.mp4','c.mp4']

def test_a_full_disk_leaves_no_half_file(place, tmp_path):
    "As a full disk does: no file may grow beyond a few bytes"
    features = tmp_path/'kept'
    assert tqn(place/'films', '--checkpoint', place/'model', '--features', features, '--out', tmp_path/'first.csv')==0
    code = ("import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64));"
            "from tqn.cli.main import run; sys.exit(run(sys.argv[1:]))")
    r = subprocess.run([sys.executable, '-B', '-c', code, 'moments', place/'films', '--checkpoint', place/'model', '--features', features, '--out', tmp_path/'m.csv', '--quiet'], capture_output=True, text=True)
    assert r.returncode==2 and 'm.csv' in r.stderr and 'Traceback' not in r.stderr, r.stderr
    assert sorted(p.name for p in tmp_path.iterdir())==['first.csv','kept']

def test_the_same_films_give_the_same_bytes(place, tmp_path):
    for n in '12': assert tqn(place/'films', '--checkpoint', place/'model', '--out', tmp_path/f'{n}.csv')==0
    assert (tmp_path/'1.csv').read_bytes()==(tmp_path/'2.csv').read_bytes()

def test_a_viewer_marks_the_moments_of_its_film(place):
    from tqn.widgets.viewer import view
    model = TQN.from_pretrained(place/'model')
    t = moments(model, place/'films', finder=Finder(least=1., threshold=.99, smooth=0), progress=False)
    marked = {q['name']: q.get('moments') for q in view(model, place/'films/b.mp4', moments=t, progress=False).data.meta['questions']}
    assert marked=={r.question: [[r.first, r.last]] for r in t[t.film=='b.mp4'].itertuples()} and len(marked)==2
    assert 'expected moments of' in view(model, place/'films/b.mp4', moments=pd.concat([t, t.assign(film='x')])[lambda o: o.film!='b.mp4'], progress=False).error
