"""Writes fixtures/cut-files.json: JPEG files of one scan that a cut table follows or interrupts, PNG and GIF files cut near their end, and the sha256 of
what Pillow makes of each, or null where it refuses it. Run with Pillow 9.4 from the root of the repository."""
import io, json, base64, hashlib, random, struct
from PIL import Image
random.seed(17)
out=[]
def keep(name, data):
    try: r=hashlib.sha256(Image.open(io.BytesIO(data)).convert('RGB').tobytes()).hexdigest()
    except Exception: r=None
    out.append([name, base64.b64encode(data).decode(), r])
def image(): return Image.effect_noise((random.randrange(2,9),random.randrange(2,9)),80).resize((random.randrange(9,40),random.randrange(9,40)),Image.BICUBIC)
for k in range(60):
    im=image(); b=io.BytesIO(); im.save(b,'JPEG',quality=random.randrange(20,80),optimize=True); j=b.getvalue()
    scan=j.index(b'\xff\xda')+10
    at=random.choice([len(j)-2,random.randrange(scan,len(j)-1)])
    marker=[0xc4,0xdb,0xcc,0xdd,0xc4,0xdb][k%6]
    i=j.find(bytes([255,marker]))
    body=bytearray(j[i:i+2+struct.unpack('>H',j[i+2:i+4])[0]] if i>0 else bytes([255,marker,0,random.choice([4,20])])+random.randbytes(18))
    body=body[:random.randrange(2,len(body))]
    if k%3==0 and len(body)>4: body[random.randrange(3,len(body))]=random.choice([0,1,4,255])
    keep(f'JPEG {marker:02X} at {at} of {len(j)}, {len(body)} bytes', j[:at]+bytes(body))
for mode in ['RGB','L','P']:
    im=image().convert(mode); b=io.BytesIO(); im.save(b,'PNG'); p=b.getvalue()
    for cut in range(1,28): keep(f'PNG {mode} without its last {cut} bytes', p[:-cut])
for colors in [4, 200]:
    im=image().quantize(colors); b=io.BytesIO(); im.save(b,'GIF'); g=b.getvalue()
    for cut in range(1,12): keep(f'GIF of {colors} colors without its last {cut} bytes', g[:-cut])
json.dump(out, open('test/fixtures/cut-files.json','w'), indent=0)
