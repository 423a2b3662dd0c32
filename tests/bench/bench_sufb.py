"""The decoder, the gradient into the bank, and a step of stage 2 without a backbone, against the published arithmetic and against a floor; CPU seconds, in turns, one thread.

    python tests/bench/bench_sufb.py [decoder|gradient|step] [--rounds 5] [--threads 1]

Published arithmetic, written here from its description: torch's own `nn.MultiheadAttention` projects every row to a key and a value in each layer, time comes before the batch, maps are averaged over the heads;
of a step, all rows of the memory take part in the graph, float32 rows come from a list in memory, and Adam updates one tensor after the other. Our decoder gives the same numbers, which is asserted before it is timed.
The floor of the gradient into the bank: the same pass, forward and backward, over a memory of constants, nothing of which has a gradient. What a step pays above it is the price of the K rows' gradient.
"""
import argparse, tempfile, time
import torch
from torch import nn
from tqn.features.bank import FeatureBank
from tqn.models.decoder import QueryDecoder
from tqn.models.losses import tqn_loss
from tqn.models.tqn import TQN
from tqn.questions.queries import QuerySet
from tqn.training.run import make_optimiser, param_groups
from tqn.training.stage2 import BankStage

def median(values): return torch.tensor(values, dtype=torch.float64).median().item()

def in_turns(ways, rounds):
    "CPU seconds of every way, taken in turns: {name: [seconds of each round]}"
    spent = {k: [] for k in ways}
    for r in range(rounds+1):
        for k,way in sorted(ways.items(), reverse=r%2 == 1):
            began = time.process_time()
            way()
            if r: spent[k].append(time.process_time()-began)
    return spent

def ratio(spent, slow, fast):
    "Median ratio of the rounds, with the lowest and the highest"
    each = sorted(x/y for x,y in zip(spent[slow], spent[fast]))
    return median(each),f'{median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f}); {1e3*median(spent[slow]):.0f} and {1e3*median(spent[fast]):.0f} ms'


# Published arithmetic

class PublishedLayer(nn.Module):
    "Pre-norm on the side of the queries; keys and values of all rows are projected"
    def __init__(self, d, n_heads, dropout):
        super().__init__()
        self.self_attn,self.multihead_attn = nn.MultiheadAttention(d, n_heads, dropout),nn.MultiheadAttention(d, n_heads, dropout)
        self.linear1,self.linear2 = nn.Linear(d, d),nn.Linear(d, d)
        self.norm1,self.norm2,self.norm3 = (nn.LayerNorm(d) for _ in range(3))
        self.dropout,self.dropout1,self.dropout2,self.dropout3 = (nn.Dropout(dropout) for _ in range(4))

    def forward(self, x, memory, padding):
        h = self.norm1(x)
        x = x + self.dropout1(self.self_attn(h, h, h)[0])
        h,attn = self.multihead_attn(self.norm2(x), memory, memory, key_padding_mask=padding)
        x = x + self.dropout2(h)
        return x + self.dropout3(self.linear2(self.dropout(self.linear1(self.norm3(x)).relu()))), attn

class PublishedDecoder(nn.Module):
    "In place of a `QueryDecoder`, with its weights"
    def __init__(self, ours, n_heads=4, dropout=.1):
        super().__init__()
        self.n_queries,self.d_model,self.d_memory = ours.n_queries,ours.d_model,ours.d_memory
        self.queries,self.norm = nn.Parameter(ours.queries.detach().clone()),nn.LayerNorm(ours.d_model)
        self.layers = nn.ModuleList(PublishedLayer(ours.d_model, n_heads, dropout) for _ in ours.layers)
        for theirs,layer in zip(self.layers, ours.layers):
            state = {k: v for k,v in layer.state_dict().items() if not k.startswith('cross.')} | {f'multihead_attn.out_proj.{k}': v for k,v in layer.cross.out.state_dict().items()}
            state['multihead_attn.in_proj_weight'] = torch.cat([layer.cross.query.weight, layer.cross.key.weight, layer.cross.value.weight])
            state['multihead_attn.in_proj_bias'] = torch.cat([layer.cross.query.bias, torch.zeros(ours.d_model), layer.cross.value.bias])
            theirs.load_state_dict(state)

    def forward(self, memory, valid):
        memory,padding = memory.transpose(0, 1),~valid
        x,maps = self.queries[:,None].repeat(1, len(valid), 1),[]
        for layer in self.layers:
            x,attn = layer(x, memory, padding)
            maps.append(attn)
        return self.norm(x).transpose(0, 1), torch.stack(maps, 1)[:,:,None]


# The decoder alone

def decoder(a):
    found = {}
    for k in (5, 13):
        torch.manual_seed(0)
        ours = QueryDecoder(k).eval()
        theirs = PublishedDecoder(ours).eval()
        memory,valid,rows = torch.randn(8, 1024, 1024),torch.ones(8, 1024, dtype=torch.bool),torch.arange(10).repeat(8, 1)
        with torch.no_grad(): (r,attn),(their_r,their_attn) = ours(memory, valid),theirs(memory, valid)
        torch.testing.assert_close(r, their_r, atol=1e-4, rtol=1e-4); torch.testing.assert_close(attn.mean(2), their_attn[:,:,0], atol=1e-5, rtol=1e-4)
        def forward(dec):
            with torch.no_grad(): dec(memory, valid)
        def backward(dec, *online):
            x = memory.clone().requires_grad_()
            dec(x, valid, *online)[0].square().mean().backward()
            dec.zero_grad()
        def say(what, spent, how):
            name = f'decoder, {k} questions, 8 videos of 1024 clips, {what}'
            found[f'{name}, times as fast as published'],said = ratio(spent, 'published', how)
            print(f'{name}: {said}', flush=True)
        say('forward', in_turns(dict(ours=lambda: forward(ours), published=lambda: forward(theirs)), a.rounds), 'ours')
        ours.train(); theirs.train()
        spent = in_turns({'all rows': lambda: backward(ours), '10 rows a video': lambda: backward(ours, rows), 'published': lambda: backward(theirs)}, a.rounds)
        for how in ('10 rows a video', 'all rows'): say(f'with backward into {how}', spent, how)
    return found


# A model, a bank of videos of n clips, and what takes the place of a backbone: features with a gradient

K = 10

class Features:
    "A bank, and batches of fresh rows that are drawn anew for each step"
    def __init__(self, folder, n, videos):
        torch.manual_seed(0)
        self.n,self.videos,self.ids,self.g = n,videos,[f'v{i}' for i in range(2*videos)],torch.Generator().manual_seed(0)
        bank = FeatureBank.create(folder, dict.fromkeys(self.ids, n), 1024, sync=False)
        self.rows = {id: .5*torch.randn(n, 1024) for id in self.ids}
        for id,o in self.rows.items(): bank.write([id], [0], o[None])
        bank.checkpoint()
        self.stage = BankStage(lambda model, step: bank)
        self.stage.restore(None, 0)

    def batch(self, queries):
        ids = [self.ids[i] for i in torch.randperm(len(self.ids), generator=self.g)[:self.videos].tolist()]
        start = torch.randint(self.n-K+1, (self.videos,), generator=self.g).tolist()
        fresh = (.5*torch.randn(self.videos, K, 1024, generator=self.g)).requires_grad_()
        return {'id': ids, 'x': fresh, 'valid': torch.ones(self.videos, K, dtype=torch.bool), 'start': start, 'count': [K]*self.videos, 'total': [self.n]*self.videos,
                'answers': {q.name: torch.zeros(self.videos, dtype=torch.long) for q in queries}, 'class': torch.zeros(self.videos, dtype=torch.long)}

def make_model():
    torch.manual_seed(0)
    questions = {q: [str(i) for i in range(k)] for q,k in (('takeoff', 4), ('somersault', 8), ('twist', 8), ('position', 4))}
    return TQN(QuerySet(questions, classes=[(f'class {i}', ['0', str(i%8), str(i//8), None]) for i in range(48)]), d_model=1024).train()


# The gradient into the bank, against its floor

def gradient(a):
    found,model = {},make_model()
    for n in (1024, 8192):
        with tempfile.TemporaryDirectory() as folder:
            f = Features(folder, n, 2)
            def go(how):
                batch,stage = f.batch(model.queries),f.stage
                def floor(fresh, valid): return stage.splice(batch, fresh.detach(), valid)
                def all_rows(fresh, valid): return *stage.splice(batch, fresh, valid)[:2], None
                out = stage.forward(model, batch) if how == 'ours' else model(batch['x'], batch['valid'], splice=floor if how == 'floor' else all_rows)
                tqn_loss(out, batch['answers'], batch['class'])[0].backward()
                model.zero_grad()
                assert (batch['x'].grad is None) == (how == 'floor')
            spent = in_turns({how: lambda how=how: go(how) for how in ('floor', 'all rows', 'ours')}, a.rounds)
            for how in ('ours', 'all rows'):
                name = f'gradient into {"the online rows" if how == "ours" else how} of a bank of {n} clips'
                value,said = ratio(spent, how, 'floor')
                if how == 'ours': found[f'{name}, times the floor'] = value
                print(f'{name}, times the floor: {said}', flush=True)
            f.stage.bank.close()
    return found


# A step of stage 2 without a backbone

def step(a):
    found = {}
    for videos in (2, 8):
        model,theirs = make_model(),make_model()
        theirs.decoder = PublishedDecoder(theirs.decoder)
        optimiser,their_optimiser = make_optimiser(model),torch.optim.Adam(param_groups(theirs))
        with tempfile.TemporaryDirectory() as folder:
            f = Features(folder, 1024, videos)
            def ours():
                batch = f.batch(model.queries)
                out = f.stage.forward(model, batch)
                loss,_ = tqn_loss(out, batch['answers'], batch['class'])
                (loss*videos).backward()
                params = [p for p in model.parameters() if p.grad is not None]
                for p in params: p.grad.div_(videos)
                float(nn.utils.clip_grad_norm_(params, 400.))
                optimiser.step(); optimiser.zero_grad(set_to_none=True)
                f.stage.after_step(f.stage.step, 0)
            def published():
                batch = f.batch(model.queries)
                rows = []
                for id,s,fresh in zip(batch['id'], batch['start'], batch['x']):
                    row = f.rows[id].detach().clone()
                    row[s:s+K] = fresh
                    f.rows[id] = row.detach()
                    rows.append(row)
                out = theirs(nn.utils.rnn.pad_sequence(rows, batch_first=True))
                loss,_ = tqn_loss(out, batch['answers'], batch['class'])
                loss.backward()
                nn.utils.clip_grad_norm_(theirs.parameters(), 400.)
                their_optimiser.step(); their_optimiser.zero_grad()
            name = f'step of stage 2 without a backbone, {videos} videos of 1024 clips, 5 questions, times as fast as published'
            found[name],said = ratio(in_turns(dict(ours=ours, published=published), a.rounds), 'published', 'ours')
            print(f'{name}: {said}', flush=True)
            f.stage.bank.close()
    return found

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', nargs='*', choices=['decoder', 'gradient', 'step', []], help='all by default')
    p.add_argument('--rounds', type=int, default=5); p.add_argument('--threads', type=int, default=1)
    a = p.parse_args(args)
    torch.set_num_threads(a.threads)
    return {k: v for what in a.what or ('gradient', 'decoder', 'step') for k,v in {'decoder': decoder, 'gradient': gradient, 'step': step}[what](a).items()}

if __name__ == '__main__': main()
