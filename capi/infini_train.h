/* infini_train.h: training models through their memory, and adapting plain ones to it.
 *
 * Experimental: unlike infini.h, it may change with every version. Its functions are part of the same library and
 * follow the rules of infini.h; a trainer and an adaptation belong to one thread at a time. Their settings are JSON
 * objects. infini_trainer_settings_json and infini_adaptation_settings_json write tables of the fields: what each is,
 * what it may be, and what it is by default.
 *
 *
 * WORDS
 *
 *   retrieval     what a head reads from the memory for one query
 *   gate          sigmoid(beta), one a head: the weight of the retrieval in the head's output
 *   value, name   of a fact: in "The river key is 71432." the name "river" has the value 71432. The offset of a token
 *                 in a value is its index, from 0
 *   answer        tokens that repeat a value which stood before: "across" segments where it last stood in an earlier
 *                 segment and out of view, so that only the memory holds it; else "inside", in view of local attention
 *   supervision   a loss on attention itself: minus the logarithm of the share of a retrieval, or of a head's local
 *                 attention, that falls on its target, an earlier token
 *   carrier       a head whose local attention copies the name of a value to the value's tokens, so that heads of the
 *                 layers above find them in the memory by that name
 *   group         the query heads that share one KV head
 */
#ifndef INFINI_TRAIN_H
#define INFINI_TRAIN_H

#include <infini/infini.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct infini_trainer infini_trainer;
typedef struct infini_adaptation infini_adaptation;

/* ------------------------------------------------------------------------------------------------------------
 * 1. Training
 */

/* Writes the table of the fields of a trainer's description, a JSON array as infini_creation_settings_json writes it:
   "training" and "curriculum", objects whose "fields" are such a table too, "data", an object of one of several
   "types", with a table for each: {"recall": [...], "passkey": [...], "text": [...], "jsonl": [...], "mixture": [...],
   "random": [...]}, and "evaluation", what the caller is going to measure by infini_trainer_evaluate_json: it is
   checked when the trainer is created, but for what its "data" says, and infini_trainer_info_json gives it back with
   all its fields. Any thread.
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_trainer_settings_json(char *buffer, size_t capacity, size_t *size);

/* Makes a trainer. It trains a copy of the model's weights, in float32 whatever their type in the model's file, to
   predict the next token of what it reads; the model itself stays as it is. Where "train" is "lora" or "gates", no
   matrix is copied (but those of attention with a "feature_scale" other than 1, or with "hand_on"): each is read from
   the model's file, at its bits, whenever it is used, so that the trainer takes little more memory than its activations
   ("activations_mb" of them). Gradients go back through the memory and the gates of all segments of a sequence.
   `description_json` is an object of the fields that infini_trainer_settings_json lists, such as

     {"training": {"train": "lora", "steps": 500}, "data": {"type": "text", "files": ["novel.txt"]}}

   Only "data" must be there. All its types but "random" need the model's tokenizer.
     "recall", "passkey"  generated sequences: facts amid filler, whose values have five digits, and questions for them:
                          " The river key is 71432.", " What is the river key? The river key is 71432."
     "text"               files of plain text, UTF-8, or UTF-16 with a byte order mark
     "jsonl"              files with a document a line, {"text": "...", "spans": [...], "links": [...], "values":
                          [...]}, of which "text" must be there. Ranges begin and end at bytes of the text's UTF-8
        "spans"           [begin, end, weight]: the loss weight of the tokens whose last byte lies in the range. Where
                          spans overlap, the last one counts; tokens outside all of them have the "weight" of "data"
        "links"           [from_begin, from_end, to_begin, to_end, weight]: supervision of attention. A range stands for
                          all tokens that hold a byte of it. The tokens of "from" are an answer: the retrieval of the
                          query that predicts such a token should fall on its target in "to", which lies before it.
                          Where both ranges have equally many tokens, the targets are those of "to" in order; else each
                          target is the last token of "to", which has read all of it. Of links between the same two
                          tokens the one with the greatest weight counts. Both ranges become values without a label, see
                          "values". A sixth element may name the kind of link:
                            "answer"     the default: as said above
                            "retrieval"  the same supervision, but no answer, so that "recall_across" and
                                         "recall_inside" of the report do not count it
                            "local"      local attention of the tokens of "from", and of the token before them, should
                                         fall on the last token of "to", such as the name of a value. The weight must be
                                         1; the ranges do not become values
        "values"          [begin, end, label]: the tokens of a value. Heads that have an offset (see "supervised") each
                          retrieve the token at that offset alone. The label, from 0, is a number for the value's name,
                          which infini_trainer_fit_heads teaches heads to tell from others
   "supervised" and "local_supervised" of "training" name the heads that are supervised. Where no token has a loss
   weight, supervision is the only loss, and the forward pass ends at the highest supervised layer.

   Options: "threads", and "compute", which overrides that of the description. `task`: stage "create", in matrices.
   The caller frees the trainer. The model may be freed before it, with the weights that the model packed: the trainer
   reads its own from the model's file.
   INVALID_ARGUMENT  the JSON has an error, a field is unknown or not what it should be, or an option belongs to a model
                     or a session; the message names it
   STATE             the model has no weights, was opened with an adapter, or has no tokenizer where the data needs one
   IO, FORMAT        of a file of the data
   CANCELLED         there is no trainer */
INFINI_API infini_status infini_trainer_create(const infini_model *model, const char *description_json,
                                               const infini_options *options, infini_task *task,
                                               infini_trainer **trainer);
INFINI_API void infini_trainer_free(infini_trainer *trainer);

/* Sums over processes: replaces each of the `n_values` values by its sum over all ranks, equal to the bit on all of
   them. Every rank calls it equally often, with equally many values, and waits in it for the others. Returns 0, or
   anything else if it failed; then it must fail on every other rank too, in this call or the next. */
typedef int (*infini_sum_callback)(void *user_data, float *values, size_t n_values);

/* Trains on `ranks` processes (1 to 65536), of which this one has the number `rank`, from 0: data parallelism. Each
   makes a trainer of the same model, description and data, and makes the same calls of infini_trainer_step, _run and
   _evaluate_json in the same order. It computes the gradients of its share of the sequences of a step; gradients are
   summed over all ranks, and every rank changes its weights by the sum, so that they stay equal to the bit. The sum is
   what one process would compute, but for rounding. Reports and evaluations are of all sequences, on every rank.
   Sequences are not split: a step's "tokens" should hold a multiple of `ranks` of them. Ranks need the same build, the
   same kind of processor and equally many threads.
   `callback` is called first with few values, by which ranks tell each other that they have done their part, then with
   the gradients; with 1 rank it is never called, and may be NULL. The calls named above then also return
     the status of another rank  that was cancelled or failed before gradients were summed: the step has not happened
                                 on any rank. So a cancel of one rank's task ends the call on all; one that comes while
                                 it waits for the others takes effect in the next step
     IO                          where `callback` failed: the step has not happened here, though it may have elsewhere,
                                 so restore a checkpoint on all
     STATE                       where ranks differ in model, description, steps, data that was read, weights or call:
                                 nothing has happened
   Checkpoints know nothing of ranks: any rank may save, all must restore the same file, and there may be more or fewer
   of them than before. To be called between steps; the trainer keeps `user_data`, which remains the caller's.
   INVALID_ARGUMENT  ranks or rank is out of range, or callback is NULL with more than one rank */
INFINI_API infini_status infini_trainer_set_ranks(infini_trainer *trainer, int rank, int ranks,
                                                  infini_sum_callback callback, void *user_data);

/* One step: reads sequences of "tokens" tokens in all, computes the gradients and changes the weights. `task`: stage
   "train", in steps; it is reported to, and can cancel, between sequences. Gradients that are not finite change no
   weight: the step is not counted, though its sequences are read, and "gradient_norm" of the report is null.
   CANCELLED         the step has not happened: the next one reads the same sequences
   OUT_OF_MEMORY     the same; but where memory ended while weights were being changed, all calls but
                     infini_trainer_restore and infini_trainer_free return STATE from then on
   IO, FORMAT        of a file of the data; the step has not happened
   INVALID_ARGUMENT  the text of such a file is not UTF-8, or has a part that the tokenizer has no token for; the step
                     has not happened
   STATE             gradients were not finite in 20 steps in a row, or more; the report stays that of the step before.
                     Or weights are half changed, see OUT_OF_MEMORY
   and what infini_trainer_set_ranks lists */
INFINI_API infini_status infini_trainer_step(infini_trainer *trainer, infini_task *task);

/* Makes `steps` steps. `task`: stage "train", in steps, reported to between sequences too.
   INVALID_ARGUMENT                                steps is negative
   CANCELLED, IO, FORMAT, INVALID_ARGUMENT, STATE  as in infini_trainer_step; the steps before it are done */
INFINI_API infini_status infini_trainer_run(infini_trainer *trainer, int64_t steps, infini_task *task);

/* Writes what the last step computed, as a JSON object ({} before the first):
     "step"            steps done so far
     "tokens"          tokens read so far
     "unknown_bytes"   bytes of this step's texts that the vocabulary has no token for
     "loss"            cross-entropy in nats a predicted token, a mean by loss weight
     "predictions"     predicted tokens: those with a loss weight
     "recall_across", "answers_across", "exact_across"
                       of the answers across segments that have a loss weight: the share of their tokens that are
                       predicted right, given the right ones before; how many tokens those are; and the share of whole
                       answers that are right
     "recall_inside", "answers_inside", "exact_inside"
                       the same of answers inside
     "source_share"    the share of a supervised retrieval that falls on its targets, a mean over queries and heads
     "subject_share"   the same of supervised local attention, whose target is the name (the subject) of a value
     "supervision"     the loss of both
     "gradient_norm"   before clipping; null: not finite, and nothing was changed
     "rate_factor"     the learning rate's factor, by the schedule
     "segment", "segments"  tokens of a segment, and segments of a sequence, as sequences are drawn now
     "seconds", "tokens_per_second"  of the step
   where a share of nothing is null.
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_trainer_report_json(const infini_trainer *trainer, char *buffer, size_t capacity,
                                                    size_t *size);

/* Reads `sequences` sequences of `segments` segments (0: as many as training reads now) and changes nothing.
   `data_json` is an object as "data" in infini_trainer_create. Writes what was measured, a JSON object of "loss",
   "predictions", the fields of answers, "source_share" (null unless "retrieval" is trained) and "subject_share" (null)
   as in infini_trainer_report_json, and "segment", "segments", "sequences". `task`: stage "evaluate", in sequences.
   INVALID_ARGUMENT, STATE, IO, FORMAT  as in infini_trainer_create; INVALID_ARGUMENT too for fewer than one sequence,
                                        or segments below 0
   CANCELLED                            nothing was written
   BUFFER_TOO_SMALL                     before anything was read; see Work in infini.h */
INFINI_API infini_status infini_trainer_evaluate_json(infini_trainer *trainer, const char *data_json, int sequences,
                                                      int segments, infini_task *task, char *buffer, size_t capacity,
                                                      size_t *size);

/* Finds retrieval heads (Wu et al., arXiv 2404.15574), those that attend from where an answer is predicted to where the
   value stood. Reads sequences of "recall" or "passkey", drawn as in infini_trainer_evaluate_json, with full attention
   whatever window and gates are, and changes nothing. Writes a JSON object:
     "heads"    [{"layer", "head", "weight", "name_weight"}, ...], all of them, those of the greatest "weight" first;
                layers and heads count from 0. "weight" is the mean attention weight, over the tokens of answers across
                segments, from the token before to the same token of the value where it last stood; "name_weight" the
                mean from the tokens of a value, and the token before them, to its name. Both from 0 to 1
     "answers"  how many tokens of answers those were
     "recall"   the share of them that the model predicts right with full attention
     "segment", "segments", "sequences", "tokens"  what was read
   `task`: stage "find heads", in sequences.
   INVALID_ARGUMENT, STATE, IO, FORMAT  as in infini_trainer_evaluate_json; INVALID_ARGUMENT too where no answer is
                                        across segments
   CANCELLED                            nothing was written
   BUFFER_TOO_SMALL                     before anything was read; see Work in infini.h */
INFINI_API infini_status infini_trainer_find_heads_json(infini_trainer *trainer, const char *data_json, int sequences,
                                                        int segments, infini_task *task, char *buffer, size_t capacity,
                                                        size_t *size);

/* Sets weights of supervised heads in closed form, by ridge regression on the inputs of their layers over the first
   pool of sequences ("drawn"). To be called before the first step, on data that labels values by their names: "recall",
   "passkey", or "jsonl" with "values". Two kinds of training have heads to fit:
     "train" is "retrieval"  the heads to which "supervised" gives an offset. W_q and W_k are fitted so that q and k
                             encode, one-hot, the name that is asked for and the name of the value; W_v so that v
                             encodes the token at that offset; W_o so that the heads of one group together add about
                             `nats` (above 0, at most 1,000,000) to that token's logit. Where there are more names than
                             features of a key, or more different tokens than features of a value, several share one.
                             The residual stream at the value's tokens must hold its name already: carriers of a lower
                             layer copy it there
     "hand_on" is above 0    the carriers, which are the heads of "local_supervised": W_v encodes which name a token is,
                             W_o writes a random direction for each name. `nats` does not matter, but must be in range
   `task`: stage "fit heads", in steps that read the pool once. With several ranks, infini_trainer_set_ranks comes
   first: each rank fits the same heads to the same data.
   INVALID_ARGUMENT  no head is to be fitted, heads of one group have different offsets or are not all to be fitted, or
                     the pool has no answer at such an offset, or no name
   UNSUPPORTED       heads of the model share norms, or its layers have windows of their own
   STATE             there was a step already
   CANCELLED, IO, FORMAT  as in infini_trainer_step; the heads are as they were */
INFINI_API infini_status infini_trainer_fit_heads(infini_trainer *trainer, double nats, infini_task *task);

/* Writes the trainer's state as a JSON object: "steps" (done), "tokens" (read), "parameters" (of the model),
   "trained_parameters", "compute", "bytes" (of weights but those that stay in the model's file, gradients, optimizer
   and activations), "segment" (tokens) and "segments" (of a sequence) as sequences are drawn now,
   "rank", "ranks", "gates" (sigmoid(beta), a list for each layer), "training" and "evaluation" (every field of them).
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_trainer_info_json(const infini_trainer *trainer, char *buffer, size_t capacity,
                                                  size_t *size);

/* _save writes a checkpoint, through a temporary file, so that `path` holds the old one or the new. _restore puts it
   into a trainer of the same model and description: on the same build, processor and number of threads, the next steps
   are the same bit for bit as without the break. `task`: of _save, stage "save", in bytes.
   IO, NO_SPACE    (save) the file cannot be written; what was there before is still there
   CANCELLED       what was there before, in the file or the trainer, is still there
   STATE           (save) weights are half changed, see infini_trainer_step
   MODEL_MISMATCH  (restore) it belongs to another model or another "training"
   IO, FORMAT, TRUNCATED, CHECKSUM, VERSION
                   (restore) the file cannot be read, is damaged or too new; nothing has changed */
INFINI_API infini_status infini_trainer_save(const infini_trainer *trainer, const char *path, infini_task *task);
INFINI_API infini_status infini_trainer_restore(infini_trainer *trainer, const char *path, infini_task *task);

/* Writes the trained model as a GGUF file that infini_model_open reads; adapters are merged into the weights. What was
   not trained keeps the bytes of the model's file; trained matrices are written as `type`: "f32", "f16" or "bf16".
   `task`: stage "save", in bytes of tensors.
   INVALID_ARGUMENT         type is none of these
   IO, NO_SPACE, CANCELLED  what was there before is still there */
INFINI_API infini_status infini_trainer_write(const infini_trainer *trainer, const char *path, const char *type,
                                              infini_task *task);

/* Writes the LoRA adapters alone, as a GGUF file of general.type "adapter", to be opened beside the model (option
   "adapter"). `task` as in infini_trainer_write.
   STATE                    no adapters are trained, or "feature_scale" has changed the base too
   IO, NO_SPACE, CANCELLED  what was there before is still there */
INFINI_API infini_status infini_trainer_write_adapter(const infini_trainer *trainer, const char *path,
                                                      infini_task *task);

/* ------------------------------------------------------------------------------------------------------------
 * 2. Adapting a plain model
 */

/* Makes an adaptation, which teaches a plain model to use its memory, in phases. First, retrieval heads are searched
   for. Then heads of the layer below the lowest of them become carriers: they are supervised to attend from the tokens
   of a value to its name. Then, layer by layer, groups of heads are initialised by regression and supervised, each
   group to retrieve the token at one offset of a value by the value's name. Last, gates and projections are trained end
   to end. A model without retrieval heads, or whose tokenizer has no token for each digit, learns from text alone.
   Recall and the loss on a held-out text are measured before and after.
   `path` names the plain model, a GGUF file. `settings_json` is an object of the fields that
   infini_adaptation_settings_json lists, of which "texts" must be there. With "checkpoint", a path that the names of
   several files then begin with, progress is saved in these files, and an adaptation that is created later with the
   same settings goes on from there, bit for bit on the same build, processor and number of threads. Options: those of
   infini_model_open; but segment, carry and sinks are those of the settings, and the memory is Linear. `task` as there.
   The caller frees the adaptation.
   INVALID_ARGUMENT  a field is unknown or not what it should be, or does not fit the model; the message names it
   MODEL_MISMATCH    the files of "checkpoint" are of another model or other settings, which the message names
   FORMAT            these files are damaged
   and what infini_model_open returns */
INFINI_API infini_status infini_adaptation_create(const char *path, const char *settings_json,
                                                  const infini_options *options, infini_task *task,
                                                  infini_adaptation **adaptation);
INFINI_API void infini_adaptation_free(infini_adaptation *adaptation);

/* Writes the table of settings, as infini_creation_settings_json does. Any thread.
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_adaptation_settings_json(char *buffer, size_t capacity, size_t *size);

/* Does the next piece of the work: the search for heads, the measurement before, the fitting of a phase's heads, one
   training step, or the measurement after. `task`: stages "open" (in matrices), "find heads", "evaluate" (both in
   sequences), "feed" (in tokens), "fit heads" and "train" (both in steps).
   END        nothing is left
   CANCELLED  it has not happened, and may be made again: here, or by another process, from the files of "checkpoint" as
              infini_adaptation_save writes them
   STATE      gradients were not finite in 20 steps in a row; or an earlier call ran out of memory while weights were
              being changed: create the adaptation anew, from its files
   IO, NO_SPACE, FORMAT, INVALID_ARGUMENT  of a file; the step has not happened, and may be made again */
INFINI_API infini_status infini_adaptation_step(infini_adaptation *adaptation, infini_task *task);

/* Takes all steps that are left. `task` as in infini_adaptation_step.
   CANCELLED, STATE, IO, NO_SPACE, FORMAT, INVALID_ARGUMENT  as in infini_adaptation_step; the steps before are done */
INFINI_API infini_status infini_adaptation_run(infini_adaptation *adaptation, infini_task *task);

/* Writes what the last step did, as a JSON object ({} before the first):
     "phase"  "find" (the search), "before" (the measurement), "carriers", "teach3" (of layer 3), "train", "after" (the
              measurement), or "open" where the step only opened the checkpoint of a phase whose training was complete
   and of a training step the fields of infini_trainer_report_json and "steps" (of the phase); of a fitting "fitted"
   (true) and "layer"; of the search "found" (as "heads" of infini_trainer_find_heads_json), "carriers", "heads" (both
   as in infini_adaptation_info_json) and "layers" (first and last that are trained end to end); of a measurement
   "measured" (as "before" there).
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_adaptation_report_json(const infini_adaptation *adaptation, char *buffer,
                                                       size_t capacity, size_t *size);

/* Writes how far it has come, as a JSON object:
     "borders"                    numbers of segment borders across which recall is measured
     "phases", "phases_done", "complete"  names of those that train; how many are trained; whether all is done
     "phase_seconds", "phase_tokens"      time and tokens of "find", "carriers", "teach" (of all layers), "train"
   and as soon as they are known
     "found"                      the ten heads with the greatest "weight" of infini_trainer_find_heads_json
     "full_attention_recall"      "recall" there
     "no_task"                    why the model learns from text alone
     "carriers"                   [[layer, head], ...]
     "heads"                      [[layer, head, offset], ...]: heads of the memory, with the offset that each retrieves
     "first", "last"              layers that are trained end to end
     "share"                      "source_share" of the last step that had one
     "before", "after"            {"nll": nats a token of the held-out text, "recall": [share of the tokens of answers
                                  that are predicted right, for each of "borders"]}
     "gates"                      sigmoid(beta), a list for each layer
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_adaptation_info_json(const infini_adaptation *adaptation, char *buffer, size_t capacity,
                                                     size_t *size);

/* _save saves progress in the files of "checkpoint" now, as steps do every "checkpoint_every" steps and at the end of a
   phase. _discard deletes these files. Without "checkpoint" both do nothing. `task`: stage "save", in bytes of tensors.
   IO, NO_SPACE, CANCELLED  (save) those of before are still there
   STATE                    (save) as in infini_adaptation_step */
INFINI_API infini_status infini_adaptation_save(infini_adaptation *adaptation, infini_task *task);
INFINI_API infini_status infini_adaptation_discard(infini_adaptation *adaptation);

/* Writes the adapted model as a GGUF file; trained matrices are of the settings' "type". `task` as in
   infini_trainer_write.
   STATE                    training is not over yet
   IO, NO_SPACE, CANCELLED  what was there before is still there */
INFINI_API infini_status infini_adaptation_write(const infini_adaptation *adaptation, const char *path,
                                                 infini_task *task);

#ifdef __cplusplus
}
#endif

#endif /* INFINI_TRAIN_H */
