package infini;

import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongFunction;

/**
 * Values by name, such as {@code new Options().set("threads", 2).set("temperature", 0.8)}. {@link Infini#describeOptions}
 * lists the names. A method that is given options reads them and keeps nothing. May be used from any thread.
 */
public final class Options implements AutoCloseable {
  private final Handle handle = Handle.of("options", Native::infini_options_free, Native::infini_options_new).ownedBy(this);
  private final ReentrantLock turn = new ReentrantLock();

  /** Makes an empty set, which leaves every option at its default. */
  public Options() {}

  /**
   * Sets an integer, or a number of an option of type double.
   *
   * @param name the option
   * @param value its value
   * @return this
   * @throws InfiniException UNKNOWN_OPTION (the message lists all that there are); INVALID_ARGUMENT (the value is not
   *     allowed, the message says what is)
   */
  public Options set(String name, long value) {
    call(options -> Native.infini_options_set_int(options, name, value));
    return this;
  }

  /**
   * Sets a number.
   *
   * @param name the option
   * @param value its value
   * @return this
   * @throws InfiniException as {@link #set(String, long)}
   */
  public Options set(String name, double value) {
    call(options -> Native.infini_options_set_double(options, name, value));
    return this;
  }

  /**
   * Sets a text.
   *
   * @param name the option
   * @param value its value
   * @return this
   * @throws InfiniException as {@link #set(String, long)}
   */
  public Options set(String name, String value) {
    call(options -> Native.infini_options_set_string(options, name, value));
    return this;
  }

  /**
   * An integer that was set, or the default.
   *
   * @param name the option
   * @return its value
   * @throws InfiniException UNKNOWN_OPTION; INVALID_ARGUMENT (the option has another type)
   */
  public long getInt(String name) {
    long[] value = {0};
    call(options -> Native.infini_options_get_int(options, name, value));
    return value[0];
  }

  /**
   * A number that was set, or the default.
   *
   * @param name the option
   * @return its value
   * @throws InfiniException as {@link #getInt}
   */
  public double getDouble(String name) {
    double[] value = {0};
    call(options -> Native.infini_options_get_double(options, name, value));
    return value[0];
  }

  /**
   * A text that was set, or the default.
   *
   * @param name the option
   * @return its value
   * @throws InfiniException as {@link #getInt}
   */
  public String getString(String name) {
    return call(options -> Utf8.text((buffer, size) -> Native.infini_options_get_string(options, name, buffer, size)));
  }

  /** Frees the options. Closing again does nothing. */
  @Override public void close() {
    handle.close(options -> {});
  }

  /** Runs body with options that may be null. */
  static <T> T with(Options options, LongFunction<T> body) {
    return options == null ? body.apply(0) : options.call(body);
  }

  private <T> T call(LongFunction<T> body) {
    return handle.call(this, options -> {
      turn.lock();
      try {
        return body.apply(options);
      } finally {
        turn.unlock();
      }
    });
  }
}
