/*
 * infini - Infini-attention language models on ordinary processors
 *
 * An Infini-attention model (Munkhdalai et al., arXiv 2404.07143: "the paper" below) reads a stream of any length
 * in fixed memory: it attends to the tokens of the segment that it is reading and keeps everything before it in a
 * compressive memory of constant size. This library opens such models (and plain ones) from GGUF files, feeds them
 * tokens or text, and generates.
 *
 *
 * FIVE IDEAS
 *
 *   model    configuration, weights, tokenizer; immutable once open; shared by any number of sessions
 *   session  one stream through a model: its memory, the open segment (the tokens that are not in the memory yet), the
 *            sampler
 *   options  values by name ("threads", "temperature", ...) with a table that documents and checks them
 *   tokens   int32_t numbers below the model's vocabulary
 *   bytes    text is UTF-8 with a length; paths are UTF-8 too
 *
 *
 * A PROGRAM
 *
 *     #include <infini/infini.h>
 *     #include <stdio.h>
 *     #include <string.h>
 *
 *     static int show(void *user_data, const char *text, size_t text_size) {
 *       (void)user_data;
 *       return fwrite(text, 1, text_size, stdout) != text_size;
 *     }
 *
 *     int main(int argc, char **argv) {
 *       const char *prompt = "Once upon a time";
 *       infini_model *model = NULL;
 *       infini_session *session = NULL;
 *       int failed = argc < 2 || infini_model_open(argv[1], NULL, NULL, &model) != INFINI_OK ||
 *                    infini_session_create(model, NULL, &session) != INFINI_OK ||
 *                    infini_session_feed_text(session, prompt, strlen(prompt), NULL) != INFINI_OK ||
 *                    infini_session_generate(session, show, NULL, NULL) != INFINI_OK;
 *       if (failed) fprintf(stderr, "%s\n", argc < 2 ? "usage: program MODEL" : infini_last_error());
 *       infini_session_free(session);
 *       infini_model_free(model);
 *       return failed;
 *     }
 *
 *
 * WAYS TO USE IT
 *
 *   Read and write text   infini_session_feed_text, infini_session_generate (callback) or
 *                         infini_session_next_text (pull)
 *   Chat                  infini_session_chat with the messages, then infini_session_generate or
 *                         infini_session_next_text writes the answer; again with the next message
 *   Long inputs           infini_text_stream cuts files, pipes and request bodies into pieces that
 *                         infini_session_feed_text takes one by one
 *   Evaluate              infini_session_score, infini_session_score_text, infini_session_feed_logits
 *   Your own sampler      infini_session_logits, choose a token, infini_session_feed
 *   Embed                 infini_session_feed_text, infini_session_embedding
 *   Branch                infini_session_fork
 *   Keep a memory         infini_session_save, infini_session_restore, infini_snapshot_json
 *   Go back               option "checkpoints", infini_session_rewind
 *   Serve many            infini_batch_add, infini_batch_next
 *   Train, adapt          infini_train.h, which is experimental
 *
 *
 * RULES THAT HOLD FOR EVERY FUNCTION
 *
 *   Status     A function that can fail returns infini_status. What failed, where, and what to do about it is in
 *              infini_last_error(). A failed call leaves its objects as they were unless its comment says more.
 *              Some statuses are not repeated below:
 *              INVALID_ARGUMENT  any function: a handle or another pointer that must not be NULL is NULL
 *              OUT_OF_MEMORY     any function: memory could not be allocated
 *              INTERNAL          any function: a fault of the library; please report it
 *              BUFFER_TOO_SMALL  any function with `capacity`: see Buffers
 *   Handles    infini_X_free accepts NULL. Objects may be freed in any order: a session keeps its model alive.
 *              Out-parameters that receive a handle are set to NULL on failure. Nothing need be done at exit.
 *   Options    An options handle is only read, and copied, by the function that it is given to; NULL stands for
 *              an empty one, which leaves every option at its default.
 *   Buffers    Belong to the caller. (T *buffer, size_t capacity, size_t *size): up to `capacity` elements are
 *              written and *size is set to their number. With buffer NULL and capacity 0 nothing is written
 *              and *size says how many there are: OK. If capacity is less than that, nothing is written, *size
 *              is set, and the status is BUFFER_TOO_SMALL. `size` may be NULL where it is not wanted. Behind a
 *              text a zero byte is written where there is room for it; *size does not count it.
 *   Work       A call that computes something and writes it has parameters `task`, then `buffer`, and checks the buffer
 *              first: where that is too small, or only the size is asked for, nothing is done, and the size may be more
 *              than the result will take. Results that stay in an object are read by a call of their own, as often as
 *              wanted: infini_session_logits after infini_session_feed, infini_trainer_report_json after
 *              infini_trainer_step.
 *   Tasks      A `task` may be NULL. It shows progress, in the stage and the units that the comment names, and can
 *              cancel; where the comment names no stage, it can cancel before the call begins, which then returns
 *              CANCELLED and has done nothing.
 *   Pointers   Strings without a length end with a zero byte. No pointer that is passed in is kept after the call,
 *              but for the user_data of a callback that is set. (pointer NULL, length 0) is an empty array or text.
 *   Threads    A model, once open, may be used by any number of threads at once. A session, a trainer, an options
 *              handle and a text stream belong to one thread at a time. A task,
 *              infini_session_cancel and infini_session_position may be used from any thread at any time until the
 *              handle is freed. Free a handle only when no call uses it.
 *              "Any thread" below means: with this handle and no lock.
 *   Callbacks  Run on the thread that made the call, before it returns; only the log's may run on others.
 *              A callback may use other handles, the task, infini_session_cancel and infini_session_position, but
 *              no other function of the session, trainer or text stream that is calling it. It must return: no longjmp,
 *              no C++ exception.
 *   Manners    The library never prints, exits, aborts, installs a signal handler, or changes the locale or the
 *              caller's OpenMP settings. Outside of a call it uses no processor time.
 */
#ifndef INFINI_H
#define INFINI_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#if defined(INFINI_EXPORTS)
#define INFINI_API __declspec(dllexport)
#else
#define INFINI_API
#endif
#elif defined(__GNUC__)
#define INFINI_API __attribute__((visibility("default")))
#else
#define INFINI_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct infini_model infini_model;
typedef struct infini_session infini_session;
typedef struct infini_options infini_options;
typedef struct infini_task infini_task;
typedef struct infini_text_stream infini_text_stream;
typedef struct infini_batch infini_batch;

/* ------------------------------------------------------------------------------------------------------------
 * 1. Status and version
 */

/* The result of a call. The values are fixed for ever; new ones may appear, so treat an unknown one as an error. */
typedef enum infini_status {
  INFINI_OK = 0,                 /* success */
  INFINI_END = 1,                /* nothing more comes: generation ended, a queue is empty; not an error */
  INFINI_INVALID_ARGUMENT = 100, /* an argument is NULL, out of range or not what it should be */
  INFINI_UNKNOWN_OPTION = 101,   /* no option has that name */
  INFINI_BUFFER_TOO_SMALL = 102, /* the caller's buffer is smaller than the size that was returned */
  INFINI_IO = 200,               /* a file could not be opened, read, written or replaced */
  INFINI_NO_SPACE = 201,         /* the disk or the file-size limit is full */
  INFINI_FORMAT = 300,           /* a file is damaged or is not what it claims to be */
  INFINI_TRUNCATED = 301,        /* a file ends before its contents do */
  INFINI_MODEL_MISMATCH = 400,   /* a snapshot, checkpoint or adapter belongs to another model */
  INFINI_VERSION = 500,          /* a file was written by a newer version */
  INFINI_CHECKSUM = 600,         /* a checksum does not match: the file was changed or damaged */
  INFINI_OUT_OF_MEMORY = 700,    /* memory could not be allocated */
  INFINI_CANCELLED = 800,        /* the call was cancelled; its comment says what is kept */
  INFINI_STATE = 900,            /* the call does not fit the state of the object */
  INFINI_UNSUPPORTED = 1000,     /* valid, but not something this version can do */
  INFINI_INTERNAL = 1100         /* a fault of the library itself; please report it */
} infini_status;

/* "OK", "INVALID_ARGUMENT", ...; "UNKNOWN" for a number that is no status. The text lives for ever. Any thread. */
INFINI_API const char *infini_status_name(int status);

/* One line that says what the status means. The text lives for ever. Any thread. */
INFINI_API const char *infini_status_text(int status);

/* The message of this thread's last call that failed, in English, UTF-8, without a line end; "" if none has.
   Calls that succeed, and END, leave it alone. The text belongs to the library and is valid until this thread's
   next failing call. Never NULL. */
INFINI_API const char *infini_last_error(void);

/* The operating system's error number (errno) behind the message of infini_last_error(), such as ENOENT where a file is
   missing; 0 where the system did not refuse anything. */
INFINI_API int infini_last_os_error(void);

/* The library's version, "MAJOR.MINOR.PATCH". The text lives for ever. Any thread. */
INFINI_API const char *infini_version(void);

/* The version of the binary interface that this header describes: the N of libinfini.so.N. It grows whenever a program
   must be compiled anew, also between versions that begin with 0. A program may compare it with
   infini_abi_version(), the library's own, and should refuse to go on where they differ. */
#define INFINI_ABI_VERSION 0
INFINI_API int infini_abi_version(void);

/* ------------------------------------------------------------------------------------------------------------
 * 2. Options: one thread at a time
 */

/* Writes the table of all options as JSON, a list of
     {"name", "scope", "type": "int" | "double" | "string", "default", "least", "greatest", "choices", "help"}
   where "least" and "greatest" (a closed range) stand with numbers that have one and "choices" (a list) with
   strings that must be one of them. "scope" says which calls take the option: "model" (infini_model_open,
   infini_model_create, infini_adaptation_create; infini_trainer_create takes "compute" and "threads" alone), "session",
   "generation" and "text" (these three: infini_session_create, infini_session_set_options), or "any". These calls
   return INVALID_ARGUMENT where an option is set that they do not take, so a program that opens a model and makes a
   session has two sets of options. Any thread. */
INFINI_API infini_status infini_options_json(char *buffer, size_t capacity, size_t *size);

/* Makes an empty set of options. The caller frees it. */
INFINI_API infini_status infini_options_create(infini_options **options);
INFINI_API void infini_options_free(infini_options *options);

/* Sets an option by name. set_int also sets options of type double; "help" of infini_options_json says how texts
   for "stop" and "logit_bias" are written.
   UNKNOWN_OPTION    no option has that name; the message lists all that there are
   INVALID_ARGUMENT  the option has another type, or the value is not allowed; the message says what is
   Some values can be checked only with a model; then the function that takes the options refuses them. */
INFINI_API infini_status infini_options_set_int(infini_options *options, const char *name, int64_t value);
INFINI_API infini_status infini_options_set_double(infini_options *options, const char *name, double value);
INFINI_API infini_status infini_options_set_string(infini_options *options, const char *name, const char *value);

/* The value that was set, or the default.
   UNKNOWN_OPTION    no option has that name
   INVALID_ARGUMENT  the option has another type
   BUFFER_TOO_SMALL  get_string: see Buffers above */
INFINI_API infini_status infini_options_get_int(const infini_options *options, const char *name, int64_t *value);
INFINI_API infini_status infini_options_get_double(const infini_options *options, const char *name, double *value);
INFINI_API infini_status infini_options_get_string(const infini_options *options, const char *name, char *buffer,
                                                   size_t capacity, size_t *size);

/* ------------------------------------------------------------------------------------------------------------
 * 3. Models: opening and creating
 */

/* Opens a GGUF file and packs its weights for this processor (options "weights", "compute", "gemm", "threads",
   "memory", "update", "segment", "carry", "sinks", "keep", "window_type", "adapter", "adapter_weight"). The file stays
   mapped while the model lives: replace it, do not overwrite it. `task`: stage "open", in matrices. The caller frees
   the model. A file without tensors opens as a tokenizer alone, from which no session can be made.

   Option "adapter" names a GGUF file with LoRA adapters (Hu et al., arXiv 2106.09685), as infini_trainer_write_adapter
   and llama.cpp's converter write it: matrices of layers become W + adapter_weight * alpha / rank * B A, while W stays
   at its bits. Keys infini.* of the file, the memory that it was trained with, replace the model's. Snapshots belong to
   the model with this adapter and weight.
   IO                the file cannot be opened or read
   FORMAT, TRUNCATED the file is damaged; the message names the key, tensor or offset
   VERSION           the file's format is newer than this library
   UNSUPPORTED       architecture, tokenizer, tensor or number type is not known; the message lists those that are; or
                     the adapter is of a kind that is not known
   MODEL_MISMATCH    the adapter is one of another model
   STATE             there is an adapter for a tokenizer alone
   INVALID_ARGUMENT  an option does not fit the model, or belongs to a session
   CANCELLED         there is no model */
INFINI_API infini_status infini_model_open(const char *path, const infini_options *options, infini_task *task,
                                           infini_model **model);

/* Makes a model with random weights. `config_json` (NULL: all defaults) is a JSON object of fields that
   infini_creation_settings_json lists, such as {"layers": 2, "width": 64, "segment": 32}. `options` as in
   infini_model_open. `task`: stages "create", in tensors, and "open". The caller frees the model.
   INVALID_ARGUMENT  the JSON has an error, an unknown field or a value that is not allowed; the message says which
   IO, FORMAT, ...   of the file that "tokenizer" names, as in infini_model_open
   CANCELLED         there is no model */
INFINI_API infini_status infini_model_create(const char *config_json, const infini_options *options, infini_task *task,
                                             infini_model **model);

/* Writes the table of these fields, a JSON array of
     {"name", "type", "default", "least", "greatest", "choices", "help"}
   as infini_options_json writes that of options. Types are "int", "double", "string", "bool", lists of them ("ints",
   ...; of "length" where they must be), "rows" (lists of numbers, as "shape" says), "object" (of "fields", a table as
   this one), "objects" (lists of such), "map" (an object of such, by names that are free) and "json" (anything); "or"
   is a text that may stand for a number, "required" true of what must be there. Any thread.
   BUFFER_TOO_SMALL  see Buffers above */
INFINI_API infini_status infini_creation_settings_json(char *buffer, size_t capacity, size_t *size);

/* Writes the model as a GGUF file that infini_model_open, and every other GGUF reader, opens: the numbers of the
   file it came from, unchanged. The file is replaced whole or not at all. `task`: stage "save", in bytes of
   tensors. Any thread.
   STATE                    the model was opened with an adapter
   IO, NO_SPACE, CANCELLED  what was there before is still there */
INFINI_API infini_status infini_model_save(const infini_model *model, const char *path, infini_task *task);

/* Writes the model of the file `from` as the file `to`, with its matrices quantised: a GGUF file that
   infini_model_open, and every other GGUF reader, opens. `type` is "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k",
   "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl" or "iq4_xs", in upper or lower case, or a type of floats: "f32", "f16",
   "bf16". Each block takes the scale whose numbers lie nearest to its own; no statistics of activations are used.
   Vectors (norms, biases) stay as they are. Types whose blocks do not divide a matrix's rows give way, those of 256 to
   one of 32 (Q4_K to Q5_0, Q5_K to Q5_1, Q6_K to Q8_0, the others to IQ4_NL), those of 32 to F16; the matrix that makes
   the logits has six bits at least (Q6_K). "tensor_types" of infini_model_info_json tells what came out, and the log,
   at level INFO, why. A file may be quantised that does not fit in memory: this takes some MB. `options` (may be NULL):
   "threads" of a model. `to` is replaced whole or not at all, and may be `from` (not on Windows). `task`: stage
   "quantize", in bytes written. Any thread.
   IO, FORMAT, ...   of `from`, as in infini_model_open; STATE: it is a tokenizer alone
   IO, NO_SPACE      `to` cannot be written; what was there before is still there
   INVALID_ARGUMENT  there is no such type; the message lists those that there are
   CANCELLED         nothing was written */
INFINI_API infini_status infini_model_quantize(const char *from, const char *to, const char *type,
                                               const infini_options *options, infini_task *task);

/* Learns which sentences are worth keeping in view (option "keep", which the model must be opened with) from examples,
   and writes the model's file with what it learned to `path`. That is a linear probe, fitted by ridge regression: the
   worth of a sentence is the product of a direction with the mean, over the sentence's tokens, of the residual stream
   after one of the layers, divided by its root mean square. The keys are "infini.keep.probe" (the direction),
   "infini.keep.layer", "infini.keep.least" (the worth below which no sentence is kept), and "infini.keep.bias",
   "infini.keep.focus" and "infini.keep.standing", which are the fields "bias", "focus" and "standing". Without a probe
   a sentence is worth the mean -ln p of its tokens, so that reading needs logits; with one it needs none. Other
   programs read the file as before. `lesson_json` is a JSON object of fields that infini_keep_settings_json lists, of
   which "pieces" must be there: a text in pieces, those to be kept marked.

     {"pieces": [{"text": "It was a mild day."}, {"text": " The key is under the mat.", "keep": true}, ...]}

   `task`: stage "keep", in tokens. Any thread.
   STATE             the model keeps nothing, has no tokenizer, or was opened with an adapter
   INVALID_ARGUMENT  a field is unknown or not what it should be, and the message names it; or no sentence is worth
                     keeping, or all are
   CANCELLED, IO, NO_SPACE  nothing was written */
INFINI_API infini_status infini_model_fit_keep(const infini_model *model, const char *lesson_json, const char *path,
                                               infini_task *task);

/* Writes the table of these fields, as infini_creation_settings_json does. Any thread.
   BUFFER_TOO_SMALL  see Buffers above */
INFINI_API infini_status infini_keep_settings_json(char *buffer, size_t capacity, size_t *size);

/* Frees the handle. The model itself is freed with the last session, batch or trainer that uses it. */
INFINI_API void infini_model_free(infini_model *model);

/* ------------------------------------------------------------------------------------------------------------
 * 4. Sessions: reading and writing. One thread at a time
 */

/* Makes a session: an empty stream through the model. Options of a session: "threads", "chunk", "deterministic",
   "checkpoints", "rewind_sampler", "compress", those of generation ("max_tokens", "temperature", "seed", "stop", ...)
   and of text ("special", "unknown_text"). The caller frees the session.
   STATE             the model is a tokenizer alone
   INVALID_ARGUMENT  "logit_bias" names a token that is not in the vocabulary, or an option belongs to a model */
INFINI_API infini_status infini_session_create(const infini_model *model, const infini_options *options,
                                               infini_session **session);
INFINI_API void infini_session_free(infini_session *session);

/* Changes options of a session: those that are set in `options` replace what was, the rest stays. Setting "seed"
   restarts the random generator; not setting it lets it go on.
   INVALID_ARGUMENT  as in infini_session_create; nothing has changed */
INFINI_API infini_status infini_session_set_options(infini_session *session, const infini_options *options);

/* Reads tokens, in chunks of option "chunk"; full segments go to the memory. How a stream is cut into calls does
   not matter. `task`: stage "feed", in tokens. With n_tokens 0 it only looks whether it was cancelled.
   INVALID_ARGUMENT  a token is not in the vocabulary; none was read
   CANCELLED         the tokens before were read (all, where the last chunk ran), as infini_session_position and
                     infini_task_done tell; the session may go on from there
   STATE             an earlier OUT_OF_MEMORY or INTERNAL error came in the middle of a chunk; reset the session */
INFINI_API infini_status infini_session_feed(infini_session *session, const int32_t *tokens, size_t n_tokens,
                                             infini_task *task);

/* Tokenizes a text by itself, whatever was fed before, and reads its tokens. Only at position 0 does it get what begins
   a text (BOS token, space prefix) where the model wants that. Control tokens are parsed from it only with option
   "special"; never set that for text that you do not trust. Texts of any length in pieces: see infini_text_stream.
   Characters that the vocabulary has no token for (some models' lack some control characters and the farthest of
   Unicode) are an error or, by option "unknown_text", left out or replaced, by U+FFFD or where that has no token by a
   question mark; "unknown_bytes" of infini_session_info_json counts them. (A vocabulary that has an unknown token takes
   that for them.)
   INVALID_ARGUMENT  the text is not UTF-8, or the vocabulary has no token for a character of it (the message gives the
                     offset of the byte in this text); nothing was read
   STATE             the model has no tokenizer; or as in infini_session_feed
   CANCELLED         as in infini_session_feed */
INFINI_API infini_status infini_session_feed_text(infini_session *session, const char *text, size_t text_size,
                                                  infini_task *task);

/* Gives the tokens that infini_session_feed_text would read here, for a caller who counts them first or reads them
   himself, as in pieces between which others have their turn: all of them go to infini_session_feed. "unknown_bytes"
   counts what is left out or replaced once the buffer has taken the tokens.
   INVALID_ARGUMENT, STATE  as in infini_session_feed_text; nothing has changed
   BUFFER_TOO_SMALL  see Buffers above; nothing has changed; capacity and *size count tokens */
INFINI_API infini_status infini_session_text_tokens(infini_session *session, const char *text, size_t text_size,
                                                    int32_t *buffer, size_t capacity, size_t *size);

/* Reads chat messages as the model's template writes them, up to where the assistant speaks, and begins a new run of
   generation: the next infini_session_generate, or the next infini_session_next_text until END, gives the answer.

     infini_session_chat(session, "[{\"role\": \"system\", \"content\": \"Be brief.\"},"
                                  " {\"role\": \"user\", \"content\": \"Who wrote Emma?\"}]", NULL);
     infini_session_generate(session, show, NULL, NULL);
     infini_session_chat(session, "[{\"role\": \"user\", \"content\": \"When?\"}]", NULL);
     infini_session_generate(session, show, NULL, NULL);

   Give each message once: the session holds the conversation, and a snapshot of it too. The answer's turn stays open
   after what was generated; the next call closes it. What begins a conversation (a default system message, where the
   template has one) is read in the first call after the session was created or reset, a memory alone was restored, or
   it was rewound to before that call. Where the last message is the assistant's, its turn stays open, and generation
   goes on with it.

   The template in the model's file (Jinja) writes them. `messages_json` is a JSON list of {"role": ..., "content":
   ...}. Roles are "system" ("developer" is the same where the template has none), "user", "assistant" and, where the
   template has it, "tool"; "content" is a text, null (an empty one) or a list of {"type": "text", "text": ...}, which
   are joined by line ends; other keys go to the template. A system message that the template does not take stands
   within the user's that follows.

   Contents are plain text, whoever wrote them: a control token written there is read as the letters that it is written
   with, so only the template's own marks are marks (where a model's marks are control tokens; Zephyr's, in part, are
   plain text). Option "special" does not matter; "unknown_text" does, as in infini_session_feed_text. `task`
   as in infini_session_feed.
   INVALID_ARGUMENT  the JSON has an error, the list is empty, a part is no text, a role has no turn in the template, or
                     that refuses the messages in words of its own, or as in infini_session_feed_text; nothing was read
   UNSUPPORTED       the file has no chat template, or one that cannot be run; the message says why, and names its line
   STATE             the model has no tokenizer; or as in infini_session_feed
   CANCELLED         as in infini_session_feed: the last message that was being read is the turn that is open */
INFINI_API infini_status infini_session_chat(infini_session *session, const char *messages_json, infini_task *task);

/* Gives the tokens that infini_session_chat would read, for a caller who reads them himself, as in pieces between which
   others have their turn: all of them go to infini_session_feed, then infini_session_start_generation is called. The
   turn is begun once the buffer has taken the tokens; where nothing of it is read, the next chat begins where this one
   did.
   INVALID_ARGUMENT, UNSUPPORTED, STATE  as in infini_session_chat; nothing has changed
   BUFFER_TOO_SMALL  see Buffers above; nothing has changed; capacity and *size count tokens */
INFINI_API infini_status infini_session_chat_tokens(infini_session *session, const char *messages_json, int32_t *buffer,
                                                    size_t capacity, size_t *size);

/* Receives generated text: whole UTF-8 characters, not ended by a zero byte, valid during the call. Returns 0 to
   go on, anything else to stop. */
typedef int (*infini_text_callback)(void *user_data, const char *text, size_t text_size);

/* Generates until the run ends (end token, stop string, or option "max_tokens"), and passes the text on as it comes.
   Starts a new run if the last one has ended, else goes on with it. `task`: stage "generate", in tokens of the run;
   total is "max_tokens", or 0 without a limit.
   OK         the run ended; infini_session_stop_reason tells why
   CANCELLED  by the callback, the task or infini_session_cancel; another call goes on with the run
   STATE      nothing was fed yet, or the model has no tokenizer (see infini_session_next) */
INFINI_API infini_status infini_session_generate(infini_session *session, infini_text_callback callback,
                                                 void *user_data, infini_task *task);

/* The same, pulled: generates until at least one whole character is ready, and gives that text. What may be the
   beginning of a stop string is held back. A text that did not fit the buffer, that was only asked for its
   size, or that was ready when the call was cancelled, comes with the next call. `task` as in infini_session_generate.
   OK                text (never empty)
   END               the run has ended and everything was given: *size is 0. The next call starts a new run
   BUFFER_TOO_SMALL  see Buffers above
   CANCELLED         by the task or infini_session_cancel, within a token; another call goes on
   STATE             as in infini_session_generate */
INFINI_API infini_status infini_session_next_text(infini_session *session, infini_task *task, char *buffer,
                                                  size_t capacity, size_t *size);

/* Samples a token from the last logits, feeds it at once, and gives it, so that the session always holds what was
   returned. An end token ends the run and is not fed; a stop string ends it too, and its tokens stay. Nothing is
   allocated once the session is warm. `token` may be NULL. `task` as in infini_session_generate.
   OK         a token
   END        the run has ended; *token is -1. The next call starts a new run
   CANCELLED  by the task or infini_session_cancel; another call goes on. *token is -1 or, where the cancel came while a
              token was fed, that token
   STATE      there are no logits yet: nothing was fed since the session was created or reset */
INFINI_API infini_status infini_session_next(infini_session *session, infini_task *task, int32_t *token);

/* Begins a new run of generation before the last one has ended: "max_tokens" and stop strings count from here, text
   that was held back is dropped. A new run begins by itself after an END. */
INFINI_API infini_status infini_session_start_generation(infini_session *session);

/* Why the run has ended, as text: "none" (it has not), "end_token", "stop_string" or "max_tokens". */
INFINI_API infini_status infini_session_stop_reason(const infini_session *session, char *buffer, size_t capacity,
                                                    size_t *size);

/* Cancels the call of this session that is running, if that reads, generates or saves: it returns CANCELLED, even where
   the cancel came while its last chunk or token was read, so that a loop of calls ends. Where none is running, nothing
   happens; to cancel a call before it begins, give it a task, whose cancel waits for it. Any thread at any time. */
INFINI_API infini_status infini_session_cancel(infini_session *session);

/* ------------------------------------------------------------------------------------------------------------
 * 5. Sessions: numbers out of the model. One thread at a time
 */

/* How many tokens the model knows: the length of a row of logits. Any thread. */
INFINI_API infini_status infini_model_vocabulary(const infini_model *model, size_t *size);

/* The length of an embedding. Any thread.
   STATE  the model is a tokenizer alone */
INFINI_API infini_status infini_model_width(const infini_model *model, size_t *size);

/* Copies the logits after the last token: float32 [vocabulary], natural units, before any option of the sampler.
   STATE             nothing was fed since the session was created or reset
   BUFFER_TOO_SMALL  see Buffers above */
INFINI_API infini_status infini_session_logits(infini_session *session, float *buffer, size_t capacity, size_t *size);

/* Copies the last layer's normed output for the last token: float32 [width].
   STATE             nothing was fed since the session was created or reset
   BUFFER_TOO_SMALL  see Buffers above */
INFINI_API infini_status infini_session_embedding(infini_session *session, float *buffer, size_t capacity,
                                                  size_t *size);

/* Reads tokens, as infini_session_feed does, and gives the logits after each: float32 [n_tokens, vocabulary],
   row by row.
   BUFFER_TOO_SMALL  nothing was read; see Work above
   CANCELLED         rows of the tokens that were read are valid; else as infini_session_feed */
INFINI_API infini_status infini_session_feed_logits(infini_session *session, const int32_t *tokens, size_t n_tokens,
                                                    infini_task *task, float *buffer, size_t capacity, size_t *size);

/* Reads tokens, as infini_session_feed does, and gives for each its negative log-likelihood, -ln p(token | everything
   before it), in nats: float32 [n_tokens]. The first is NaN where nothing was fed before,
   or nothing since a memory alone was restored.
   BUFFER_TOO_SMALL  nothing was read; see Work above
   FORMAT            the model gives logits that are not numbers; the tokens were read
   CANCELLED         values of the tokens that were read are valid; else as infini_session_feed */
INFINI_API infini_status infini_session_score(infini_session *session, const int32_t *tokens, size_t n_tokens,
                                              infini_task *task, float *buffer, size_t capacity, size_t *size);

/* Reads a text, as infini_session_feed_text does, and gives the sum of the negative log-likelihoods of its tokens, in
   nats, and how many tokens were scored: all but a first one that has nothing before it, or only a memory that was
   restored alone. Perplexity is exp(nll / n_scored). Each out-parameter may be NULL.
   CANCELLED  both cover the tokens that were read; else as infini_session_feed_text */
INFINI_API infini_status infini_session_score_text(infini_session *session, const char *text, size_t text_size,
                                                   infini_task *task, double *nll, int64_t *n_scored);

/* ------------------------------------------------------------------------------------------------------------
 * 6. Sessions: the stream and its memory. One thread at a time
 */

/* Closes the open segment: writes it to the memory, though it is not full. Nothing happens if it is empty. The last
   logits stay. Costs quality if done often, because local attention then sees less.
   STATE  as in infini_session_feed */
INFINI_API infini_status infini_session_close_segment(infini_session *session);

/* Marks the last `n_tokens` tokens as worth keeping: when they leave the window, local attention goes on seeing them,
   in sentences of at most 64 tokens, within the budget of option "keep" (in tokens). Where that is full, sentences that
   were marked stay rather than those that the model chose, and those marked last rather than earlier ones. Only tokens
   that are still in the window can be marked. A rewind to before the mark forgets it.
   STATE             the model keeps no tokens (option "keep" is 0); or as in infini_session_feed
   INVALID_ARGUMENT  n_tokens is below 1 or reaches back beyond the window; the message says how far */
INFINI_API infini_status infini_session_keep(infini_session *session, int64_t n_tokens);

/* Empties the session: memory, window, logits, text held back, conversation. Options and random generator stay. */
INFINI_API infini_status infini_session_reset(infini_session *session);

/* A second session that goes on exactly as this one would, bit for bit, at the cost of a copy of its state
   ("state_bytes"). Both may then run on different threads. The caller frees it. */
INFINI_API infini_status infini_session_fork(const infini_session *session, infini_session **fork);

/* Tokens read since the stream began, generated ones included. Any thread at any time: while a call reads, they are
   those of its chunks that are done. */
INFINI_API infini_status infini_session_position(const infini_session *session, int64_t *position);

/* Tokens in the open segment: at most the model's segment length less one. */
INFINI_API infini_status infini_session_segment_position(const infini_session *session, int64_t *position);

/* Tokens that are in the memory: those of all segments that were closed. */
INFINI_API infini_status infini_session_memory_tokens(const infini_session *session, int64_t *tokens);

/* All numbers of a session as a JSON object:
     "position", "segment_position", "memory_tokens", "window_begin" (position of the first token that local attention
     sees after sinks and kept sentences), "kept_tokens" (of sentences that stay in view; tokens), "kept" (these
     sentences, in the order in which they are seen: each with "position", "tokens", and "worth", which is 1e6 if it was
     marked),
     "state_bytes" (what a copy costs; bounded, however long the stream), "checkpoint_bytes" (of these, what the
     boundaries to rewind to take: each about the same, but the beginning of the stream nothing),
     "workspace_bytes" (buffers of the last chunk), "session_bytes" (all that the session holds: the state with the
     whole buffers of its windows, workspace, sampler),
     "rewind_limit", "boundaries" (positions, see infini_session_rewind), "stop_reason",
     "chat_begin" (position at which the conversation of infini_session_chat began; -1: there is none),
     "unknown_bytes" (of text without tokens that was skipped or replaced, see option "unknown_text"),
     "options" (an object of those that were set or came from a snapshot) */
INFINI_API infini_status infini_session_info_json(const infini_session *session, char *buffer, size_t capacity,
                                                  size_t *size);

/* ------------------------------------------------------------------------------------------------------------
 * 7. Snapshots, going back, batches. One thread at a time
 */

/* Flags of the calls below, which refuse others. */
typedef enum infini_snapshot_flags {
  INFINI_SNAPSHOT_MEMORY = 1, /* save the memory alone */
  INFINI_SNAPSHOT_VERIFY = 2  /* compare every section's checksum */
} infini_snapshot_flags;

/* Saves a session. `flags` 0: everything that it needs to go on exactly as if it had never stopped;
   INFINI_SNAPSHOT_MEMORY: the memory alone and the sentences that are kept, as they would be after closing the open
   segment, which stays open here. `name` and `note` (may be NULL) are kept in the snapshot and shown by
   infini_snapshot_json; they are the caller's. Option "compress" of the session is Zstandard's level. The file is
   replaced whole or not at all, whatever happens meanwhile: through a temporary file beside it, `.infini-*.tmp`, which
   only a killed process leaves behind, for the next save into the folder to remove. Where `path` is a symbolic link,
   the file that it names is replaced, or made. Folders, pipes and devices cannot be replaced: IO. `task`: stage "save",
   in bytes.
   IO, NO_SPACE  the file cannot be written; what was there before is still there (or, where the disk failed at the very
                 last, when the folder is flushed, the new file, whole)
   CANCELLED     what was there before is still there
   STATE         as in infini_session_feed */
INFINI_API infini_status infini_session_save(const infini_session *session, const char *path, int flags,
                                             const char *name, const char *note, infini_task *task);

/* The same into a buffer of bytes, without a second one of that size; after an error the buffer holds anything. Asking
   for the size alone takes no time, except with option "compress", which then compresses.
   BUFFER_TOO_SMALL  see Buffers above */
INFINI_API infini_status infini_session_save_buffer(const infini_session *session, int flags, const char *name,
                                                    const char *note, infini_task *task, void *buffer, size_t capacity,
                                                    size_t *size);

/* Puts a session where the snapshot was taken: all or nothing, so that after a failure the session is as it was. What
   follows is bit for bit what would have followed there, on the same build, processor, "threads", "compute" and
   "window_type"; else equal within rounding. Options of generation that this session was given stay; the others come
   from the snapshot, and so does the state of the random generator, unless another "seed" than the snapshot's was
   given. A memory alone keeps the position; the window holds the sentences that are kept, the worthiest of them that
   fit this model's budget, and nothing else, and there are no logits until something is fed.
   MODEL_MISMATCH    the snapshot belongs to another model, which the message names, or the model was opened with
                     another value of an option, which it names with both values
   VERSION           it was written by a newer version of the library
   CHECKSUM, FORMAT, TRUNCATED  it was damaged; the message says where
   IO                the file cannot be read */
INFINI_API infini_status infini_session_restore(infini_session *session, const char *path, infini_task *task);
INFINI_API infini_status infini_session_restore_buffer(infini_session *session, const void *data, size_t data_size,
                                                       infini_task *task);

/* What a snapshot holds, as JSON, without a model: "kind" ("session", "memory"), "name", "note", "library" (the version
   that wrote it), "format_version", "model" {"name", "fingerprint"}, "shape", "compute", "window" ("int8", where that
   was option "window_type"), "view" {"position", "memory_tokens", ...}, "size", "sections" [{"name", "offset",
   "stored_size", "size", "encoding", "checksum"}], and for a session "options", "generation", "checkpoints".
   INFINI_SNAPSHOT_VERIFY: every section's checksum is compared too, and each section has a "content_checksum", that of
   its bytes before compression. That takes a pass over the file, a piece at a time, whatever sizes it claims. `task`:
   stage "inspect", in bytes, stored and decompressed. Any thread.
   CANCELLED  by the task
   VERSION, CHECKSUM, FORMAT, TRUNCATED, IO  as in infini_session_restore
   BUFFER_TOO_SMALL  see Buffers, and Work, above */
INFINI_API infini_status infini_snapshot_json(const char *path, int flags, infini_task *task, char *buffer,
                                              size_t capacity, size_t *size);
INFINI_API infini_status infini_snapshot_json_buffer(const void *data, size_t data_size, int flags, infini_task *task,
                                                     char *buffer, size_t capacity, size_t *size);

/* Merges what another stream left behind: `weight` times M and z of the snapshot's memory (as they are once its open
   segment is closed), the matrix and the normaliser of the paper's equations 7 to 9, are added to those of this
   session, and the sentences that the snapshot keeps are seen before those of this session; of all, the worthiest stay
   within the budget of option "keep". With a Linear memory and weight 1 the first layer's memory
   becomes, to rounding, that of one stream that read both, in any order; layers above have read each text without the
   other. A Delta memory then answers with a mean of what both would. A weight below 0 takes away M, z, and the
   sentences that both keep: -1 undoes what weight 1 added. This session's open segment is closed first; its window,
   position and last logits stay, and it cannot be rewound to a position before this call. All or nothing.
   INVALID_ARGUMENT  the weight is 0 or no number of at most 1e6, or more would be taken away than the memory holds
   else as in infini_session_restore: another model's snapshot is refused with both names */
INFINI_API infini_status infini_session_merge(infini_session *session, const char *path, double weight,
                                              infini_task *task);
INFINI_API infini_status infini_session_merge_buffer(infini_session *session, const void *data, size_t data_size,
                                                     double weight, infini_task *task);

/* Goes back to an earlier position of the stream, between infini_session_rewind_limit and the present one: inside the
   open segment by cutting it, before it by returning to the last kept segment boundary before the position and reading
   the tokens after it again. Option "checkpoints" says how many boundaries are kept ("boundaries" of
   infini_session_info_json; the beginning of the stream is one), each at the cost of a copy of the memory and of carry
   and sinks. The random generator and the penalties go back only with option "rewind_sampler". A new run of generation
   begins, unless the position is the present one.
   STATE  the position is out of reach; the message says what is possible; nothing has changed */
INFINI_API infini_status infini_session_rewind(infini_session *session, int64_t position);
INFINI_API infini_status infini_session_rewind_limit(const infini_session *session, int64_t *position);

/* A batch lets many sessions of one model advance in one call: their tokens go through the same matrix products, so
   that the model's weights are read once for all. A session in a batch stays usable by itself, on the batch's thread.
   The batch keeps its sessions alive; they and the batch may be freed in any order. */
INFINI_API infini_status infini_batch_create(const infini_model *model, infini_batch **batch);
INFINI_API void infini_batch_free(infini_batch *batch);

/* Adds a session as the last one of the batch, or takes it out.
   INVALID_ARGUMENT  the session belongs to another model, is in the batch already, or (remove) is not in it */
INFINI_API infini_status infini_batch_add(infini_batch *batch, infini_session *session);
INFINI_API infini_status infini_batch_remove(infini_batch *batch, const infini_session *session);
INFINI_API infini_status infini_batch_size(const infini_batch *batch, size_t *size);

/* One token for every session, as infini_session_next would give it: buffer [size of the batch], in the order in which
   they were added, -1 for a session whose run has ended (infini_session_stop_reason says why; its next run begins with
   the next call). With option "deterministic" the tokens are bit for bit those of the session alone, otherwise they
   come from logits that are equal within rounding. infini_session_cancel does not reach this call.
   INVALID_ARGUMENT  the options of a session leave it no possible token; the message gives its number; all are as they
                     were
   OK                at least one session got a token
   END               none did
   BUFFER_TOO_SMALL  nothing was done; see Work above
   STATE             a session has no logits; the message gives its number; nothing was done
   CANCELLED         nothing was done */
INFINI_API infini_status infini_batch_next(infini_batch *batch, infini_task *task, int32_t *buffer, size_t capacity,
                                           size_t *size);

/* The text of a session's tokens since it was last asked for: whole characters, stop strings withheld, as from
   infini_session_next_text; may be empty. Where nobody asks, the newest half MiB is kept.
   INVALID_ARGUMENT  index is not below the size of the batch
   BUFFER_TOO_SMALL  see Buffers above; the text stays */
INFINI_API infini_status infini_batch_text(infini_batch *batch, size_t index, char *buffer, size_t capacity,
                                           size_t *size);

/* ------------------------------------------------------------------------------------------------------------
 * 8. Training: infini_train.h, which is experimental
 */

/* ------------------------------------------------------------------------------------------------------------
 * 9. Text and tokens. Any thread
 *
 * All of these return STATE where the model has no tokenizer.
 */

/* Flags of the three calls below, which refuse others. */
typedef enum infini_token_flags {
  /* Control tokens written in the text are parsed, or shown by their names (user-defined ones always are). */
  INFINI_TOKENS_SPECIAL = 1,
  /* The text begins a stream: BOS and the space prefix are added where the model wants them, or taken off. */
  INFINI_TOKENS_START = 2
} infini_token_flags;

/* Writes the tokens of a text. Neither *size nor the tokens depend on anything but the arguments.
   Where the model's own tokenizer does so, which the file tells by tokenizer.ggml.pre (qwen2, deepseek-r1-qwen,
   stablelm2, hunyuan, gpt-neox, mpt, olmo, command-r), the text is put into Unicode's form NFC first: "e" and a
   combining acute accent are read as the one letter that they make. With all others characters are taken as they are
   written.
   INVALID_ARGUMENT  the text is not UTF-8, or the vocabulary has no token for a character of it; the message gives the
                     offset of the byte
   BUFFER_TOO_SMALL  see Buffers above; capacity and *size count tokens */
INFINI_API infini_status infini_model_tokenize(const infini_model *model, const char *text, size_t text_size, int flags,
                                               int32_t *buffer, size_t capacity, size_t *size);

/* How many tokens infini_model_tokenize would give. */
INFINI_API infini_status infini_model_token_count(const infini_model *model, const char *text, size_t text_size,
                                                  int flags, size_t *size);

/* Writes the text of tokens. Given the tokens that infini_model_tokenize made of a text, with the same `flags`, it
   gives that text (in form NFC, where it was put into that), byte for byte. The text may begin or end
   inside a UTF-8 character if the tokens do.
   INVALID_ARGUMENT  a token is not in the vocabulary
   BUFFER_TOO_SMALL  see Buffers above */
INFINI_API infini_status infini_model_detokenize(const infini_model *model, const int32_t *tokens, size_t n_tokens,
                                                 int flags, char *buffer, size_t capacity, size_t *size);

/* Whether a token ends generation (end of text, turn or message), and whether it is a control token: 1 or 0.
   INVALID_ARGUMENT  the token is not in the vocabulary */
INFINI_API infini_status infini_model_token_is_end(const infini_model *model, int32_t token, int *answer);
INFINI_API infini_status infini_model_token_is_control(const infini_model *model, int32_t token, int *answer);

/* The tokens that begin and end a text, -1 where the model has none. */
INFINI_API infini_status infini_model_bos(const infini_model *model, int32_t *token);
INFINI_API infini_status infini_model_eos(const infini_model *model, int32_t *token);

/* Flags of the two calls below, which refuse others. */
typedef enum infini_chat_flags {
  /* The messages begin the conversation: a default system message is given where the template has one. */
  INFINI_CHAT_FIRST = 1,
  /* The text ends where the assistant speaks: with the opening of its turn or, where the last message is the
     assistant's, within that. */
  INFINI_CHAT_REPLY = 2
} infini_chat_flags;

/* Writes messages as the model was trained to see them, by the chat template of its file; `messages_json` as in
   infini_session_chat, which is the simple way to chat. The text has the contents as they are, control tokens
   that a user wrote among them, which nothing tells from the template's: infini_model_chat_tokens does.
   INVALID_ARGUMENT  the JSON has an error, or a role is not known or has no turn in the template
   UNSUPPORTED       the file has no chat template, or one that cannot be run; the message says why, and names its line
   BUFFER_TOO_SMALL  see Buffers above */
INFINI_API infini_status infini_model_apply_chat(const infini_model *model, const char *messages_json, int flags,
                                                 char *buffer, size_t capacity, size_t *size);

/* The same as tokens, to be fed to a session: control tokens come from the template's marks alone, never from contents.
   INFINI_CHAT_FIRST: also what begins a stream (BOS) where the model wants that. Without it, after a generated answer,
   first feed what closes the answer's turn: infini_model_chat_turn_end.
   INVALID_ARGUMENT  the vocabulary has no token for a part of a content; or as in infini_model_apply_chat
   UNSUPPORTED       as in infini_model_apply_chat
   BUFFER_TOO_SMALL  see Buffers above; capacity and *size count tokens */
INFINI_API infini_status infini_model_chat_tokens(const infini_model *model, const char *messages_json, int flags,
                                                  int32_t *buffer, size_t capacity, size_t *size);

/* Writes what closes the assistant's turn: to be read, with option "special" set to 1, after a generated reply, whose
   end token was not fed.
   UNSUPPORTED, BUFFER_TOO_SMALL  as in infini_model_apply_chat */
INFINI_API infini_status infini_model_chat_turn_end(const infini_model *model, char *buffer, size_t capacity,
                                                    size_t *size);

/* A text stream cuts a long text, which may arrive in any pieces, into pieces that can be tokenized one by one: the
   tokens are those of the whole, up to a token that spans two words. Pieces are 4 KiB to 64 KiB, the last one
   aside, and depend on the text alone, not on how it arrives. So a file is read with

     while ((n = fread(data, 1, sizeof data, file)) > 0) {
       infini_text_stream_push(stream, data, n);
       while (infini_text_stream_next(stream, piece, sizeof piece, &size) == INFINI_OK)  // piece: 64 KiB
         infini_session_feed_text(session, piece, size, NULL);
     }
     infini_text_stream_finish(stream);
     and the inner loop once more

   Text is read as systems write it: a mark (BOM) at its beginning is dropped, UTF-16 with one becomes UTF-8, and CR LF
   and a lone CR become LF, so that a text reads alike wherever it was written. (infini_session_feed_text and
   infini_model_tokenize take a text as it stands.) Other encodings must be converted first, as by `iconv`.

   For progress, count the bytes that were pushed, whose total the caller may know: what was read is at most one piece
   less. infini_task_done and infini_task_total count the tokens of one call, and so of one piece.

   One thread at a time. The caller frees the stream. */
INFINI_API infini_status infini_text_stream_create(infini_text_stream **stream);
INFINI_API void infini_text_stream_free(infini_text_stream *stream);

/* Adds bytes of the text, which may end inside a character.
   INVALID_ARGUMENT  the text is neither UTF-8 nor UTF-16 with a mark; the message gives the offset in the stream, of
                     the bytes as they were pushed, and how to convert; nothing was added
   STATE             the stream was finished */
INFINI_API infini_status infini_text_stream_push(infini_text_stream *stream, const char *text, size_t text_size);

/* Says that no more bytes come: what is held back becomes the last piece.
   INVALID_ARGUMENT  the text ends inside a character */
INFINI_API infini_status infini_text_stream_finish(infini_text_stream *stream);

/* Gives the next piece. One that did not fit the buffer, or was only asked for its size, comes with the next call.
   END               more bytes are needed or, after infini_text_stream_finish, everything was given; *size is 0
   BUFFER_TOO_SMALL  see Buffers above */
INFINI_API infini_status infini_text_stream_next(infini_text_stream *stream, char *buffer, size_t capacity,
                                                 size_t *size);

/* ------------------------------------------------------------------------------------------------------------
 * 10. What a model is. Any thread
 */

/* Writes one fact about the model as text. Names: those of infini_model_info_json; "fingerprint" (32 hexadecimal
   digits that identify configuration, tokenizer and weights; reads the whole file when first asked for); and every
   key of the model's file that holds a single value, such as "general.license".
   INVALID_ARGUMENT  nothing has that name; the message lists the names
   BUFFER_TOO_SMALL  see Buffers above */
INFINI_API infini_status infini_model_info(const infini_model *model, const char *name, char *buffer, size_t capacity,
                                           size_t *size);

/* Writes the facts as a JSON object:
     "name", "tokenizer" ("llama", "gpt2"; null: none), "tokens" (of the tokenizer), "bos", "eos" (-1: none),
     "chat_template" (its family: "chatml", "llama2", ..., "other"; "unknown": it cannot be used; null: none),
     "vocabulary"
   and, unless the model is a tokenizer alone,
     "architecture", "parameters", "layers", "width", "heads", "kv_heads", "key_size", "value_size", "hidden",
     "context" (tokens it was trained for), "compute" ("f32", "bf16", "int8"), "gemm", "weight_bytes" (packed),
     "tensor_types" (of the file: {"Q4_0": 24, "F32": 9}, how many tensors are of each),
     "adapted_matrices" (whose products an adapter changes),
     "trained_memory" (the file has one), "memory_heads" (KV heads of all layers that keep a memory),
     "windowed_layers" (those with a window of their own, which have none),
     "segment", "carry", "sinks", "keep", "window" (tokens), "window_type" ("f32", "bf16", "int8": its numbers),
     "update", "first_segment", "epsilon" */
INFINI_API infini_status infini_model_info_json(const infini_model *model, char *buffer, size_t capacity, size_t *size);

/* Writes, as JSON, what each method would hold for the past of a model of this shape after `tokens` tokens:
     {"tokens", "methods": [{"method", "values", "bytes"}, ...], "window_bytes", "session_bytes"}
   for "kv_cache", "transformer_xl", "memorizing_transformer", "rmt" and "infini_attention", by the formulas of the
   paper's table 1 (a cache of one segment for Transformer-XL; that and 65,000 tokens in one layer for Memorizing
   Transformers; 100 vectors for RMT). Values of the memory take 4 bytes, others those of the compute type.
   "infini_attention" is the memory alone. A session also holds keys and values of its window, "window_bytes" at that
   position. "session_bytes" is all that a session with default options holds, however long the stream, with the whole
   window and all buffers: within a hundredth of what infini_session_info_json says once a whole chunk was read.
   INVALID_ARGUMENT  tokens is negative, or too large to count bytes
   STATE             the model is a tokenizer alone */
INFINI_API infini_status infini_model_footprint_json(const infini_model *model, int64_t tokens, char *buffer,
                                                     size_t capacity, size_t *size);

/* The same for the set-up of the paper's comparison (12 layers, 8 heads of 128, segments of 2048), at 4 bytes a value.
   From 65,000 tokens on, Memorizing Transformers hold 115.7 times the values of Infini-attention.
   INVALID_ARGUMENT  tokens is negative, or too large to count bytes */
INFINI_API infini_status infini_paper_footprint_json(int64_t tokens, char *buffer, size_t capacity, size_t *size);

/* ------------------------------------------------------------------------------------------------------------
 * 11. Tasks: progress and cancelling. Any thread at any time
 */

/* A task watches and cancels a long call of another thread: pass it to the call, poll it from elsewhere. It may be used
   for many calls, one at a time. The caller frees it after the call has returned. */
INFINI_API infini_status infini_task_create(infini_task **task);
INFINI_API void infini_task_free(infini_task *task);

/* Cancels the call that runs with this task or, if none does, the next one. That call returns CANCELLED, and the cancel
   is then used up. Calls check for it between chunks, layers or tokens. */
INFINI_API infini_status infini_task_cancel(infini_task *task);

/* How far the call that runs, or the last one that ran, has come: in matrices, tokens, bytes, sequences or steps, see
   its comment. A total of 0: it is not known. */
INFINI_API infini_status infini_task_done(const infini_task *task, int64_t *done);
INFINI_API infini_status infini_task_total(const infini_task *task, int64_t *total);

/* What that call does, as text: "idle", "create", "open", "quantize", "keep", "feed", "generate", "save", "inspect",
   "train", "evaluate", "find heads", "fit heads". */
INFINI_API infini_status infini_task_stage(const infini_task *task, char *buffer, size_t capacity, size_t *size);

/* Receives progress, on the thread that makes the call. Returns 0 to go on, anything else to cancel. */
typedef int (*infini_progress_callback)(void *user_data, const char *stage, int64_t done, int64_t total);

/* Has every call with this task report its progress to `callback` (NULL: to none). Set it while no call runs. */
INFINI_API infini_status infini_task_set_progress(infini_task *task, infini_progress_callback callback,
                                                  void *user_data);

/* ------------------------------------------------------------------------------------------------------------
 * 12. The log. Any thread
 */

/* The levels of log records. */
typedef enum infini_log_level { INFINI_LOG_DEBUG = 0, INFINI_LOG_INFO = 1, INFINI_LOG_WARNING = 2 } infini_log_level;

/* Receives log records, on any thread that is inside a call, one at a time. It must not call the library. The message
   is UTF-8, without a line end, and valid during the call. */
typedef void (*infini_log_callback)(void *user_data, int level, const char *message);

/* Sends the log of the whole process to `callback`; NULL: to none. After the call the former one is not used again. */
INFINI_API infini_status infini_log_set_callback(infini_log_callback callback, void *user_data);

/* Takes the oldest record out of a queue of the newest 256, whether there is a callback or not. One that did not fit
   the buffer, or was only asked for its size, comes with the next call. `level` may be NULL.
   END               the queue is empty; *size is 0
   BUFFER_TOO_SMALL  see Buffers above */
INFINI_API infini_status infini_log_next(int *level, char *buffer, size_t capacity, size_t *size);

#ifdef __cplusplus
}
#endif

#endif
