"""Writes fixtures/avif-kinds.json: small AVIF files of a known scene and what Pillow 12.3 makes of each, as PNG. Needs avifenc
(libavif-bin 0.11); run in an empty folder, then move the file."""
from PIL import Image, ImageDraw, ImageOps
import subprocess,io,json,base64,glob,os
def scene(w,h):
    im=Image.new('RGB',(w,h)); px=im.load()
    for y in range(h):
        for x in range(w): px[x,y]=(60+x*90//w,(70+(y*90)//h),60+(x+y)*70//(w+h))
    d=ImageDraw.Draw(im); d.rectangle((w//8,h//8,w//3,h//3),fill=(150,60,70)); d.ellipse((w//2,h//4,w*4//5,h*7//8),fill=(60,140,90))
    return im
im=scene(33,22); im.save('src.png'); scene(128,64).save('g.png')
E0=['avifenc','--min','8','--max','16','-s','8']
def enc(name,*a,src='src.png'): subprocess.run([*E0,*a,src,name+'.avif'],check=True,capture_output=True)
for d,y in ((8,420),(8,422),(8,444),(8,400),(10,420),(10,444),(12,422)): enc(f'{d} bits {y}','-d',str(d),'-y',str(y))
enc('limited range','-r','limited','-y','420'); enc('BT.709','--cicp','1/13/1','-y','420'); enc('BT.2020','--cicp','9/16/9','-y','420')
for r in (1,2,3): enc(f'irot {r}','--irot',str(r),'-y','420')
for m in (0,1):
    enc(f'imir {m}','--imir',str(m),'-y','420')
    for r in (1,2,3): enc(f'irot {r} imir {m}','--imir',str(m),'--irot',str(r),'-y','420')
enc('grid','--grid','2x1',src='g.png')
subprocess.run(['avifenc','--lossless','src.png','lossless.avif'],check=True,capture_output=True)
a=im.convert('RGBA'); a.putalpha(Image.linear_gradient('L').resize(im.size)); a.save('alpha.avif',quality=90)
im.save('animation.avif',save_all=True,append_images=[ImageOps.mirror(im),ImageOps.flip(im)],quality=90)
ex=Image.Exif(); ex[0x112]=6; im.save('EXIF orientation 6.avif',exif=ex,quality=90)
out=[]
for f in sorted(glob.glob('*.avif')):
    o=ImageOps.exif_transpose(Image.open(f)); o.load(); c=o.convert('RGB'); b=io.BytesIO(); c.save(b,'PNG',optimize=True)
    n=f[:-5]
    out.append([n,base64.b64encode(open(f,'rb').read()).decode(),base64.b64encode(b.getvalue()).decode()])
open('avif-kinds.json','w').write('[\n'+',\n'.join(json.dumps(x) for x in out)+'\n]\n')
print(len(out),os.path.getsize('avif-kinds.json'))
