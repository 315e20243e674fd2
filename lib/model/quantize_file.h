// A model's file written anew with matrices of another type.
#pragma once

#include <string>

#include "base/options.h"
#include "base/task.h"
#include "format/quantize.h"

namespace infini {

// Reads the model's file `from` and writes `to`, which is replaced whole or not at all: every matrix in `type`, or what
// type_for_rows and type_for_output make of it, everything else as it is. Memory taken is a few MB. `task` may be null:
// stage "quantize", in bytes written.
void quantize_file(const std::string &from, const std::string &to, TensorType type, const Options &options, Task *task);

}  // namespace infini
