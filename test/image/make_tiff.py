"""Writes tiff.json: small TIFF files of every kind that is read or refused, and what Pillow makes of them.

The files are written here byte by byte (strips, tiles, planes, orders of bytes and bits, predictor), those of LZW by Pillow.
Made with Pillow 9.4.0: python3 make_tiff.py
"""
import base64, hashlib, io, json, random, struct, zlib
from PIL import Image

random.seed(28)


def packbits(data):
    return b"".join(bytes([len(data[i : i + 128]) - 1]) + data[i : i + 128] for i in range(0, len(data), 128))


def tiff(little, width, height, photometric, bits, samples, blocks, compression=1, tile=None, rows=None, tags=()):
    order = "<" if little else ">"
    entries = [(256, 4, (width,)), (257, 4, (height,)), (258, 3, (bits,) * samples), (259, 3, (compression,))]
    entries += [(262, 3, (photometric,)), (277, 3, (samples,)), *[(tag, 3, tuple(values)) for tag, values in tags]]
    lengths = tuple(len(block) for block in blocks)
    if tile:
        entries += [(322, 3, (tile,)), (323, 3, (tile,)), (324, 4, lengths), (325, 4, lengths)]
    else:
        entries += [(273, 4, lengths), (278, 4, (rows or height,)), (279, 4, lengths)]
    entries.sort()
    size = lambda type, values: (2 if type == 3 else 4) * len(values)
    behind = 8 + 2 + 12 * len(entries) + 4
    start = behind + sum(size(type, values) for _, type, values in entries if size(type, values) > 4)
    head, lists = struct.pack(order + "H", len(entries)), b""
    for tag, type, values in entries:
        if tag in (273, 324):
            values = [start + sum(lengths[:n]) for n in range(len(lengths))]
        data = b"".join(struct.pack(order + ("H" if type == 3 else "I"), value) for value in values)
        head += struct.pack(order + "HHI", tag, type, len(values))
        if len(data) > 4:
            head += struct.pack(order + "I", behind + len(lists))
            lists += data
        else:
            head += data.ljust(4, b"\0")
    return (b"II*\0" if little else b"MM\0*") + struct.pack(order + "I", 8) + head + bytes(4) + lists + b"".join(blocks)


KINDS = [  # name, photometric, bits, samples, tags
    ("gray", 1, 8, 1, []), ("white is zero", 0, 8, 1, []), ("bilevel", 1, 1, 1, []), ("bilevel, white is zero", 0, 1, 1, []),
    ("4-bit gray", 1, 4, 1, []), ("2-bit gray", 1, 2, 1, []), ("RGB", 2, 8, 3, []), ("RGBA", 2, 8, 4, [(338, [2])]),
    ("RGBX", 2, 8, 4, [(338, [0])]), ("premultiplied", 2, 8, 4, [(338, [1])]), ("gray and alpha", 1, 8, 2, [(338, [2])]),
    ("16-bit gray", 1, 16, 1, []), ("16-bit RGB", 2, 16, 3, []), ("16-bit RGBA", 2, 16, 4, [(338, [2])]),
    ("palette", 3, 8, 1, [(320, 768)]), ("4-bit palette", 3, 4, 1, [(320, 48)]), ("1-bit palette", 3, 1, 1, [(320, 6)]),
    ("CMYK", 5, 8, 4, []), ("planes", 2, 8, 3, [(284, [2])]), ("bits reversed", 1, 8, 1, [(266, [2])]),
    *[(f"orientation {n}", 2, 8, 3, [(274, [n])]) for n in range(2, 9)],
    # refused by us, whatever Pillow does
    ("16-bit gray, white is zero", 0, 16, 1, []), ("signed", 1, 16, 1, [(339, [2])]), ("float", 1, 32, 1, [(339, [3])]),
    ("32-bit", 1, 32, 1, []), ("16-bit CMYK", 5, 16, 4, []), ("YCbCr", 6, 8, 3, []), ("Lab", 8, 8, 3, []),
]
WAYS = [(little, compression, predictor, layout) for little in (1, 0) for compression in (1, 8, 32946, 32773)
        for predictor in (1, 2) for layout in ("whole", "strips", "tiles") if predictor == 1 or compression in (8, 32946)]

files = {}


def add(name, data):
    try:
        image = Image.open(io.BytesIO(data))
        image.load()  # turns it
        rgb = image.convert("RGB")
        result = {"width": rgb.width, "height": rgb.height, "sha256": hashlib.sha256(rgb.tobytes()).hexdigest()}
    except Exception as error:
        result = {"python": type(error).__name__}
    files[name] = {"base64": base64.b64encode(data).decode(), **result}


for number, (name, photometric, bits, samples, tags) in enumerate(KINDS):
    for step in range(3):
        little, compression, predictor, layout = WAYS[(7 * number + 11 * step) % len(WAYS)]
        if name == "bits reversed":
            compression, predictor = 1, 1
        if bits < 8:
            predictor = 1
        width, height = random.choice([(21, 9), (16, 16), (19, 18)])
        inside = 1 if name == "planes" else samples
        squeeze = {1: bytes, 32773: packbits}.get(compression, zlib.compress)
        block = lambda w, h: squeeze(random.randbytes((w * bits * inside + 7) // 8 * h))
        sizes = {"whole": [(width, height)], "strips": [(width, min(7, height - y)) for y in range(0, height, 7)],
                 "tiles": [(16, 16)] * (-(-width // 16) * -(-height // 16))}[layout]
        blocks = [block(w, h) for _ in range(samples // inside) for w, h in sizes]
        listed = [(tag, [random.randrange(65536) for _ in range(v)] if isinstance(v, int) else v) for tag, v in tags]
        if predictor == 2:
            listed.append((317, [2]))
        data = tiff(little, width, height, photometric, bits, samples, blocks, compression,
                    16 if layout == "tiles" else None, 7 if layout == "strips" else None, listed)
        add(f"{name}, {'II' if little else 'MM'}, compression {compression}, predictor {predictor}, {layout}", data)

for mode, channels in (("RGB", 3), ("L", 1), ("CMYK", 4), ("RGBA", 4), ("I;16", 2)):
    for predictor in (1, 2):
        for colors in (2, 256):
            width, height = random.choice([(40, 30), (3, 2), (300, 3)])
            pixels = bytes(random.randrange(colors) for _ in range(width * height * channels))
            out = io.BytesIO()
            Image.frombytes(mode, (width, height), pixels).save(out, "TIFF", compression="tiff_lzw", tiffinfo={317: predictor})
            add(f"{mode}, LZW, predictor {predictor}, {colors} values", out.getvalue())

json.dump(files, open("tiff.json", "w"), indent=1)
