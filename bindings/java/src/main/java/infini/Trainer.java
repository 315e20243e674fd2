package infini;

import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongFunction;

/**
 * Changes a copy of a model's weights until it predicts what it reads; the model itself stays as it is. It may be called
 * from any thread; calls take turns, so to look at a long training while it runs, run it in pieces or poll a {@link Task}.
 */
public final class Trainer implements AutoCloseable {
  private final Handle handle;
  private final ReentrantLock turn = new ReentrantLock();
  private final LongCalls calls = new LongCalls();

  Trainer(Handle.Maker maker) {
    handle = Handle.of("trainer", Native::infini_trainer_free, maker).ownedBy(this);
  }

  /**
   * What a step saw; before the first one {@code step} is 0 and the rest says nothing. A share of nothing is NaN.
   *
   * @param step steps done so far
   * @param tokens tokens read so far
   * @param unknownBytes of this step's texts, what the vocabulary has no token for, left out or replaced
   * @param loss nats a predicted token, by weight
   * @param predictions tokens predicted
   * @param recallAcross share of tokens right, of answers whose value only the memory holds
   * @param answersAcross the number of those tokens
   * @param exactAcross share of those answers whose tokens are all right
   * @param recallInside share of tokens right, of answers whose value local attention sees
   * @param answersInside the number of those tokens
   * @param exactInside share of those answers whose tokens are all right
   * @param sourceShare of the memory's retrieval, what falls where the value stood; a mean over supervised retrievals
   * @param subjectShare of local attention, what falls on the name; a mean over supervised heads
   * @param supervision the loss of both
   * @param gradientNorm before clipping; NaN where it was not finite, and nothing was changed
   * @param rateFactor of the schedule
   * @param segment tokens of a segment
   * @param segments segments of a sequence
   * @param seconds the step took
   * @param tokensPerSecond read by the step
   */
  public record Report(long step, long tokens, long unknownBytes, double loss, long predictions, double recallAcross, long answersAcross,
      double exactAcross, double recallInside, long answersInside, double exactInside, double sourceShare, double subjectShare, double supervision,
      double gradientNorm, double rateFactor, int segment, int segments, double seconds, double tokensPerSecond) {
    static Report of(String json) {
      Json of = Json.object(json);
      return new Report(of.whole("step"), of.whole("tokens"), of.whole("unknown_bytes"), of.real("loss"), of.whole("predictions"),
          of.real("recall_across"), of.whole("answers_across"), of.real("exact_across"), of.real("recall_inside"),
          of.whole("answers_inside"), of.real("exact_inside"), of.real("source_share"), of.real("subject_share"),
          of.real("supervision"), of.real("gradient_norm"),
          of.real("rate_factor"), of.small("segment"), of.small("segments"), of.real("seconds"),
          of.real("tokens_per_second"));
    }
  }

  /**
   * What an evaluation found. A share of nothing is NaN.
   *
   * @param loss as in {@link Report}
   * @param predictions as in {@link Report}
   * @param recallAcross as in {@link Report}
   * @param answersAcross as in {@link Report}
   * @param exactAcross as in {@link Report}
   * @param recallInside as in {@link Report}
   * @param answersInside as in {@link Report}
   * @param exactInside as in {@link Report}
   * @param sourceShare as in {@link Report}
   * @param subjectShare as in {@link Report}
   * @param segment tokens of a segment
   * @param segments segments of a sequence
   * @param sequences how many were read
   * @param json the whole as the library wrote it
   */
  public record Evaluation(double loss, long predictions, double recallAcross, long answersAcross, double exactAcross,
      double recallInside, long answersInside, double exactInside, double sourceShare, double subjectShare, int segment,
      int segments, int sequences, String json) {
    static Evaluation of(String json) {
      Json of = Json.object(json);
      return new Evaluation(of.real("loss"), of.whole("predictions"), of.real("recall_across"),
          of.whole("answers_across"), of.real("exact_across"), of.real("recall_inside"), of.whole("answers_inside"),
          of.real("exact_inside"), of.real("source_share"), of.real("subject_share"), of.small("segment"),
          of.small("segments"), of.small("sequences"), json);
    }
  }

  /**
   * The state of a trainer.
   *
   * @param steps done so far
   * @param tokens read so far
   * @param parameters of the model
   * @param trainedParameters of these, those that are trained
   * @param compute number type of products, "f32" or "bf16"
   * @param bytes of weights but those that stay in the model's file, gradients, optimizer and activations
   * @param segment tokens of a segment
   * @param segments segments of a sequence
   * @param training every field of the description's "training", as Java's own values
   * @param json the whole as the library wrote it
   */
  public record Info(long steps, long tokens, long parameters, long trainedParameters, String compute, long bytes,
      int segment, int segments, Map<String, Object> training, String json) {
    static Info of(String json) {
      Json of = Json.object(json);
      return new Info(of.whole("steps"), of.whole("tokens"), of.whole("parameters"), of.whole("trained_parameters"),
          of.text("compute"), of.whole("bytes"), of.small("segment"), of.small("segments"), of.part("training").all(),
          json);
    }
  }

  /**
   * The fields of a description, as {@link Model#newTrainer(String, Options, Task)} takes it.
   *
   * @return a JSON array of {"name", "type", "default", "least" and "greatest", or "choices", "help"}; of an object "fields",
   *     or of each of its "types", are such arrays too
   */
  public static String settingsJson() {
    return Utf8.text(Native::infini_trainer_settings_json);
  }

  /**
   * Does one step.
   *
   * @return what it saw
   * @throws InfiniException as {@link #step(Task)}
   */
  public Report step() {
    return step(null);
  }

  /**
   * Does one step: reads sequences of "tokens" tokens in all, computes the gradients and changes the weights.
   *
   * @param task can cancel between sequences; may be null
   * @return what it saw
   * @throws InfiniException CANCELLED; IO, FORMAT (of a file of the data): the step has not happened, and the next one reads
   *     the same sequences
   */
  public Report step(Task task) {
    return Report.of(run(task, Native::infini_trainer_step, Native::infini_trainer_report_json));
  }

  /**
   * Does so many steps.
   *
   * @param steps how many; 0 or more
   * @param task stage "train", in steps; can cancel between sequences; may be null
   * @return what the last one saw
   * @throws InfiniException CANCELLED, IO, FORMAT: as {@link #step(Task)}; the steps before are done, as {@link #report}
   *     tells
   */
  public Report run(long steps, Task task) {
    return Report.of(run(task, (trainer, t) -> Native.infini_trainer_run(trainer, steps, t),
        Native::infini_trainer_report_json));
  }

  /**
   * What the last step saw.
   *
   * @return before the first one, a report of 0 steps
   */
  public Report report() {
    return Report.of(reportJson());
  }

  /**
   * What the last step saw, as the library wrote it.
   *
   * @return a JSON object: "step", "loss", ...; "{}" before the first
   */
  public String reportJson() {
    return text(Native::infini_trainer_report_json);
  }

  /**
   * Reads sequences and says how well the model predicts them. Changes nothing.
   *
   * @param dataJson where they come from: as "data" in {@link Model#newTrainer(String, Options, Task)}
   * @param sequences how many
   * @param segments of each; 0: as many as in training now
   * @param task stage "evaluate", in sequences; may be null
   * @return what was found
   * @throws InfiniException INVALID_ARGUMENT, STATE, IO, FORMAT (as {@link Model#newTrainer(String, Options, Task)}); CANCELLED
   */
  public Evaluation evaluate(String dataJson, int sequences, int segments, Task task) {
    return Evaluation.of(measure(task, (trainer, t, buffer, size) ->
        Native.infini_trainer_evaluate_json(trainer, dataJson, sequences, segments, t, buffer, size)));
  }

  /**
   * Finds retrieval heads: reads sequences of a task with full attention. Changes nothing.
   *
   * @param dataJson where they come from: a task that has answers, "recall" or "passkey"
   * @param sequences how many
   * @param segments of each; 0: as many as in training now
   * @param task stage "find heads", in sequences; may be null
   * @return a JSON object: "heads", a list of {"layer", "head", "weight", "name_weight"}, those that attend most to what is
   *     asked for first; "recall", "answers", ...
   * @throws InfiniException INVALID_ARGUMENT (no answer's value stands in an earlier segment, too), STATE, IO, FORMAT, as
   *     {@link Model#newTrainer(String, Options, Task)}; CANCELLED
   */
  public String findHeads(String dataJson, int sequences, int segments, Task task) {
    return measure(task, (trainer, t, buffer, size) ->
        Native.infini_trainer_find_heads_json(trainer, dataJson, sequences, segments, t, buffer, size));
  }

  /**
   * Initialises heads by ridge regression over all that is drawn, before the first step: of a trainer of "retrieval" the
   * "supervised" heads that have an offset, so that they retrieve the token at that offset of a value by the value's name and
   * raise its logit; where "hand_on" is above 0, the "local_supervised" heads instead, so that they write a direction of its own
   * for each name.
   *
   * @param nats what the heads of one group together add to the logit of the token that they retrieve
   * @param task stage "fit heads", in the steps that read all; may be null
   * @throws InfiniException INVALID_ARGUMENT (no head has an offset, ...); UNSUPPORTED (heads of this model cannot be
   *     fitted); STATE (there was a step); CANCELLED, IO, FORMAT: the heads are as they were
   */
  public void fitHeads(double nats, Task task) {
    run(task, (trainer, t) -> Native.infini_trainer_fit_heads(trainer, nats, t), Native::infini_trainer_info_json);
  }

  /**
   * The trainer's state.
   *
   * @return steps done, bytes held, the training's fields, ...
   */
  public Info info() {
    return Info.of(text(Native::infini_trainer_info_json));
  }

  /**
   * Saves all that is needed to go on, to a file that is replaced whole or not at all.
   *
   * @param path the file
   * @param task stage "save", in bytes; may be null
   * @throws InfiniException IO, NO_SPACE, CANCELLED: what was there before is still there
   */
  public void save(Path path, Task task) {
    file(task, (trainer, t) -> Native.infini_trainer_save(trainer, FileException.name(path), t));
  }

  /**
   * Goes on from where another trainer of the same model and description was saved: on the same build, processor and number
   * of threads, the next steps are the same bit for bit. The last report stays that of this trainer.
   *
   * @param path the file
   * @param task can cancel before it begins; may be null
   * @throws InfiniException MODEL_MISMATCH (another model or description); IO, FORMAT, TRUNCATED, CHECKSUM, VERSION,
   *     CANCELLED; then nothing has changed
   */
  public void restore(Path path, Task task) {
    file(task, (trainer, t) -> Native.infini_trainer_restore(trainer, FileException.name(path), t));
  }

  /**
   * Writes the trained model as a GGUF file, adapters merged, which {@link Model#open(Path)} opens. What was not trained
   * keeps the bytes of the model's file.
   *
   * @param path the file
   * @param type of the matrices that were trained: "f32", "f16" or "bf16"
   * @param task stage "save", in bytes of tensors; may be null
   * @throws InfiniException INVALID_ARGUMENT (type is none of these); IO, NO_SPACE, CANCELLED: what was there before is
   *     still there
   */
  public void write(Path path, String type, Task task) {
    file(task, (trainer, t) -> Native.infini_trainer_write(trainer, FileException.name(path), type, t));
  }

  /**
   * Writes the adapters alone, as a GGUF file to be kept beside the model.
   *
   * @param path the file
   * @param task as in {@link #write}
   * @throws InfiniException STATE (no adapters are trained); IO, NO_SPACE, CANCELLED: as in {@link #write}
   */
  public void writeAdapter(Path path, Task task) {
    file(task, (trainer, t) -> Native.infini_trainer_write_adapter(trainer, FileException.name(path), t));
  }

  /**
   * Cancels the call that runs, if any, by its task, and frees the trainer when it has returned. Closing again does nothing.
   */
  @Override public void close() {
    calls.close(handle);
  }

  private interface Writer {
    int write(long trainer, byte[] buffer, long[] size);
  }

  /** Runs a long call, which close cancels, and gives in the same turn what it left. */
  private String run(Task task, LongCalls.Body body, Writer result) {
    return calls.run(this, handle, turn, task, body,
        (trainer, status) -> Utf8.text((buffer, size) -> result.write(trainer, buffer, size)));
  }

  /** Runs a call that keeps what there is in a file, or gets it: it hears the task alone. */
  private void file(Task task, LongCalls.Body body) {
    handle.call(this, turn, task, trainer -> Task.saving(task, t -> body.run(trainer, t)));
  }

  private interface Measurer {
    int measure(long trainer, long task, byte[] buffer, long[] size);
  }

  /** Runs a long call, which close cancels, and which writes its result itself: too small a buffer ends it before its work. */
  private String measure(Task task, Measurer call) {
    String[] result = new String[1];
    return calls.run(this, handle, turn, task, (trainer, t) -> {
      result[0] = Utf8.text((buffer, size) -> call.measure(trainer, t, buffer, size));
      return 0;
    }, (trainer, status) -> result[0]);
  }

  private String text(Writer writer) {
    return call(trainer -> Utf8.text((buffer, size) -> writer.write(trainer, buffer, size)));
  }

  private <T> T call(LongFunction<T> body) {
    return handle.call(this, turn, null, body);
  }
}
