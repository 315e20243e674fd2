/* infini_train.h: training models through their memory, and adapting plain ones to it.
 *
 * Experimental: unlike infini.h, it may change with every version. Its functions follow the rules of infini.h, are part of the
 * same library and may be mixed with others; a trainer and an adaptation belong to one thread at a time. What they are told
 * is JSON; what a field is, between which numbers, and what it is by default say tables that the library itself writes where
 * there is a _settings_json function.
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

/* A trainer changes a copy of a model's weights, kept in float32 whatever the model's file holds, until the model
   predicts what it reads; the model itself stays as it is. Memory and gates are trained through all segments of a
   sequence. `description_json` is an object of

     "training"    what is trained and how; each may be left out, the values here are the defaults:
       "train" "all" ("attention": q, k, v, o and gates; "features": q and k; "gates"; "lora": adapters and gates;
         "retrieval": q and k of supervised heads' layers, by supervision alone, each layer fed by the model as it was; and
         v and o of heads that infini_trainer_fit_heads makes)
       "layers" [0, -1] (first and last of those trained; -1: the model's last; embedding, output and last norm are
         trained with all layers alone)
       "lora" {"rank" 8, "alpha" 16, "targets" ["q", "k", "v", "o"] (and "gate", "up", "down")}
       "optimizer" "muon" (for hidden matrices, AdamW for the others; "adamw": for all), "rate" 0.002 (AdamW's),
       "muon_rate" 0.01, "feature_rate" 0.01 (Muon's for q and k; as "muon_rate"), "gate_rate" 0.01 (five times "rate"),
       "decay" 0.05, "muon_decay" 0.01, "momentum" 0.95, "beta1" 0.9, "beta2" 0.95, "clip" 1 (norm of the gradients; 0: never)
       "schedule" "constant" ("cosine", "linear"), "warmup" 100, "steps" 0 (where the schedule ends), "decay_from" 0
       (share of "steps" after which rates fall), "floor" 0.02 (share of the rates at the end)
       "tokens" 8192 (of a step), "drawn" 0 (tokens that are drawn together and read by one step after another; 0: those of
       a step), "repeat" 1 (times that what was drawn is read: layers below those that are trained are then computed once,
       and what comes out of them is kept, 4 bytes times the model's width a token; of "retrieval" what each taught layer is
       fed, 4 or, in bf16, 2 bytes times the width), "rows" 1024 (tokens that go through
       the layers together, at least one sequence). Where nothing is predicted, layers end at the highest that is told
       where to look
       "segment" 0 (tokens; 0: as the model says), "segments" 16 (of a sequence), "carry" -1, "sinks" -1 (-1: as the
       model says), "first_segment" "model" ("gated", "ungated": whether gates are applied while the memory is empty),
       "epsilon" -1 (added to what the memory finds before it is divided by that: with 1, a head that finds little says
       little; -1: as the model says)
       "supervision" 0 (weight of telling the memory where to look; where "retrieval" is trained 1), "supervised" []
       ([[layer, head], ...]; none: every head whose gate is open; [layer, head, place]: a head that looks for one digit of a
       value, 0 the first), "silence" 0
       (weight, beside "supervision", of telling heads with a place to find nothing where no digit of theirs is asked for;
       nothing is told where epsilon is 0). Of entries that name the same head the first counts
       "local_supervision" 0 (weight of telling local attention to look at the name whose value is read or asked for),
       "local_supervised" [] ([[layer, head], ...]; -1: all), "hand_on" 0 (of "features": length of what these heads write
       for the name that they look at, of that of the residual stream, once infini_trainer_fit_heads has made their v and o)
       "gates" [] ([[layer, head, beta], ...] set before training; -1: all layers or heads; beta null: shut)
       "feature_scale" 1 (on the weights of q and k before training)
       "compute" "auto" ("f32", "bf16": of matrix products; weights, sums and the memory are float32 in any case)
       "keep_mb" 1024 (activations that would take more MiB are computed a second time instead of kept), "seed" 1
     "data"        where sequences come from (must be there), one of these types; all but "random" need the model's tokenizer:
       {"type": "recall"} or {"type": "passkey"}  values of five digits that are told under a name, in filler, and asked for
         later: " The river key is 71432.", " What is the river key? The river key is 71432."
         "seed" 1, "names" [] (none: some fifty common words, those that are one token), "prose" [] (text files that are
         filler, held as tokens, once a trainer, without characters that have none), "prose_share" 0.5 (of the sequences; in
         the others filler is the paper's sentences), "numbers" 0 (among 1,000 tokens of filler), "fold" 1 (virtual length: a
         segment of filler counts up to so many times)
         of "recall": "density" [0.7, 12] (values in 1,000 tokens), "nearest" 12 and "distance" 0 (tokens to the question, at
         least and at most; 0: the sequence), "far" 0 (share of the questions that follow at any distance alike; half where
         a sequence has one or two names)
         of "passkey": "keys" 1, "questions" 1 (at the end), "depth" [0, 1] (where the keys stand)
         weights: "inside" 1 and "across" 3 of digits of answers, the value told in the same or another segment, "first" 1
         (times as much: the first digit), "other" 0.15 of a share "other_share" 0.1 of the other tokens; "carry" 0 (tokens
         before a segment that count as the same one)
         "lookups" "all" (supervision tells to look where the same digit stood; "first": of first digits alone; "value":
         wherever the value's digits stood)
       {"type": "text", "files": [...]}  plain text, UTF-8: "order" "stream" ("excerpts": pieces at random, of "seed" 1),
         "weight" 1 (of a token), "unknown_text" "error" ("skip", "replace": characters that the vocabulary has no token for)
       {"type": "jsonl", "files": [...]}  a document a line: "field" "text" (that holds it), "weight" 1 of a token, but where
         the line has "spans": [[begin, end, weight], ...] (bytes of the text); "unknown_text" and "carry" 0 as above. Where
         the line has "links": [[from_begin, from_end, to_begin, to_end, weight], ...] (bytes of the text), what is predicted
         in "from" is an answer that supervision tells to look up in "to", which lies before it: token by token where both
         have equally many (those that hold a byte of it), else each in the last token of "to"
       {"type": "mixture", "sources": [{"ratio": 9, "source": {...}}, ...]}  "seed" 1, "ratio" 1
       {"type": "random", "share": 1}  "seed" 1; tokens at random, of which a share is predicted: to measure speed
     "curriculum"  sequences of tasks grow longer and sparser as recall allows; absent: they are as "training" and "data" say
       "stages" [{"segment", "segments", "density": [least, greatest]}, ...] (three, up to 16 segments of 64)
       "threshold" 0.8 (recall across segments from which the next step is taken), "recall" "digits" ("answers": whole ones)
       "distance" 48 (at first), "stretch" 1.35 (its growth a step), "fold" 3000 (the greatest), "fold_step" 0.5 (of its
       logarithm)

   Options: "threads", and "compute", which goes before that of the description. The caller frees the trainer.
   INVALID_ARGUMENT  the JSON has an error, or a field is unknown or not what it should be; the message names it
   STATE             the model has no weights, or no tokenizer where the data needs one
   IO, FORMAT        of a file of the data */
INFINI_API infini_status infini_trainer_create(const infini_model *model, const char *description_json,
                                               const infini_options *options, infini_trainer **trainer);
INFINI_API void infini_trainer_free(infini_trainer *trainer);

/* Adds up over processes: replaces each of `values` by the sum of what all ranks have in its place, which must be the same
   bits on every rank. All ranks call it equally often, with equally many values, and wait in it for each other. Returns 0,
   or anything else if that failed; then it must fail on every other rank too, now or at its next call. */
typedef int (*infini_sum_callback)(void *user_data, float *values, size_t n_values);

/* Trains on `ranks` processes (1 to 65536), of which this one has the number `rank`, from 0. Each makes a trainer of the
   same model, description and data, and makes the same calls of infini_trainer_step, _run and _evaluate in the same order.
   It computes its share of the sequences of a step; then gradients are added up, and all change their weights alike, so
   that they stay equal to the bit. Gradients are those of one process, but for rounding. Reports and evaluations are of all
   sequences, on every rank. Only whole sequences are shared: "tokens" should hold a multiple of `ranks` of them. Ranks need
   the same build, the same kind of processor and equally many threads.
   `callback` is called first with few values, by which ranks tell each other that they have done their part, then with the
   gradients of what is trained; for 1 rank it is never called, and may be NULL. The calls named above then also return
   the status of another rank  where that one was cancelled or failed before gradients were added up: the step has not
                               happened on any rank. So a cancel of one rank's task ends the call on all; one that comes
                               while it waits for the others holds for the next step
   IO                          where `callback` failed: the step has not happened here, though it may have elsewhere, so
                               restore a checkpoint on all
   STATE                       where ranks differ in model, description, steps, place in the data, weights or call: nothing
                               has happened
   Checkpoints know nothing of ranks: any rank may save, all must restore the same file, and there may be more or fewer of
   them than before. To be called between steps; the trainer keeps `user_data`.
   INVALID_ARGUMENT  ranks or rank is out of range, or callback is NULL with more than one rank */
INFINI_API infini_status infini_trainer_set_ranks(infini_trainer *trainer, int rank, int ranks,
                                                  infini_sum_callback callback, void *user_data);

/* One step: reads sequences of "tokens" tokens in all, computes the gradients and changes the weights. `task` (may be
   NULL): stage "train", in steps; reports, and can cancel, between sequences.
   CANCELLED  the step has not happened: the next one reads the same sequences
   IO, FORMAT  of a file of the data; the step has not happened
   INVALID_ARGUMENT  the same, where its text is not UTF-8 or the tokenizer has no token for a part of it
   Gradients that are not finite change nothing: the step counts for nothing, and "gradient_norm" of the report is null. */
INFINI_API infini_status infini_trainer_step(infini_trainer *trainer, infini_task *task);

/* As many steps. Progress ("train") counts them, and is reported between sequences too.
   CANCELLED, IO, FORMAT, INVALID_ARGUMENT  as in infini_trainer_step; the steps before it are done */
INFINI_API infini_status infini_trainer_run(infini_trainer *trainer, int64_t steps, infini_task *task);

/* Writes what the last step saw, as a JSON object ({} before the first):
     "step" (done so far), "tokens" (read so far), "loss" (nats a predicted token, by weight), "predictions",
     "recall_across", "answers_across" (share of digits right, and their number, of answers whose value last stood in
     another segment), "exact_across" (share of those answers whose digits are all right), "recall_inside",
     "answers_inside", "exact_inside" (in the same one), "source_share" (of the memory's retrieval that falls where the
     value stood; a mean over supervised retrievals), "subject_share" (of local attention that falls on the name; a mean over
     supervised heads), "supervision" (the loss of both), "gradient_norm" (null: not finite, and nothing was changed),
     "rate_factor" (of the schedule), "segment", "segments", "seconds", "tokens_per_second"
   where a share of nothing is null.
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_trainer_report(const infini_trainer *trainer, char *buffer, size_t capacity,
                                               size_t *size);

/* Reads `sequences` sequences of `segments` segments (0: as many as in training now) from data that is described as in
   infini_trainer_create, and changes nothing. Progress ("evaluate") counts sequences.
   INVALID_ARGUMENT, STATE, IO, FORMAT  as in infini_trainer_create
   CANCELLED                            the former evaluation stays */
INFINI_API infini_status infini_trainer_evaluate(infini_trainer *trainer, const char *data_json, int sequences,
                                                 int segments, infini_task *task);

/* Writes what the last evaluation found, as a JSON object ({} before the first): "loss", "predictions", answers
   and, where "retrieval" is trained, "source_share" as in infini_trainer_report, "segment", "segments", "sequences".
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_trainer_evaluation(const infini_trainer *trainer, char *buffer, size_t capacity,
                                                   size_t *size);

/* Finds the heads that retrieve: reads sequences as infini_trainer_evaluate does, of a task ("recall", "passkey"), but
   with full attention, whatever window and gates are, and takes the mean attention weight from the token before an
   answer's digit to where that digit stood last, over answers whose value last stood in another segment; and from a
   value, wherever it stands, to the name that it belongs to. Changes nothing. Progress ("find heads") counts sequences.
   INVALID_ARGUMENT, STATE, IO, FORMAT  as in infini_trainer_create; INVALID_ARGUMENT too where there is no such answer
   CANCELLED                            what was found before stays */
INFINI_API infini_status infini_trainer_find_heads(infini_trainer *trainer, const char *data_json, int sequences,
                                                   int segments, infini_task *task);

/* Writes what was found last, as a JSON object ({} before the first): "heads" ([{"layer", "head", "weight",
   "name_weight"}, ...], all of them, those of the greatest "weight" first, layers and heads from 0, weights from 0 to 1),
   "answers" (digits that were looked up), "recall" (share of them that full attention predicts), "segment", "segments",
   "sequences", "tokens" (read).
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_trainer_heads(const infini_trainer *trainer, char *buffer, size_t capacity,
                                              size_t *size);

/* Makes heads of the memory anew, before the first step of a trainer of "retrieval" whose "supervised" heads have places:
   reads all that is drawn, and by ridge regression q and k begin to find the name that a digit belongs to, or that it is
   asked of, v the digit, and o to say it: together the heads of one group add about `nats` (above 0, at most 1,000,000)
   to the digit's logit. More names than features of a key, or digits than values, share them. What the layer is fed must
   hold the names already: heads below carry them there, see "local_supervision".
   Where "hand_on" is above 0 it makes v and o of those heads below, before their first step, whatever `nats` is: by ridge
   regression v knows the name that stands at a token, and o writes for each name a direction of its own, drawn at random.
   The task must be one that has names ("recall", "passkey"). Progress ("fit heads") counts the steps that read all. On
   several ranks each reads all, and fits the same; infini_trainer_set_ranks comes first.
   INVALID_ARGUMENT  no head has a place, heads of one group have different ones or are not all told where to look, or what
                     is drawn asks for no digit there, or holds no name
   STATE             there was a step already
   CANCELLED, IO, FORMAT  as in infini_trainer_step; the heads are as they were */
INFINI_API infini_status infini_trainer_fit_heads(infini_trainer *trainer, double nats, infini_task *task);

/* Writes the trainer's state as a JSON object: "steps", "tokens", "parameters" (of the model), "trained_parameters",
   "compute", "bytes" (of weights, gradients, optimizer and activations), "segment", "segments", "rank", "ranks", "gates"
   (their weights, one list a layer), "training" (every field of it).
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_trainer_info_json(const infini_trainer *trainer, char *buffer, size_t capacity,
                                                  size_t *size);

/* Saves all that is needed to go on, through a temporary file, so that `path` holds the old checkpoint or the new.
   Restored into a trainer of the same model and description, on the same build, processor and number of threads, the
   next steps are the same bit for bit.
   IO, NO_SPACE    the file cannot be written
   MODEL_MISMATCH  (restore) it belongs to another model or another "training"
   IO, FORMAT, TRUNCATED, CHECKSUM, VERSION  (restore) the file cannot be read, is damaged or too new; nothing changed */
INFINI_API infini_status infini_trainer_save(const infini_trainer *trainer, const char *path);
INFINI_API infini_status infini_trainer_restore(infini_trainer *trainer, const char *path);

/* Writes the trained model as a GGUF file that infini_model_open reads; adapters are merged. What was not trained keeps
   the bytes of the model's file; matrices that were are written as `type`: "f32", "f16" or "bf16".
   INVALID_ARGUMENT  type is none of these
   IO, NO_SPACE      the file cannot be written */
INFINI_API infini_status infini_trainer_write(const infini_trainer *trainer, const char *path, const char *type);

/* Writes the adapters alone, as a GGUF file of the kind "adapter", to be kept beside the model.
   STATE         no adapters are trained
   IO, NO_SPACE  the file cannot be written */
INFINI_API infini_status infini_trainer_write_adapter(const infini_trainer *trainer, const char *path);

/* ------------------------------------------------------------------------------------------------------------
 * 2. Adapting a plain model
 */

/* Teaches a plain model to use its memory, in stages. Heads that retrieve are found. Heads of the layer below them learn to
   carry a value's name to its digits; then, layer by layer, groups of heads are made anew, each to find one digit of a value
   by its name and to say it; last, gates and projections are trained end to end. A model none of whose heads looks things
   up, or whose tokenizer has no digits, learns from text alone. Recall and the loss on a held-out text are measured before
   and after.
   `path` names the plain model, a GGUF file. `settings_json` is an object of the fields that infini_adaptation_settings_json lists, of
   which "texts" must be there. With "checkpoint", a path with which the names of files begin, what an adaptation goes on from
   is kept in them as it goes, and an adaptation that is made with the same settings goes on from there, bit for bit on the
   same build, processor and number of threads. Options: those of infini_model_open; the model's own are chosen for the memory
   by "segment", "carry" and "sinks". `task` (may be NULL): opening. The caller frees the adaptation.
   INVALID_ARGUMENT  a field is unknown or not what it should be, or does not fit the model; the message names it
   MODEL_MISMATCH    what is kept was begun with another model or other settings, which the message names
   FORMAT            what is kept is damaged
   and what infini_model_open returns */
INFINI_API infini_status infini_adaptation_create(const char *path, const char *settings_json,
                                                  const infini_options *options, infini_task *task,
                                                  infini_adaptation **adaptation);
INFINI_API void infini_adaptation_free(infini_adaptation *adaptation);

/* Writes the table of settings, a JSON array of {"name", "type" ("int", "double", "string", "ints", "strings"), "default",
   "least" and "greatest", or "choices" (separated by |; empty: any text), "help"}. Any thread.
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_adaptation_settings_json(char *buffer, size_t capacity, size_t *size);

/* What comes next: the search for heads, the measurement before, the fitting of a stage's heads, a training step, the
   measurement after. `task` (may be NULL): stages "find heads", "evaluate", "feed", "fit heads", "train" (in the steps of the
   stage).
   END        nothing is left
   CANCELLED  it has not happened, and may be made again, or after the files of "checkpoint" were made by
              infini_adaptation_keep in another process
   STATE      gradients have not been finite for 20 batches in a row
   IO, NO_SPACE, FORMAT, INVALID_ARGUMENT  of a file; it may be made again */
INFINI_API infini_status infini_adaptation_step(infini_adaptation *adaptation, infini_task *task);

/* All that is left.
   CANCELLED, STATE, IO, NO_SPACE, FORMAT, INVALID_ARGUMENT  as in infini_adaptation_step; the steps before are done */
INFINI_API infini_status infini_adaptation_run(infini_adaptation *adaptation, infini_task *task);

/* Writes what the last step did, as a JSON object ({} before the first): "phase" ("find", "before", "carry", "teach3": of
   layer 3, "train", "after"); of a training step the fields of infini_trainer_report and "steps" (of the stage), of the
   search "found" (as "heads" of infini_trainer_heads), "carriers", "heads", "layers", of a measurement "measured".
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_adaptation_report_json(const infini_adaptation *adaptation, char *buffer,
                                                       size_t capacity, size_t *size);

/* Writes how far it has come, as a JSON object: "borders", "stages", "stages_done", "complete", "phase_seconds" and
   "phase_tokens" (of "find", "carry", "teach", "train"), and as soon as they are known "found" (the heads that look most at
   what is asked for), "full_attention_recall", "no_task" (why the model learns from text alone), "carriers" ([[layer, head],
   ...]), "heads" ([[layer, head, digit], ...]), "first" and "last" (layers that are trained end to end), "share" (of the
   retrieval that falls on the source), "before" and "after" ({"nll": nats a held-out token, "recall": [of digits over so many
   borders, ...]}), "gates".
   BUFFER_TOO_SMALL  see Buffers in infini.h */
INFINI_API infini_status infini_adaptation_info_json(const infini_adaptation *adaptation, char *buffer, size_t capacity,
                                                     size_t *size);

/* Keeps what it goes on from in the files of "checkpoint", as steps do by themselves now and then; removes them. Nothing
   happens without "checkpoint".
   IO, NO_SPACE  a file cannot be written; those of before are still there */
INFINI_API infini_status infini_adaptation_keep(infini_adaptation *adaptation);
INFINI_API infini_status infini_adaptation_discard(infini_adaptation *adaptation);

/* Writes the adapted model as a GGUF file; matrices that were trained are of "type".
   STATE         training is not over yet
   IO, NO_SPACE  the file cannot be written */
INFINI_API infini_status infini_adaptation_write(const infini_adaptation *adaptation, const char *path);

#ifdef __cplusplus
}
#endif

#endif /* INFINI_TRAIN_H */
