// ROUGE of summaries, by js-rouge of npm.
//   node rouge.mjs NPM    standard input: a line {"written": TEXT, "reference": TEXT} each; output: a line of scores for each
// NPM is the folder where js-rouge was installed. Scores are F1, and words are compared without regard to case; rougeL is
// that of whole summaries, which is called rougeLsum elsewhere.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { n, l } = createRequire(`${process.argv[2]}/`)("js-rouge");
const words = { caseSensitive: false };
for await (const line of createInterface({ input: process.stdin })) {
  const { written, reference } = JSON.parse(line);
  const score = (measure, more) => (written.trim() ? measure(written, reference, { ...words, ...more }) : 0);
  console.log(JSON.stringify({ rouge1: score(n, { n: 1 }), rouge2: score(n, { n: 2 }), rougeL: score(l) }));
}
