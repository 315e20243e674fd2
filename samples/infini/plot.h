// Pictures of training and of measurements.
#pragma once

#include <string>
#include <vector>

namespace cli {

// Draws what the files hold, as SVG:
//
//   log of training (JSONL)   {"step", "loss", "recall_across", "recall_inside", "tokens_per_second", "gates": [...]} a line
//                             (train_log.h), with "evaluation": [{"name", "perplexity", "recall_across", "segments"}] in some:
//                             loss, recall, speed and gates over steps; of several logs, all but the gates compared
//   output of passkey --json  accuracy against length, a line for each depth
//   chart (JSON)              {"charts": [...]} of what the fields of a chart say: "title", "x_label", "y_label", "percent",
//                             "powers_of_two" (x), "series": [{"label", "x": [...], "y": [...]}], or bars: "categories":
//                             [...], "series": [{"label", "y": [...]}]
void plot(const std::vector<std::string> &files, const std::string &out);

}  // namespace cli
