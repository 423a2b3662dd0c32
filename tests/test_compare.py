"Readers, losses, other uses of the label's text, and attribution"
import subprocess, sys
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from made_grids import QUESTIONS
from torch import nn
from torch.testing import assert_close
from tqn.attention.whatif import agreement, clip_gradients
from tqn.models.baselines import (CaptionDecoder, CaptionModel, ReaderModel, Vocabulary, answers_of_classes, beam_search, caption_forward, caption_loss, init_queries,
    word_attention, words_loss)
from tqn.models.losses import attention_centres, focus_loss, order_loss, ordinal_loss
from tqn.attention.localise import ClipMaps
from tqn.models.tqn import TQN
from tqn.models.baselines import READERS, EncodedQueries, make_reader

def padded(lengths, d, seed=0):
    "Features of videos of these lengths, with garbage as padding"
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(len(lengths), max(lengths), d, generator=g)
    valid = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return x.masked_fill(~valid[..., None], 1e4), valid


# Readers

@pytest.mark.parametrize('name, more', [*((n, {}) for n in READERS), ('encoder', dict(mix='conv'))])
@settings(max_examples=8)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_readers_never_see_padding(name, more, lengths, seed):
    torch.manual_seed(seed)
    reader = make_reader(name, 3, 8, 12, **more).eval()
    x, valid = padded(lengths, 12, seed)
    r, attn = reader(x, valid)
    assert r.shape == (len(lengths), 3, 8) and attn.shape[0] == len(lengths) and attn.shape[3:] == (3, max(lengths))
    assert_close(attn.sum(-1), torch.ones(attn.shape[:-1]))
    assert not attn.masked_select(~valid[:, None, None, None].expand_as(attn)).any()
    for i, n in enumerate(lengths):
        alone, its = reader(x[i:i+1, :n])
        assert_close(r[i], alone[0], rtol=1e-4, atol=1e-5)
        assert_close(attn[i, ..., :n], its[0], rtol=1e-4, atol=1e-5)

def test_readers_refuse_a_video_without_clips():
    for name in READERS:
        with pytest.raises(ValueError, match='at least one valid clip'): make_reader(name, 2, 8, 8)(torch.randn(2, 3, 8), torch.tensor([[True]*3, [False]*3]))

@pytest.mark.parametrize('n_encoder', [1, 3])
def test_queries_behind_an_encoder_against_torch(n_encoder):
    "The same as torch's own encoder on projected clips with positions, and then the query decoder; no two layers begin alike"
    torch.manual_seed(0)
    reader = EncodedQueries(3, 8, 12, n_encoder=n_encoder, n_layers=2, n_heads=2).eval()
    x, valid = padded([5, 1, 3], 12)
    theirs = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 4, 8, .1, batch_first=True, norm_first=True), n_encoder, enable_nested_tensor=False).eval()
    theirs.layers.load_state_dict(reader.layers.state_dict())
    h = reader.project(x.masked_fill(~valid[..., None], 0))
    h = h + reader.positions(h)
    r, attn = reader.decoder(theirs(h, src_key_padding_mask=~valid), valid)
    got, looked = reader(x, valid)
    assert_close(got, r, rtol=1e-4, atol=1e-5); assert_close(looked, attn, rtol=1e-4, atol=1e-5)
    assert looked.shape == (3, 2, 2, 3, 5) and len(reader.layers) == n_encoder
    first = [l.linear1.weight for l in reader.layers]
    assert not any(torch.equal(a, b) for i, a in enumerate(first) for b in first[:i])

def test_clips_that_hear_of_their_neighbours_against_loops():
    "Layer l adds what it makes of the clips 2^l before and after; beyond the ends and in the padding there is nothing"
    torch.manual_seed(0)
    reader = EncodedQueries(3, 8, 12, mix='conv', n_encoder=3, n_layers=1, n_heads=2).eval()
    x, valid = padded([7, 2], 12)
    r, attn = reader(x, valid)
    for v, n in enumerate((7, 2)):
        h = reader.project(x[v, :n])
        for l, conv in enumerate(reader.layers):
            near = lambda i: h[i] if 0 <= i < n else torch.zeros(8)
            h = torch.stack([h[i] + (conv.bias + sum(conv.weight[:, :, k]@near(i + (k-1)*2**l) for k in range(3))).relu() for i in range(n)])
        want, looked = reader.decoder(h[None])
        assert_close(r[v], want[0], rtol=1e-4, atol=1e-5); assert_close(attn[v, ..., :n], looked[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="'cnov'.*'conv'"): EncodedQueries(3, 8, mix='cnov')

def test_an_encoder_knows_the_order_of_clips():
    torch.manual_seed(0)
    x = torch.randn(1, 5, 8)
    with torch.no_grad(): moved = {n: (r(x)[0] - r(x.flip(1))[0]).abs().max() for n in ('encoder', 'queries') for r in [make_reader(n, 2, 8, 8).eval()]}
    assert moved['encoder'] > 1e-3 and moved['queries'] < 1e-5

def test_a_reader_model_answers_every_question_and_reads_classes():
    "Its heads and its product of answers are TQN's, on any reader; the product is the sum along the class table"
    model = ReaderModel(QUESTIONS, 'lstm', d_model=8, d_features=6).eval()
    out = model(*padded([4, 2], 6))
    assert {q: tuple(o.shape) for q, o in out.responses.items()} == {'colour': (2, 2), 'count': (2, 3)}
    logp = [out.responses[q].log_softmax(-1) for q in QUESTIONS.names]
    want = torch.stack([logp[0][:, i] + logp[1][:, j] for i, j in QUESTIONS.class_table.tolist()], 1)
    assert_close(model.read_classes(out, 'product').log_softmax(-1), want.log_softmax(-1))


# Losses

@given(st.integers(2, 7), st.integers(0, 99))
def test_ordinal_loss_against_its_sum(n, seed):
    g = torch.Generator().manual_seed(seed)
    logits, target = torch.randn(5, n, generator=g), torch.randint(-1, n, (5,), generator=g)
    loss, known = ordinal_loss(logits, target)
    for i in range(5):
        p = logits[i].softmax(-1)
        want = sum((float(p[:j+1].sum()) - float(int(target[i]) <= j))**2 for j in range(n-1))/(n-1) if target[i] >= 0 else 0.
        assert_close(float(loss[i]), want, rtol=1e-4, atol=1e-6)
    assert known.tolist() == (target >= 0).tolist()

@given(st.integers(1, 12), st.integers(0, 99))
def test_centres_against_numpy(n, seed):
    rng = np.random.default_rng(seed)
    a = rng.dirichlet(np.ones(n), (1, 2, 3, 4))
    centre, width = attention_centres(torch.tensor(a), torch.ones(1, n, dtype=torch.bool))
    t, m = (np.arange(n) + .5)/n, a.mean((1, 2))[0]
    assert_close(centre[0].double(), torch.tensor(m@t), rtol=1e-4, atol=1e-5)
    assert_close(width[0].double(), torch.tensor([(m[k]*abs(t - m[k]@t)).sum() for k in range(4)]), rtol=1e-4, atol=1e-5)
    assert focus_loss(torch.tensor(a), torch.ones(1, n, dtype=torch.bool)) >= 0
    assert order_loss([0, 1], margin=0.)(torch.tensor(a), torch.ones(1, n, dtype=torch.bool)) == pytest.approx(max(0., float(centre[0, 0] - centre[0, 1])), abs=1e-6)


# The label's text

@given(st.integers(0, 999))
def test_answers_of_classes_against_a_loop(seed):
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
    p = scores.softmax(-1)
    for i, q in enumerate(QUESTIONS):
        want = torch.stack([sum((p[:, c] for c in range(3) if QUESTIONS.class_table[c, i] == j), torch.zeros(4)) for j in range(len(q))], 1)
        assert_close(answers_of_classes(scores, QUESTIONS)[q.name].exp(), want.clamp(min=1e-9))

def test_words_loss_with_nothing_known_is_zero():
    out = ReaderModel(QUESTIONS, 'mean', 8, 6)(*padded([2], 6))
    assert words_loss(out, {'colour': torch.tensor([-1]), 'count': torch.tensor([-1])})[0].item() == 0

def test_missing_words_teach_nothing():
    "A caption with a missing word trains on the others, and its gradient is finite"
    model = CaptionModel(QUESTIONS, 8, 6, n_layers=1, n_heads=2)
    x, valid = padded([3, 1], 6)
    batch = dict(x=x, valid=valid, answers={'colour': torch.tensor([1, -1]), 'count': torch.tensor([-1, -1])})
    loss, _ = caption_loss(caption_forward(model, batch), batch['answers'], vocabulary=model.vocabulary)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None) and torch.isfinite(loss)

@given(st.integers(1, 5), st.integers(0, 20))
@settings(max_examples=10)
def test_the_score_of_a_beam_is_the_probability_of_its_sentence(width, seed):
    torch.manual_seed(seed)
    model = CaptionModel(QUESTIONS, 8, 6, n_layers=1, n_heads=2).eval()
    x, valid = padded([3, 2], 6, seed)
    v, x = model.vocabulary, x.masked_fill(~valid[..., None], 0)
    said, score = beam_search(model.decoder, x, valid, v.begin, v.end, 4, width)
    with torch.no_grad(): logp = model.decoder(said[:, :-1], x, valid).log_softmax(-1)
    for i in range(2):
        want, ended = 0., False
        for j, w in enumerate(said[i, 1:].tolist()):
            if not ended: want += float(logp[i, j, w])
            ended = ended or w == v.end
        assert float(score[i]) == pytest.approx(want, abs=1e-4)

def words_seen(decoder, sentence, memory, valid):
    "Cross-attention of every place, layer by layer, written out: (b, layers, heads, s, n)"
    b, s = sentence.shape
    x, m, found = decoder.words(sentence) + decoder.places[:s], decoder.project(memory), []
    future = torch.ones(s, s, dtype=torch.bool).triu(1)
    for l in decoder.body.layers:
        h = l.norm1(x)
        x = x + l.self_attn(h, h, h, attn_mask=future, need_weights=False)[0]
        a = l.multihead_attn
        (wq, wk, wv), (bq, bk, bv) = a.in_proj_weight.chunk(3), a.in_proj_bias.chunk(3)
        heads = lambda o: o.unflatten(-1, (a.num_heads, -1)).transpose(1, 2)
        q, k, v = heads(l.norm2(x)@wq.T + bq), heads(m@wk.T + bk), heads(m@wv.T + bv)
        w = (q@k.mT/q.shape[-1]**.5).masked_fill(~valid[:, None, None], -torch.inf).softmax(-1)
        x = x + a.out_proj((w@v).transpose(1, 2).flatten(2))
        x = x + l.linear2(l.linear1(l.norm3(x)).relu())
        found.append(w)
    return torch.stack(found, 1)

@settings(max_examples=10)
@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=3), s=st.integers(1, 4), n_layers=st.integers(1, 2), seed=st.integers(0, 99))
def test_where_a_caption_decoder_looks_against_its_layers_by_hand(lengths, s, n_layers, seed):
    torch.manual_seed(seed)
    decoder = CaptionDecoder(7, 4, 8, 6, n_layers, 2).eval()
    x, valid = padded(lengths, 6, seed)
    said = torch.randint(0, 7, (len(lengths), s))
    with torch.no_grad(): found, want, logits = word_attention(decoder, said, x, valid), words_seen(decoder, said, x.masked_fill(~valid[..., None], 0), valid), decoder(said, x, valid)
    assert_close(found, want, rtol=1e-4, atol=1e-5)
    assert not found.masked_select(~valid[:, None, None, None].expand_as(found)).any()
    assert_close(word_attention(decoder, said[:, :1], x, valid), found[..., :1, :], rtol=1e-4, atol=1e-5)   # later words change nothing
    with torch.no_grad(): assert_close(decoder(said, x, valid), logits)

def test_looking_leaves_no_hook_behind_even_where_it_fails():
    decoder = CaptionDecoder(7, 4, 8, 6, 2, 2).eval()
    x, valid = padded([3, 2], 6)
    for memory in (x, x[..., :5]):
        try: word_attention(decoder, torch.zeros(2, 3, dtype=torch.long), memory, valid)
        except RuntimeError: assert memory.shape[-1] == 5
        else: assert memory.shape[-1] == 6
    assert not [m for m in decoder.modules() if m._forward_hooks or m._forward_pre_hooks]

@pytest.mark.parametrize('width', [1, 3])
def test_a_caption_model_says_where_it_looked_for_each_word(width):
    torch.manual_seed(1)
    model = CaptionModel(QUESTIONS, 8, 6, n_layers=2, n_heads=2, width=width).eval()
    x, valid = padded([4, 1, 3], 6)
    with torch.no_grad(): out = model(x, valid)
    assert out.attn.shape == (3, 2, 2, len(QUESTIONS), 4)
    assert_close(out.attn.sum(-1), torch.ones(3, 2, 2, 2)); assert not out.attn[1, ..., 1:].any()
    with torch.no_grad(): assert_close(out.attn, words_seen(model.decoder, out.vectors[:, :2], x.masked_fill(~valid[..., None], 0), valid), rtol=1e-4, atol=1e-5)
    batch = dict(x=x, valid=valid, answers={'colour': torch.tensor([1, 0, 0]), 'count': torch.tensor([1, 0, 2])})
    assert caption_forward(model, batch).attn is None        # the truth is not looked for

def test_text_queries_are_the_same_in_every_process():
    code = "from tqn.models.baselines import bag_of_words; print(bag_of_words(['a pike dive'], 4).tolist())"
    runs = {subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, env=None).stdout for _ in range(2)}
    assert len(runs) == 1
    with pytest.raises(ValueError, match='learned queries'): init_queries(ReaderModel(QUESTIONS, 'mean', 8, 6))

def test_vocabulary_round_trip():
    v = Vocabulary(QUESTIONS)
    answers = {'colour': torch.tensor([0, 1]), 'count': torch.tensor([2, 0])}
    assert {q: o.argmax(1).tolist() for q, o in v.read(v.write(answers)).items()} == {q: o.tolist() for q, o in answers.items()}


# Attribution

@given(st.integers(0, 50))
@settings(max_examples=10)
def test_gradients_against_finite_differences(seed):
    torch.manual_seed(seed)
    model = TQN(QUESTIONS, d_model=8, n_layers=1, n_heads=2).eval().double()
    x, valid = torch.randn(1, 4, 8).double(), torch.ones(1, 4, dtype=torch.bool)
    shares, eps = clip_gradients(model, x, valid), 1e-3
    with torch.no_grad():
        top = {q: int(z.argmax()) for q, z in model(x, valid).responses.items()}
        for q in QUESTIONS.names:
            logp = lambda y: model(y, valid).responses[q].double().log_softmax(-1)[0, top[q]]
            d = []
            for i in range(4):
                more, less = x.clone(), x.clone()
                more[0, i] *= 1+eps; less[0, i] *= 1-eps
                d.append(abs(float(logp(more) - logp(less)))/(2*eps))
            assert_close(shares[q][0], torch.tensor(d).double()/sum(d), rtol=.05, atol=.01)

def test_agreement_is_between_minus_one_and_one():
    rng = np.random.default_rng(0)
    maps = lambda: [ClipMaps(f'v{i}', {'q': rng.random(6)}, {}, 48) for i in range(20)]
    table = agreement(maps(), maps())
    assert table.n['q'] == 20 and -.6 < table['rank correlation']['q'] < .6

@pytest.mark.parametrize('name', READERS)
def test_no_reader_waits_for_a_value(name):
    "A pass on the meta device, which has none; only recurrent networks want lengths on the CPU"
    with torch.device('meta'):
        reader, x, valid = make_reader(name, 3, 16, 8).eval(), torch.empty(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
        if name in ('gru', 'lstm'):
            with pytest.raises((NotImplementedError, RuntimeError)): reader(x, valid)
        else: assert reader(x, valid)[0].shape == (2, 3, 16)
