"""Writes fixtures/frames.json: small animations and the sha256 of each frame as Pillow shows it (`seek(i)`, `convert("RGB")`). Run with Pillow 9.4
from the root of the repository."""
import io, json, base64, hashlib, random
from PIL import Image, ImageSequence
random.seed(11)
out=[]
def noise(size, alpha):
    w,h=size
    im=Image.frombytes('RGB',size,random.randbytes(w*h*3)).resize(size)
    if alpha: im.putalpha(Image.frombytes('L',size,bytes(random.choice([0,255,random.randrange(256)]) for _ in range(w*h))))
    return im
def changed(im):
    """The same with some rectangles changed, so that encoders store parts."""
    im=im.copy(); w,h=im.size
    for _ in range(random.randrange(1,3)):
        x,y=random.randrange(w),random.randrange(h); s=(random.randrange(1,w-x+1),random.randrange(1,h-y+1))
        im.paste(noise(s,im.mode=='RGBA'),(x,y))
    return im
def keep(name, data):
    im=Image.open(io.BytesIO(data))
    frames=[hashlib.sha256(f.convert('RGB').tobytes()).hexdigest() for f in ImageSequence.Iterator(im)]
    assert len(frames)==im.n_frames
    out.append([name, base64.b64encode(data).decode(), frames])
def series(alpha, mode=None):
    size=(random.randrange(2,18),random.randrange(2,18)); first=noise(size,alpha); ims=[first]
    for _ in range(random.randrange(1,4)): ims.append(changed(ims[-1]))
    return [im.convert(mode) for im in ims] if mode else ims
def save(ims, kind, **options):
    b=io.BytesIO(); ims[0].save(b,kind,save_all=True,append_images=ims[1:],duration=40,**options); return b.getvalue()
for k in range(8):
    alpha=k%2==1
    keep(f'webp {k}', save(series(alpha),'WEBP',lossless=k%4<2,quality=60,minimize_size=k%3==0,allow_mixed=k==5,exact=k==1))
for k in range(24):
    mode=[None,None,None,'P'][k%4]; ims=series(k%4==1,mode) # RGB, RGBA, RGB, palette
    disposal=0 if mode else k//2%3 # Pillow cannot write the others with a palette
    keep(f'png {k}', save(ims,'PNG',disposal=disposal,blend=k//3%2,default_image=k%7==0))
for k in range(12):
    ims=series(k%2==1,None)
    keep(f'gif {k}', save(ims,'GIF',disposal=k%4,optimize=k%3==0))
json.dump(out, open('test/fixtures/frames.json','w'), indent=0)
