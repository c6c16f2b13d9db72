"""Creates tiny random Qwen2.5-VL checkpoints and freezes transformers' results on them, for
`tests/all/model_parity.rs`.

    python tests/oracles/model.py            # needs torch, transformers 5, tokenizers, safetensors, pillow

Writes `tests/data/model/`: the checkpoints, the images, one tokenizer, and `parity.json` with the
results: processed pixels, position ids, vision features, logits, greedy ids, log-probabilities. All
of them are computed in f32 on a CPU from the files as written, so that both sides read the same
bytes.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image, ImageOps
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

ROOT = Path(__file__).resolve().parent.parent / "data" / "model"
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
FIRST_SPECIAL = 256
ENDOFTEXT, IM_START, IM_END, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD = range(FIRST_SPECIAL, FIRST_SPECIAL + 7)
VOCAB = 272
MIN_PIXELS, MAX_PIXELS = 2 * 28 * 28, 28 * 28 * 28
GREEDY_TOKENS, MARGIN = 10, 2e-3

# Name: text (layers, hidden size, heads, KV heads, intermediate size), RoPE sections, RoPE theta,
# norm epsilon, tied embeddings, vision (depth, hidden size, heads, intermediate size), window size,
# blocks with full attention, layout of the config, naming of the tensors, dtype, shards.
CHECKPOINTS = {
    "tied-1": ((1, 32, 4, 4, 48), (1, 1, 2), 1e6, 1e-6, True, (2, 32, 2, 40), 112, [1], "flat", "first", "bf16", 1),
    "untied-2": ((2, 48, 6, 2, 80), (2, 1, 1), 1e6, 1e-6, False, (2, 24, 2, 36), 56, [0], "nested", "second", "bf16", 1),
    "gqa-7": ((2, 56, 7, 1, 72), (1, 1, 2), 1e6, 1e-6, True, (3, 32, 4, 44), 84, [2], "flat", "second", "bf16", 1),
    "gqa-4-deep": ((4, 64, 8, 2, 96), (1, 1, 2), 1e4, 1e-5, False, (4, 32, 4, 56), 112, [1, 3], "nested", "first", "bf16", 1),
    "gqa-3": ((3, 48, 3, 1, 100), (4, 2, 2), 5e5, 1e-6, True, (2, 40, 2, 30), 28, [1], "flat", "first", "f32", 1),
    "odd-sizes": ((2, 60, 3, 3, 77), (2, 3, 5), 1e6, 1e-6, False, (3, 36, 3, 33), 140, [0, 2], "nested", "second", "bf16", 1),
    "mimo-like": ((3, 64, 4, 2, 172), (2, 3, 3), 640000.0, 1e-5, False, (3, 32, 2, 54), 112, [2], "flat", "first", "bf16", 1),
    "all-windowed": ((2, 32, 4, 2, 64), (1, 1, 2), 1e6, 1e-6, True, (3, 32, 2, 40), 56, [], "nested", "first", "bf16", 1),
    "all-full": ((2, 40, 5, 5, 64), (2, 1, 1), 1e3, 1e-6, True, (2, 48, 4, 64), 112, [0, 1], "flat", "second", "f16", 1),
    "one-section": ((2, 32, 2, 1, 50), (8, 0, 0), 1e6, 1e-6, False, (1, 16, 1, 20), 112, [0], "nested", "second", "bf16", 1),
    "wide-head": ((1, 96, 1, 1, 64), (16, 16, 16), 1e6, 1e-6, True, (2, 80, 1, 40), 120, [1], "flat", "first", "bf16", 1),
    "sharded": ((4, 48, 6, 3, 64), (1, 1, 2), 1e6, 1e-6, False, (3, 32, 4, 48), 84, [1], "nested", "second", "bf16", 3),
    "gqa-5": ((2, 80, 5, 1, 61), (3, 3, 2), 2e4, 1e-5, True, (2, 64, 8, 48), 112, [0], "flat", "first", "f32", 1),
    "nano-like": ((3, 64, 4, 2, 96), (2, 3, 3), 1e3, 1e-6, True, (2, 48, 4, 64), 112, [0, 1], "flat", "first", "bf16", 1),
}


def photo(rng, height, width):
    """Draws smooth colours, a few edges and some noise."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    base = np.stack([np.sin(7 * x + 3 * y + p) + np.cos(11 * y - 2 * x + 2 * p) for p in rng.uniform(0, 6, 3)], -1)
    base += 1.5 * ((x - 0.4) ** 2 + (y - 0.3) ** 2 < 0.05)[..., None] * rng.uniform(-1, 1, 3)
    return np.clip(127 + 45 * base + rng.normal(0, 6, base.shape), 0, 255).astype(np.uint8)


def make_images(folder):
    rng = np.random.default_rng(20251123)
    folder.mkdir(parents=True)
    save = lambda image, name, **options: image.save(folder / name, **options)
    save(Image.fromarray(photo(rng, 98, 131)), "photo.png")
    save(Image.fromarray(photo(rng, 190, 33)), "tall.png")
    save(Image.fromarray(photo(rng, 30, 260)), "wide.png")
    save(Image.fromarray(photo(rng, 6, 9)), "tiny.png")
    save(Image.fromarray(photo(rng, 112, 112)), "window.png")
    save(Image.fromarray(photo(rng, 70, 90)).quantize(23), "palette.png")
    rgba = np.dstack([photo(rng, 75, 61), rng.integers(0, 256, (75, 61), dtype=np.uint8)])
    save(Image.fromarray(rgba, "RGBA"), "rgba.png")
    save(Image.fromarray(photo(rng, 60, 84)).convert("L"), "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    save(Image.fromarray(photo(rng, 64, 120)), "rotated.jpg", quality=92, exif=exif)
    save(Image.fromarray(photo(rng, 400, 300)), "large.jpg", quality=85)


def make_tokenizer(path):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIALS])
    assert tokenizer.token_to_id("<|image_pad|>") == IMAGE_PAD
    tokenizer.save(str(path))
    return tokenizer


def config_of(spec):
    """Returns the content of a checkpoint's config.json."""
    (layers, hidden, heads, kv, ffn), sections, theta, eps, tied, vision, window, full, layout, _, dtype, _ = spec
    text = dict(vocab_size=VOCAB, hidden_size=hidden, intermediate_size=ffn, num_hidden_layers=layers,
                num_attention_heads=heads, num_key_value_heads=kv, hidden_act="silu", max_position_embeddings=4096,
                rms_norm_eps=eps, use_sliding_window=False, initializer_range=0.02)
    vision = dict(depth=vision[0], hidden_size=vision[1], num_heads=vision[2], intermediate_size=vision[3],
                  hidden_act="silu", in_channels=3, out_hidden_size=hidden, patch_size=14, spatial_merge_size=2,
                  temporal_patch_size=2, window_size=window, fullatt_block_indexes=full, tokens_per_second=2)
    top = dict(architectures=["Qwen2_5_VLForConditionalGeneration"], model_type="qwen2_5_vl",
               image_token_id=IMAGE_PAD, video_token_id=VIDEO_PAD, vision_start_token_id=VISION_START,
               vision_end_token_id=VISION_END, tie_word_embeddings=tied, bos_token_id=ENDOFTEXT, eos_token_id=IM_END)
    torch_dtype = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[dtype]
    if layout == "flat":
        return top | text | dict(rope_theta=theta, rope_scaling=dict(type="mrope", mrope_section=list(sections)),
                                 torch_dtype=torch_dtype, vision_config=vision | dict(model_type="qwen2_5_vl"))
    text["rope_parameters"] = dict(rope_type="default", rope_theta=theta, mrope_section=list(sections))
    return top | dict(dtype=torch_dtype, text_config=text | dict(model_type="qwen2_5_vl_text"),
                      vision_config=vision | dict(model_type="qwen2_5_vl_vision"))


def tensors_of(spec, seed):
    """Returns random tensors of a checkpoint by name."""
    (layers, hidden, heads, kv, ffn), _, _, _, tied, (depth, width, _, inner), _, _, _, naming, dtype, _ = spec
    rng = np.random.default_rng(seed)
    kv_dim = hidden // heads * kv
    shapes = {"visual.patch_embed.proj.weight": (width, 3, 2, 14, 14)}
    for i in range(depth):
        p = f"visual.blocks.{i}"
        shapes |= {f"{p}.norm1.weight": (width,), f"{p}.norm2.weight": (width,),
                   f"{p}.attn.qkv.weight": (3 * width, width), f"{p}.attn.qkv.bias": (3 * width,),
                   f"{p}.attn.proj.weight": (width, width), f"{p}.attn.proj.bias": (width,),
                   f"{p}.mlp.gate_proj.weight": (inner, width), f"{p}.mlp.gate_proj.bias": (inner,),
                   f"{p}.mlp.up_proj.weight": (inner, width), f"{p}.mlp.up_proj.bias": (inner,),
                   f"{p}.mlp.down_proj.weight": (width, inner), f"{p}.mlp.down_proj.bias": (width,)}
    shapes |= {"visual.merger.ln_q.weight": (width,), "visual.merger.mlp.0.weight": (4 * width, 4 * width),
               "visual.merger.mlp.0.bias": (4 * width,), "visual.merger.mlp.2.weight": (hidden, 4 * width),
               "visual.merger.mlp.2.bias": (hidden,), "model.embed_tokens.weight": (VOCAB, hidden), "model.norm.weight": (hidden,)}
    for i in range(layers):
        p = f"model.layers.{i}"
        shapes |= {f"{p}.input_layernorm.weight": (hidden,), f"{p}.post_attention_layernorm.weight": (hidden,),
                   f"{p}.self_attn.q_proj.weight": (hidden, hidden), f"{p}.self_attn.q_proj.bias": (hidden,),
                   f"{p}.self_attn.k_proj.weight": (kv_dim, hidden), f"{p}.self_attn.k_proj.bias": (kv_dim,),
                   f"{p}.self_attn.v_proj.weight": (kv_dim, hidden), f"{p}.self_attn.v_proj.bias": (kv_dim,),
                   f"{p}.self_attn.o_proj.weight": (hidden, hidden), f"{p}.mlp.gate_proj.weight": (ffn, hidden),
                   f"{p}.mlp.up_proj.weight": (ffn, hidden), f"{p}.mlp.down_proj.weight": (hidden, ffn)}
    if not tied:
        shapes["lm_head.weight"] = (VOCAB, hidden)
    kind = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[dtype]
    tensors = {}
    for name, shape in shapes.items():
        if "norm" in name or "ln_q" in name:
            values = 1 + 0.2 * rng.standard_normal(shape)
        elif name.endswith("bias"):
            values = 0.3 * rng.standard_normal(shape)
        elif "embed_tokens" in name:
            values = 0.6 * rng.standard_normal(shape)
        else:
            values = 1.3 / np.sqrt(np.prod(shape[1:])) * rng.standard_normal(shape)
        if naming == "second":
            name = name.replace("visual.", "model.visual.", 1) if name.startswith("visual.") else name
            name = name.replace("model.", "model.language_model.", 1) if name.startswith(("model.embed", "model.norm", "model.layers")) else name
        tensors[name] = torch.tensor(values).to(kind)
    return tensors


def write_checkpoint(folder, spec, seed):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config_of(spec), indent=1) + "\n")
    preprocessor = dict(min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS, patch_size=14, temporal_patch_size=2, merge_size=2,
                        image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711],
                        image_processor_type="Qwen2VLImageProcessor", processor_class="Qwen2_5_VLProcessor")
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=1) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(dict(eos_token_id=[IM_END, ENDOFTEXT], pad_token_id=ENDOFTEXT)) + "\n")
    tensors, shards = tensors_of(spec, seed), spec[-1]
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, index = sorted(tensors), {}
    for s in range(shards):
        file = f"model-{s + 1:05}-of-{shards:05}.safetensors"
        part = {n: tensors[n] for n in names[s::shards]}
        index |= {n: file for n in part}
        save_file(part, folder / file, metadata={"format": "pt"})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    (folder / "model.safetensors.index.json").write_text(
        json.dumps(dict(metadata=dict(total_size=total), weight_map=dict(sorted(index.items()))), indent=1) + "\n")


def spread_values(tensor, count):
    """Returns evenly spread values of a tensor, with their indices."""
    flat = tensor.flatten()
    indices = np.unique(np.linspace(0, len(flat) - 1, count).astype(int))
    return dict(at=indices.tolist(), values=[float(f"{flat[i].item():.8g}") for i in indices])


def process(images):
    """Returns the processed pixels, the grid and spread values of each image."""
    processor = Qwen2VLImageProcessorPil(min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
    out = {}
    for name in images:
        # Alpha is dropped (docs/sampling.md, Transparency); transformers 5.23 would blend it onto
        # white.
        image = ImageOps.exif_transpose(Image.open(ROOT / "images" / name)).convert("RGB")
        processed = processor(images=[image], return_tensors="pt")
        pixels = processed["pixel_values"].float().contiguous()
        out[name] = (pixels, processed["image_grid_thw"], spread_values(pixels, 300))
    return out


CASES = [[name] for name in ["photo.png", "tall.png", "wide.png", "tiny.png", "window.png", "palette.png", "rgba.png",
                             "grey.png", "rotated.jpg", "large.jpg"]] + [[], ["photo.png", "wide.png"], ["tiny.png", "tall.png", "grey.png"]]
RESPONSE = "The answer is \\boxed{42}.<|im_end|>"


def prompt_ids(tokenizer, grids, number):
    text = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    for i, grid in enumerate(grids):
        tokens = int(grid.prod()) // 4
        text += ("and " if i else "") + "<|vision_start|>" + "<|image_pad|>" * tokens + "<|vision_end|>"
    text += f"Question {number}: what is it?<|im_end|>\n<|im_start|>assistant\n"
    return tokenizer.encode(text, add_special_tokens=False).ids


@torch.no_grad()
def run_case(model, tokenizer, processed, images, number):
    """Returns a prompt, the model's results on it, and the smallest margin of greedy decoding."""
    grids = [processed[i][1][0] for i in images]
    ids = prompt_ids(tokenizer, grids, number)
    more = {}
    if images:
        more = dict(pixel_values=torch.cat([processed[i][0] for i in images]), image_grid_thw=torch.stack(grids))

    def forward(ids):
        t = torch.tensor([ids])
        kinds = (t == IMAGE_PAD).int()
        return model(input_ids=t, attention_mask=torch.ones_like(t), mm_token_type_ids=kinds, use_cache=False, **more).logits[0]

    t = torch.tensor([ids])
    if images:
        positions, _ = model.model.get_rope_index(t, mm_token_type_ids=(t == IMAGE_PAD).int(), image_grid_thw=more["image_grid_thw"])
        positions = positions[:, 0].tolist()
    else:
        positions = [list(range(len(ids)))] * 3
    prompt = dict(images=images, prompt_ids=ids, positions=positions)
    case = {}
    if images:
        features = torch.cat(model.model.get_image_features(more["pixel_values"], more["image_grid_thw"]).pooler_output)
        case["features"] = spread_values(features, 24)
    logits = forward(ids)
    case["logits"] = spread_values(logits[-1], 24)
    case["middle_logits"] = spread_values(logits[len(ids) // 2], 8)
    greedy, margin, current = [], 1e9, list(ids)
    for _ in range(GREEDY_TOKENS):
        row = forward(current)[-1].clone()
        row[IMAGE_PAD] = row[VIDEO_PAD] = -torch.inf
        best = row.topk(2).values
        margin = min(margin, (best[0] - best[1]).item())
        greedy.append(int(row.argmax()))
        current.append(greedy[-1])
    case["greedy"] = greedy
    response = tokenizer.encode(RESPONSE, add_special_tokens=False).ids
    rows = forward(ids + response)[len(ids) - 1 : -1].double().log_softmax(-1)
    case["logprobs"] = [float(f"{rows[i, t].item():.8g}") for i, t in enumerate(response)]
    return prompt, case, margin


def main():
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    make_images(ROOT / "images")
    tokenizer = make_tokenizer(ROOT / "tokenizer.json")
    processed = process(sorted({i for case in CASES for i in case}))
    prompts = {}
    result = dict(min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS, response=RESPONSE,
                  response_ids=tokenizer.encode(RESPONSE, add_special_tokens=False).ids,
                  images={n: dict(grid=g[0].tolist(), pixels=f) for n, (_, g, f) in processed.items()}, checkpoints={})
    for number, (name, spec) in enumerate(CHECKPOINTS.items()):
        for seed in range(100 * number, 100 * number + 100):
            # Search for a seed whose greedy choices have clear margins in all cases: a tie would
            # test rounding, not the model.
            folder = ROOT / name
            shutil.rmtree(folder, ignore_errors=True)
            write_checkpoint(folder, spec, seed)
            model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
            cases, worst = [], 1e9
            for i, images in enumerate(CASES):
                prompt, case, margin = run_case(model, tokenizer, processed, images, i)
                # Prompts and positions do not depend on the checkpoint.
                assert prompts.setdefault(i, prompt) == prompt
                cases.append(case)
                worst = min(worst, margin)
                if worst < MARGIN:
                    break
            if worst >= MARGIN:
                break
        print(f"{name}: seed {seed}, smallest greedy margin {worst:.4f}", flush=True)
        result["checkpoints"][name] = cases
    result["prompts"] = [prompts[i] for i in range(len(CASES))]
    (ROOT / "parity.json").write_text(json.dumps(result, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
