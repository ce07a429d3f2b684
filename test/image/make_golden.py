"""Writes golden.json: small GIF, WebP, JPEG and PNG files and the SHA-256 of what Pillow decodes them to. Needs Pillow (used: 12.3.0)."""
import base64, hashlib, io, json, os, random, struct
from PIL import Image, ImageOps, ImageSequence, PngImagePlugin
HERE=os.path.dirname(os.path.abspath(__file__))
src=Image.open(os.path.join(HERE,'../fixtures/reference/image-processor/images/photo_427x320.png')).convert('RGB')
small=src.resize((61,47),Image.BICUBIC)
rng=random.Random(20261123)
sha=lambda im: hashlib.sha256(im.tobytes()).hexdigest()
G={}
def lzw(indices,bits):
    # plain LZW with growing codes
    clear=1<<bits; end=clear+1
    out=[];acc=0;n=0
    def emit(code,size):
        nonlocal acc,n
        acc|=code<<n; n+=size
        while n>=8: out.append(acc&255); acc>>=8; n-=8
    size=bits+1; table={(i,):i for i in range(clear)}; nxt=end+1
    emit(clear,size); cur=()
    for p in indices:
        t=cur+(p,)
        if t in table: cur=t; continue
        emit(table[cur],size)
        if nxt<4096:
            table[t]=nxt
            if nxt==(1<<size) and size<12: size+=1
            nxt+=1
        elif rng.random()<0.01:
            emit(clear,size); size=bits+1; table={(i,):i for i in range(clear)}; nxt=end+1
        cur=(p,)
    emit(table[cur],size); emit(end,size)
    if n: out.append(acc&255)
    return bytes(out)
def blocks(b): return b''.join(bytes([len(b[i:i+255])])+b[i:i+255] for i in range(0,len(b),255))+b'\0'
def pal(n): return bytes(rng.randrange(256) for _ in range(3*n))
def gif(w,h,frames,gbits,bg):
    s=b'GIF89a'+struct.pack('<HHBBB',w,h,(0x80|(gbits-1)) if gbits else 0,bg,0)
    if gbits: s+=pal(1<<gbits)
    s+=b'!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0'
    for f in frames:
        if f['control']: s+=b'!\xf9\x04'+struct.pack('<BHB',(f['disposal']<<2)|(f['t'] is not None),10,f['t'] or 0)+b'\0'
        fl=(0x40 if f['inter'] else 0)|((0x80|(f['lbits']-1)) if f['lbits'] else 0)
        s+=b','+struct.pack('<HHHHB',f['x'],f['y'],f['w'],f['h'],fl)
        if f['lbits']: s+=pal(1<<f['lbits'])
        bits=max(2,f['lbits'] or gbits)
        n=1<<(f['lbits'] or gbits)
        rows=list(range(f['h']))
        idx=[]
        for _ in rows:
            row=[]
            while len(row)<f['w']:
                row+= [rng.randrange(n)]*rng.randrange(1,6)
            idx+=row[:f['w']]
        s+=bytes([bits])+blocks(lzw(idx,bits))
        if rng.random()<.2: s+=b'!\xfe\x05hello\0'
    return s+b';'
def frames_of(data):
    im=Image.open(io.BytesIO(data)); return [sha(f.convert('RGB')) for f in ImageSequence.Iterator(im)], [f.size for f in ImageSequence.Iterator(Image.open(io.BytesIO(data)))]
def keep(name,data):
    hs,sz=frames_of(data); G[name]={'base64':base64.b64encode(data).decode(),'frames':hs,'sizes':sz}
for k in range(24):
    w,h=rng.randrange(5,40),rng.randrange(5,40)
    gbits=rng.choice([2,3,4,5,8]) ; fr=[]
    for i in range(rng.randrange(1,7)):
        full=i==0 and rng.random()<.6
        x,y=(0,0) if full else (rng.randrange(w-1),rng.randrange(h-1))
        fw,fh=(w,h) if full else (rng.randrange(1,w-x+1),rng.randrange(1,h-y+1))
        if k>=20 and i>0: fw+=rng.randrange(0,6); fh+=rng.randrange(0,6)
        lb=rng.choice([0,0,2,4])
        n=1<<(lb or gbits)
        fr.append(dict(x=x,y=y,w=fw,h=fh,lbits=lb,inter=rng.random()<.3,control=rng.random()<.8,disposal=rng.choice([0,1,2,2,3]),t=rng.choice([None,rng.randrange(n)])))
    d=gif(w,h,fr,gbits,rng.randrange(1<<gbits))
    name=f'random_{k:02d}.gif'
    keep(name,d)
# a real encoder's files
b=io.BytesIO(); src.resize((120,90)).quantize(256).save(b,'GIF'); 
keep('still_256.gif',b.getvalue())
b=io.BytesIO(); Image.effect_noise((50,40),60).save(b,'GIF'); keep('gray.gif',b.getvalue())
b=io.BytesIO(); fs=[src.resize((48,36)).rotate(10*i) for i in range(4)]; fs[0].save(b,'GIF',save_all=True,append_images=fs[1:],disposal=2); keep('turning.gif',b.getvalue())
# WebP
a=Image.effect_noise((61,47),80); rgba=small.copy(); rgba.putalpha(a)
for name,im,kw in [('lossy.webp',small,dict(quality=60)),('lossless.webp',small,dict(lossless=True)),('alpha.webp',rgba,dict(quality=70)),('alpha_lossless.webp',rgba,dict(lossless=True))]:
    b=io.BytesIO(); im.save(b,'WEBP',**kw); keep(name,b.getvalue())
b=io.BytesIO(); small.save(b,'WEBP',save_all=True,append_images=[small.rotate(90)]); G['animated.webp']={'base64':base64.b64encode(b.getvalue()).decode()}
# orientation: odd sizes; stored and turned
tiny=src.resize((13,7),Image.BICUBIC)
def turned(name,data):
    im=Image.open(io.BytesIO(data)); t=ImageOps.exif_transpose(im).convert('RGB')
    G[name]={'base64':base64.b64encode(data).decode(),'frames':[sha(im.convert('RGB'))],'sizes':[im.size],'turned':sha(t),'turned_size':t.size}
for o in range(1,9):
    ex=Image.Exif(); ex[0x112]=o
    b=io.BytesIO(); tiny.save(b,'PNG',exif=ex.tobytes() if o%2 else ex); turned(f'orientation_{o}.png',b.getvalue())
ex=Image.Exif(); ex[0x112]=8; b=io.BytesIO(); tiny.save(b,'JPEG',exif=ex,quality=90); turned('orientation_8.jpg',b.getvalue())
ex[0x112]=5; b=io.BytesIO(); tiny.save(b,'WEBP',exif=ex.tobytes(),lossless=True); turned('orientation_5.webp',b.getvalue())
xmp=b'<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
b=io.BytesIO(); tiny.save(b,'JPEG',quality=90,xmp=xmp); turned('xmp_3.jpg',b.getvalue())
pi=PngImagePlugin.PngInfo(); pi.add_itxt('XML:com.adobe.xmp',xmp.decode()); b=io.BytesIO(); tiny.save(b,'PNG',pnginfo=pi); turned('xmp_3.png',b.getvalue())
# big-endian EXIF, and an odd type (LONG), and value 0 and 9
def app1(tiff): 
    base=io.BytesIO(); tiny.save(base,'JPEG',quality=85); j=base.getvalue(); p=b'Exif\0\0'+tiff
    return j[:2]+b'\xff\xe1'+struct.pack('>H',len(p)+2)+p+j[2:]
for name,t in [('exif_big_endian',b'MM\0*'+struct.pack('>IHHHIHHI',8,1,0x112,3,1,6,0,0)),('exif_long',b'II*\0'+struct.pack('<IHHHIII',8,1,0x112,4,1,7,0)),('exif_zero',b'II*\0'+struct.pack('<IHHHIHHI',8,1,0x112,3,1,0,0,0)),('exif_nine',b'II*\0'+struct.pack('<IHHHIHHI',8,1,0x112,3,1,9,0,0)),('exif_cut',b'II*\0'+struct.pack('<IHHH',8,1,0x112,3)),('exif_count_two',b'II*\0'+struct.pack('<IHHHIHHI',8,1,0x112,3,2,6,6,0))]:
    turned(name+'.jpg',app1(t))
# JPEG sizes around the block edges, all samplings, both modes
n=0
for (w,h) in [(1,1),(2,3),(3,2),(4,5),(5,16),(7,9),(8,8),(9,17),(15,1),(16,16),(17,33),(33,15)]:
    for ss in ['4:4:4','4:2:2','4:2:0','4:1:1','4:4:0']:
        for prog in (False,True):
            if (n:=n+1)%3: continue
            im=src.crop((n,n,n+w,n+h)); b=io.BytesIO()
            try: im.save(b,'JPEG',quality=rng.choice([30,75,92,100]),subsampling=ss,progressive=prog)
            except Exception as e: continue
            keep(f'jpeg_{w}x{h}_{ss.replace(":","")}_{"p" if prog else "b"}.jpg',b.getvalue())
for mode in ('L','CMYK'):
    for prog in (False,True):
        b=io.BytesIO(); small.convert(mode).save(b,'JPEG',quality=80,progressive=prog); keep(f'jpeg_{mode}_{"p" if prog else "b"}.jpg',b.getvalue())
for mode in ('LA','P','1','I;16'):
    b=io.BytesIO(); (small.convert('L').point(lambda v:v*300,'I').convert('I;16') if mode=='I;16' else small.convert(mode)).save(b,'PNG'); keep(f'png_{mode.replace(";","")}.png',b.getvalue())
json.dump(G,open(os.path.join(HERE,'golden.json'),'w'),indent=1)
