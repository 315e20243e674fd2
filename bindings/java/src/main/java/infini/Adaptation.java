package infini;

import java.nio.file.Path;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongFunction;

/** Teaches a plain model to use its memory, in phases. It may be used by any number of threads; calls take turns. */
public final class Adaptation implements AutoCloseable {
  private final Handle handle;
  private final ReentrantLock turn = new ReentrantLock();
  private final LongCalls calls = new LongCalls();

  private Adaptation(Handle.Maker maker) {
    handle = Handle.of("adaptation", Native::infini_adaptation_free, maker).ownedBy(this);
  }

  /**
   * Makes an adaptation, or goes on with one of which files were kept.
   *
   * @param path the plain model, a GGUF file
   * @param settingsJson a JSON object of the fields that {@link #settingsJson()} lists; "texts" must be there
   * @param options as {@link Model#open(Path, Options, Task)}; may be null
   * @param task shows progress, stage "open", and can cancel; may be null
   * @return the adaptation, which the caller closes
   * @throws InfiniException INVALID_ARGUMENT (the message names the field), MODEL_MISMATCH (what was kept was begun
   *     otherwise), FORMAT (it is damaged), and as {@link Model#open(Path, Options, Task)}
   */
  public static Adaptation open(Path path, String settingsJson, Options options, Task task) {
    return new Adaptation(made -> Options.with(options, o -> Task.with(
        task, t -> Native.infini_adaptation_create(FileException.name(path), settingsJson, o, t, made))));
  }

  /**
   * The settings there are.
   *
   * @return a JSON array of {"name", "type", "default", "least" and "greatest", or "choices", "help"}
   */
  public static String settingsJson() {
    return Utf8.text(Native::infini_adaptation_settings_json);
  }

  /**
   * Does what comes next: a search, a measurement, or a training step.
   *
   * @param task shows progress and can cancel, then it has not happened, and may be made again; may be null
   * @return whether there was anything left to do
   * @throws InfiniException CANCELLED, STATE (gradients are not finite again and again), IO, NO_SPACE, FORMAT
   */
  public boolean step(Task task) {
    return run(task, Native::infini_adaptation_step) != Status.END;
  }

  /**
   * Does all that is left.
   *
   * @param task shows progress, stages "find heads", "evaluate", "feed", "fit heads", "train", and can cancel; may be null
   * @throws InfiniException as {@link #step(Task)}; the steps before are done
   */
  public void run(Task task) {
    run(task, Native::infini_adaptation_run);
  }

  /**
   * What the last step did.
   *
   * @return a JSON object: "phase", and of a training step "step", "loss", ...; "{}" before the first
   */
  public String reportJson() {
    return text(Native::infini_adaptation_report_json);
  }

  /**
   * How far it has come, and what was found and measured.
   *
   * @return a JSON object: "phases", "complete", "before", "after", ...
   */
  public String infoJson() {
    return text(Native::infini_adaptation_info_json);
  }

  /**
   * Saves what it goes on from, in the files of "checkpoint".
   *
   * @param task stage "save", in bytes of tensors; may be null
   * @throws InfiniException IO, NO_SPACE, CANCELLED: then the files of before are still there
   */
  public void save(Task task) {
    run(task, Native::infini_adaptation_save);
  }

  /** Removes these files. */
  public void discard() {
    call(Native::infini_adaptation_discard);
  }

  /**
   * Writes the adapted model as a GGUF file.
   *
   * @param path the file
   * @param task stage "save", in bytes of tensors; may be null
   * @throws InfiniException STATE (training is not over yet), IO, NO_SPACE, CANCELLED
   */
  public void write(Path path, Task task) {
    handle.call(this, turn, task, adaptation -> Task.saving(task, t ->
        Native.infini_adaptation_write(adaptation, FileException.name(path), t)));
  }

  /** Cancels the call that runs, if any, and frees the adaptation when it has returned. Closing again does nothing. */
  @Override public void close() {
    calls.close(handle);
  }

  private interface Writer {
    int write(long adaptation, byte[] buffer, long[] size);
  }

  private int run(Task task, LongCalls.Body body) {
    return calls.run(this, handle, turn, task, body, (adaptation, status) -> status);
  }

  private String text(Writer writer) {
    return call(adaptation -> Utf8.text((buffer, size) -> writer.write(adaptation, buffer, size)));
  }

  private <T> T call(LongFunction<T> body) {
    return handle.call(this, turn, null, body);
  }
}
