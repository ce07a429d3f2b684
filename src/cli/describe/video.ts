import { addAlternatives, addDecoding, addExamples, addFormat, addModel } from './options.js';
import type { Page } from './page.js';

/** `image2text video --help`. */
export const videoPage: Page = {
  name: 'video',
  load: async () => (await import('../commands/video.js')).videoCommand,
  describe(command) {
    command
      .description('Say what happens in a video, or answer questions about it.')
      .argument(
        '<video...>',
        'an animated GIF, a folder of frames, or what ffmpeg reads; several images are the frames of one video',
      )
      .option(
        '--question <text>',
        'ask instead of describing; may be given several times',
        (text: string, all: string[] = []) => [...all, text],
      )
      .option('--prompt <text>', 'text that the description goes on from');
    addAlternatives(addDecoding(addModel(addFormat(command)), 'original'));
    addExamples(
      command,
      'image2text video clip.gif',
      'image2text video frames/ --model ./git-base-vatex',
      'image2text video frame-1.png frame-2.png frame-3.png',
      'image2text video clip.mp4 --question "what is the man doing?"',
    );
  },
};
