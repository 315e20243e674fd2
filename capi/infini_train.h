/* infini_train.h: training models through their memory, and adapting plain ones to it.
 *
 * Experimental: unlike infini.h, it may change with every version. Its functions follow the rules of infini.h, are part
 * of the same library and may be mixed with others; a trainer and an adaptation belong to one thread at a time. Their
 * settings are JSON; tables that the library itself writes, infini_trainer_settings_json and
 * infini_adaptation_settings_json, say what each field is, what it may be, and what it is by default.
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

/* Writes the table of what a trainer is described by, a JSON array of fields as infini_creation_settings_json lists
   them: "training" and "curriculum", objects whose "fields" are such a table too, and "data", an object of one of
   several "types": {"recall": [...], "passkey": [...], "text": [...], "jsonl": [...], "mixture": [...], "random":
   [...]}. Any thread.
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_trainer_settings_json(char *buffer, size_t capacity, size_t *size);

/* A trainer trains a copy of a model's weights, in float32 whatever the model's file holds, to predict what it reads;
   the model itself stays as it is. Gradients go back through memory and gates of all segments
   of a sequence. `description_json` is an object of the fields that infini_trainer_settings_json lists, such as

     {"training": {"train": "lora", "steps": 500}, "data": {"type": "text", "files": ["novel.txt"]}}

   Only "data" must be there. All its types but "random" need the model's tokenizer.
     "recall", "passkey"  generated tasks: named values of five digits amid filler, which are asked for later:
                          " The river key is 71432.", " What is the river key? The river key is 71432."
     "text"               files of plain text, UTF-8 or, with its mark, UTF-16
     "jsonl"              files with a document a line, {"text": "...", "spans": [...], "links": [...], "values":
                          [...]}, of which the text must be there. Ranges begin and end at bytes of the text's UTF-8
        "spans"           [begin, end, weight]: loss weights. A token has the weight of the last span that holds its
                          last byte; elsewhere "weight" of the description counts
        "links"           [from_begin, from_end, to_begin, to_end, weight]: attention supervision. Either range stands
                          for all tokens that hold a byte of it. What is predicted in "from" is an answer that the
                          memory should retrieve from "to", which lies before it: the first token from the first, the
                          second from the second, ..., where both have equally many; else each from the last of "to",
                          which has read all of it. Of links between the same two tokens the greatest weight counts.
                          Both ranges are values. A kind may follow the weight:
                            "answer"     the default: the loss of a retrieval, counted in "recall_across" and
                                         "recall_inside"
                            "retrieval"  the same loss, not counted
                            "local"      of weight 1: local attention at "from", and at the token before it, should
                                         fall on the last token of "to", such as the name that a value belongs to;
                                         these ranges are no values
        "values"          [begin, end, label]: the tokens of a value, as of a link, which heads with an offset tell
                          apart by their index in it, from 0, and the number of its name, from 0
   Attention supervision is a loss on the heads that "supervised" and "local_supervised" name: minus the logarithm of
   the share of a retrieval, or of local attention, that falls on its target. Where it is the only loss, because no
   token has a loss weight, the forward pass ends at the highest supervised layer.

   Options: "threads", and "compute", which goes before that of the description. `task`: stage "create", in matrices.
   The caller frees the trainer, and may free the model before: the trainer reads weights from the model's file, and
   those that the model packed then go.
   INVALID_ARGUMENT  the JSON has an error, a field is unknown or not what it should be, or an option belongs to a model
                     or a session; the message names it
   STATE             the model has no weights, was opened with an adapter, or has no tokenizer where the data needs one
   IO, FORMAT        of a file of the data
   CANCELLED         there is no trainer */
INFINI_API infini_status infini_trainer_create(const infini_model *model, const char *description_json,
                                               const infini_options *options, infini_task *task,
                                               infini_trainer **trainer);
INFINI_API void infini_trainer_free(infini_trainer *trainer);

/* Adds up over processes: replaces each of `values` by the sum of that value over all ranks. The sums must be equal on
   all ranks, to the bit. All ranks call it equally often, with equally many values, and wait in it for each other.
   Returns 0, or anything else if that failed; then it must fail on every other rank too, now or at its next call. */
typedef int (*infini_sum_callback)(void *user_data, float *values, size_t n_values);

/* Trains on `ranks` processes (1 to 65536), of which this one has the number `rank`, from 0. Each makes a trainer of
   the same model, description and data, and makes the same calls of infini_trainer_step, _run and _evaluate_json in the
   same order. It computes its share of the sequences of a step; then gradients are added up, and all change their
   weights alike, so that they stay equal to the bit. Gradients are those of one process, but for rounding. Reports and
   evaluations are of all sequences, on every rank. Only whole sequences are shared: "tokens" should hold a multiple of
   `ranks` of them. Ranks need the same build, the same kind of processor and equally many threads.
   `callback` is called first with few values, by which ranks tell each other that they have done their part, then with
   the gradients of what is trained; for 1 rank it is never called, and may be NULL. The calls named above then also
   return
     the status of another rank  that was cancelled or failed before gradients were added up: the step has not happened
                                 on any rank. So a cancel of one rank's task ends the call on all; one that comes while
                                 it waits for the others holds for the next step
     IO                          where `callback` failed: the step has not happened here, though it may have elsewhere,
                                 so restore a checkpoint on all
     STATE                       where ranks differ in model, description, steps, data that was read, weights or call:
                                 nothing has happened
   Checkpoints know nothing of ranks: any rank may save, all must restore the same file, and there may be more or fewer
   of them than before. To be called between steps; the trainer keeps `user_data`.
   INVALID_ARGUMENT  ranks or rank is out of range, or callback is NULL with more than one rank */
INFINI_API infini_status infini_trainer_set_ranks(infini_trainer *trainer, int rank, int ranks,
                                                  infini_sum_callback callback, void *user_data);

/* One step: reads sequences of "tokens" tokens in all, computes the gradients and changes the weights. `task`: stage
   "train", in steps; reports, and can cancel, between sequences.
   CANCELLED  the step has not happened: the next one reads the same sequences
   OUT_OF_MEMORY  the same; but where memory ended while weights were being changed, all calls but
                  infini_trainer_restore and infini_trainer_free return STATE from then on
   IO, FORMAT  of a file of the data; the step has not happened
   INVALID_ARGUMENT  the text of such a file is not UTF-8, or has a part that the tokenizer has no token for; the step
                     has not happened
   Gradients that are not finite change no weight: the step is not counted, though its sequences are read, and
   "gradient_norm" of the report is null; STATE from the 20th such step in a row on, whose report stays that of the
   step before. */
INFINI_API infini_status infini_trainer_step(infini_trainer *trainer, infini_task *task);

/* Makes `steps` steps. Progress ("train") counts them, and is reported between sequences too.
   CANCELLED, IO, FORMAT, INVALID_ARGUMENT, STATE  as in infini_trainer_step; the steps before it are done */
INFINI_API infini_status infini_trainer_run(infini_trainer *trainer, int64_t steps, infini_task *task);

/* Writes what the last step computed, as a JSON object ({} before the first):
     "step" (done so far), "tokens" (read so far), "unknown_bytes" (of this step's texts, without a token), "loss" (nats
     a predicted token, by weight), "predictions", "recall_across", "answers_across" (share of digits right, and their
     number, of answers whose value last stood in an earlier segment, so that only the memory holds it), "exact_across"
     (share of those answers whose digits are all right), "recall_inside", "answers_inside", "exact_inside" (in the same
     one), "source_share" (of the memory's retrieval that falls where the value stood; a mean over supervised
     retrievals), "subject_share" (of local attention that falls on the name; a mean over supervised heads),
     "supervision" (the loss of both), "gradient_norm" (null: not finite, and nothing was changed), "rate_factor" (of
     the schedule), "segment", "segments", "seconds", "tokens_per_second"
   where a share of nothing is null.
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_trainer_report_json(const infini_trainer *trainer, char *buffer, size_t capacity,
                                                    size_t *size);

/* Reads `sequences` sequences of `segments` segments (0: as many as in training now) from data that is described as in
   infini_trainer_create, and changes nothing. Writes what was found, a JSON object of "loss", "predictions", the fields
   of answers and, where "retrieval" is trained, "source_share" as in infini_trainer_report_json, and "segment",
   "segments", "sequences". Progress ("evaluate") counts sequences.
   INVALID_ARGUMENT, STATE, IO, FORMAT  as in infini_trainer_create
   CANCELLED
   BUFFER_TOO_SMALL                     before anything was read; see Work in infini.h */
INFINI_API infini_status infini_trainer_evaluate_json(infini_trainer *trainer, const char *data_json, int sequences,
                                                      int segments, infini_task *task, char *buffer, size_t capacity,
                                                      size_t *size);

/* Finds the heads that retrieve: reads sequences of a task ("recall", "passkey"), drawn as in
   infini_trainer_evaluate_json, with full attention, whatever window and gates are, and changes nothing. Writes a JSON
   object:
     "heads"    [{"layer", "head", "weight", "name_weight"}, ...], all of them, those of the greatest "weight" first;
                layers and heads count from 0. "weight" is the mean attention from the token before a digit of an answer
                to where that digit of the value last stood, over answers whose value last stood in another segment;
                "name_weight" that from the digits of a value to its name; both from 0 to 1
     "answers"  how many digits those were; "recall": the share of them that the model predicts with full attention
     "segment", "segments", "sequences", "tokens" (read)
   Progress ("find heads") counts sequences.
   INVALID_ARGUMENT, STATE, IO, FORMAT  as in infini_trainer_create; INVALID_ARGUMENT too where there is no such answer
   CANCELLED
   BUFFER_TOO_SMALL                     before anything was read; see Work in infini.h */
INFINI_API infini_status infini_trainer_find_heads_json(infini_trainer *trainer, const char *data_json, int sequences,
                                                        int segments, infini_task *task, char *buffer, size_t capacity,
                                                        size_t *size);

/* Sets weights of supervised heads in closed form, by ridge regression on the inputs of their layers over the first
   pool of sequences ("drawn"). To be called before the first step. The task must be one that has names ("recall",
   "passkey").
   Where "retrieval" is trained, these are the "supervised" heads that have a digit. W_q and W_k are fitted so that q
   and k encode, one-hot, the name that is asked for and the name that a digit belongs to; W_v so that v encodes the
   digit; W_o so that the heads of one group together add about `nats` (above 0, at most 1,000,000) to that digit's
   logit. Where there are more names than features of a key, or more digits than features of a value, several share
   one. The residual stream must hold the name at each digit already: heads of lower layers carry it there, see
   "local_supervision".
   Where "hand_on" is above 0, the "local_supervised" heads, which carry names upwards, are fitted
   instead, and `nats` is not used: W_v encodes the name that a token is, W_o writes a direction of its own for each
   name, drawn at random. Progress ("fit heads") counts steps over all that is drawn. On several ranks each fits the
   same to the same data; infini_trainer_set_ranks comes first.
   INVALID_ARGUMENT  no head has a digit, heads of one group have different ones or are not all supervised, or
                     what is drawn asks for no such digit, or holds no name
   STATE             there was a step already
   CANCELLED, IO, FORMAT  as in infini_trainer_step; the heads are as they were */
INFINI_API infini_status infini_trainer_fit_heads(infini_trainer *trainer, double nats, infini_task *task);

/* Writes the trainer's state as a JSON object: "steps", "tokens", "parameters" (of the model), "trained_parameters",
   "compute", "bytes" (of weights, gradients, optimizer and activations), "segment", "segments", "rank", "ranks",
   "gates" (their weights, one list a layer), "training" (every field of it).
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_trainer_info_json(const infini_trainer *trainer, char *buffer, size_t capacity,
                                                  size_t *size);

/* Saves all that is needed to go on, through a temporary file, so that `path` holds the old checkpoint or the new.
   Restored into a trainer of the same model and description, on the same build, processor and number of threads, the
   next steps are the same bit for bit. `task`: of _save, stage "save", in bytes.
   IO, NO_SPACE    the file cannot be written
   CANCELLED       what was there before, in the file or the trainer, is still there
   MODEL_MISMATCH  (restore) it belongs to another model or another "training"
   IO, FORMAT, TRUNCATED, CHECKSUM, VERSION
                   (restore) the file cannot be read, is damaged or too new; nothing has changed */
INFINI_API infini_status infini_trainer_save(const infini_trainer *trainer, const char *path, infini_task *task);
INFINI_API infini_status infini_trainer_restore(infini_trainer *trainer, const char *path, infini_task *task);

/* Writes the trained model as a GGUF file that infini_model_open reads; adapters are merged. What was not trained keeps
   the bytes of the model's file; matrices that were are written as `type`: "f32", "f16" or "bf16". `task`: stage
   "save", in bytes of tensors.
   INVALID_ARGUMENT         type is none of these
   IO, NO_SPACE, CANCELLED  what was there before is still there */
INFINI_API infini_status infini_trainer_write(const infini_trainer *trainer, const char *path, const char *type,
                                              infini_task *task);

/* Writes the adapters alone, as a GGUF file of the kind "adapter", to be kept beside the model. `task` as in
   infini_trainer_write.
   STATE                    no adapters are trained, or "feature_scale" has changed the base too
   IO, NO_SPACE, CANCELLED  what was there before is still there */
INFINI_API infini_status infini_trainer_write_adapter(const infini_trainer *trainer, const char *path,
                                                      infini_task *task);

/* ------------------------------------------------------------------------------------------------------------
 * 2. Adapting a plain model
 */

/* Teaches a plain model to use its memory, in stages. First, heads that retrieve are searched for. Heads of the layer
   below them (carriers) are supervised to attend from a value's digits to its name, and so carry the name there; then,
   layer by layer, groups of heads are initialised by regression and supervised, each group to retrieve one digit of a
   value by its name; last, gates and projections are trained end to end. A model none of whose heads retrieves, or
   whose tokenizer has no token for each digit, learns from text alone. Recall and the loss on a held-out text are
   measured before and after.
   `path` names the plain model, a GGUF file. `settings_json` is an object of the fields that
   infini_adaptation_settings_json lists, of which "texts" must be there. With "checkpoint", which the names of some
   files then begin with, progress is saved in these files, and an adaptation that is created later with the same
   settings goes on from there, bit for bit on the same build, processor and number of threads. Options: those of
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

/* Does the next piece of the work: the search for heads, the measurement before, the fitting of a stage's heads, one
   training step, or the measurement after. `task`: stages "open", "find heads", "evaluate", "feed", "fit heads",
   "train" (in the steps of the stage).
   END        nothing is left
   CANCELLED  it has not happened, and may be made again: here, or by another process, from the files of "checkpoint" as
              infini_adaptation_save writes them
   STATE      gradients have not been finite for 20 batches in a row; or an earlier call ran out of memory while weights
              were being changed: create the adaptation anew, from its files
   IO, NO_SPACE, FORMAT, INVALID_ARGUMENT  of a file; it may be made again */
INFINI_API infini_status infini_adaptation_step(infini_adaptation *adaptation, infini_task *task);

/* All that is left.
   CANCELLED, STATE, IO, NO_SPACE, FORMAT, INVALID_ARGUMENT  as in infini_adaptation_step; the steps before are done */
INFINI_API infini_status infini_adaptation_run(infini_adaptation *adaptation, infini_task *task);

/* Writes what the last step did, as a JSON object ({} before the first): "phase" ("find", "before", "carry", "teach3":
   of layer 3, "train", "after"); of a training step the fields of infini_trainer_report_json and "steps" (of the
   stage), of a fitting "fitted" (true) and "layer", of the search "found" (as "heads" of
   infini_trainer_find_heads_json), "carriers", "heads", "layers", of a measurement "measured". "phase" is "open"
   where the step only opened the checkpoint of a stage whose training was complete.
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_adaptation_report_json(const infini_adaptation *adaptation, char *buffer,
                                                       size_t capacity, size_t *size);

/* Writes how far it has come, as a JSON object: "borders" (numbers of segment borders across which recall is measured),
   "stages", "stages_done", "complete", "phase_seconds" and "phase_tokens" (of "find", "carry", "teach", "train"), and
   as soon as they are known "found" (the ten heads with the highest attention from an answer to its source),
   "full_attention_recall", "no_task" (why the model learns from text alone), "carriers" ([[layer, head], ...]), "heads"
   ([[layer, head, digit], ...]), "first" and "last" (layers that are trained end to end), "share" (of the retrieval
   that falls on the source), "before" and "after" ({"nll": nats a held-out token, "recall": [share of digits right, for
   each of "borders"]}), "gates".
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_adaptation_info_json(const infini_adaptation *adaptation, char *buffer, size_t capacity,
                                                     size_t *size);

/* _save saves progress in the files of "checkpoint" now, as steps do by themselves now and then; _discard deletes these
   files. Nothing happens without "checkpoint".
   IO, NO_SPACE  a file cannot be written; those of before are still there */
INFINI_API infini_status infini_adaptation_save(infini_adaptation *adaptation);
INFINI_API infini_status infini_adaptation_discard(infini_adaptation *adaptation);

/* Writes the adapted model as a GGUF file; matrices that were trained are of "type". `task` as in infini_trainer_write.
   STATE                    training is not over yet
   IO, NO_SPACE, CANCELLED  what was there before is still there */
INFINI_API infini_status infini_adaptation_write(const infini_adaptation *adaptation, const char *path,
                                                 infini_task *task);

#ifdef __cplusplus
}
#endif

#endif /* INFINI_TRAIN_H */
