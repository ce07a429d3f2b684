"""Writes fixtures/bmp-runs.json: random BMP files of runs (RLE8, RLE4), and the sha256 of what Pillow makes of each, or null where it refuses it.
Run with Pillow 9.4 from the root of the repository."""
import struct, random, io, hashlib, json, base64
from PIL import Image
random.seed(5)
def bmp(bits, w, h, body, comp, npal=None, top=False, palette=None):
    n = npal or (1<<bits)
    pal = palette or b''.join(bytes([random.randrange(256) for _ in range(3)])+b'\0' for _ in range(n))
    off = 54+len(pal)
    hdr = struct.pack('<IiiHHIIiiII',40,w,-h if top else h,1,bits,comp,len(body),2835,2835,n,0)
    return b'BM'+struct.pack('<IHHI',off+len(body),0,0,off)+hdr+pal+body
def stream(bits,w,h,jump):
    out=bytearray(); base=54+4*(1<<bits)
    for y in range(h):
        x=0
        while x<w:
            k=random.random()
            if k<0.55:
                n=random.randrange(1,min(255,w-x+ (3 if random.random()<0.1 else 0))+1); out+=bytes([n,random.randrange(256)]); x+=n
            elif k<0.9 and w-x>=3:
                n=random.randrange(3,min(255,w-x)+1)
                if bits==4 and n%2: n-=1 
                if n<3: continue
                m = n if bits==8 else n//2
                out+=bytes([0,n])+bytes(random.randrange(256) for _ in range(m))
                if (base+len(out))%2: out+=b'\0'
                x+=n
            elif jump and k<0.93 and y<h-2:
                r=random.randrange(0,3); out+=bytes([0,2,9,9,r,0]); x=(x+r)
            else: break
        out+=b'\0\0'
    out+=b'\0\1'
    return bytes(out)
cases=[]
for i in range(400):
    bits=random.choice([4,8]); w=random.randrange(1,40); h=random.randrange(1,12)
    b=bmp(bits,w,h,stream(bits,w,h,i%3==0),1 if bits==8 else 2, top=i%5==0)
    if i%7==0: b=b[:-random.randrange(1,20)]
    try:
        im=Image.open(io.BytesIO(b)).convert('RGB'); r=hashlib.sha256(im.tobytes()).hexdigest()
    except Exception as e: r=None
    cases.append([base64.b64encode(b).decode(), r])
print(sum(1 for c in cases if c[1]), 'ok of', len(cases))
read = sorted((c for c in cases if c[1]), key=lambda c: len(c[0]))
refused = sorted((c for c in cases if not c[1]), key=lambda c: len(c[0]))
json.dump(read[::8] + refused[::20], open('test/fixtures/bmp-runs.json', 'w'), indent=0)
