// What a GGUF file says of the memory, in keys infini.*: read and written here alone.
#pragma once

#include <span>

#include "model/config.h"

namespace infini {

// Of a model whose layers are known. Options `memory`, `update`, `segment`, `carry`, `sinks` and `keep` replace what the
// file says. FORMAT names a key, INVALID_ARGUMENT an option.
MemoryConfig read_memory(const Gguf &gguf, const Config &config, const ModelOptions &options);
// The gates of a file, which may be an adapter; without any, or where `asked`, option memory, says so, other ones.
std::vector<float> read_gates(const Gguf &gguf, const Config &config, const std::string &asked);
constexpr const char *kGates = "infini.memory.gate";
// All but what is kept: a model that is trained has none of it yet.
void write_memory(const MemoryConfig &memory, Gguf &gguf);
void write_gates(std::span<const float> gates, Gguf &gguf);  // beta [layer][query head]
void write_probe(const KeepProbe &probe, Gguf &gguf);        // what sentences are worth

// In the key, and in settings.
constexpr const char *first_segment_name(bool gated) { return gated ? "gated" : "ungated"; }

}  // namespace infini
