"""Compares a demo checkpoint's expected.json with what transformers says of the same images: python3 check.py weights/demo

Needs torch, transformers and Pillow (seen with 2.13, 5.18 and 12.3). The original's beam search is not in transformers and is left out.
Prints, for each image and video, the largest difference of a log-probability or score; fails where ids differ or it is above 1e-4.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import BertTokenizer, GitForCausalLM

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "weights/demo").resolve()
root = pathlib.Path(__file__).resolve().parents[2]
expected = json.loads((folder / "expected.json").read_text())
config = json.loads((folder / "preprocessor_config.json").read_text())
model = GitForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
# transformers 5 knows these only as img_temporal_embedding, and would begin with random ones.
for n, frame in enumerate(getattr(model.git, "img_temporal_embedding", [])):
    frame.data = load_file(folder / "model.safetensors")[f"git.img_temperal_embedding.{n}"]
tokenizer = BertTokenizer.from_pretrained(folder)
START, END, LIMIT = 2, 3, 20


def pixels(path):
    """[3, size, size], as CLIPImageProcessor makes them."""
    image = Image.open(path).convert("RGB")
    size, (width, height) = config["crop_size"]["height"], image.size
    short = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    values = np.asarray(image.resize(short, Image.Resampling.BICUBIC))
    top, left = (values.shape[0] - size) // 2, (values.shape[1] - size) // 2
    values = (values[top : top + size, left : left + size] * config["rescale_factor"]).astype(np.float32)
    mean, std = (np.array(config[name], np.float32) for name in ("image_mean", "image_std"))
    return torch.tensor(((values - mean) / std).transpose(2, 0, 1))


@torch.no_grad()
def greedy(image, prompt=()):
    ids, log_probs = [START, *prompt], []
    while len(ids) < LIMIT and ids[-1] != END:
        logits = model(input_ids=torch.tensor([ids]), pixel_values=image, use_cache=False).logits[0, -1]
        row = torch.log_softmax(logits.double(), -1)
        ids.append(int(row.argmax()))
        log_probs.append(float(row[ids[-1]]))
    return ids, log_probs


def difference(found, wanted, what):
    assert found[0] == wanted[0], f"{what}: ids {found[0]}, expected {wanted[0]}"
    return max(abs(a - b) for a, b in zip(found[1], wanted[1], strict=True))


worst = 0.0
for item in expected["images"]:
    name = item["file"]
    image = pixels(root / name)[None]
    differences = [difference(greedy(image), (item["greedy"]["ids"], item["greedy"]["token_logprobs"]), name)]
    beam = model.generate(
        pixel_values=image,
        input_ids=torch.tensor([[START]]),
        **{"num_beams": 4, "max_length": LIMIT, "do_sample": False, "return_dict_in_generate": True, "output_scores": True},
    )
    wanted = item["hf_beam4"]
    differences.append(
        difference((beam.sequences[0].tolist(), [float(beam.sequences_scores[0])]), (wanted["ids"], [wanted["score"]]), f"{name}, beams")
    )
    for answer in item["answers"]:
        prompt = tokenizer(answer["question"], add_special_tokens=False)["input_ids"]
        differences.append(difference(greedy(image, prompt), (answer["ids"], answer["token_logprobs"]), f"{name}: {answer['question']}"))
    worst = max(worst, *differences)
    print(f"{name}: {max(differences):.1e}")
for item in expected["videos"]:
    frames = torch.stack([pixels(root / item["frames"] / f"frame-{n}.png") for n in range(1, 7)])[None]
    found = difference(greedy(frames), (item["greedy"]["ids"], item["greedy"]["token_logprobs"]), item["frames"])
    worst = max(worst, found)
    print(f"{item['frames']}: {found:.1e}")
print(f"largest difference: {worst:.1e}")
assert worst < 1e-4
