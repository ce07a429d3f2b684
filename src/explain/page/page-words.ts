/** What a reader of the page should know, and no more than that. */
export const HOW_TO_READ = `<details>
<summary>How to read this</summary>
<p>Before it writes a word, the model looks: at patches of the image, at one class token that stands for no place, and at the words
before. The numbers say how its attention was shared out among them, and together they are 100 %. The colours show the patches' part. With
its own scale a word's brightest patch gets the last colour, so the image shows where; with one scale for all words it also shows how much.
The small triangle below the colours is what every patch would get if the image's part were shared out evenly: where the brightest patch is
not far above it, the model looked at no place in particular.</p>
<p><b>Mean</b> is the plain mean over all layers and heads of the decoder, which are also shown one by one: a row is a layer, a column a
head, a number on the left the mean of a layer. <b>Rollout</b> (Abnar and Zuidema, 2020) follows attention further down, through the decoder
and the vision tower to the patches that went in. There the same few patches often feed all words, so that its maps resemble each other.</p>
<p>Attention is where the model looked. It is not proof of why it chose a word: later layers can read what earlier ones have carried
elsewhere, and some patches of plain background serve as a store.</p>
</details>`;
