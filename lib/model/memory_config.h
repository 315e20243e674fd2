// What a GGUF file says of the memory, in keys infini.*: read and written here alone.
#pragma once

#include <span>

#include "model/config.h"

namespace infini {

// Of a model whose layers are known. Options `memory`, `update`, `segment`, `carry`, `sinks` and `keep` replace what
// the file says. FORMAT names a key, INVALID_ARGUMENT an option.
MemoryConfig read_memory(const Gguf &gguf, const Config &config, const ModelOptions &options);
// All but what is kept: a model that is trained has none of it yet.
void write_memory(const MemoryConfig &memory, Gguf &gguf);
void write_probe(const KeepProbe &probe, Gguf &gguf);  // what sentences are worth

// In the key, and in settings.
constexpr const char *first_segment_name(bool gated) { return gated ? "gated" : "ungated"; }

}  // namespace infini
