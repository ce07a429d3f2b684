"""Writes fixtures/tiff-kinds.json: small TIFF files of noise, and the sha256 of what Pillow makes of each. Run with Pillow 9.4 from the
root of the repository."""
import io, json, base64, hashlib, random
from PIL import Image
random.seed(3)
out=[]
def noise(mode,size):
    n={'1':1,'L':1,'P':1,'RGB':3,'RGBA':4,'CMYK':4,'LA':2,'YCbCr':3,'LAB':3}.get(mode,1)
    if mode=='1': return Image.frombytes('L',size,bytes(random.choice([0,255]) for _ in range(size[0]*size[1]))).convert('1')
    if mode=='I;16': return Image.frombytes('I;16',size,bytes(random.randrange(256) for _ in range(size[0]*size[1]*2)))
    if mode=='I': return Image.frombytes('I',size,b''.join(random.randrange(0,100000).to_bytes(4,'little') for _ in range(size[0]*size[1])))
    if mode=='F':
        import struct
        return Image.frombytes('F',size,b''.join(struct.pack('<f',random.random()*300-20) for _ in range(size[0]*size[1])))
    im=Image.frombytes(mode,size,bytes(random.randrange(256) for _ in range(size[0]*size[1]*n)))
    if mode=='P': im.putpalette(bytes(random.randrange(256) for _ in range(768)))
    return im
for mode in ['1','L','P','RGB','RGBA','CMYK','LA','YCbCr','LAB','I;16','I','F']:
    for comp in [None,'tiff_lzw','tiff_adobe_deflate','packbits','jpeg','group4','tiff_deflate','group3']:
        for size in [(7,5),(33,40)]:
            im=noise(mode,size); b=io.BytesIO()
            try: im.save(b,'TIFF',compression=comp)
            except Exception as e: continue
            b=b.getvalue()
            try: r=hashlib.sha256(Image.open(io.BytesIO(b)).convert('RGB').tobytes()).hexdigest()
            except Exception as e: r=None
            out.append([f'{mode} {comp} {size}', base64.b64encode(b).decode(), r])
for ori in range(1,9):
    im=noise('RGB',(7,5)); b=io.BytesIO(); im.save(b,'TIFF',tiffinfo={274:ori}); b=b.getvalue()
    r=hashlib.sha256(Image.open(io.BytesIO(b)).convert('RGB').tobytes()).hexdigest()
    out.append([f'orientation {ori}', base64.b64encode(b).decode(), r])
small = [case for case in out if ('(7, 5)' in case[0] or case[0].startswith('orient')) and 'jpeg' not in case[0]]
json.dump(small, open('test/fixtures/tiff-kinds.json', 'w'), indent=0)
