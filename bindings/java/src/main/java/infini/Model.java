package infini;

import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;

/**
 * A model's configuration, weights and tokenizer. It never changes, and may be used by any number of threads and sessions
 * at once.
 */
public final class Model implements AutoCloseable {
  private final Handle handle;

  private Model(Handle.Maker open) {
    handle = Handle.of("model", Native::infini_model_free, open).ownedBy(this);
  }

  /**
   * Opens a GGUF file with default options.
   *
   * @param path the file
   * @return the model
   * @throws InfiniException as {@link #open(Path, Options, Task)}
   */
  public static Model open(Path path) {
    return open(path, null, null);
  }

  /**
   * Opens a GGUF file.
   *
   * @param path the file
   * @param options as {@link #open(Path, Options, Task)}
   * @return the model
   * @throws InfiniException as {@link #open(Path, Options, Task)}
   */
  public static Model open(Path path, Options options) {
    return open(path, options, null);
  }

  /**
   * Opens a GGUF file and packs its weights for this processor. The file stays mapped while the model lives: replace it,
   * do not overwrite it. A file without tensors opens as a tokenizer alone, from which no session can be made.
   *
   * @param path the file
   * @param options "weights", "compute", "window_type", "gemm", "threads", "memory", "update", "segment", "carry", "sinks", "keep", "adapter",
   *     "adapter_weight"; may be null
   * @param task shows progress, stage "open", in matrices, and can cancel; may be null
   * @return the model
   * @throws InfiniException IO, FORMAT, TRUNCATED, VERSION, UNSUPPORTED; INVALID_ARGUMENT (an option does not fit the
   *     model); CANCELLED
   */
  public static Model open(Path path, Options options, Task task) {
    return new Model(model -> Options.with(options, o ->
        Task.with(task, t -> Native.infini_model_open(FileException.name(path), o, t, model))));
  }

  /**
   * Makes a model with random weights.
   *
   * @param configJson a JSON object such as {"layers": 2, "width": 64}; "{}" has the defaults.
   *     {@link #creationSettingsJson} lists its fields
   * @param options as {@link #open(Path, Options, Task)}
   * @param task stages "create", in tensors, and "open", in matrices; may be null
   * @return the model
   * @throws InfiniException INVALID_ARGUMENT (the message says what); IO, FORMAT, ... of the tokenizer's file; CANCELLED
   */
  public static Model create(String configJson, Options options, Task task) {
    return new Model(model -> Options.with(options, o ->
        Task.with(task, t -> Native.infini_model_create(configJson, o, t, model))));
  }

  /**
   * Writes the model as a GGUF file: the numbers of the file that it came from, unchanged. The file is replaced whole or
   * not at all.
   *
   * @param path the file
   * @param task stage "save", in bytes of tensors; may be null
   * @throws InfiniException IO, NO_SPACE, CANCELLED
   */
  public void save(Path path, Task task) {
    handle.call(this, model -> Task.saving(task, t ->
        Native.infini_model_save(model, FileException.name(path), t)));
  }

  /**
   * The fields of a new model's configuration.
   *
   * @return a JSON array of {"name", "type", "default", "least" and "greatest", or "choices", "help"}
   */
  public static String creationSettingsJson() {
    return Utf8.text(Native::infini_creation_settings_json);
  }

  /**
   * Learns what is worth keeping, of a model that keeps sentences (option "keep"), and writes the model's file with it.
   *
   * @param lessonJson a JSON object of the fields that {@link #keepSettingsJson} lists, of which "pieces" must be there
   * @param path the file to write
   * @param task stage "keep", in tokens; may be null
   * @throws InfiniException STATE (the model keeps nothing, or has no tokenizer); INVALID_ARGUMENT (the message names the
   *     field, or sentences of either sort are lacking); CANCELLED, IO, NO_SPACE: nothing was written
   */
  public void fitKeep(String lessonJson, Path path, Task task) {
    handle.call(this, model -> Task.with(task, t ->
        Native.infini_model_fit_keep(model, lessonJson, FileException.name(path), t)));
  }

  /**
   * The fields of what {@link #fitKeep} learns from.
   *
   * @return as {@link #creationSettingsJson}
   */
  public static String keepSettingsJson() {
    return Utf8.text(Native::infini_keep_settings_json);
  }

  /**
   * Writes the model of a file as another file, with its matrices quantised. The model need not fit in memory. Types whose
   * blocks do not divide a matrix's rows give way to one of smaller blocks. The file is replaced whole or not at all.
   *
   * @param from a GGUF file
   * @param to the file to write; may be the same
   * @param type "q8_0", "q6_k", "q4_k", "q4_0", ...; the C header lists the types
   * @param options "threads"; may be null
   * @param task stage "quantize", in bytes written; may be null
   * @throws InfiniException as {@link #open(Path, Options, Task)}, of from; NO_SPACE; INVALID_ARGUMENT (no such type);
   *     CANCELLED: nothing was written
   */
  public static void quantize(Path from, Path to, String type, Options options, Task task) {
    Options.with(options, o -> Task.with(task, t ->
        Native.infini_model_quantize(FileException.name(from), FileException.name(to), type, o, t)));
  }

  /**
   * Starts an empty stream through the model with default options.
   *
   * @return the session, which the caller closes
   * @throws InfiniException as {@link #newSession(Options)}
   */
  public Session newSession() {
    return newSession(null);
  }

  /**
   * Starts an empty stream through the model.
   *
   * @param options "threads", "chunk", "deterministic", "checkpoints", "rewind_sampler", "compress", "special" and those
   *     of generation ("max_tokens", "temperature", "seed", "stop", ...); may be null
   * @return the session, which the caller closes
   * @throws InfiniException STATE (the model is a tokenizer alone); INVALID_ARGUMENT
   */
  public Session newSession(Options options) {
    return handle.call(this, model -> new Session(
        made -> Options.with(options, o -> Native.infini_session_create(model, o, made)), vocabulary(), width()));
  }

  /**
   * Makes an empty batch, through which many sessions advance in one call.
   *
   * @return the batch, which the caller closes
   * @throws InfiniException STATE: the model is a tokenizer alone
   */
  public Batch newBatch() {
    return handle.call(this, model -> new Batch(made -> Native.infini_batch_create(model, made)));
  }

  /**
   * Makes a trainer with default options.
   *
   * @param descriptionJson as {@link #newTrainer(String, Options, Task)}
   * @return the trainer, which the caller closes
   * @throws InfiniException as {@link #newTrainer(String, Options, Task)}
   */
  public Trainer newTrainer(String descriptionJson) {
    return newTrainer(descriptionJson, null, null);
  }

  /**
   * Makes a trainer, which changes a copy of this model's weights.
   *
   * @param descriptionJson a JSON object: "training" (what is trained and how), "data" (where sequences come from), such as
   *     {"training": {"train": "lora"}, "data": {"type": "text", "files": ["novel.txt"]}}, "curriculum" and "evaluation". Only "data"
   *     must be there. {@link Trainer#settingsJson()} lists their fields
   * @param options "threads", and "compute", which overrides that of the description; may be null
   * @param task stage "create", in matrices; may be null
   * @return the trainer, which the caller closes
   * @throws InfiniException INVALID_ARGUMENT (the message names the field); STATE (the model has no weights, or no tokenizer
   *     where the data needs one); IO, FORMAT (of a file of the data); CANCELLED
   */
  public Trainer newTrainer(String descriptionJson, Options options, Task task) {
    return handle.call(this, model -> new Trainer(made -> Options.with(options, o -> Task.with(task, t ->
        Native.infini_trainer_create(model, descriptionJson, o, t, made)))));
  }

  /**
   * The tokens of a text.
   *
   * @param text the text
   * @param special whether control tokens written in the text are parsed; never for text that is not trusted
   * @param start whether the text begins a stream, so that BOS and the space prefix are added where the model wants them
   * @return the tokens
   * @throws InfiniException STATE: the model has no tokenizer
   */
  public int[] tokenize(String text, boolean special, boolean start) {
    byte[] bytes = Utf8.encode(text);
    return tokens(bytes.length, (model, buffer, size) -> // hardly a text has more tokens than bytes
        Native.infini_model_tokenize(model, bytes, flags(special, start), buffer, size));
  }

  /**
   * How many tokens {@link #tokenize} would give.
   *
   * @param text the text
   * @param special as in {@link #tokenize}
   * @param start as in {@link #tokenize}
   * @return the number of tokens
   * @throws InfiniException STATE: the model has no tokenizer
   */
  public int tokenCount(String text, boolean special, boolean start) {
    byte[] bytes = Utf8.encode(text);
    return number((model, size) -> Native.infini_model_token_count(model, bytes, flags(special, start), size));
  }

  /**
   * The text of tokens, where what begins or ends inside a character shows as U+FFFD; see {@link #detokenizeBytes}.
   *
   * @param tokens the tokens
   * @param special whether control tokens show as their names
   * @param start whether the tokens begin a stream, so that the space prefix is taken off
   * @return the text
   * @throws InfiniException INVALID_ARGUMENT (a token is not in the vocabulary); STATE (the model has no tokenizer)
   */
  public String detokenize(int[] tokens, boolean special, boolean start) {
    return Utf8.decode(detokenizeBytes(tokens, special, start));
  }

  /**
   * The text of tokens as UTF-8, which may begin or end inside a character if the tokens do.
   *
   * @param tokens the tokens
   * @param special as in {@link #detokenize}
   * @param start as in {@link #detokenize}
   * @return the bytes
   * @throws InfiniException as {@link #detokenize}
   */
  public byte[] detokenizeBytes(int[] tokens, boolean special, boolean start) {
    return handle.call(this, model -> Utf8.bytes((buffer, size) ->
        Native.infini_model_detokenize(model, tokens, flags(special, start), buffer, size)));
  }

  /**
   * Whether a token ends generation.
   *
   * @param token the token
   * @return whether it is an end of text, turn or message
   * @throws InfiniException INVALID_ARGUMENT (the token is not in the vocabulary); STATE (the model has no tokenizer)
   */
  public boolean isEnd(int token) {
    return token((model, answer) -> Native.infini_model_token_is_end(model, token, answer)) != 0;
  }

  /**
   * Whether a token is a control token.
   *
   * @param token the token
   * @return whether it is one
   * @throws InfiniException as {@link #isEnd}
   */
  public boolean isControl(int token) {
    return token((model, answer) -> Native.infini_model_token_is_control(model, token, answer)) != 0;
  }

  /**
   * The token that begins a text.
   *
   * @return the token, -1 where the model has none
   * @throws InfiniException STATE: the model has no tokenizer
   */
  public int bos() {
    return token(Native::infini_model_bos);
  }

  /**
   * The token that ends a text.
   *
   * @return the token, -1 where the model has none
   * @throws InfiniException STATE: the model has no tokenizer
   */
  public int eos() {
    return token(Native::infini_model_eos);
  }

  /**
   * Messages as the model was trained to see them, as text. It has the contents as they are, control tokens that a user
   * wrote among them: {@link Session#chat(List, Task)} and {@link #chatTokens} tell them from the template's own.
   *
   * @param messages of the conversation
   * @param first whether they begin it
   * @param reply whether the text ends where the assistant speaks
   * @return the text
   * @throws InfiniException INVALID_ARGUMENT (a role is not known); UNSUPPORTED (no chat template, or one that cannot be run)
   */
  public String applyChat(List<ChatMessage> messages, boolean first, boolean reply) {
    String json = ChatMessage.json(messages);
    return text((model, buffer, size) ->
        Native.infini_model_apply_chat(model, json, flags(first, reply), buffer, size));
  }

  /**
   * The same as tokens, to be fed to a session: of the contents none is a control token. Between a generated answer and
   * tokens with {@code first} false stands what {@link #chatTurnEnd} gives.
   *
   * @param messages as in {@link #applyChat}
   * @param first as in {@link #applyChat}; also what begins a stream, where the model wants that
   * @param reply as in {@link #applyChat}
   * @return the tokens
   * @throws InfiniException INVALID_ARGUMENT (the vocabulary has no token for a part of a content); else as
   *     {@link #applyChat}
   */
  public int[] chatTokens(List<ChatMessage> messages, boolean first, boolean reply) {
    return chatTokensJson(ChatMessage.json(messages), first, reply);
  }

  /**
   * The same of messages as other programs write them.
   *
   * @param messagesJson as {@link Session#chatJson} takes them
   * @param first as in {@link #chatTokens}
   * @param reply as in {@link #chatTokens}
   * @return the tokens
   * @throws InfiniException as {@link #chatTokens}
   */
  public int[] chatTokensJson(String messagesJson, boolean first, boolean reply) {
    return tokens(messagesJson.length(), (model, buffer, size) ->
        Native.infini_model_chat_tokens(model, messagesJson, flags(first, reply), buffer, size));
  }

  /**
   * What closes the assistant's turn: to be fed, with "special", after a generated reply, by those who do not let
   * {@link Session#chat(List, Task)} do it.
   *
   * @return the text
   * @throws InfiniException UNSUPPORTED: as {@link #applyChat}
   */
  public String chatTurnEnd() {
    return text(Native::infini_model_chat_turn_end);
  }

  /**
   * How many tokens the model knows.
   *
   * @return the length of a row of logits
   */
  public int vocabulary() {
    return number(Native::infini_model_vocabulary);
  }

  /**
   * The length of an embedding.
   *
   * @return the width
   * @throws InfiniException STATE: the model is a tokenizer alone
   */
  public int width() {
    return number(Native::infini_model_width);
  }

  /**
   * One fact about the model as text.
   *
   * @param name one of the C interface's, "layers" or "fingerprint", or a key of the model's file such as "general.license"
   * @return the fact
   * @throws InfiniException INVALID_ARGUMENT: nothing has that name; the message lists the names
   */
  public String info(String name) {
    return text((model, buffer, size) -> Native.infini_model_info(model, name, buffer, size));
  }

  /**
   * The facts about the model.
   *
   * @return name, layers, segment, ...
   */
  public ModelInfo info() {
    return ModelInfo.of(text(Native::infini_model_info_json));
  }

  /**
   * What each method of long context would hold for the past of a model of this shape.
   *
   * @param tokens length of the past
   * @return what each would hold
   * @throws InfiniException INVALID_ARGUMENT (tokens is negative or too large); STATE (the model is a tokenizer alone)
   */
  public Footprint footprint(long tokens) {
    return Footprint.of(text((model, buffer, size) -> Native.infini_model_footprint_json(model, tokens, buffer, size)));
  }

  /** Lets the model go. Calls that run finish first, sessions keep what they need. Closing again does nothing. */
  @Override public void close() {
    handle.close(model -> {});
  }

  private interface Writer {
    int write(long model, byte[] buffer, long[] size);
  }

  interface TokenWriter {
    int write(long model, int[] buffer, long[] size);
  }

  private interface LongGetter {
    int get(long model, long[] value);
  }

  private interface IntGetter {
    int get(long model, int[] value);
  }

  private int[] tokens(int expected, TokenWriter writer) {
    return handle.call(this, model -> tokensOf(model, expected, writer));
  }

  /** Asks an object for tokens, of which there are hardly more than so many. */
  static int[] tokensOf(long object, int expected, TokenWriter writer) {
    long[] size = {0};
    int[] tokens = new int[Math.addExact(expected, 16)];
    try {
      writer.write(object, tokens, size);
    } catch (InfiniException e) {
      if (e.status() != Status.BUFFER_TOO_SMALL) throw e;
      tokens = new int[Math.toIntExact(size[0])];
      writer.write(object, tokens, size);
    }
    return Arrays.copyOf(tokens, (int) size[0]);
  }

  private String text(Writer writer) {
    return handle.call(this, model -> Utf8.text((buffer, size) -> writer.write(model, buffer, size)));
  }

  private int number(LongGetter getter) {
    long[] value = {0};
    handle.call(this, model -> getter.get(model, value));
    return Math.toIntExact(value[0]);
  }

  private int token(IntGetter getter) {
    int[] value = {0};
    handle.call(this, model -> getter.get(model, value));
    return value[0];
  }

  // The flags of infini.h: INFINI_TOKENS_SPECIAL and _START, INFINI_CHAT_FIRST and _REPLY are bits 1 and 2.
  private static int flags(boolean first, boolean second) {
    return (first ? 1 : 0) | (second ? 2 : 0);
  }
}
