import { loadImage2Text } from 'generative-image2text/node';

let loading;

/** The image in the body of the request, captioned on the server. */
export async function POST(request) {
  loading ??= loadImage2Text('demo');
  const model = await loading;
  const { text } = await model.caption(new Uint8Array(await request.arrayBuffer()));
  return Response.json({ text });
}
