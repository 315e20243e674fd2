/** Infini-attention language models on ordinary processors: streams of any length in fixed memory. */
module infini {
  exports infini;
}
