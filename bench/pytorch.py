"""The same stages in PyTorch, beside which `npm run bench` can be put: python3 bench/pytorch.py [--threads 1] [--runs 5] [--tokens 20]

GIT at the git-base size (ViT-B/16 on 224 px, six decoder layers, 177 M generated float32 weights) as PyTorch's users run it: eager mode, no
gradients, every product an F.linear, attention as matmul, softmax, matmul, the keys and values of image and text concatenated step by
step as transformers' GitModel does. Needs torch only. Times are medians: of processor time with one thread, by the clock with more.
"""

import argparse
import time

import torch
from torch import nn
from torch.nn import functional as F

D, HEADS, TOKENS, WORDS = 768, 12, 197, 30522


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(D, D) for _ in range(4))

    def heads(self, x):
        return x.view(x.shape[0], x.shape[1], HEADS, D // HEADS).transpose(1, 2)

    def forward(self, x, past=None):
        """x: [B, T, D]; past: keys and values [B, HEADS, S, D / HEADS] that come before. Returns [B, T, D] and both, longer by T."""
        q, k, v = self.heads(self.query(x)), self.heads(self.key(x)), self.heads(self.value(x))
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        weights = torch.softmax(q @ k.transpose(-1, -2) / (D // HEADS) ** 0.5, dim=-1)
        return self.output((weights @ v).transpose(1, 2).reshape(x.shape)), (k, v)


class Layer(nn.Module):
    def __init__(self, activation, norm_first):
        super().__init__()
        self.attention, self.activation, self.norm_first = Attention(), activation, norm_first
        self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.up, self.down = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)

    def forward(self, x, past=None):
        if self.norm_first:
            seen, cache = self.attention(self.norm1(x), past)
            x = x + seen
            return x + self.down(self.activation(self.up(self.norm2(x)))), cache
        seen, cache = self.attention(x, past)
        x = self.norm1(x + seen)
        return self.norm2(x + self.down(self.activation(self.up(x)))), cache


class Git(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, D, 16, stride=16, bias=False)
        self.first, self.positions = nn.Parameter(torch.zeros(1, 1, D)), nn.Parameter(torch.zeros(1, TOKENS, D))
        self.before, self.after = nn.LayerNorm(D), nn.LayerNorm(D)
        self.vision = nn.ModuleList(Layer(lambda x: x * torch.sigmoid(1.702 * x), True) for _ in range(12))
        self.projection, self.projection_norm = nn.Linear(D, D), nn.LayerNorm(D)
        self.words, self.places, self.word_norm = nn.Embedding(WORDS, D), nn.Embedding(1024, D), nn.LayerNorm(D)
        self.decoder = nn.ModuleList(Layer(F.gelu, False) for _ in range(6))
        self.output = nn.Linear(D, WORDS)

    def encode(self, pixels):
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        x = self.before(torch.cat([self.first.expand(x.shape[0], -1, -1), x], dim=1) + self.positions)
        for layer in self.vision:
            x, _ = layer(x)
        return self.after(x)

    def decode(self, x, past):
        caches = []
        for layer, before in zip(self.decoder, past):
            x, cache = layer(x, before)
            caches.append(cache)
        return x, caches

    def prefill(self, features):
        """The image's keys and values of every decoder layer; the image sees no text."""
        return self.decode(self.projection_norm(self.projection(features)), [None] * len(self.decoder))[1]

    def step(self, ids, position, past):
        x = self.word_norm(self.words(ids)[:, None] + self.places(torch.tensor([position])))
        hidden, past = self.decode(x, past)
        return self.output(hidden[:, -1]), past


def caption(model, pixels, tokens, beams):
    """`tokens` words; more than one beam pays for the rows of a beam search and its reordering, not for its bookkeeping."""
    past = model.prefill(model.encode(pixels))
    if beams > 1:
        past = [(k.repeat(beams, 1, 1, 1), v.repeat(beams, 1, 1, 1)) for k, v in past]
    ids, kept = torch.full((beams,), 101), torch.arange(beams)
    for position in range(tokens):
        logits, past = model.step(ids, position, past)
        ids = torch.log_softmax(logits, dim=-1).argmax(dim=-1)
        if beams > 1:
            past = [(k[kept], v[kept]) for k, v in past]


def median_ms(body, runs, clock):
    times = []
    for run in range(runs + 1):
        start = clock()
        body()
        if run > 0:
            times.append(1000 * (clock() - start))
    return sorted(times)[len(times) // 2]


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("threads", 1), ("runs", 5), ("tokens", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    with torch.inference_mode():
        model = Git().eval()
        pixels = torch.randn(1, 3, 224, 224)
        features = model.encode(pixels)
        past = model.prefill(features)
        wide = [(k.repeat(4, 1, 1, 1), v.repeat(4, 1, 1, 1)) for k, v in past]
        print(f"PyTorch {torch.__version__}, {options.threads} thread(s), medians of {options.runs} runs")
        stages = {
            "encode: pixels to features": lambda: model.encode(pixels),
            "prefill: features to cache": lambda: model.prefill(features),
            "step: one token": lambda: model.step(torch.tensor([200]), 1, past),
            "step: four beams": lambda: model.step(torch.tensor([200, 201, 202, 203]), 1, wide),
            f"caption, greedy, {options.tokens} tokens": lambda: caption(model, pixels, options.tokens, 1),
            f"caption, four beams, {options.tokens} tokens": lambda: caption(model, pixels, options.tokens, 4),
        }
        for name, body in stages.items():
            print(f"{name:36} {median_ms(body, options.runs, clock):8.1f} ms")


if __name__ == "__main__":
    main()
