"""Writes fixtures/avif-metadata.json: small AVIF files with EXIF, XMP and properties that turn them, or of several frames, and the orientation and
number of frames that Pillow 12.3 has for them (AvifImagePlugin and Image.getexif, read; properties first, then 1 where EXIF says anything, then
XMP). Run with Pillow 9.4 and avifenc 0.11 from the root of the repository."""
import base64, json, struct, subprocess, tempfile
from PIL import Image
folder=tempfile.mkdtemp()
def path(name): return f'{folder}/{name}'
for i in range(3): Image.new('RGB',(12,8),(80*i,200-60*i,40)).save(path(f'{i}.png'))
def exif(tag,value): return b'II*\0'+struct.pack('<IHHHIHHI',8,1,tag,3,1,value,0,0)
open(path('xmp'),'w').write('<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>')
open(path('exif3'),'wb').write(exif(0x112,3)); open(path('exif1'),'wb').write(exif(0x112,1)); open(path('exif-none'),'wb').write(exif(0x128,2))
cases=[('XMP alone',['--xmp','xmp'],6,1),('EXIF alone, as avifenc turns it into irot',['--exif','exif3'],3,1),('EXIF that says 1, XMP',['--exif','exif1','--xmp','xmp'],1,1),
 ('EXIF that says 3, XMP, irot 0',['--exif','exif3','--xmp','xmp'],1,1),('EXIF that says nothing, XMP',['--exif','exif-none','--xmp','xmp'],6,1),
 ('irot and XMP',['--irot','1','--xmp','xmp'],8,1),('imir, and irot of EXIF',['--imir','1','--exif','exif3'],4,1),('neither',[],1,1),
 ('three frames',None,1,3)]
out=[]
for name,options,orientation,frames in cases:
    given=[path(o) if o in('xmp','exif1','exif3','exif-none') else o for o in options or []]
    images=[path(f'{i}.png') for i in range(frames)]
    subprocess.run(['avifenc','--min','20','--max','30',*given,*images,path('out.avif')],check=True,capture_output=True)
    data=open(path('out.avif'),'rb').read()
    if 'irot 0' in name: data=data.replace(b'irot\2',b'irot\0')
    out.append([name,base64.b64encode(data).decode(),orientation,frames])
json.dump(out,open('test/fixtures/avif-metadata.json','w'),indent=0)
