import { loadImage2Text } from 'generative-image2text/browser';

/** The same in the service worker and in a page of the extension. */
const addresses = ['image.png', 'image.webp', 'image.avif'].map((name) => chrome.runtime.getURL(name));
const background = await chrome.runtime.sendMessage({ addresses });
const model = await loadImage2Text(chrome.runtime.getURL('model/'));
const captions = (await model.caption(addresses)).map(({ text }) => text);
document.title = JSON.stringify(background.error ? background : { captions, background: background.captions });
