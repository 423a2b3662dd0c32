"The rendered dives: answers show where their extents say, splits are what they claim, files survive kills and full disks"
import hashlib, itertools, json, os, signal, subprocess, sys, time, zlib
from dataclasses import replace
from pathlib import Path
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from outside import MISSING, VOCAB
from tqn.data.published import open_data, read_dives, what_is
from tqn.dives.diver import CLASSES, QUESTIONS, class_name, dives_queries, joints_in_view, make_plan, motion, place, posture, turns
from tqn.dives.dives import (LABELS, SEEN, SPLITS, UNSEEN, PretrainClips, SyntheticDives, clip_labels, describe, extents, frame_labels,
    held_out, make_item, make_long_plan, pretrain_clips, render_files, sample_answers)
from tqn.questions.queries import QuerySet
from tqn.dives.scene import LOOKS, draw_frame, make_scene, render, spray
from tqn.video.video import open_video

FOUR = ('takeoff','somersault','twist','position')
answer_sets = st.fixed_dictionaries({q:st.sampled_from(a) for q,a in QUESTIONS.items()})
seeds = st.integers(0, 10**6)
quick = settings(max_examples=40, deadline=None)

def digest(folder): return {p.name:hashlib.sha1(p.read_bytes()).hexdigest() for p in sorted(Path(folder).rglob('*')) if p.is_file()}
def inside(frames, span): return set() if span is None else set(map(int, frames))-set(range(*span))

# ---------- vocabulary
def test_classes_are_diving48s():
    if not VOCAB.exists(): pytest.skip(MISSING)
    rows = [tuple(r) for r in json.loads(VOCAB.read_text())]
    assert CLASSES==rows
    theirs,ours = QuerySet.diving48(VOCAB),dives_queries()
    assert ours.class_names==theirs.class_names
    for q in theirs: assert set(q.answers)<=set(ours[q.name].answers) and q.kind==ours[q.name].kind
    for c in theirs.class_names: assert {k:a for k,a in ours.answers_of(c).items() if a is not None}==theirs.answers_of(c)

def test_queries():
    qs = dives_queries()
    assert qs.names==['approach','takeoff','somersault','twist','position','entry'] and qs.class_table.shape==(48,6)
    assert (qs.class_table[:,[0,5]]==-1).all() and (qs.class_table[:,1:5]>=0).all()
    for row in CLASSES:
        answers = dict(zip(FOUR, row))
        assert qs.class_names[qs.class_of(answers)]==class_name(answers)

def test_counts_are_in_order():
    for q in ('somersault','twist'):
        n = [turns(a) for a in QUESTIONS[q]]
        assert n==sorted(set(n))

# ---------- motion obeys the plan
@quick
@given(answer_sets, seeds)
def test_twist_turns_only_in_its_window(answers, seed):
    plan = make_plan(np.random.default_rng(seed)); _,_,twist,_ = motion(answers, plan)
    moving = np.flatnonzero(np.abs(np.diff(twist))>1e-12); span = extents(answers, plan)['twist']
    assert (span is None)==(answers['twist']=='NoTwis')==(len(moving)==0)
    if span: assert span[0]<=moving.min() and moving.max()+1<=span[1]
    assert twist[-1]==pytest.approx(2*np.pi*turns(answers['twist']))

@quick
@given(answer_sets, seeds, st.sampled_from(['approach','position','entry']), st.data())
def test_exclusive_answers_move_the_body_only_in_their_extent(answers, seed, question, data):
    plan = make_plan(np.random.default_rng(seed))
    other = {**answers, question:data.draw(st.sampled_from([a for a in QUESTIONS[question] if a!=answers[question]]))}
    A,B = (joints_in_view(a, plan, returns=True) for a in (answers, other))
    differ = np.flatnonzero(np.any([np.abs(A[k]-B[k]).max(1)>1e-6 for k in A], 0))
    assert not inside(differ, extents(answers, plan)[question])
    assert (len(differ)>0)==(question!='entry')

@quick
@given(answer_sets, seeds)
def test_waiting_shows_nothing(answers, seed):
    plan = make_plan(np.random.default_rng(seed)); P = joints_in_view(answers, plan, returns=True)
    for k,p in P.items():
        np.testing.assert_allclose(p[:plan.start+1], np.broadcast_to(p[0], (plan.start+1,3)), atol=1e-9, err_msg=k)
    still = dict(zip(QUESTIONS, (a[0] for a in QUESTIONS.values()))); Q = joints_in_view(still, plan, returns=True)
    for k in P: np.testing.assert_allclose(P[k][0], Q[k][0], atol=1e-9)

@quick
@given(seeds, st.floats(.8, 1.25))
def test_plans_are_in_order_and_windows_apart(seed, speed):
    for plan in (make_plan(np.random.default_rng(seed), speed), make_long_plan(np.random.default_rng(seed), speed)):
        assert 0<=plan.start<plan.ready<plan.leave<plan.enter<plan.still<plan.n_frames
        (a,b),(c,d) = sorted([plan.twist, plan.shape])
        assert plan.leave<=a<b<c<d<=plan.enter and c-b>=16 and min(b-a, d-c)>=24
    assert 256<=plan.n_frames<=1024 and plan.start>=4

@quick
@given(seeds, st.integers(0, 900), st.integers(1, 300))
def test_place_moves_everything_alike(seed, before, after):
    plan = make_plan(np.random.default_rng(seed)); moved = place(plan, before, after); by = before-plan.start
    assert (moved.start,moved.n_frames)==(before, plan.still+by+after)
    assert moved.twist==tuple(f+by for f in plan.twist) and moved.shape==tuple(f+by for f in plan.shape)

def test_half_somersaults_end_head_first():
    for s in QUESTIONS['somersault']:
        answers = dict(approach='Standing', takeoff='Back', somersault=s, twist='NoTwis', position='TUCK', entry='Rip')
        plan = make_plan(np.random.default_rng(1)); P = joints_in_view(answers, plan)
        assert (P['head'][plan.enter,1]<P['pelvis'][plan.enter,1])==(turns(s)%1==.5), s

# ---------- pixels obey the extents
DIVE = dict(approach='Standing', takeoff='Reverse', somersault='15som', twist='15Twis', position='TUCK', entry='Small')

def differs(a, b, frames): return [i for i in frames if draw_frame(a, i).tobytes()!=draw_frame(b, i).tobytes()]

@pytest.mark.parametrize('question,answer', [('approach','Hurdle'), ('approach','Armstand'), ('position','PIKE'), ('position','STR')])
def test_pixels_differ_only_in_the_extent(question, answer):
    plan = make_plan(np.random.default_rng(5)); span = extents(DIVE, plan)[question]
    a,b = (make_scene(o, plan, seed=2, size=32) for o in (DIVE, {**DIVE, question:answer}))
    found = differs(a, b, range(plan.n_frames))
    assert not inside(found, span) and len(found)>.6*(span[1]-span[0])

@pytest.mark.parametrize('entry', QUESTIONS['entry'])
def test_splash_is_gone_after_its_extent(entry):
    plan = make_plan(np.random.default_rng(6)); span = extents(DIVE, plan)['entry']; scene = make_scene(DIVE, plan, seed=3, size=32)
    a = replace(scene, drops=spray(np.random.default_rng(0), entry)); none = replace(scene, drops=dict(v=np.zeros((0,2)), r=np.zeros(0), late=np.zeros(0), sheet=0.))
    found = differs(a, none, range(plan.enter-5, plan.n_frames))
    assert not inside(found, span) and len(found)>12

@pytest.mark.parametrize('look', LOOKS)
def test_front_and_back_are_told_apart(look):
    "Mean colour of the frames of a half twist differs between its ends, at 64 pixels"
    plan = make_plan(np.random.default_rng(5)); scene = make_scene(DIVE, plan, look, 11, 64)
    assert np.abs(np.subtract(scene.pal['front'], scene.pal['back'])).max()>60
    assert scene.facing.min()<-.9 and scene.facing.max()>.9   # 1.5 twists show both

def test_any_frames_in_any_order():
    plan = make_plan(np.random.default_rng(7)); scene = make_scene(DIVE, plan, seed=4, size=32)
    want = [draw_frame(scene, i).tobytes() for i in (3,90,180)]
    assert [draw_frame(make_scene(DIVE, plan, seed=4, size=32), i).tobytes() for i in (180,90,3)]==want[::-1]

def test_the_renderer_has_not_changed():
    "Coarse pictures of both looks; if they change, VERSION must, and the shipped weights have seen other pictures"
    path = Path(__file__).parent/'data'/'dives_render.json'
    plan = make_plan(np.random.default_rng(0)); frames = [20,60,90,130,175,195]
    now = {look:render(DIVE, plan, look, 5, 64, frames).reshape(6,4,16,4,16,3).mean((2,4,5)).round(1).tolist() for look in LOOKS}
    if os.environ.get('TQN_WRITE_GOLDEN'): path.write_text(json.dumps(now))
    for look,old in json.loads(path.read_text()).items(): np.testing.assert_allclose(now[look], old, atol=3, err_msg=look)

# ---------- answers and splits
def test_hash_split_is_disjoint_and_fixed():
    assert len(UNSEEN)+len(SEEN)+48==1024 and not set(UNSEEN)&set(SEEN) and not (set(UNSEEN)|set(SEEN))&set(CLASSES)
    assert .2<len(UNSEEN)/976<.3
    assert hashlib.sha1(repr(sorted(UNSEEN)).encode()).hexdigest()=='b03796cefcdee24738cb58c4e5ff4e21cfcba588'   # the same in every version

def test_splits_hold_what_they_promise():
    combos = {s:{tuple(describe('natatorium', s, 0, i)[0][q] for q in FOUR) for i in range(n)} for s,n in SPLITS.items()}
    assert combos['unseen']<=set(UNSEEN) and len(combos['unseen'])>100
    for s in set(SPLITS)-{'unseen'}: assert not combos[s]&set(UNSEEN), s
    assert combos['train']>=set(CLASSES)

def test_shares_and_independence():
    draws = [sample_answers(np.random.default_rng(i)) for i in range(3000)]
    known = np.array([class_name(a) is not None for a in draws])
    assert .57<known.mean()<.63
    outside = [a for a,k in zip(draws, known) if not k]
    pairs = np.array([[QUESTIONS['twist'].index(a['twist']), QUESTIONS['position'].index(a['position'])] for a in outside])
    table = np.zeros((8,4)); np.add.at(table, tuple(pairs.T), 1); p = table/table.sum()
    mutual = (p*np.log2(p/(p.sum(1, keepdims=True)*p.sum(0)))).sum()
    assert mutual<.08   # bits; not tied outside the table
    for q in ('approach','entry'):
        share = [np.mean([a[q]==o for a in draws]) for o in QUESTIONS[q]]
        assert max(share)-min(share)<.05

def test_items_are_the_same_for_the_same_seed():
    for split in SPLITS:
        assert make_item('natatorium', split, 0, 3)==json.loads(json.dumps(make_item('natatorium', split, 0, 3)))
    assert make_item('natatorium', 'test', 0, 3)!=make_item('natatorium', 'test', 1, 3)
    assert len({json.dumps(make_item('natatorium', 'val', 0, i)['answers'])+str(make_item('natatorium', 'val', 0, i)['n_frames']) for i in range(40)})>35

@quick
@given(st.sampled_from(sorted(SPLITS)), st.integers(0, 5), st.integers(0, 2000))
def test_extents_lie_in_the_video(split, seed, i):
    item = make_item('natatorium', split, seed, i)
    for q,span in item['extents'].items():
        if span: assert 0<=span[0]<span[1]<=item['n_frames'], q
    assert (item['class_name'] is None)==(tuple(item['answers'][q] for q in FOUR) not in CLASSES)

# ---------- files
def test_files_do_not_depend_on_workers(tmp_path):
    "The rendered pixels are the same to the bit; x264's macroblock tree is not, so decoded frames may differ by an encoder's whim"
    jobs = lambda name: [(str(tmp_path/name), 'natatorium', 'test', 0, 32, i) for i in range(4)]
    for name in ('here','there'): (tmp_path/name).mkdir()
    render_files(jobs('here'), workers=0, progress=False); render_files(jobs('there')[::-1], workers=2, progress=False)
    assert len(list((tmp_path/'here').iterdir()))==len(list((tmp_path/'there').iterdir()))==4
    for i in range(4):
        a,b = (open_video(tmp_path/name/f'{i:05d}.mp4') for name in ('here','there')); assert len(a)==len(b)
        a,b = (v.frames(list(range(len(v)))).numpy().astype(int) for v in (a,b))
        assert np.abs(a-b).mean()<.5

def test_pixels_are_the_same_in_another_process():
    code = "import zlib; from tqn.dives.dives import describe; from tqn.dives.scene import render; a,p,s = describe('natatorium','long_val',0,1); print(zlib.crc32(render(a,p,seed=s,size=32,frames=range(0,p.n_frames,9),long=True).tobytes()))"
    a,p,s = describe('natatorium', 'long_val', 0, 1)
    here = zlib.crc32(render(a, p, seed=s, size=32, frames=range(0, p.n_frames, 9), long=True).tobytes())
    assert int(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout)==here

def test_files_are_what_the_index_says(tmp_path):
    ds = SyntheticDives(tmp_path, 'long_test', 'studio', n=2, size=32, progress=False)
    assert ds.queries==dives_queries() and len(ds)==2
    for item in ds:
        v = open_video(item['path'])
        assert (len(v),v.size,v.fps)==(item['n_frames'],(32,32),item['fps']) and 256<=len(v)<=1024
    assert [set(item) for item in ds]==[{'id','path','split','answers','class_name','extents','n_frames','fps'}]*2

def test_the_packaged_questions_are_those_of_the_dives():
    assert QuerySet.dives().to_dict()==dives_queries().to_dict()

def test_rendered_dives_are_read_as_a_data_set(tmp_path):
    made = {split: SyntheticDives(tmp_path, split, n=2, size=32, workers=0, progress=False) for split in ('train', 'val')}
    data = read_dives(tmp_path/'natatorium')
    assert {k: [o.id for o in v] for k,v in data.splits.items()}=={k: [o['id'] for o in d] for k,d in made.items()} and data.queries==made['val'].queries
    assert set(data['train'][0].answers)==set(data.queries.names) and what_is(tmp_path)==('dives', tmp_path/'natatorium') and open_data(tmp_path).name=='dives'

def test_ids_tell_looks_splits_and_seeds_apart(tmp_path):
    made = [make_item(look, split, seed, i)['id'] for look in ('natatorium','studio') for split in ('test','long_test') for seed in (0,5) for i in (0,1)]
    assert len(set(made))==16 and {'test_00000','studio_test_00000','test_00000_seed5','studio_long_test_00001_seed5'}<=set(made)
    get = lambda: [o['id'] for o in SyntheticDives(tmp_path, 'val', 'studio', n=1, size=32, seed=3, progress=False)]
    assert get()==['studio_val_00000_seed3']
    path = tmp_path/'studio'/'val'/'index.json'; path.write_text(path.read_text().replace('studio_val_00000_seed3', 'val_00000'))
    assert get()==['studio_val_00000_seed3']   # an index from before

def test_more_and_fewer(tmp_path):
    get = lambda n: SyntheticDives(tmp_path, 'val', n=n, size=32, progress=False)
    two = get(2).items; before = digest(tmp_path)
    assert get(1).items==two[:1] and digest(tmp_path)==before
    assert get(3).items[:2]==two and len(digest(tmp_path))==4
    assert {k:v for k,v in digest(tmp_path).items() if k in ('00000.mp4','00001.mp4')}=={k:v for k,v in before.items() if k!='index.json'}

RUN = "from tqn.dives.dives import SyntheticDives; SyntheticDives({!r}, 'train', n=40, size=64, workers=0, progress=False)"

def test_goes_on_after_a_kill(tmp_path):
    p = subprocess.Popen([sys.executable, '-c', RUN.format(str(tmp_path))], start_new_session=True)
    folder = tmp_path/'natatorium'/'train'; end = time.time()+300
    while len(list(folder.glob('*.mp4')))<2:
        assert p.poll() is None and time.time()<end
        time.sleep(.05)
    os.kill(p.pid, signal.SIGKILL); p.wait()
    there = sorted(folder.glob('*.mp4')); assert 2<=len(there)<40
    for path in there: assert len(open_video(path))==json.loads((folder/'index.json').read_text())['items'][int(path.stem)]['n_frames']
    stamps = {p:p.stat().st_mtime_ns for p in there}; n = len(there)+1
    ds = SyntheticDives(tmp_path, 'train', n=n, size=64, workers=0, progress=False)
    assert all(item['path'].exists() for item in ds) and stamps=={p:p.stat().st_mtime_ns for p in there}

def test_full_disk(tmp_path):
    "A limit on the size of files stands in for a full disk: one clear error, nothing broken left"
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (30000,30000)); {RUN.format(str(tmp_path))}".replace('n=40','n=1').replace('size=64','size=96')
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=300)
    assert r.returncode==1 and 'cannot write' in r.stderr.splitlines()[-1], r.stderr[-400:]
    assert [p.name for p in (tmp_path/'natatorium'/'train').iterdir()]==['index.json']
    assert len(SyntheticDives(tmp_path, 'train', n=1, size=96, progress=False))==1   # once there is room

def test_full_disk_in_a_worker(tmp_path):
    (tmp_path/'gone').mkdir()
    jobs = [(str(tmp_path/'gone'/'deeper'), 'natatorium', 'test', 0, 32, i) for i in range(3)]
    with pytest.raises((OSError,ValueError), match='cannot write'): render_files(jobs, workers=1, progress=False)
    assert list((tmp_path/'gone').iterdir())==[]

def test_refuses_what_was_rendered_otherwise(tmp_path):
    get = lambda **kw: SyntheticDives(tmp_path, 'test', **{**dict(n=1, size=32, progress=False), **kw})
    get(); before = digest(tmp_path)
    for kw,words in ((dict(size=64),'size=32'), (dict(seed=1),'seed=0')):
        with pytest.raises(ValueError, match=words): get(**kw)
    index = tmp_path/'natatorium'/'test'/'index.json'; text = index.read_text()
    for bad,words in ((text.replace('"renderer": 1','"renderer": 0'),'renderer=0'), ('{','not the index'), ('[]','not the index'), ('{"items": 3}','not the index')):
        index.write_text(bad)
        with pytest.raises(ValueError, match=words): get()
    index.unlink()
    with pytest.raises(ValueError, match='no index.json'): get()
    index.write_text(text); assert digest(tmp_path)==before

@pytest.mark.parametrize('kw,words', [(dict(split='tests'),'expected a split'), (dict(look='x'),'expected a look'), (dict(n=0),'at least 1'), (dict(n=-3),'at least 1'), (dict(size=8),'even size'), (dict(size=33),'even size')])
def test_bad_requests_touch_nothing(tmp_path, kw, words):
    with pytest.raises(ValueError, match=words): SyntheticDives(tmp_path/'new', **{**dict(n=1, size=32, progress=False), **kw})
    assert not (tmp_path/'new').exists()

def test_root_that_cannot_be_written(tmp_path):
    (tmp_path/'file').write_text('mine')
    with pytest.raises(OSError, match='cannot write'): SyntheticDives(tmp_path/'file', n=1, progress=False)
    assert (tmp_path/'file').read_text()=='mine'

# ---------- dense labels
@quick
@given(answer_sets, seeds, st.booleans())
def test_rates_sum_to_the_answers(answers, seed, mirror):
    plan = make_plan(np.random.default_rng(seed)); labels = frame_labels(answers, plan, .2, mirror)
    armstand = answers['approach']=='Armstand'   # half a turn there and back: sums to nothing
    assert abs(labels['som'].sum()/8)==pytest.approx(turns(answers['somersault']), abs=1e-6), armstand
    assert labels['twist'].sum()/8==pytest.approx(turns(answers['twist']), abs=1e-6)
    np.testing.assert_allclose(labels['nx']**2+labels['ny']**2+labels['nz']**2, 1)
    assert (np.sign(labels['som'][plan.leave+20])>0)==((answers['takeoff'] in ('Inward','Reverse'))!=mirror)

@quick
@given(answer_sets, seeds, st.data())
def test_clip_labels_only_where_shown(answers, seed, data):
    plan = make_plan(np.random.default_rng(seed)); i = data.draw(st.integers(0, plan.n_frames-8)); mid = i+4
    cls = dict(zip(LABELS, clip_labels(answers, frame_labels(answers, plan, 0., False), i, plan)[1].tolist())); spans = extents(answers, plan)
    for q in ('approach','entry','takeoff'):
        if cls[q]>=0: assert spans[q][0]<=mid<spans[q][1] and QUESTIONS[q][cls[q]]==answers[q]
    if cls['shape']>0: assert spans['position'][0]<=mid<spans['position'][1] and QUESTIONS['position'][cls['shape']-1]==answers['position']
    assert all(-1<=cls[k]<n for k,n in LABELS.items())

def test_pretrain_clips_are_pieces_of_the_video():
    for k in (0,3):
        clips = list(pretrain_clips(k, size=32, n=3)); again = list(pretrain_clips(k, size=32, n=3))
        for (a,r,c),(b,s,d) in zip(clips, again): assert (a==b).all() and (r==s).all() and (c==d).all()
        assert {o[0].shape for o in clips}=={(8,32,32,3)} and {o[1].dtype for o in clips}=={np.dtype('float32')}

def test_loader_workers_share_the_dives():
    from torch.utils.data import DataLoader
    data = PretrainClips(size=32, per_dive=1, seed=2); alone = list(itertools.islice(iter(data), 4))
    loader = iter(DataLoader(data, batch_size=1, num_workers=2)); both = [next(loader) for _ in range(4)]
    assert {o[0].tobytes() for o in alone}=={o[0][0].numpy().tobytes() for o in both}
